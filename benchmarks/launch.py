"""What measuring a launch costs: one series by the grid and by NUTS, against statsmodels; every placebo of a panel.

    python benchmarks/launch.py [--fits 9] [--quick]

grid_ms           `structural` and `bsts` on each of the series below, the slowest of all. At most 25.
half_year_s       the sampled structural model on 180 days with two donors, the program loaded: 4 x (500 + 1000) draws
                  by NUTS, diagnostics, forecast, checks. At most 0.5, without a divergence in any fit.
weekly_warm_s     the same on three years of weeks with an annual season, daily_warm_s on a year of days.
many_donors_s     the same with 39 donors, each of which the horseshoe keeps or drops.
weekly_cold_s     the weekly answer on a machine that never compiled anything: processes started, PyMC imported, the
                  model compiled, frozen, loaded and sampled. Wall seconds; at most 30.
restart_s         the same with the bundle on disk.
vs_statsmodels    CPU of maximum likelihood by statsmodels' UnobservedComponents, with its forecast, on the daily
                  series, over that of `bsts`, which integrates what maximum likelihood fixes. vs_statsmodels_nuts over
                  that of the sampled model.
placebo_panel_s   everything that speaks for and against one launch of a panel of 40 units and 120 periods: three
                  synthetic controls with placebos in space and donors left out, differences, imputation and averages of
                  groups with placebos in space and time, trends before the launch, the structural models with theirs,
                  and every donor searched for an effect of its own. At most 60.

Seconds are CPU but for cold and restarted answers; wall seconds are shown beside.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import structlog
from statsmodels.tsa.statespace.structural import UnobservedComponents

from stats.bayes.models.fit import ModelFit, fit
from stats.bayes.models.launch_series import LaunchSeriesQuestion
from stats.bayes.sampling.contract import Program, Sampling
from stats.bayes.sampling.frozen import load
from stats.launch.bsts import bsts, bsts_in_time
from stats.launch.contract import Estimated, Panel, Series
from stats.launch.did import did
from stats.launch.group_time import group_time
from stats.launch.imputation import imputation
from stats.launch.placebo import in_space, in_time
from stats.launch.structural import structural, structural_in_time, structural_many
from stats.launch.synthetic_control import leave_one_out, synthetic
from stats.launch.trends import pre_trend, relative_magnitudes
from tests.bayes.stories.launch_series import make_series
from tests.launch.donor_panels import factor_panel
from workers.models.catalogue import bundle_folder
from workers.models.compiling import make_bundle
from workers.models.folder import BundleFolder, key_of
from workers.models.messages import ModelQuestion, SizedModel
from workers.models.pool import ModelPool

LIMITS = {"grid_ms": 25.0, "half_year_s": 0.5, "divergent_fits": 0.0, "weekly_cold_s": 30.0, "placebo_panel_s": 60.0}
MEMORY_BYTES = 512 * 1024 * 1024
HORIZON = 20


def half_year(seed: int) -> Series:
    return make_series(np.random.default_rng(seed))


def year_of_days(seed: int) -> Series:
    return make_series(np.random.default_rng(seed), periods=365, before=335)


def three_years_of_weeks(seed: int) -> Series:
    series = make_series(np.random.default_rng(seed), periods=156, before=130, week=0.0)
    year = np.sin(2 * np.pi * np.arange(156) / 52.18)
    return Series(series.y + year, series.coverage, series.excluded, series.regressors, series.donors, ((52.18, 2),))


def many_donors(seed: int) -> Series:
    return make_series(np.random.default_rng(seed), coefficients=(0.5, 0.3, *[0.0] * 37))


def timed(task: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU and wall seconds of this process, and the result."""
    used, began = time.process_time(), time.perf_counter()
    made = task()
    return time.process_time() - used, time.perf_counter() - began, made


def typical(task: Callable[[int], Any], fits: int) -> tuple[float, float]:
    """Median CPU and wall seconds over seeds, the first not counted."""
    taken = [timed(lambda seed=seed: task(seed))[:2] for seed in range(fits + 1)][1:]
    return median(cpu for cpu, _ in taken), median(wall for _, wall in taken)


def program_of(folder: BundleFolder, series: Series) -> Program:
    """The compiled model of the size that a series needs, made where it is missing."""
    question = LaunchSeriesQuestion(series)
    model = SizedModel(question.definition, question.size)
    if folder.size(key_of(model)) is None:
        make_bundle(folder, model)
    return load(folder.read(key_of(model)))


def sampled(program: Program, made: Callable[[int], Series], fits: int) -> tuple[float, float, list[ModelFit]]:
    """Median CPU and wall seconds, and the fits themselves."""
    found: list[ModelFit] = []

    def answer(seed: int) -> None:
        found.append(fit(LaunchSeriesQuestion(made(seed)), lambda definition, size: program, Sampling(), seed=seed))
        if found[-1].status != "ok":
            raise SystemExit(f"the sampled model gave no answer: {found[-1].reason}")

    cpu, wall = typical(answer, fits)
    return cpu, wall, found


def divergent(program: Program, fits: int) -> int:
    """First attempts with a divergence; the service would repeat them with smaller steps."""
    asked = LaunchSeriesQuestion(half_year(0))
    sampling = Sampling(target_accept=asked.definition.target_accept)
    draws = (program.sample(LaunchSeriesQuestion(half_year(seed)).data(), sampling, seed=seed) for seed in range(fits))
    return sum(each.divergences > 0 for each in draws)


async def first_answer(folder: BundleFolder, series: Series) -> float:
    """Wall seconds from a new pool of processes to its first answer."""
    began = time.perf_counter()
    pool = ModelPool(folder=folder, fit_seconds=60.0, memory_bytes=MEMORY_BYTES)
    try:
        (found,) = await pool.answer(ModelQuestion((LaunchSeriesQuestion(series),), 1), 600.0)
        if found.status != "ok":
            raise SystemExit(f"the sampled model gave no answer: {found.reason}")
        return time.perf_counter() - began
    finally:
        await pool.close()


def maximum_likelihood(series: Series) -> None:
    """The same components by statsmodels, and the forecast from the launch on."""
    before = int((series.coverage > 0).argmax())
    influences = np.column_stack([np.arange(series.y.size), series.donors])
    ((period, harmonics),) = series.season
    model = UnobservedComponents(
        series.y[:before],
        level="local level",
        exog=influences[:before],
        freq_seasonal=[{"period": period, "harmonics": harmonics}],
        stochastic_freq_seasonal=[False],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = model.fit(disp=False)
    made.get_forecast(series.y.size - before, exog=influences[before:]).conf_int()


def battery(panel: Panel, series: Series) -> dict[str, float]:
    """CPU seconds of everything that the service asks of a panel and of its treated unit's series, by name."""
    taken: dict[str, float] = {}

    def noted(name: str, task: Callable[[], Any]) -> Any:
        cpu, _, made = timed(task)
        taken[name] = taken.get(name, 0.0) + cpu
        return made

    def estimators(draws: int) -> dict[str, Callable[[Panel], Estimated]]:
        return {
            "did": did,
            "imputation": lambda each: imputation(each, seed=1, draws=draws),
            "group_time": lambda each: group_time(each, seed=1, draws=draws),
        }

    for method in ("synthetic_control", "augmented_synthetic_control", "synthetic_did"):
        noted("synthetic, in space", lambda method=method: synthetic(panel, method))
        noted("leave one out", lambda method=method: leave_one_out(panel, method))
        noted(
            "synthetic, in time",
            lambda method=method: in_time(panel, lambda each: synthetic(each, method).estimated, horizon=HORIZON),
        )
    found = {name: noted(name, lambda run=run: run(panel)) for name, run in estimators(999).items()}
    for name, run in estimators(99).items():
        noted(f"{name}, in time", lambda run=run: in_time(panel, run, horizon=HORIZON))
        noted(f"{name}, in space", lambda run=run: in_space(panel, run))
    noted("trends before", lambda: (pre_trend(panel), relative_magnitudes(panel, found["imputation"])))
    noted("structural", lambda: (structural(series), structural_in_time(series, horizon=HORIZON)))
    noted("bsts", lambda: (bsts(series), bsts_in_time(series, horizon=HORIZON)))
    noted("donors searched", lambda: structural_many(series.donors.T, series.coverage, series.excluded, series.season))
    return taken


def panel_and_series() -> tuple[Panel, Series]:
    """40 units over 120 periods, one of them treated in the last 20; the other 39 are donors of its series."""
    panel = factor_panel(np.random.default_rng(7), units=40, before=100, after=20)
    (treated,), never = np.flatnonzero(panel.treated), ~panel.treated
    empty = np.empty((panel.y.shape[1], 0))
    return panel, Series(panel.y[treated], panel.coverage[treated], panel.excluded[treated], empty, panel.y[never].T)


def measure(arguments: argparse.Namespace, found: dict[str, float], notes: dict[str, str]) -> None:
    fits = arguments.fits
    series = {"half_year": half_year, "weekly": three_years_of_weeks, "daily": year_of_days}
    grids: dict[str, float] = {}
    for name, made in series.items():
        for method, run in (("structural", structural), ("bsts", bsts)):
            grids[f"{method} {name}"] = typical(lambda seed, run=run, made=made: run(made(seed)), fits)[0]
    found["grid_ms"] = 1e3 * max(grids.values())
    notes["grid_ms"] = ", ".join(f"{name} {1e3 * cpu:.1f}" for name, cpu in grids.items())

    programs = bundle_folder(None)
    program = program_of(programs, half_year(0))
    for name, made in series.items():
        key = "half_year_s" if name == "half_year" else f"{name}_warm_s"
        found[key], wall, answers = sampled(program, made, fits)
        sizes = [answer.diagnostics.ess_bulk for answer in answers if answer.diagnostics]
        notes[key] = f"wall {wall:.2f} s; smallest effective sample size {min(sizes):.0f}"
    found["divergent_fits"] = divergent(program, 2 * fits)
    notes["divergent_fits"] = f"of {2 * fits} first attempts on 180 days"
    if not arguments.quick:
        wide = program_of(programs, many_donors(0))
        found["many_donors_s"], wall, answers = sampled(wide, many_donors, 1)
        notes["many_donors_s"] = f"wall {wall:.1f} s"

    likelihood, wall = typical(lambda seed: maximum_likelihood(year_of_days(seed)), max(3, fits // 3))
    found["vs_statsmodels"] = likelihood / grids["bsts daily"]
    notes["vs_statsmodels"] = f"statsmodels {1e3 * likelihood:.0f} ms CPU, bsts {1e3 * grids['bsts daily']:.1f} ms"
    found["vs_statsmodels_nuts"] = likelihood / found["daily_warm_s"]
    weekly, _ = typical(lambda seed: maximum_likelihood(three_years_of_weeks(seed)), max(3, fits // 3))
    notes["vs_statsmodels_nuts"] = (
        f"weekly: {weekly / found['weekly_warm_s']:.2f}, grid {weekly / grids['bsts weekly']:.0f}"
    )

    panel, single = panel_and_series()
    taken = battery(panel, single)
    found["placebo_panel_s"] = sum(taken.values())
    dearest = sorted(taken.items(), key=lambda item: -item[1])
    notes["placebo_panel_s"] = ", ".join(f"{name} {cpu:.2f}" for name, cpu in dearest)

    with tempfile.TemporaryDirectory() as name:
        folder = BundleFolder(Path(name))
        used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        found["weekly_cold_s"] = asyncio.run(first_answer(folder, three_years_of_weeks(0)))
        notes["weekly_cold_s"] = f"{sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - used:.1f} CPU s"
        found["restart_s"] = median(asyncio.run(first_answer(folder, three_years_of_weeks(0))) for _ in range(3))


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
    parser.add_argument("--fits", type=int, default=9, help="of each warm model")
    parser.add_argument(
        "--quick", action="store_true", help="without the model of 40 donors, which takes a compilation"
    )
    arguments = parser.parse_args()
    structlog.configure(processors=[_nothing])
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    found: dict[str, float] = {}
    notes: dict[str, str] = {}
    measure(arguments, found, notes)
    report(found, notes)


if __name__ == "__main__":
    main()
