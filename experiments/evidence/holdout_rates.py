"""A holdout against the claims of the launches it was kept from, and whether it can be trusted (METHODS F3)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from math import isfinite
from typing import Final

from experiments.evidence.facts import check
from experiments.evidence.programme_sums import ProgrammeSums
from experiments.plan import HoldoutEvidence
from experiments.result import Check, RealisedAgainstClaimed
from experiments.types import finite
from stats.programme.holdout_rate import needed_error, realised_rate, times_more_units

TWO_QUARTERS: Final = timedelta(days=184)
"""The longest two quarters of a year."""
MOST_CONTAMINATED: Final = 0.01
"""So many of its people having seen what they were kept from, a holdout says too little of the launches."""
MOSTLY_LIVE: Final = 0.75
_Z_95: Final = 1.959963984540054


def realised_against_claimed(
    holdout: HoldoutEvidence, sums: ProgrammeSums | None, data_as_of: datetime
) -> RealisedAgainstClaimed:
    """Both on the log scale with the signs of the metric; no rate where either is missing, with the reason."""
    realised, error = holdout.log_lift, holdout.standard_error
    claimed = claimed_sd = None
    launches: set[str] = set()
    if sums is not None:
        inside = sums.launched_by([key for key in holdout.launch_keys if holdout.kept_from(key)])
        launches = {each.launch_key or "" for each, counts in zip(sums.plan.effects, inside, strict=True) if counts}
        if inside.any():
            total = sums.totals(inside)
            claimed, claimed_sd = sums.sign * float(total.mean[0]), float(total.sd[0])
    reason = holdout.reason or ("no_claims" if claimed is None else None)
    rate = None
    if realised is not None and error is not None and claimed is not None and claimed_sd is not None and not reason:
        rate = realised_rate(realised, error, claimed, claimed_sd)
    needed = finite(needed_error(claimed)) if claimed is not None else None
    unclaimed = sum(key not in launches for key in holdout.launch_keys)
    return RealisedAgainstClaimed(
        holdout_key=holdout.holdout_key,
        name=holdout.name,
        launches=len(holdout.launch_keys),
        share=holdout.share,
        realised=realised,
        realised_standard_error=error,
        realised_lower_95=realised - _Z_95 * error if realised is not None and error is not None else None,
        realised_upper_95=realised + _Z_95 * error if realised is not None and error is not None else None,
        claimed=claimed,
        claimed_sd=claimed_sd,
        kappa=finite(rate.kappa) if rate is not None else None,
        kappa_lower=finite(rate.lower) if rate is not None else None,
        kappa_upper=finite(rate.upper) if rate is not None else None,
        kappa_unbounded=rate is not None and rate.unbounded,
        needed_standard_error=needed,
        checks=[
            *_checks_of_experiment(holdout),
            _contamination(holdout),
            _length(holdout, data_as_of),
            *_precision(error, needed),
            *_unclaimed(unclaimed, len(holdout.launch_keys)),
            *_late(holdout, sums),
        ],
        reason=reason,
    )


def _checks_of_experiment(holdout: HoldoutEvidence) -> Iterator[Check]:
    """What failed where the holdout is measured, above all a share of people that is not the planned one."""
    if holdout.analysis_id is not None and "sample_ratio" not in holdout.failed_checks:
        yield check("sample_ratio", "pass", "Held back and exposed people have the planned shares.")
    for name in holdout.failed_checks:
        detail = f"The experiment `{holdout.experiment_key}` failed its check {name.replace('_', ' ')}."
        yield check(name, "fail", detail, "See the checks on its page: until they pass, the holdout says nothing.")


def _contamination(holdout: HoldoutEvidence) -> Check:
    found = holdout.contaminated_share
    if found is None:
        return check("contamination", "pass", "Nobody has been counted yet.")
    detail = f"{found:.2%} of the people are known to have been in both groups."
    remedy = "Keep assignments stable and the held-back group out of every launch: the rate is too close to nothing."
    return check("contamination", "warn" if found > MOST_CONTAMINATED else "pass", detail, remedy)


def _length(holdout: HoldoutEvidence, data_as_of: datetime) -> Check:
    days = ((holdout.released_at or data_as_of) - holdout.started_at).days
    detail = f"Held for {max(days, 0)} days."
    remedy = "Release them and draw another group: people held for long stop being like the others."
    return check("length", "warn" if timedelta(days=days) > TWO_QUARTERS else "pass", detail, remedy)


def _precision(error: float | None, needed: float | None) -> Iterator[Check]:
    """Whether the rate can be known to 0.3."""
    if error is None or needed is None or not isfinite(needed):
        return
    more = times_more_units(error, needed)
    detail = f"The standard error is {error:.2%}; {needed:.2%} would tell the rate to 0.3."
    yield check("precision", "pass" if more == 1 else "warn", detail, f"It takes {more:.1f} times as many people held.")


def _unclaimed(unclaimed: int, launches: int) -> Iterator[Check]:
    if not unclaimed:
        return
    detail = f"{unclaimed} of {launches} launches have no effect from an experiment: what they did counts as realised."
    yield check("unclaimed_launches", "warn", detail, "Read a rate above 1 as theirs, or measure them by themselves.")


def _late(holdout: HoldoutEvidence, sums: ProgrammeSums | None) -> Iterator[Check]:
    """Whether launches were out for most of the measured time: what came late shows in little of what was measured."""
    if sums is None or not holdout.live:
        return
    inside = sums.launched_by(holdout.live)
    sizes = abs(sums.effects.mean[inside])
    if not sizes.sum():
        return
    keys = [each.launch_key or "" for each, counts in zip(sums.plan.effects, inside, strict=True) if counts]
    live = float(sizes @ [holdout.live[key] for key in keys] / sizes.sum())
    detail = f"What was claimed was out for {live:.0%} of the measured time."
    more = 1 / max(live, 0.01)
    remedy = (
        f"The rate takes it as out from the first day: had it been, the rate would be up to {more:.1f} times as high."
    )
    yield check("time_live", "warn" if live < MOSTLY_LIVE else "pass", detail, remedy)
