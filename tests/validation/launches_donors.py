"""D4: one series, forecast from its own past and from three series that the launch did not touch.

91 weeks before the launch and 13 after it; donors share a growing market that walks by 1 % a week, and each wanders by
0.3 %. "model" is the model's own interval, "printed" the one that Northlift shows: with the bias that placebo launches
at earlier dates give.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.evidence.launch.natural_units import total_interval
from stats.launch.bsts import bsts, bsts_in_time
from stats.launch.contract import Series
from stats.launch.grade import GradeFacts, evidence_grade
from stats.moments import Floats
from tests.validation.cells import Cell, scaled
from tests.validation.intervals import LEVEL, Intervals

SEED = 20304
TABLE = "D4 forecasts from donors"
APART = "D4 donors that stop following"
BEFORE, AFTER, DONORS = 91, 13, 3
PERIODS = BEFORE + AFTER
SLACK = 0.02
OWN: dict[str, float] = {"nothing of its own": 0.0, "drift of 0.6 %": 0.006, "drift of 1 %": 0.01}


def forecasts(part: float = 1.0) -> list[Cell]:
    """Coverage and bias without effect, and with one of 0.05 that reaches everybody within six weeks, for outcomes that
    follow the market and drift by themselves besides."""
    cells = []
    for number, (name, drift) in enumerate(OWN.items()):
        for effect, path in ((0.0, np.ones(AFTER)), (0.05, np.minimum(1.0, np.arange(1.0, AFTER + 1) / 6))):
            case = {"outcome": f"market and {name}", "effect": f"{effect:g}"}
            seed = [SEED, number, round(100 * effect)]
            cells += _cells(TABLE, case, seed, drift, effect * path, path, np.zeros(AFTER), scaled(200, part, 6))
    return cells


def stopped_following(part: float = 1.0) -> list[Cell]:
    """Donors part from the market at the launch. No history can tell: the forecast is wrong, and intervals miss, the
    printed ones as well. That is why a comparison without a lot is never better than grade C.
    """
    cells = []
    parted: dict[str, Floats] = {
        "by 0.2 % a week": 0.002 * np.arange(1.0, AFTER + 1),
        "by 0.5 % a week": 0.005 * np.arange(1.0, AFTER + 1),
        "by 5 % at once": np.full(AFTER, 0.05),
    }
    for number, (name, path) in enumerate(parted.items()):
        case, replications = {"donors part": name}, scaled(100, part, 6)
        nothing, everybody = np.zeros(AFTER), np.ones(AFTER)
        cells += _cells(APART, case, [SEED, 8, number], 0.006, nothing, everybody, path, replications, spoiled=True)
    return cells


def _cells(
    table: str,
    case: dict[str, str],
    seed: list[int],
    drift: float,
    effect: Floats,
    path: Floats,
    parted: Floats,
    replications: int,
    *,
    spoiled: bool = False,
) -> list[Cell]:
    rng = np.random.default_rng(seed)
    truth = float(effect[-1])
    model, printed = Intervals(), Intervals()
    for _ in range(replications):
        series = market(rng, drift, effect, path)
        series = replace(series, donors=series.donors + np.append(np.zeros(BEFORE), parted)[:, None])
        found, runs = bsts(series), bsts_in_time(series, horizon=AFTER, most=12)
        model.of(truth, found)
        facts = GradeFacts(
            design="donors",
            effect=found.effect,
            standard_error=found.standard_error,
            planned_before=True,
            days_after=7.0 * AFTER,
            placebos_in_time=runs,
        )
        both = total_interval(found, evidence_grade(facts).bias_sd, LEVEL)
        printed.add(truth, both.value, both.lower, both.upper)
    rule = "report" if spoiled else "at_least"
    return [
        printed.coverage(table, case, "printed", rule, SLACK),
        printed.width(table, case, "printed"),
        model.coverage(table, case, "model", rule, SLACK),
        model.bias(table, case, "model", "report" if spoiled else "equal"),
    ]


def market(rng: np.random.Generator, drift: float, effect: Floats, path: Floats) -> Series:
    """An outcome with an own walk of `drift` a week, and three donors, on one market; `effect` and `path` (AFTER,)."""
    shared = np.cumsum(0.002 + 0.01 * rng.standard_normal(PERIODS))
    others = np.cumsum(0.003 * rng.standard_normal((PERIODS, DONORS)), axis=0)
    coverage = np.append(np.zeros(BEFORE), path)
    own = np.cumsum(drift * rng.standard_normal(PERIODS)) + 0.01 * rng.standard_normal(PERIODS)
    return Series(
        y=5.0 + shared + own + np.append(np.zeros(BEFORE), effect),
        coverage=coverage,
        excluded=np.zeros(PERIODS, dtype=np.bool_),
        regressors=np.empty((PERIODS, 0)),
        donors=shared[:, None] + others + 0.01 * rng.standard_normal((PERIODS, DONORS)),
    )
