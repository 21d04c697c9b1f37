"""Runs the 200-analysis ordeal on SQLite and on PostgreSQL and writes what happened to docs/validation/durability.md.

python -m tests.chaos.record [jobs]
"""

import asyncio
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.harness import Chaos, Ordeal, Outcome
from tests.servers import REPOSITORY, migrate, postgres_server

PAGE = REPOSITORY / "docs" / "validation" / "durability.md"
SEEDS = {"sqlite": (1,), "postgresql": (2,)}

TEXT = """# Durability: nothing is lost, nothing is stored twice

Measured on {day} with `python -m tests.chaos.record` ({jobs} analyses per run, {workers} workers with 2 slots each).
While the analyses are submitted and computed,

- ready workers are killed at random (about 80 % SIGKILL, 20 % SIGTERM) and started again,
- the queue server (Valkey without persistence) is killed with SIGKILL and is away for 0.2 to 2.5 seconds,
- the API "dies" between its commit and the bell for one analysis in ten; further bells ring in vain while the queue is
  away.

*Lost*: analyses that are not `succeeded` with a stored result in the end. *Committed twice*: results in the database
beyond one per succeeded analysis. *Wrong*: stored bytes that differ from an independent computation. *Repeated*:
analyses that needed more than one attempt.

{table}

The same harness with 12 analyses and one kill of everything is part of the default test suite; `make chaos` runs the
large one (`NORTHLIFT_CHAOS_JOBS` and `NORTHLIFT_CHAOS_SEED` set its size and seed).
"""

HEADINGS = (
    "database",
    "seed",
    "workers killed (KILL/TERM)",
    "queue killed",
    "API died / rung in vain",
    "lost",
    "committed twice",
    "wrong",
    "repeated",
    "seconds",
)


def page(outcomes: Iterable[Outcome]) -> str:
    """The page about these runs."""
    runs = list(outcomes)
    rows = [
        f"| {o.database} | {o.ordeal.seed} | {o.sigkills}/{o.sigterms} | {o.redis_kills} | "
        f"{o.api_crashes}/{o.rings_failed} | **{o.lost}** | **{o.committed_twice}** | {o.wrong} | {o.retried} | "
        f"{o.seconds:.0f} |"
        for o in runs
    ]
    first = runs[0].ordeal
    table = "\n".join([f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|", *rows])
    day = datetime.now(UTC).date().isoformat()
    return TEXT.format(day=day, jobs=first.jobs, workers=first.workers, table=table)


async def run(url: str, ordeal: Ordeal) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="nlchaos-") as directory:
        return await Chaos(url, ordeal, Path(directory)).run()


def main() -> None:
    """Run, write the page, and fail where anything was lost."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    outcomes: list[Outcome] = []
    for seed in SEEDS["sqlite"]:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite+aiosqlite:///{folder}/northlift.sqlite3"
            migrate(url)
            outcomes.append(asyncio.run(run(url, Ordeal(jobs=jobs, seed=seed))))
    with postgres_server() as server:
        for seed in SEEDS["postgresql"]:
            url = server.create()
            outcomes.append(asyncio.run(run(url, Ordeal(jobs=jobs, seed=seed))))
            server.drop(url)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(outcomes))
    sys.stdout.write(PAGE.read_text())
    if any(o.lost or o.committed_twice or o.wrong for o in outcomes):
        sys.exit(f"something was lost: {outcomes}")


if __name__ == "__main__":
    main()
