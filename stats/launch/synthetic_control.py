"""What would have been, as a weighted average of units without the launch: synthetic control and its kin (D3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.special as sc

from stats.launch.augmented import augmented_weights
from stats.launch.contract import Estimated, NotEstimable, Panel, PlaceboRuns, at_full_coverage, nothing
from stats.launch.donors import Comparison, Concurrent, Places, Weighted, concurrent
from stats.launch.placebo import error_ratio, independent_runs, placebo_sets
from stats.launch.reasons import LaunchReason
from stats.launch.simplex import simplex_weights
from stats.launch.synthetic_did import synthetic_did_weights
from stats.moments import Bools, Floats

type SyntheticMethod = Literal["synthetic_control", "augmented_synthetic_control", "synthetic_did"]

POOR_FIT = 0.25
"""Gaps before the launch above this share of the effect are a poor fit (METHODS D3)."""
DOMINANT = 0.8
"""A donor of more than this weight is a comparison of two units by another name (METHODS D3)."""
COMPARABLE = 5.0
"""Placebos whose mean squared gap before the launch is more than so many times the treated units' say nothing of their
error; one of the cuts of Abadie, Diamond & Hainmueller (2010)."""
LEAST_COMPARABLE = 5
NEGLIGIBLE = 1e-3
"""Donors of less weight are not worth leaving out."""


@dataclass(frozen=True, slots=True, eq=False)
class Synthetic:
    """An estimate with what it is made of.

    `weights` (N,) are the donors', 0 for every other unit of the panel; `time_weights` (T,) those of periods before the
    launch, 0 throughout where the method has none. `pre_rmspe` is the root mean square of the gaps before the launch,
    `usual_rmspe` the median of that of the placebos. `placebos` gave the launch to donors in turn. Where nothing could
    be estimated, weights are nan and there are no placebos.
    """

    estimated: Estimated
    weights: Floats
    time_weights: Floats
    pre_rmspe: float
    usual_rmspe: float
    placebos: PlaceboRuns


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Effects (J,) without each donor `unit` (J,) of some weight, the heaviest first."""

    unit: Places
    effect: Floats


def synthetic_control_weights(case: Comparison) -> Weighted:
    """Simplex weights by which donors come closest before the launch (Abadie, Diamond & Hainmueller 2010)."""
    past = case.donors[:, : case.before]
    return Weighted(simplex_weights(past.T, case.outcome[: case.before]), np.zeros(case.before))


WEIGHTS: dict[SyntheticMethod, Callable[[Comparison], Weighted]] = {
    "synthetic_control": synthetic_control_weights,
    "augmented_synthetic_control": augmented_weights,
    "synthetic_did": synthetic_did_weights,
}


def synthetic(panel: Panel, method: SyntheticMethod, *, level: float = 0.95) -> Synthetic:
    """The treated units' average less a weighted average of untreated ones (METHODS D3).

    All treated units must start in one period (`not_concurrent` otherwise); donors are units that never have the launch
    and lack no period. Outcomes alone are matched, no other predictors.

    Errors come from placebos in space: every donor takes the launch in turn, together with others drawn by lot where
    several units have it. The standard error is the root mean square of their effects, of those placebos that fitted
    about as well before the launch; where the treated units fitted worse, times the ratio of root mean squared gaps.
    Units are rarely equally noisy: without the cut intervals of quiet units are twice too wide, without the ratio a
    nominal 95 % covers 79 to 91 % of noisy ones. The interval is Student's t with J - 1 degrees of freedom, fewer where
    placebos share donors; the p-value is the rank of the ratio of root mean squared errors after and before among all
    placebos, never below 1 / (J + 1). Notes: `few_donors`, `donors_with_gaps`, `poor_donor_fit`, `one_donor_dominates`.
    """
    try:
        found = concurrent(panel)
    except NotEstimable as refused:
        return _nothing(panel, method, refused.code)
    weigh, case = WEIGHTS[method], found.case
    weighted, sets = weigh(case), placebo_sets(len(found.donors), len(found.treated))
    gaps, placebo = weighted.gaps(case), _placebo_gaps(found, sets, weigh)
    misfit = np.sqrt(np.mean(placebo[:, : case.before] ** 2, axis=1))
    fit = float(np.sqrt(np.mean(gaps[: case.before] ** 2)))
    like = _comparable(misfit, fit)
    covariance = placebo_covariance(placebo[like, case.before :], case.coverage) * _stretch(misfit[like], fit) ** 2
    effect, error = at_full_coverage(gaps[case.before :], covariance, case.coverage)
    if not error > 0:
        return _nothing(panel, method, LaunchReason.CONSTANT_SERIES)
    placebo_effects = placebo[:, case.before :] @ case.share_at_full_coverage
    runs = PlaceboRuns(
        kind="space",
        effect=placebo_effects,
        standard_error=_errors(placebo_effects, misfit),
        place=found.donors,
        score=np.array([error_ratio(each, case.before) for each in placebo]),
        own_score=error_ratio(gaps, case.before),
    )
    half = float(sc.stdtrit(_freedom(sets[like], len(sets)), 0.5 + level / 2)) * error
    weights, time_weights = np.zeros(len(panel.units)), np.zeros(panel.y.shape[1])
    weights[found.donors], time_weights[found.periods[: case.before]] = weighted.unit, weighted.time
    estimated = Estimated(
        method=method,
        effect=effect,
        standard_error=error,
        lower=effect - half,
        upper=effect + half,
        p_value=runs.p_value,
        interval_kind="placebo",
        periods=found.periods[case.before :],
        by_period=gaps[case.before :],
        covariance=covariance,
        fitted=weights[weights != 0] @ panel.y[weights != 0] + weighted.intercept(case),
        notes=(
            *found.notes,
            *(("poor_donor_fit",) if fit > POOR_FIT * abs(effect) else ()),
            *(("one_donor_dominates",) if np.abs(weights).max() > DOMINANT else ()),
        ),
    )
    return Synthetic(estimated, weights, time_weights, fit, float(np.median(misfit)), runs)


def leave_one_out(panel: Panel, method: SyntheticMethod) -> LeftOut:
    """The effect without each donor that has some weight: one that carries it alone shows here.

    Raises `NotEstimable` where `synthetic` would say why it cannot.
    """
    found = concurrent(panel)
    weight = np.abs(WEIGHTS[method](found.case).unit)
    heavy = np.argsort(-weight, kind="stable")
    heavy = heavy[weight[heavy] > NEGLIGIBLE]
    effects = [_effect(found.case.without(int(donor)), method) for donor in heavy]
    return LeftOut(found.donors[heavy], np.array(effects, dtype=np.float64))


def placebo_covariance(gaps: Floats, coverage: Floats) -> Floats:
    """(P, P) covariance of effects per period, from placebo gaps (J, P) whose true effects are 0.

    Second moments, mixed in proportion P : J with a matrix of the same variances and one correlation, chosen so that
    the average effect at full coverage has the same variance under both: of few placebos the moments alone are
    singular, and would call some path of effects certain.
    """
    runs, periods = gaps.shape
    moments = gaps.T @ gaps / runs
    spread = np.sqrt(np.diag(moments))
    share = coverage / (coverage @ coverage)
    average = float(share @ moments @ share)
    apart, together = float((share * spread) @ (share * spread)), float(share @ spread) ** 2
    correlation = min(max((average - apart) / (together - apart), 0.0), 1.0) if together > apart else 0.0
    plain = np.outer(spread, spread) * (correlation + (1 - correlation) * np.eye(periods))
    return np.asarray((runs * moments + periods * plain) / (runs + periods))


def _placebo_gaps(found: Concurrent, sets: Places, weigh: Callable[[Comparison], Weighted]) -> Floats:
    """(J, S) gaps of placebo launches, each on one set of donors."""
    weight = np.sort(found.weight)[::-1][: sets.shape[1]]
    cases = [found.case.placebo(members, weight / weight.sum()) for members in sets]
    return np.stack([weigh(case).gaps(case) for case in cases])


def _comparable(misfit: Floats, own: float) -> Bools:
    """(J,) placebos that fitted about as well before the launch as what they are compared with; five at least."""
    return np.asarray(misfit**2 <= max(COMPARABLE * own**2, float(np.sort(misfit)[:LEAST_COMPARABLE][-1]) ** 2))


def _stretch(misfit: Floats, own: float) -> float:
    """How much noisier than placebos (J,) a unit is, by the gaps before the launch; at least 1."""
    usual = float(np.sqrt(np.mean(misfit**2)))
    return max(1.0, own / usual) if usual > 0 else 1.0


def _errors(effects: Floats, misfit: Floats) -> Floats:
    """(J,) the standard error of each placebo by the others and itself, as the launch's is made."""
    like = [_comparable(misfit, own) for own in misfit]
    sizes = [np.sqrt(np.mean(effects[kept] ** 2)) for kept in like]
    stretches = [_stretch(misfit[kept], own) for kept, own in zip(like, misfit, strict=True)]
    return np.array(sizes, dtype=np.float64) * stretches


def _freedom(sets: Places, donors: int) -> float:
    """Degrees of freedom of the mean square of placebo effects on sets (J, M) of so many donors."""
    member = np.zeros((len(sets), donors))
    np.put_along_axis(member, sets, 1.0, axis=1)
    return max(independent_runs(member @ member.T / sets.shape[1]) - 1, 1.0)


def _effect(case: Comparison, method: SyntheticMethod) -> float:
    return float(WEIGHTS[method](case).gaps(case)[case.before :] @ case.share_at_full_coverage)


def _nothing(panel: Panel, method: SyntheticMethod, reason: str) -> Synthetic:
    units, periods = panel.y.shape
    none, nan = np.empty(0), float("nan")
    runs = PlaceboRuns("space", none, none, np.empty(0, dtype=np.intp), none, nan)
    estimated = nothing(method, reason, periods=periods)
    return Synthetic(estimated, np.full(units, nan), np.full(periods, nan), nan, nan, runs)
