"""What the ledger, the programme and the review cost: two engines, and shrinkage over 60 to 5,000 experiments.

    python benchmarks/impact.py [--fits 5] [--port 8481] [--quick]

ledger_collapsed_s    the ledger of two years, 60 experiments and their launches (METHODS F6) by the collapsed engine:
                      scalars, effects and every weekly component in 2,000 draws. At most 3.
ledger_pymc_warm_s    the same by NUTS, the program loaded: 4 x (500 + 1000) draws, diagnostics, and 2,000 of them
                      completed to the same ledger. At most 8.
divergent_fits        first attempts with a divergence, which the service repeats with smaller steps.
ledger_pymc_cold_s    the sampled answer on a machine that never compiled anything: processes started, PyMC imported,
                      the model compiled, frozen, loaded and sampled. Wall seconds; at most 30.
ledger_restart_s      from new processes to the program being linked and tested, its bundle on disk: the answer's own
                      seconds not counted. Wall seconds; at most 1.
forecast_s            half a year ahead and the programme until then, with what it would take to hit a target (F8).
stagnation_s          the last weeks followed by a ledger fitted before them (F7).
programme_60_s        the programme's result document for so many experiments: totals, what others make of them, every
programme_500_s       effect, all experiments one after the other, leave-one-out (F1, F2, F4). At most 1, 2 and 10.
programme_5000_s
review_s              a growth review through a running service, by `benchmarks/review.py`. Wall seconds; at most 60.

Seconds are CPU but for cold and restarted answers and the review; wall seconds are shown beside.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import structlog

from benchmarks import review
from experiments.evidence.programme import programme_result
from experiments.plan.company_plans import ProgrammeEffect, ProgrammePlan
from stats.bayes.models.fit import ModelFit, fit
from stats.bayes.models.ledger import LedgerQuestion, ledger_fit
from stats.bayes.sampling.contract import Program, Sampling
from stats.bayes.sampling.frozen import load
from stats.ledger import collapsed
from stats.ledger.contract import LedgerData, LedgerFit, LedgerPriors
from stats.ledger.forecast import forecast
from stats.ledger.programme_ahead import programme_ahead
from stats.ledger.stagnation import stagnation
from tests.bayes.stories.ledger import make_ledger
from workers.models.catalogue import bundle_folder
from workers.models.compiling import make_bundle
from workers.models.folder import BundleFolder, key_of
from workers.models.messages import ModelQuestion, SizedModel
from workers.models.pool import ModelPool

LIMITS = {
    "ledger_collapsed_s": 3.0,
    "ledger_pymc_warm_s": 8.0,
    "ledger_pymc_cold_s": 30.0,
    "ledger_restart_s": 1.0,
    "programme_60_s": 1.0,
    "programme_500_s": 2.0,
    "programme_5000_s": 10.0,
    "review_s": 60.0,
}
MEMORY_BYTES = 512 * 1024 * 1024
PRIORS = LedgerPriors()
STARTED = datetime(2024, 1, 1, tzinfo=UTC)


def two_years(seed: int) -> LedgerData:
    """104 weeks, 60 experiments, some 18 launches of them and six that nobody measured."""
    return make_ledger(np.random.default_rng(seed), threshold=1.3, holdout=seed % 2 == 1)[0]


def a_programme(experiments: int) -> ProgrammePlan:
    """Effects from a t4 population, estimated about as precisely as they are large; winners shipped."""
    rng = np.random.default_rng(experiments)
    errors = 0.006 * np.exp(0.4 * rng.standard_normal(experiments))
    lifts = 0.001 + 0.006 * rng.standard_t(4, experiments) + errors * rng.standard_normal(experiments)
    return ProgrammePlan(
        metric_key="minutes",
        metric_name="Minutes listened",
        direction="increase",
        started=experiments,
        effects=[an_effect(k, lift, error) for k, (lift, error) in enumerate(zip(lifts, errors, strict=True))],
        missing=[],
        holdouts=[],
    )


def an_effect(number: int, lift: float, error: float) -> ProgrammeEffect:
    stopped = STARTED + timedelta(days=number % 700 + 14)
    shipped = lift > 1.645 * error
    return ProgrammeEffect(
        experiment_key=f"experiment-{number}",
        name=f"Experiment {number}",
        team=f"team-{number % 7}",
        owner="somebody",
        variant_key="treatment",
        variants=1,
        analysis_id=f"analysis-{number}",
        data_as_of=stopped,
        verdict="winner" if shipped else "inconclusive",
        log_lift=lift,
        standard_error=error,
        topline_log_lift=0.8 * lift,
        topline_standard_error=0.8 * error,
        topline_source="measured",
        evidence_grade="A",
        bias_sd=0.0,
        started_at=stopped - timedelta(days=14),
        stopped_at=stopped,
        outcome="ship" if shipped else "roll_back",
        decided_at=stopped,
        shipped=shipped,
    )


def timed(task: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU and wall seconds of this process, and the result."""
    used, began = time.process_time(), time.perf_counter()
    made = task()
    return time.process_time() - used, time.perf_counter() - began, made


def typical(task: Callable[[int], Any], fits: int) -> tuple[float, float]:
    """Median CPU and wall seconds over seeds, the first not counted."""
    taken = [timed(lambda seed=seed: task(seed))[:2] for seed in range(fits + 1)][1:]
    return median(cpu for cpu, _ in taken), median(wall for _, wall in taken)


def program_of(folder: BundleFolder, data: LedgerData) -> Program:
    """The compiled model of the size that a ledger needs, made where it is missing."""
    model = sized(data)
    if folder.size(key_of(model)) is None:
        make_bundle(folder, model)
    return load(folder.read(key_of(model)))


def sized(data: LedgerData) -> SizedModel:
    question = LedgerQuestion(data)
    return SizedModel(question.definition, question.size)


def sampled(program: Program, fits: int) -> tuple[float, float, list[ModelFit]]:
    """Median CPU and wall seconds of sampled ledgers, and the fits behind them."""
    found: list[ModelFit] = []

    def answer(seed: int) -> LedgerFit:
        data = two_years(seed)
        made = fit(LedgerQuestion(data), lambda definition, size: program, Sampling(patience_seconds=120.0), seed=seed)
        if made.status != "ok":
            raise SystemExit(f"the sampled ledger gave no answer: {made.reason}")
        found.append(made)
        return ledger_fit(made, data, PRIORS, seed)

    cpu, wall = typical(answer, fits)
    return cpu, wall, found


def divergent(program: Program, fits: int) -> int:
    """First attempts with a divergence."""
    asked = LedgerQuestion(two_years(0))
    sampling = Sampling(target_accept=asked.definition.target_accept, patience_seconds=120.0)
    draws = (program.sample(LedgerQuestion(two_years(seed)).data(), sampling, seed=seed) for seed in range(fits))
    return sum(each.divergences > 0 for each in draws)


async def first_answer(folder: BundleFolder, data: LedgerData) -> float:
    """Wall seconds from a new pool of processes to its first answer."""
    began = time.perf_counter()
    pool = ModelPool(folder=folder, fit_seconds=120.0, memory_bytes=MEMORY_BYTES)
    try:
        (found,) = await pool.answer(ModelQuestion((LedgerQuestion(data),), 1), 600.0)
        if found.status != "ok":
            raise SystemExit(f"the sampled ledger gave no answer: {found.reason}")
        return time.perf_counter() - began
    finally:
        await pool.close()


async def second_answer(folder: BundleFolder, data: LedgerData) -> tuple[float, float]:
    """Wall seconds of the first answer of a new pool, and how much of it the same answer takes once more."""
    pool = ModelPool(folder=folder, fit_seconds=120.0, memory_bytes=MEMORY_BYTES)
    try:
        taken = []
        for _ in range(2):
            began = time.perf_counter()
            await pool.answer(ModelQuestion((LedgerQuestion(data),), 1), 600.0)
            taken.append(time.perf_counter() - began)
        return taken[0], taken[1]
    finally:
        await pool.close()


def measure_ledger(arguments: argparse.Namespace, found: dict[str, float], notes: dict[str, str]) -> None:
    sizes: list[float] = []

    def by_hand(seed: int) -> LedgerFit:
        made = collapsed.fit(two_years(seed), PRIORS, seed=seed)
        sizes.append(made.diagnostics["ess"])
        return made

    found["ledger_collapsed_s"], wall = typical(by_hand, arguments.fits)
    notes["ledger_collapsed_s"] = f"wall {wall:.2f} s; smallest effective sample size {min(sizes):.0f}"
    program = program_of(bundle_folder(None), two_years(0))
    found["ledger_pymc_warm_s"], wall, answers = sampled(program, arguments.fits)
    sizes = [answer.diagnostics.ess_bulk for answer in answers if answer.diagnostics]
    notes["ledger_pymc_warm_s"] = f"wall {wall:.2f} s; smallest effective sample size {min(sizes):.0f}"
    if not arguments.quick:
        found["divergent_fits"] = divergent(program, 4 * arguments.fits)
        notes["divergent_fits"] = f"of {4 * arguments.fits} first attempts"
        with tempfile.TemporaryDirectory() as name:
            folder = BundleFolder(Path(name))
            found["ledger_pymc_cold_s"] = asyncio.run(first_answer(folder, two_years(0)))
            again = [asyncio.run(second_answer(folder, two_years(0))) for _ in range(3)]
            found["ledger_restart_s"] = median(first - warm for first, warm in again)
            notes["ledger_restart_s"] = f"with the answer {median(first for first, _ in again):.2f} s"

    data = two_years(0)
    ledger = collapsed.fit(data, PRIORS, seed=0)
    counts, ships = np.array([7.0, 8, 9, 6, 8, 7, 6, 9]), np.array([2.0, 3, 2, 2, 1, 3, 2, 3])

    def look_ahead(seed: int) -> None:
        ahead = forecast(ledger, 26, seed=seed)
        target = 1.02 * float(ahead.band()[1][25])
        programme_ahead(ledger, ahead, target=target, week=25, experiments=counts, shipped=ships, seed=seed)

    found["forecast_s"], _ = typical(look_ahead, arguments.fits)
    found["stagnation_s"], _ = typical(lambda seed: stagnation(data, PRIORS, floor=0.0, seed=seed), arguments.fits)


def measure_programme(arguments: argparse.Namespace, found: dict[str, float], notes: dict[str, str]) -> None:
    for experiments in (60, 500, 5000):
        plan = a_programme(experiments)
        cpu, wall = typical(
            lambda seed, plan=plan: programme_result(
                plan, analysis_id="benchmark", data_as_of=STARTED, code_version="benchmark"
            ),
            arguments.fits if experiments < 5000 else 1,
        )
        name = f"programme_{experiments}_s"
        found[name], notes[name] = cpu, f"wall {wall:.2f} s"


def report(found: dict[str, float], notes: dict[str, str]) -> None:
    for name, value in found.items():
        limit = f"<= {LIMITS[name]:g}  {'ok' if value <= LIMITS[name] else 'MISSED'}" if name in LIMITS else ""
        print(f"{name:20} {value:>10.4g}  {limit:16} {notes.get(name, '')}".rstrip())
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))


def _nothing(logger: object, name: str, event: object) -> dict[str, Any]:
    """What the pool logs is no part of the table."""
    raise structlog.DropEvent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=5, help="of each")
    parser.add_argument("--port", type=int, default=8481, help="of the service that makes reviews")
    parser.add_argument("--quick", action="store_true", help="without compiling anything from nothing")
    arguments = parser.parse_args()
    structlog.configure(processors=[_nothing])
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    found: dict[str, float] = {}
    notes: dict[str, str] = {}
    measure_programme(arguments, found, notes)
    measure_ledger(arguments, found, notes)
    whole = review.measure(arguments.fits, arguments.port)
    found["review_s"] = whole["review_s"]
    notes["review_s"] = (
        f"again {whole['review_again_s']:.2f} s; loading two years and sixty experiments {whole['load_s']:.0f} s"
    )
    report(found, notes)


if __name__ == "__main__":
    main()
