"""What Bayesian answers cost: cold, warm, against exact arithmetic and against the model a user would write on rows.

    python benchmarks/bayes.py [--rows 1000000] [--fits 25] [--quick]

cold_s                first answer of a worker's models on a machine that never compiled anything: processes started,
                      PyMC imported, the model compiled, frozen, loaded and sampled. At most 30.
restart_s             first answer after a restart, the bundle on disk. At most 1.
rss_mb                resident memory of the sampling process after one fit of every model of the library. The compiling
                      process is gone when idle; its peak is shown beside it.
warm_cpu_ms           the standard analysis again with new data: conversions of three arms, 4 x (500 + 1000) draws by
                      NUTS, diagnostics, predictive checks, effects, densities. CPU of all threads. At most 50, and the
                      same for a thousand times the users (users_ratio, at most 1.25).
<model>_cpu_ms        the same for every model of the library.
ratio_to_closed_form  warm_cpu_ms over the exact answer to the same question by quadrature, everything included.
ratio_to_row_level_1m CPU seconds of the same model written on rows and sampled with PyMC's defaults, compilation
                      included as its user pays it, over warm_cpu_ms. At least 4,000 at a million rows.
cells_3000_s          100 metrics x 10 segments x 3 variants pooled by metric and variant, as the service does families
                      in bulk (exact grid), CPU. At most 5. The same families by NUTS are extrapolated from a few.

CPU seconds are what is compared: they hardly depend on what else the machine does. Wall seconds are shown beside.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import structlog

from stats.bayes.models.beta_binomial import BetaBinomialQuestion
from stats.bayes.models.exchangeable import pool_questions
from stats.bayes.models.fit import ModelFit, Question, fit
from stats.bayes.models.lattice_fit import exact
from stats.bayes.models.segments import SegmentsQuestion
from stats.bayes.prior import Prior
from stats.bayes.sampling.contract import Program, Sampling
from stats.bayes.sampling.frozen import load
from tests.bayes.stories import (
    beta_binomial,
    exchangeable,
    gamma_poisson,
    hurdle_lognormal,
    negative_binomial,
    population,
    student_t,
)
from workers.models.folder import BundleFolder, key_of
from workers.models.messages import ModelQuestion, SizedModel
from workers.models.pool import ModelPool

STORIES = (
    beta_binomial,
    gamma_poisson,
    hurdle_lognormal,
    negative_binomial,
    student_t,
    exchangeable,
    population,
)
PRIOR = Prior.default()
LIMITS = {
    "cold_s": ("<=", 30.0),
    "restart_s": ("<=", 1.0),
    "warm_cpu_ms": ("<=", 50.0),
    "users_ratio": ("<=", 1.25),
    "ratio_to_row_level_1m": (">=", 4000.0),
    "cells_3000_s": ("<=", 5.0),
}
MAIN = ("warm_cpu_ms", "ratio_to_closed_form", "ratio_to_row_level_1m", "cells_3000_s", "cold_s", "restart_s", "rss_mb")
MEMORY_BYTES = 512 * 1024 * 1024
ROW_LEVEL = """
import json, resource, sys, time
sys.path.insert(0, {repository!r})
began = time.perf_counter()
import numpy as np, pymc as pm
from stats.bayes.prior import Prior
from tests.bayes.stories import beta_binomial
rows = beta_binomial.make_rows(np.random.default_rng(5), {per_arm})
imported = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
with beta_binomial.row_level(rows, Prior.default(), (-1.2, 1.0)):
    draws = pm.sample(random_seed=5, progressbar=False)["posterior"]["log_lift"]
used = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) - imported
mean, sd = draws.mean(("chain", "draw")).values.tolist(), draws.std(("chain", "draw")).values.tolist()
print(json.dumps({{"cpu": used, "wall": time.perf_counter() - began, "mean": mean, "sd": sd}}))
"""


def conversions(users_per_arm: float, seed: int) -> BetaBinomialQuestion:
    """Three arms of a test with lifts of a few percent."""
    rng = np.random.default_rng(seed)
    units = np.full(3, float(users_per_arm))
    rates = 0.1 * np.exp(np.append(0.0, rng.normal(0.0, 0.03, 2)))
    return BetaBinomialQuestion(units, rng.binomial(units.astype(np.int64), rates).astype(np.float64), PRIOR)


def cpu() -> float:
    """Of this process and its ended children."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


async def first_answer(folder: BundleFolder, question: Question) -> tuple[float, float | None, float | None]:
    """Seconds from a new pool to its first answer; resident megabytes of its sampling and compiling process."""
    began = time.perf_counter()
    pool = ModelPool(folder=folder, fit_seconds=60.0, memory_bytes=MEMORY_BYTES)
    try:
        (found,) = await pool.answer(ModelQuestion((question,), 1), 600.0)
        took = time.perf_counter() - began
        answered(found)
        sampler, compiler = (resident(pid) for pid in pool.process_ids)
        return took, sampler, compiler
    finally:
        await pool.close()


async def every_model(folder: BundleFolder, questions: list[Question]) -> tuple[float, float | None]:
    """Compile what is missing and fit one question of every model; seconds, resident megabytes of the sampler."""
    began = time.perf_counter()
    pool = ModelPool(folder=folder, fit_seconds=60.0, memory_bytes=MEMORY_BYTES)
    try:
        for found in await pool.answer(ModelQuestion(tuple(questions), 1), 1800.0):
            answered(found)
        return time.perf_counter() - began, resident(pool.process_ids[0])
    finally:
        await pool.close()


def answered(found: ModelFit) -> ModelFit:
    """A fit that failed says nothing about speed."""
    if found.status != "ok":
        raise SystemExit(f"{found.model} gave no answer: {found.reason}")
    return found


def resident(process_id: int | None) -> float | None:
    if process_id is None:
        return None
    status = Path(f"/proc/{process_id}/status").read_text()
    return float(status.split("VmRSS:")[1].split()[0]) / 1024


def program_of(folder: BundleFolder, question: Question) -> Program:
    return load(folder.read(key_of(SizedModel(question.definition, question.size))))


def warm(program: Program, questions: list[Question]) -> tuple[float, float, float]:
    """Median CPU and wall milliseconds of a fit, and the smallest bulk sample size."""
    taken: list[tuple[float, float]] = []
    sizes = []
    for seed, question in enumerate(questions):
        start, began = time.process_time(), time.perf_counter()
        found = fit(question, lambda definition, size: program, Sampling(), seed=seed)
        taken.append((time.process_time() - start, time.perf_counter() - began))
        if found.diagnostics is not None:
            sizes.append(found.diagnostics.ess_bulk)
    return 1e3 * median(t[0] for t in taken), 1e3 * median(t[1] for t in taken), min(sizes)


def exact_milliseconds(questions: list[BetaBinomialQuestion]) -> float:
    taken = []
    for question in questions:
        start = time.process_time()
        exact(question)
        taken.append(time.process_time() - start)
    return 1e3 * median(taken)


def many_cells(program: Program) -> tuple[float, float]:
    """CPU seconds of 200 families of ten segments by the grid, and by NUTS (extrapolated from ten)."""
    rng = np.random.default_rng(3)
    families = []
    for _ in range(200):
        errors = rng.uniform(0.005, 0.05, 10)
        effects = rng.normal(0.01, 0.02) + rng.normal(0, 0.01, 10)
        families.append(SegmentsQuestion(effects + errors * rng.standard_normal(10), errors, PRIOR))
    start = time.process_time()
    for found in pool_questions(families):
        answered(found)
    by_grid = time.process_time() - start
    start = time.process_time()
    for seed, question in enumerate(families[:10]):
        answered(fit(question, lambda definition, size: program, Sampling(), seed=seed))
    return by_grid, (time.process_time() - start) * len(families) / 10


def row_level(rows: int) -> dict[str, Any]:
    """The same model as a user would write it, in a process of its own; CPU without the imports."""
    script = ROW_LEVEL.format(repository=str(REPOSITORY), per_arm=rows // 3)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    answer: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return answer


def apart(answer: dict[str, Any], program: Program, rows: int) -> float:
    """Largest distance between the means of both posteriors, in posterior sds: the model and the rows are the same."""
    question = beta_binomial.question_of(
        beta_binomial.make_rows(np.random.default_rng(5), rows // 3), Prior.default(), (-1.2, 1.0)
    )
    found = answered(fit(question, lambda definition, size: program, Sampling(), seed=5))
    assert found.effects is not None
    return float(np.max(np.abs(found.effects.log_mean - np.array(answer["mean"])) / np.array(answer["sd"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large row-level model")
    parser.add_argument("--fits", type=int, default=25)
    parser.add_argument("--quick", action="store_true", help="no row-level model beyond 100,000 rows")
    arguments = parser.parse_args()
    structlog.configure(processors=[_nothing])
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    found: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = BundleFolder(Path(name))
        measure(folder, arguments, found, notes)
    report(found, notes)


def _nothing(logger: object, name: str, event: object) -> dict[str, Any]:
    """What the pool logs is no part of the table."""
    raise structlog.DropEvent


def measure(
    folder: BundleFolder, arguments: argparse.Namespace, found: dict[str, float | None], notes: dict[str, str]
) -> None:
    """Everything, in the order in which a new machine would see it."""
    standard = conversions(1e5, 0)
    used = cpu()
    found["cold_s"], _, compiler = asyncio.run(first_answer(folder, standard))
    notes["cold_s"] = f"{cpu() - used:.1f} CPU s; compiling process {compiler or 0:.0f} MB"
    restarts = [asyncio.run(first_answer(folder, standard)) for _ in range(5)]
    found["restart_s"] = median(took for took, _, _ in restarts)
    notes["restart_s"] = f"fastest {min(took for took, _, _ in restarts):.2f}, sampler {restarts[-1][1] or 0:.0f} MB"
    rng = np.random.default_rng(11)
    told: dict[str, list[Question]] = {
        story.__name__.rsplit(".", 1)[-1]: [story.simulate(rng)[1] for _ in range(arguments.fits)] for story in STORIES
    }
    compiling, found["rss_mb"] = asyncio.run(every_model(folder, [questions[0] for questions in told.values()]))
    notes["rss_mb"] = f"all models loaded; the {len(told) - 1} others took {compiling:.0f} s to compile and fit"
    program = program_of(folder, standard)
    few = [conversions(1e4, seed) for seed in range(arguments.fits)]
    many = [conversions(1e7, seed) for seed in range(arguments.fits)]
    ours, wall, size = warm(program, list(few))
    found["warm_cpu_ms"] = ours
    notes["warm_cpu_ms"] = f"wall {wall:.1f} ms; smallest effective sample size {size:.0f}"
    found["users_ratio"] = warm(program, list(many))[0] / ours
    for model, questions in told.items():
        taken, wall, size = warm(program_of(folder, questions[0]), questions)
        found[f"{model}_cpu_ms"] = taken
        notes[f"{model}_cpu_ms"] = f"wall {wall:.1f} ms; smallest effective sample size {size:.0f}"
    closed = exact_milliseconds(few)
    found["closed_form_cpu_ms"] = closed
    found["ratio_to_closed_form"] = ours / closed
    notes["ratio_to_closed_form"] = "exact quadrature with the same prior and the same outputs"
    sampler = program_of(folder, told["exchangeable"][0])
    found["cells_3000_s"], by_nuts = many_cells(sampler)
    notes["cells_3000_s"] = f"by NUTS, family by family: {by_nuts:.1f} CPU s (extrapolated)"
    for label, rows in (("100k", 100_000), ("1m", None if arguments.quick else arguments.rows)):
        name = f"ratio_to_row_level_{label}"
        if rows is None:
            found[name] = None
            continue
        answer = row_level(rows)
        found[name] = 1e3 * answer["cpu"] / ours
        notes[name] = (
            f"{rows:,} rows: {answer['cpu']:.1f} CPU s, {answer['wall']:.0f} s wall; "
            f"means differ by {apart(answer, program, rows):.2f} posterior sd"
        )


def report(found: dict[str, float | None], notes: dict[str, str]) -> None:
    for name, value in found.items():
        shown = "null" if value is None else f"{value:.4g}"
        limit = ""
        if name in LIMITS:
            sign, bound = LIMITS[name]
            met = value is not None and (value <= bound if sign == "<=" else value >= bound)
            limit = f"{sign} {bound:g}  {'ok' if met else 'MISSED' if value is not None else 'not measured'}"
        print(f"{name:28} {shown:>10}  {limit:18} {notes.get(name, '')}".rstrip())
    rounded = {name: found[name] for name in MAIN}
    print(json.dumps({name: None if value is None else round(value, 4) for name, value in rounded.items()}))


if __name__ == "__main__":
    main()
