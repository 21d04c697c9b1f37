"""What every estimator of a launch is given and gives back (METHODS D).

An effect is on the scale of `y`: the estimators do not know whether that is a logarithm. Everything is per calendar
period, with a covariance between periods, so that one average, one cumulative effect and one band follow for all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from stats.moments import Bools, Floats

type Method = Literal[
    "experiment",
    "staged",
    "switchback",
    "imputation",
    "group_time",
    "synthetic_did",
    "synthetic_control",
    "augmented_synthetic_control",
    "did",
    "bsts",
    "structural",
]
type IntervalKind = Literal["normal", "t", "placebo", "bootstrap", "posterior", "randomisation"]


class NotEstimable(ValueError):
    """An estimator that cannot say anything of these data; `code` is one of `stats.launch.reasons`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """An outcome of N units over T periods of equal length, and how much of the launch each had.

    `y` (N, T) is the outcome, nan where it was not observed. `coverage` (N, T) in [0, 1] is the share of the unit that
    has the change. `excluded` (N, T) are cells that are neither before nor after: announced and not yet launched, or
    still worn by an earlier state. `weight` (N,) sums to 1: the units' sizes before the launch, by which effects are
    averaged over treated units.
    """

    units: tuple[str, ...]
    y: Floats
    coverage: Floats
    excluded: Bools
    weight: Floats

    @property
    def first(self) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
        """(N,) the first period in which a unit has any of the change, T where it never has."""
        on = self.coverage > 0
        return np.where(on.any(axis=1), on.argmax(axis=1), self.y.shape[1])

    @property
    def treated(self) -> Bools:
        """(N,) units that ever have the change."""
        return np.asarray((self.coverage > 0).any(axis=1))

    @property
    def pre(self) -> int:
        """Number of periods before the launch touches any cell, announced ones excluded."""
        touched = ((self.coverage > 0) | self.excluded).any(axis=0)
        return int(touched.argmax()) if touched.any() else int(self.y.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One outcome over T periods, with what else moves it: for estimators of a single series (METHODS D1, D4).

    `y`, `coverage`, `excluded` (T,) as in `Panel`. `regressors` (T, K): outside influences, known in every period.
    `donors` (T, J): outcomes that the launch did not touch. Both as they are; estimators standardise them by the
    periods before the launch. `season`: periods of the seasons (7 of daily data, 52.18 of weekly data), each with the
    number of its harmonics.
    """

    y: Floats
    coverage: Floats
    excluded: Bools
    regressors: Floats
    donors: Floats
    season: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class EventStudy:
    """Effects by time since the launch (E,): `time` 0 is its first period, negative times are before it.

    `lower`, `upper` hold pointwise, `band_lower`, `band_upper` for all times together; nan where there is no such band.
    `cells` counts unit-periods.
    """

    time: Floats
    effect: Floats
    standard_error: Floats
    lower: Floats
    upper: Floats
    band_lower: Floats
    band_upper: Floats
    cells: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Estimated:
    """What one estimator says. Arrays over the P treated calendar periods `periods` (indices into the T of the data).

    `effect` is the average at full coverage: per-period effects regressed on the coverage of treated units (equal to
    their mean where coverage is 1). `by_period` (P,) are effects as they were, at the coverage of the time, averaged
    over treated units by size; `covariance` (P, P) of their errors. `lower`, `upper`, `p_value` are the estimator's
    own, without the bias term of METHODS D7. `fitted` (T,) is the treated outcome without the launch, as an average
    over treated units: nan where the estimator does not say. `hyper` holds (mean, lower, upper) of model parameters.
    With a `reason` nothing could be estimated and all numbers are nan.
    """

    method: Method
    effect: float
    standard_error: float
    lower: float
    upper: float
    p_value: float
    interval_kind: IntervalKind
    periods: np.ndarray[tuple[int, ...], np.dtype[np.intp]]
    by_period: Floats
    covariance: Floats
    fitted: Floats
    event_study: EventStudy | None = None
    hyper: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PlaceboRuns:
    """An estimator run where nothing happened: at J earlier dates, or on J units without the launch.

    `effect`, `standard_error` (J,) on the scale of `y`. `place` (J,): the index of the period or of the unit. `score`
    (J,) is what placebos are ranked by, `own_score` that of the launch itself: the absolute studentised effect in time,
    the ratio of root mean squared errors after and before in space. nan in `score` where a run could not be made.
    `horizon` is the number of periods that a run in time measures: dates closer than that share data.
    """

    kind: Literal["time", "space"]
    effect: Floats
    standard_error: Floats
    place: np.ndarray[tuple[int, ...], np.dtype[np.intp]]
    score: Floats
    own_score: float
    horizon: int = 1

    @property
    def p_value(self) -> float:
        """(1 + number at least as extreme) / (J + 1); nan without runs (Abadie, Diamond & Hainmueller 2010)."""
        known = self.score[np.isfinite(self.score)]
        if known.size == 0 or not np.isfinite(self.own_score):
            return float("nan")
        return float((1 + np.count_nonzero(known >= self.own_score)) / (known.size + 1))


def at_full_coverage(by_period: Floats, covariance: Floats, coverage: Floats) -> tuple[float, float]:
    """The average effect at full coverage and its standard error: (P,) effects regressed on (P,) coverage.

    Without an intercept and without weights, so that it is the mean where coverage is 1 throughout.
    """
    share = coverage / (coverage @ coverage)
    return float(share @ by_period), float(np.sqrt(max(float(share @ covariance @ share), 0.0)))


def nothing(method: Method, reason: str, *, periods: int) -> Estimated:
    """The answer of an estimator that cannot say anything, for data of so many periods."""
    nan = float("nan")
    return Estimated(
        method=method,
        effect=nan,
        standard_error=nan,
        lower=nan,
        upper=nan,
        p_value=nan,
        interval_kind="normal",
        periods=np.empty(0, dtype=np.intp),
        by_period=np.empty(0),
        covariance=np.empty((0, 0)),
        fitted=np.full(periods, np.nan),
        reason=reason,
    )
