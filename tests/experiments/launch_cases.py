"""Launches with a known truth: plans and series as a worker would hand them to the evidence."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.definitions import Grain, LaunchMeasurement, RolloutStep, SeriesSpec
from experiments.evidence.launch.data import LaunchData, launch_data
from experiments.evidence.launch.draft import LaunchContext, LaunchDraft, draft_launch
from experiments.plan import LaunchPlan, MeasuredBefore, PlannedMeasurement, PlannedSeries
from experiments.result import Check, LaunchEstimate, LaunchResult, MeasuredLaunch
from experiments.series_table import PERIOD, SeriesTable

type Floats = NDArray[np.float64]

MONDAY = datetime(2025, 1, 6, tzinfo=UTC)
COUNTRIES = ("at", "be", "ch", "de", "dk", "es", "fr", "it", "nl", "pl")


def at(period: float, grain: Grain = "day") -> datetime:
    return MONDAY + period * PERIOD[grain]


def step(period: float, coverage: float, mechanism: str = "ordered", *, segments: Sequence[str] = ()) -> RolloutStep:
    return RolloutStep.model_validate(
        {"at": at(period), "coverage": coverage, "mechanism": mechanism, "segments": list(segments)}
    )


def series(key: str = "revenue", dimension: str = "country", **extra: Any) -> PlannedSeries:
    spec = {"key": key, "name": key, "dimension": dimension, "grain": "day", "unit": "EUR"} | extra
    return PlannedSeries(version=1, spec=SeriesSpec.model_validate(spec))


def measurement(outcome: PlannedSeries | None = None, **extra: Any) -> PlannedMeasurement:
    outcome = outcome or series()
    options = {"series_key": outcome.spec.key, **extra.pop("options", {})}
    fields: dict[str, Any] = {"outcome": outcome, "regressors": [], "controls": []}
    return PlannedMeasurement(options=LaunchMeasurement.model_validate(options), **(fields | extra))


def plan_of(*steps: RolloutStep, measured: PlannedMeasurement | None = None, **extra: Any) -> LaunchPlan:
    fields: dict[str, Any] = {
        "launch_key": "checkout",
        "rollout": list(steps),
        "eligible": None,
        "announced_at": None,
        "confounders": [],
        "measured_since": MONDAY,
        "measurements": [measured or measurement()],
        "fact_sources": [],
    }
    return LaunchPlan(**(fields | extra))


def experiment(**extra: Any) -> MeasuredBefore:
    fields: dict[str, Any] = {
        "metric_key": "revenue",
        "experiment_key": "checkout-test",
        "variant_key": "new",
        "analysis_id": "a",
        "verdict": "better",
        "log_lift": 0.04,
        "standard_error": 0.01,
        "days": 14,
        "failed_checks": [],
        "warned_checks": [],
        "amended": False,
        "stopped_early": False,
        "peeked": False,
        "clusters": None,
        "triggered": False,
    }
    return MeasuredBefore(**(fields | extra))


WHOLE = measurement(series(dimension=""))
ARMS = measurement(series(dimension="arm"))


def table(
    values: Floats, segments: Sequence[str] = COUNTRIES, *, begin: float = 0, grain: Grain = "day"
) -> SeriesTable:
    segments, periods = tuple(segments)[: len(values)], values.shape[1]
    nan = np.full(values.shape, np.nan)
    starts = tuple(at(begin + t, grain) for t in range(periods))
    return SeriesTable(segments, starts, values, nan, nan.copy())


def countries(
    periods: int = 120,
    *,
    seed: int = 1,
    noise: float = 0.01,
    effect: Callable[[int, Floats], Floats] = lambda i, t: np.zeros(t.size),
    segments: int = 10,
) -> Floats:
    """(N, T) outcomes with sizes, a common drifting level and week, own noise, and `effect(i, t)` on the logarithm."""
    rng = np.random.default_rng(seed)
    t = np.arange(periods, dtype=np.float64)
    common = np.cumsum(rng.normal(0, 0.004, periods)) + 0.05 * np.sin(2 * np.pi * t / 7)
    size = np.log(rng.uniform(500, 2000, segments))
    y = size[:, None] + common + rng.normal(0, noise, (segments, periods))
    return np.exp(y + np.stack([effect(i, t) for i in range(segments)]))


def since(period: float, size: float, *segments: int) -> Callable[[int, Floats], Floats]:
    """An effect of `size` on the logarithm from a period on, on some segments."""
    return lambda i, t: np.where((t >= period) & (i in segments), size, 0.0)


def context(period: float, *, seed: int = 7) -> LaunchContext:
    return LaunchContext("analysis-1", at(period), seed, "test", "0" * 64)


def data_of(plan: LaunchPlan, tables: Mapping[str, SeriesTable], until: float) -> LaunchData:
    return launch_data(plan, plan.measurements[0], tables, at(until))


def draft_of(plan: LaunchPlan, tables: Mapping[str, SeriesTable], until: float, *, seed: int = 7) -> LaunchDraft:
    return draft_launch(plan, tables, context(until, seed=seed))


def measured(plan: LaunchPlan, tables: Mapping[str, SeriesTable], until: float) -> MeasuredLaunch:
    """The first measurement of the document, without sampled models."""
    return result_of(plan, tables, until).measurements[0]


def result_of(plan: LaunchPlan, tables: Mapping[str, SeriesTable], until: float) -> LaunchResult:
    return draft_of(plan, tables, until).finish()


def lead(document: MeasuredLaunch) -> LaunchEstimate:
    (found,) = [row for row in document.estimates if row.leads]
    return found


def check_of(document: MeasuredLaunch, name: str) -> Check:
    (found,) = [check for check in document.checks if check.name == name]
    return found
