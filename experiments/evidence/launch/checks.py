"""Trust checks of a measured launch: what was found, with the number that matters, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from experiments.evidence.facts import Status, check
from experiments.evidence.launch.grading import MOST_GAPS, PRE_TREND_ALPHA, period_that_decides
from experiments.evidence.launch.measured import Measured
from experiments.evidence.launch.untouched import ANTICIPATED
from experiments.result import Check
from stats.launch.contract import PlaceboRuns
from stats.launch.grade import FEWEST_RUNS, excess_of_placebos
from stats.launch.reasons import LaunchReason
from stats.sample_ratio import FIXED_ALPHA

LONG_HISTORY: Final = 2
"""History of so many times the time since the launch tells how far a series wanders in that time."""
LONGEST_LIST: Final = 5


def checks(measured: Measured) -> list[Check]:
    """All checks that apply, in the order in which a reader should worry about them."""
    return [found for rule in _RULES for found in [rule(measured)] if found is not None]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LONGEST_LIST
    shown = ", ".join(names[:LONGEST_LIST])
    return f"{shown} and {more} more" if more > 0 else shown


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _history(measured: Measured) -> Check | None:
    data = measured.data
    if measured.by_arm:
        return None
    found = f"{_count(data.before, data.grain)} before the launch and {data.after} since."
    if measured.leading is None and measured.why_unmeasured == LaunchReason.TOO_LITTLE_HISTORY:
        return check("history", "fail", found, "Send earlier values of the series.")
    enough = data.before >= LONG_HISTORY * data.after
    remedy = f"Send at least {LONG_HISTORY * data.after} {data.grain}s from before the launch."
    return check("history", "pass" if enough else "warn", found, remedy)


def _post_period(measured: Measured) -> Check:
    data = measured.data
    if not data.after:
        detail = f"No complete {data.grain} with the change has a value."
        return check("post_period", "fail", detail, f"Wait for a complete {data.grain} since the launch.")
    if measured.by_arm:
        return check("post_period", "pass", f"{_count(data.after, 'stage')} of the rollout measured.")
    detail = f"{_count(data.after, data.grain)} with the change measured."
    if data.window.cut:
        return check("post_period", "warn", f"{detail} Later ones are not used.", "Use a series of a longer period.")
    season = {"hour": 24, "day": 7, "week": 2}[data.grain]
    remedy = f"Wait for {season} {data.grain}s at least: what is new wears off, and weekdays differ."
    return check("post_period", "pass" if data.after >= season else "warn", detail, remedy)


def _single_periods(measured: Measured) -> Check | None:
    leads = measured.leading
    place = None if leads is None else period_that_decides(measured.data, leads)
    if place is None:
        return None
    at = measured.data.starts[place]
    when = f"{at:%Y-%m-%d %H:%M}" if measured.data.grain == "hour" else f"{at:%Y-%m-%d}"
    detail = f"Without the {measured.data.grain} {when} the effect would be another one."
    return check("single_periods", "fail", detail, "Find out what happened then; withdraw the value if it is wrong.")


def _gaps(measured: Measured) -> Check | None:
    data = measured.data
    if measured.by_arm:
        return None
    absent = data.left_out.without_values
    cells = float(np.mean(~np.isfinite(data.panel.y))) if data.panel.y.size else 0.0
    worst = max(data.gaps, cells)
    if not worst and not absent:
        return check("gaps", "pass", "No value is missing.")
    found = f"{data.gaps:.1%} of the outcome's {data.grain}s and {cells:.1%} of all cells are missing"
    named = f"; left out for lack of values: {_listed(absent)}" if absent else ""
    status: Status = "fail" if data.gaps > MOST_GAPS or data.reason == LaunchReason.GAPS_IN_SERIES else "warn"
    return check("gaps", status, f"{found}{named}.", "Send the missing values; none is made up for them.")


def _scale(measured: Measured) -> Check:
    data, left_out = measured.data, measured.data.left_out
    named = [
        f"{what}: {_listed(names)}"
        for what, names in (
            ("nothing but zeros", left_out.all_zero),
            ("values of zero or below", left_out.not_positive),
            ("a mean near zero before the launch", left_out.near_zero),
        )
        if names
    ]
    rest = f" Left out for {'; '.join(named)}." if named else ""
    if data.scale == "level":
        detail = f"Some values are zero or below, so effects are relative to the mean before the launch.{rest}"
        return check("scale", "warn", detail, "Use a series whose values are all positive, or a longer period.")
    if named:
        return check("scale", "warn", rest.strip(), "Merge small segments, or exclude them from the measurement.")
    return check("scale", "pass", "All values are positive; effects are on the log scale.")


def _planned_before(measured: Measured) -> Check:
    plan, launched = measured.plan, measured.data.window.launched
    if plan.measured_since <= launched:
        return check("planned_before", "pass", "What to measure was written down before the launch.")
    days = (plan.measured_since - launched).total_seconds() / 86400
    detail = f"What to measure was written down {days:.1f} days after the first step."
    return check("planned_before", "warn", detail, "Write down the measurements before the next launch begins.")


def _announced(measured: Measured) -> Check | None:
    data, plan = measured.data, measured.plan
    left = int(data.series.excluded[: data.launched].sum())
    p = measured.touched.anticipation
    known = f"{_count(left, data.grain)} between announcement and launch left out. " if plan.announced_at else ""
    if not np.isfinite(p):
        return check("anticipation", "pass", known.strip()) if known else None
    if p >= ANTICIPATED:
        return check("anticipation", "pass", f"{known}The last periods before the launch are like those before.", "", p)
    detail = f"{known}The outcome moved shortly before the launch already (p = {p:.2g}, warns at {ANTICIPATED})."
    remedy = "Record `announced_at`, if people could know of the launch before it began."
    return check("anticipation", "warn", detail, remedy, p)


def _confounders(measured: Measured) -> Check | None:
    data = measured.data
    if not (measured.plan.confounders or measured.measurement.beside):
        return None
    parts = []
    if data.confounders_not_separable:
        parts.append(f"Cannot be told from the launch: {_listed(data.confounders_not_separable)}.")
    if data.confounders_left_out:
        parts.append(f"Segments and times left out for: {_listed(data.confounders_left_out)}.")
    detail = " ".join(parts) or "What else is on record did not happen in the time measured."
    remedy = "Name the segments and times it reached, or send a series of it as a regressor."
    return check("confounders", "warn" if data.confounders_not_separable else "pass", detail, remedy)


def _eligible(measured: Measured) -> Check | None:
    eligible, dimension = measured.plan.eligible, measured.measurement.outcome.spec.dimension
    if eligible is None or eligible.dimension == dimension:
        return None
    by = f"by {dimension}" if dimension else "not by segment"
    detail = f"Who is eligible is on record by {eligible.dimension}, the series is {by}: the effect is diluted."
    return check("eligible", "warn", detail, f"Measure on a series by {eligible.dimension}.")


def _unknown_segments(measured: Measured) -> Check | None:
    names = measured.data.unknown
    if not names:
        return None
    detail = f"The series has no values of segments that get the launch: {_listed(names)}."
    return check("unknown_segments", "warn", detail, "Write segments in the rollout as they are written in the series.")


def _unplaced(measured: Measured) -> Check | None:
    count = measured.data.unplaced
    if not count:
        return None
    dimension = measured.measurement.outcome.spec.dimension
    detail = f"{_count(count, 'fact')} without a {dimension}: in none of the segments."
    return check("unplaced_facts", "warn", detail, f"Send every fact with its {dimension}.")


def _restated(measured: Measured) -> Check | None:
    count = measured.data.restated
    if not count:
        return None
    detail = f"{_count(count, 'value')} of the series had been another number before; the newest count."
    return check("restated", "pass", detail)


def _outside(measured: Measured) -> Check | None:
    names = measured.data.outside_left_out
    if not names:
        return None
    detail = f"Without a value in some period, or the same throughout: {_listed(names)}; left out."
    return check("outside_series", "warn", detail, "Send these series for all periods of the outcome.")


def _regressors(measured: Measured) -> Check | None:
    touched = measured.touched
    if not touched.regressors_tested:
        return None
    if not touched.regressors:
        detail = f"{_count(touched.regressors_tested, 'regressor')} tested, none moved at the launch."
        return check("regressors_untouched", "pass", detail)
    detail = f"Moved at the launch by themselves and left out: {_listed(touched.regressors)}."
    remedy = "Use regressors that the launch cannot move: weather, holidays, prices that others set."
    return check("regressors_untouched", "fail", detail, remedy)


def _donors(measured: Measured) -> Check | None:
    touched = measured.touched
    if touched.copies:
        detail = f"The outcome itself under another name, left out: {_listed(touched.copies)}."
        return check("donors_untouched", "fail", detail, "Compare with series that the launch does not reach.")
    if not touched.donors_tested:
        return None
    if not touched.donors:
        detail = f"{_count(touched.donors_tested, 'comparison')} tested, none moved at the launch by itself."
        return check("donors_untouched", "pass", detail)
    detail = f"Moved at the launch by themselves and left out: {_listed(touched.donors)}."
    return check("donors_untouched", "warn", detail, "Find out whether the launch reached them in some way.")


def _pre_trend(measured: Measured) -> Check | None:
    found = measured.trust.pre_trend
    if found is None or not np.isfinite(found.p_value):
        return None
    detail = f"Over {found.periods} periods before the launch, differences moved by {found.slope:.2g} a period"
    ok = found.p_value >= PRE_TREND_ALPHA
    remedy = "Compare with segments that moved alike before the launch."
    return check("pre_trend", "pass" if ok else "fail", f"{detail} (p = {found.p_value:.2g}).", remedy, found.p_value)


def _placebos(measured: Measured, runs: PlaceboRuns | None, name: str, where: str, remedy: str) -> Check | None:
    leads = measured.leading
    if leads is None or runs is None:
        return None
    excess, made = excess_of_placebos(runs)
    if made < FEWEST_RUNS:
        detail = f"{_count(made, 'placebo run')} {where}: too few to tell how far the method is off."
        return check(name, "warn", detail, remedy)
    p = runs.p_value
    rms = float(np.sqrt(np.nanmean(runs.effect**2)))
    detail = (
        f"{made} placebo runs {where} found effects of {rms:.2g} (root mean square); rank of this one: p = {p:.2g}."
    )
    ok = excess <= leads.standard_error
    return check(name, "pass" if ok else "fail", detail, remedy, p if np.isfinite(p) else None)


def _placebo_in_time(measured: Measured) -> Check | None:
    leads = measured.leading
    runs = None if leads is None else measured.trust.in_time.get(leads.method)
    return _placebos(measured, runs, "placebo_in_time", "at earlier dates", "Send a longer history of the series.")


def _placebo_in_space(measured: Measured) -> Check | None:
    leads = measured.leading
    runs = None if leads is None else measured.trust.in_space.get(leads.method)
    remedy = "Measure more segments without the launch."
    return _placebos(measured, runs, "placebo_in_space", "on segments without the launch", remedy)


def _donor_fit(measured: Measured) -> Check | None:
    weighted = measured.trust.weighted
    if weighted is None or measured.leading is None:
        return None
    fit = measured.trust.fits[weighted]
    detail = (
        f"Before the launch the comparison is off by {fit.synthetic.pre_rmspe:.2g} (root mean square), "
        f"{fit.share_of_effect:.0%} of the effect; the largest weight is {fit.largest_weight:.2f}."
        if np.isfinite(fit.share_of_effect)
        else f"Before the launch the comparison is off by {fit.synthetic.pre_rmspe:.2g} (root mean square)."
    )
    return check(
        "donor_fit", "pass" if fit.good else "warn", detail, "Measure more segments that are like the treated."
    )


def _sample_ratio(measured: Measured) -> Check | None:
    p = measured.estimates.sample_ratio_p
    if not np.isfinite(p):
        return None
    ok = p >= FIXED_ALPHA
    detail = f"Units with and without the change against the planned shares: p = {p:.2g}, fails below {FIXED_ALPHA}."
    return check("sample_ratio", "pass" if ok else "fail", detail, "Find out where units were lost on one side.", p)


def _rollout_order(measured: Measured) -> Check | None:
    p = measured.trust.order_p
    if not np.isfinite(p):
        return None
    return check("rollout_order", "pass", f"Against other orders that could have been drawn: p = {p:.2g}.", "", p)


type _Rule = Callable[[Measured], Check | None]
_RULES: Final[tuple[_Rule, ...]] = (
    _post_period,
    _history,
    _gaps,
    _single_periods,
    _scale,
    _sample_ratio,
    _confounders,
    _announced,
    _donors,
    _regressors,
    _outside,
    _eligible,
    _unknown_segments,
    _unplaced,
    _pre_trend,
    _placebo_in_time,
    _placebo_in_space,
    _donor_fit,
    _rollout_order,
    _planned_before,
    _restated,
)
