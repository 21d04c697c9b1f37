"""From the people an experiment could reach to the whole company: the topline effect (METHODS E5).

An experiment that counts only people who came across its change (triggered analysis) measures their lift. The company's
lift is that lift times their share of the metric, which is their share of people only if they are average.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from stats.moments import Bools, Floats, safe_divide
from stats.reasons import Reason, Reasons, first_reason

FEWEST_BUCKETS: Final = 20
"""With fewer buckets the jackknife knows its own standard error to no better than a sixth."""
BASELINE_FROM_ZERO: Final = 3.0
"""Standard errors between the company's mean and zero; nearer, a relative effect says nothing (METHODS A3)."""


class ToplineReason(StrEnum):
    """Why there is no effect on the company."""

    SHARE_ABOVE_ONE = "share_above_one"
    NORTH_STAR_NOT_POSITIVE = "north_star_not_positive"
    NO_COMPANY_TOTAL = "no_company_total"


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """People by arm and trigger: how many, the mean of C columns, and their covariance between people.

    `mean` is (C,), `covariance` (C, C) that of single people (not of the mean). One column is a mean metric; two are
    numerator and denominator of a ratio.
    """

    count: int
    mean: Floats
    covariance: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Topline:
    """What a change would do to the company's metric, as `lift` (0.015 is +1.5 %) and on the log scale.

    `share_of_units` is the share of people that the change reaches at full coverage, `share_of_metric` the share of the
    company's metric (for a ratio: of its numerator) that they account for without it, with its standard error.
    `naive_lift` multiplies the lift of those reached by their share of people (nan where they have none: a mean that is
    not positive). With a `reason` all numbers but `share_of_units` are nan.
    """

    lift: float
    standard_error: float
    log_lift: float
    log_standard_error: float
    share_of_units: float
    share_of_metric: float
    share_standard_error: float
    naive_lift: float
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Share of the company's metric by week, arrays (W,); nan where `reason` is not empty."""

    share: Floats
    standard_error: Floats
    reason: Reasons


def diluted_lift(
    treatment: Group, control: Group, untriggered: Group, *, assigned: int, coverage: float = 1.0
) -> Topline:
    """Triggered effect to company lift, with its exact first-order variance (METHODS E5).

    `treatment` and `control` are the triggered people of the two arms, `untriggered` the others of both arms together,
    `assigned` all people of both arms. The experiment ran on the share `coverage` of all who would get the change: the
    untriggered then contain people whom it would reach, so that the company's mean stays as it is and the share r of
    people reached becomes r / coverage. For a mean with r = share triggered and M = r C + (1 - r) U, the lift is
    (r / coverage)(T - C) / M; a ratio moves its numerator and denominator likewise. The delta method takes in the error
    of every mean and of r (binomial).

    Assumes that the change does nothing to those who are not triggered, and that triggering does not depend on the arm
    (a sample-ratio test of the triggered shows if it does). Source: Deng & Hu 2015 "Diluted treatment effect estimation
    for trigger analysis in online controlled experiments". Raises `ValueError` for impossible counts, shapes, numbers
    or coverage.
    """
    columns = _checked(treatment, control, untriggered, assigned, coverage)
    r = (treatment.count + control.count) / assigned
    reach = r / coverage
    if min(treatment.count, control.count) < 2 or (r < 1 and untriggered.count < 2):
        return _nothing(min(reach, 1.0), Reason.TOO_FEW_UNITS)
    # A change that reaches everybody is met by as many as the draw of who was assigned allows, now and then more.
    if reach > 1 + 3 * np.sqrt(r * (1 - r) / assigned) / coverage:
        return _nothing(1.0, ToplineReason.SHARE_ABOVE_ONE)

    other = untriggered.mean if untriggered.count else np.zeros(columns)
    without = r * control.mean + (1 - r) * other
    with_it = without + reach * (treatment.mean - control.mean)
    variance_of_share = r * (1 - r) / assigned
    spread = [
        group.covariance / group.count if group.count else np.zeros((columns, columns))
        for group in (treatment, control, untriggered)
    ]
    error = np.sqrt(
        np.diagonal(r**2 * spread[1] + (1 - r) ** 2 * spread[2]) + (control.mean - other) ** 2 * variance_of_share
    )
    if (np.abs(without) < BASELINE_FROM_ZERO * error).any() or not without.all():
        return _nothing(min(reach, 1.0), Reason.BASELINE_NOT_DISTINGUISHABLE_FROM_ZERO)
    if (without <= 0).any() or (with_it <= 0).any():
        return _nothing(min(reach, 1.0), ToplineReason.NORTH_STAR_NOT_POSITIVE)

    sign = np.array([1.0, -1.0])[:columns]
    log_lift = float(sign @ np.log(with_it / without))
    by_mean = [
        sign * reach / with_it,
        sign * ((r - reach) / with_it - r / without),
        sign * (1 - r) * (1 / with_it - 1 / without),
    ]
    apart = control.mean - other
    by_share = float(sign @ ((apart + (treatment.mean - control.mean) / coverage) / with_it - apart / without))
    variance = by_share**2 * variance_of_share + sum(float(g @ v @ g) for g, v in zip(by_mean, spread, strict=True))
    if variance <= 0:
        return _nothing(min(reach, 1.0), Reason.ZERO_VARIANCE)
    log_error = float(np.sqrt(variance))

    share, share_error = _share(r, coverage, control, other, spread, variance_of_share)
    triggered = float(sign @ np.log(treatment.mean / control.mean)) if _positive(treatment, control) else np.nan
    return Topline(
        lift=float(np.expm1(log_lift)),
        standard_error=float(np.exp(log_lift)) * log_error,
        log_lift=log_lift,
        log_standard_error=log_error,
        share_of_units=min(reach, 1.0),
        share_of_metric=share,
        share_standard_error=share_error,
        naive_lift=min(reach, 1.0) * float(np.expm1(triggered)),
    )


def share_of_metric(exposed: ArrayLike, company: ArrayLike, *, scale: float) -> Shares:
    """Share of the company's metric, week by week, that comes from people an experiment reached (METHODS E5).

    `exposed` and `company` (B, W) are totals by hash bucket of people and week: of the exposed people of one arm, and
    of everybody. `scale` = 1 / (share of the arm x coverage) lets them speak for all who would have been reached at
    full coverage. The standard error leaves out one bucket at a time (Tukey 1958; Efron & Stein 1981): it takes in
    that a person's weeks belong together, and that the exposed are a part of the company. A week in which the company
    has no positive total, with or without any of its buckets, is not estimable. Raises `ValueError` for shapes that do
    not match, numbers that are not finite and a scale that is not positive.
    """
    part, whole = np.asarray(exposed, dtype=np.float64), np.asarray(company, dtype=np.float64)
    if part.ndim != 2 or part.shape != whole.shape:
        raise ValueError("exposed and company need the same shape (buckets, weeks)")
    if not (np.isfinite(part).all() and np.isfinite(whole).all()):
        raise ValueError("totals by bucket must be finite")
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError("scale must be positive and finite")
    buckets, weeks = part.shape
    left_out = whole.sum(axis=0) - whole
    none: Bools = (whole.sum(axis=0) <= 0) | (left_out <= 0).any(axis=0)
    share = scale * safe_divide(part.sum(axis=0), whole.sum(axis=0))
    without = scale * safe_divide(part.sum(axis=0) - part, left_out)
    many = max(buckets, 1)
    spread = max(buckets - 1, 0) / many * ((without - without.sum(axis=0) / many) ** 2).sum(axis=0)
    reason = first_reason(
        (weeks,),
        (np.full(weeks, buckets < FEWEST_BUCKETS), Reason.TOO_FEW_BUCKETS),
        (none, ToplineReason.NO_COMPANY_TOTAL),
    )
    known = np.asarray(reason == "", dtype=np.bool_)
    return Shares(np.where(known, share, np.nan), np.where(known, np.sqrt(spread), np.nan), reason)


def of_lift(
    log_lift: ArrayLike, standard_error: ArrayLike, share: ArrayLike, share_error: ArrayLike = 0.0
) -> tuple[Floats, Floats]:
    """The company's log lift `ln(1 + share (e^log_lift - 1))` and its standard error by the delta method.

    All arguments broadcast; `share` is the share of the metric of those whose log lift it is, and its error is taken
    to be independent of the lift's. nan where an argument is, or where the company's metric would not stay positive
    (a share above one with a loss beyond all of it).
    """
    value, error, part, part_error = np.broadcast_arrays(
        *(np.asarray(a, dtype=np.float64) for a in (log_lift, standard_error, share, share_error))
    )
    change = np.expm1(value)
    after = 1 + part * change
    left = after > 0
    after = np.where(left, after, 1.0)
    spread = np.sqrt((part * (1 + change) * error) ** 2 + (change * part_error) ** 2) / after
    return np.where(left, np.log(after), np.nan), np.where(left, spread, np.nan)


def _checked(treatment: Group, control: Group, untriggered: Group, assigned: int, coverage: float) -> int:
    groups = (treatment, control, untriggered)
    columns = len(control.mean)
    if columns not in (1, 2) or any(
        g.mean.shape != (columns,) or g.covariance.shape != (columns, columns) for g in groups
    ):
        raise ValueError("groups need means (C,) and covariances (C, C) with C = 1 (mean) or 2 (ratio)")
    used = [g for g in groups if g.count]
    if not all(np.isfinite(g.mean).all() and np.isfinite(g.covariance).all() for g in used):
        raise ValueError("means and covariances must be finite")
    if min(g.count for g in groups) < 0 or not 0 < treatment.count + control.count <= assigned:
        raise ValueError("the triggered must be some, and no more than the assigned, people")
    if not 0 < coverage <= 1:
        raise ValueError("coverage is a share of people, above 0 and at most 1")
    return columns


def _share(
    r: float, coverage: float, control: Group, other: Floats, spread: list[Floats], variance_of_share: float
) -> tuple[float, float]:
    """Share of the metric (of the first column) and its standard error."""
    own, rest = float(control.mean[0]), float(other[0])
    whole = r * own + (1 - r) * rest
    share = r * own / whole
    by_own, by_rest, by_r = (1 - share) * r / whole, -share * (1 - r) / whole, own * rest / whole**2
    variance = by_own**2 * spread[1][0, 0] + by_rest**2 * spread[2][0, 0] + by_r**2 * variance_of_share
    return share / coverage, float(np.sqrt(variance)) / coverage


def _positive(*groups: Group) -> bool:
    return all(bool((g.mean > 0).all()) for g in groups)


def _nothing(share_of_units: float, reason: str) -> Topline:
    return Topline(np.nan, np.nan, np.nan, np.nan, share_of_units, np.nan, np.nan, np.nan, str(reason))
