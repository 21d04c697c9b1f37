"""Nothing is lost and nothing is stored twice while workers, Redis and the API are killed."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.harness import Chaos, Ordeal, Outcome

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short, because a Unix socket lives in it."""
    with tempfile.TemporaryDirectory(prefix="nlchaos-") as path:
        yield Path(path)


def assert_nothing_lost(outcome: Outcome, log: Path) -> None:
    told = f"{outcome}\n{log.read_text(errors='replace')[-4000:]}"
    assert outcome.lost == 0, told
    assert outcome.committed_twice == 0, told
    assert outcome.wrong == 0, told


@pytest.mark.chaos
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_eight_analyses_survive_one_kill_of_everything(database_url: str, directory: Path) -> None:
    ordeal = Ordeal(jobs=8, seed=5, workers=2, worker_kills=2, redis_kills=1)
    outcome = await Chaos(database_url, ordeal, directory).run()
    assert (outcome.sigkills, outcome.sigterms, outcome.redis_kills, outcome.api_crashes) == (1, 1, 1, 1)
    assert_nothing_lost(outcome, directory / "workers.log")


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_hundreds_of_analyses_survive_random_kills(database_url: str, directory: Path) -> None:
    jobs = int(os.environ.get("NORTHLIFT_CHAOS_JOBS", "200"))
    seed = int(os.environ.get("NORTHLIFT_CHAOS_SEED", "1"))
    share = jobs / 200
    ordeal = Ordeal(jobs=jobs, seed=seed, worker_kills=max(3, round(14 * share)), redis_kills=max(2, round(9 * share)))
    outcome = await Chaos(database_url, ordeal, directory).run()
    assert_nothing_lost(outcome, directory / "workers.log")
