"""D1: a launch that reached everybody at once, measured on one weekly series of its own.

104 weeks before the launch and 12 after it. "printed" is the interval that Northlift shows: that of the structural
model, widened by the bias term of evidence grade D, which placebo launches at earlier dates give (at least one standard
error). "model" is the model's own interval, which must hold the truth in 93 % of cases whatever the noise. Beside it is
least squares with a trend and a step, with plain errors and with errors robust to six lags of autocorrelation, and the
95th percentile of placebo effects alone. In METHODS D1 they covered 0.42, 0.46 and 0.79 of truths under drift.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import statsmodels.api as sm

from experiments.evidence.launch.natural_units import total_interval
from stats.launch.contract import Estimated, PlaceboRuns, Series
from stats.launch.grade import GradeFacts, evidence_grade
from stats.launch.structural import structural, structural_in_time
from stats.moments import Floats
from tests.validation.cells import Cell, scaled
from tests.validation.intervals import LEVEL, Intervals, shares_below

SEED = 20301
BEFORE, AFTER = 104, 12
PERIODS = BEFORE + AFTER
NULL = "D1 no effect"
EFFECT = "D1 an effect of 5 %"
PLACEBO_P = "D1 rank among placebos in time"
YEAR = ((52.18, 2),)
LAGS = 6
MODEL_SLACK = 0.02
RAMP = np.minimum(1.0, np.arange(1, AFTER + 1) / 6)
type Noise = Callable[[np.random.Generator], Floats]


def drift(rng: np.random.Generator) -> Floats:
    """The setting of METHODS D1: a level that walks by 0.6 % a week, seen with noise of 1 %."""
    return np.asarray(np.cumsum(0.006 * rng.standard_normal(PERIODS)) + 0.01 * rng.standard_normal(PERIODS))


def carried(persistence: float) -> Noise:
    """AR(1) noise with a standard deviation of 1 %."""

    def noise(rng: np.random.Generator) -> Floats:
        shock, moved = rng.standard_normal(PERIODS), np.empty(PERIODS)
        moved[0] = shock[0]
        for t in range(1, PERIODS):
            moved[t] = persistence * moved[t - 1] + np.sqrt(1 - persistence**2) * shock[t]
        return 0.01 * moved

    return noise


def changing_trend(rng: np.random.Generator) -> Floats:
    """A slope that walks, which the model does not have."""
    slope = 0.003 * rng.standard_normal() + np.cumsum(0.0004 * rng.standard_normal(PERIODS))
    level = np.cumsum(slope + 0.004 * rng.standard_normal(PERIODS))
    return np.asarray(level + 0.01 * rng.standard_normal(PERIODS))


def season(rng: np.random.Generator) -> Floats:
    """Drift around a yearly wave of 5 %."""
    return np.asarray(drift(rng) + 0.05 * np.sin(2 * np.pi * (np.arange(PERIODS) / 52.18 + rng.random())))


NOISES: dict[str, Noise] = {
    "drift": drift,
    "independent": carried(0.0),
    "AR(1) 0.3": carried(0.3),
    "AR(1) 0.6": carried(0.6),
    "AR(1) 0.9": carried(0.9),
    "changing trend": changing_trend,
    "drift and season": season,
}


def no_effect(part: float = 1.0) -> list[Cell]:
    """Where nothing happened, intervals must hold nothing. Least squares finds effects in drift more often than not:
    those rows are what Northlift does not do. The rank of the launch among placebo launches (its p-value) must not be
    early more often than it says; with placebo windows that overlap it is not exactly uniform.
    """
    cells = []
    for number, (name, noise) in enumerate(NOISES.items()):
        cells += _cells(NULL, {"noise": name}, noise, np.ones(AFTER), 0.0, [SEED, number], scaled(400, part, 10))
    return cells


def an_effect(part: float = 1.0) -> list[Cell]:
    """The same with an effect of 0.05 on the log scale, at once or reaching everybody within six weeks, which
    intervals must hold and estimates must not miss on average."""
    cells = []
    for number, (name, noise) in enumerate([("drift", drift), ("AR(1) 0.6", carried(0.6))]):
        for path, coverage in (("at once", np.ones(AFTER)), ("six weeks", RAMP)):
            case, seed = {"noise": name, "reaches everybody": path}, [SEED, 20 + number, int(path == "at once")]
            cells += _cells(EFFECT, case, noise, coverage, 0.05, seed, scaled(300, part, 6))
    return cells


def _cells(
    table: str,
    case: dict[str, str],
    noise: Noise,
    path: Floats,
    effect: float,
    seed: list[int],
    replications: int,
) -> list[Cell]:
    rng = np.random.default_rng(seed)
    coverage = np.concatenate([np.zeros(BEFORE), path])
    model, printed, alone, plain, robust = (Intervals() for _ in range(5))
    ranks = []
    for _ in range(replications):
        y = 11.0 + noise(rng) + effect * coverage
        series = Series(
            y, coverage, np.zeros(PERIODS, dtype=np.bool_), np.empty((PERIODS, 0)), np.empty((PERIODS, 0)), YEAR
        )
        found, runs = structural(series), structural_in_time(series, horizon=AFTER)
        model.of(effect, found)
        both = total_interval(found, _bias(found, runs), LEVEL)
        printed.add(effect, both.value, both.lower, both.upper)
        reach = float(np.quantile(np.abs(runs.effect), LEVEL))
        alone.add(effect, found.effect, found.effect - reach, found.effect + reach)
        ranks.append(runs.p_value)
        for said, options in ((plain, {}), (robust, {"cov_type": "HAC", "cov_kwds": {"maxlags": LAGS}})):
            fit = sm.OLS(y, np.column_stack([np.ones(PERIODS), np.arange(PERIODS), coverage])).fit(**options)
            said.add(effect, float(fit.params[2]), *(float(end) for end in fit.conf_int()[2]))
    cells = [
        printed.coverage(table, case, "printed", "at_least", 0.0),
        printed.width(table, case, "printed"),
        model.coverage(table, case, "model", "at_least", MODEL_SLACK),
        model.bias(table, case, "model"),
        alone.coverage(table, case, "placebos alone", "report", 0.0),
        plain.coverage(table, case, "least squares", "report", 0.0),
        robust.coverage(table, case, f"least squares, {LAGS} lags", "report", 0.0),
    ]
    return cells + (shares_below(ranks, PLACEBO_P, case, "rank", "at_most", 0.05) if effect == 0 else [])


def _bias(found: Estimated, runs: PlaceboRuns) -> float:
    facts = GradeFacts(
        design="before_after",
        effect=found.effect,
        standard_error=found.standard_error,
        planned_before=True,
        days_after=7.0 * AFTER,
        placebos_in_time=runs,
    )
    return evidence_grade(facts).bias_sd
