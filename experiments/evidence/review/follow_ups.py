"""What to try next: what is still worth knowing more about (METHODS H5, H6).

What an experiment more is worth at most is what knowing the effect would be: the loss that the present choice risks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from math import erf, exp, pi, sqrt
from typing import Final

from experiments.definitions import Direction
from experiments.plan import ReviewPlan
from experiments.result import FollowUp, LedgerLaunchEffect, ProgrammeResult, ShrunkEffect

_MOST: Final = 8
_DOUBTFUL: Final = 0.1
"""A ship with a larger chance of the wrong sign is worth replicating."""
_WORTH_KNOWING: Final = 0.1
"""An idea is worth another iteration if knowing its effect is worth this share of a typical effect."""
_RECENT: Final = timedelta(weeks=52)
_Z80: Final = 1.2815515655446004


def follow_ups(
    plan: ReviewPlan, programme: ProgrammeResult, launches: Sequence[LedgerLaunchEffect], *, at: datetime
) -> list[FollowUp]:
    """At most eight, one per experiment, the one with the most to gain first."""
    found: dict[str, FollowUp] = {}
    for each in (*_retests(plan, launches, at), *_replications(programme), *_iterations(plan, programme, at)):
        found.setdefault(each.experiment_key, each)
    return sorted(found.values(), key=lambda each: -(each.expected_value or 0.0))[:_MOST]


def worth_of_knowing(mean: float, sd: float) -> float:
    """The expected value of perfect information: the loss risked by acting on the sign of `mean`, for N(mean, sd²)."""
    if sd <= 0:
        return 0.0
    z = abs(mean) / sd
    return sd * (exp(-0.5 * z * z) / sqrt(2 * pi) - z * 0.5 * (1 - erf(z / sqrt(2))))


def _iterations(plan: ReviewPlan, programme: ProgrammeResult, at: datetime) -> Iterator[FollowUp]:
    """Ideas that proved nothing and might well be something."""
    verdicts = {effect.experiment_key: effect.verdict for effect in plan.programme.effects}
    typical = programme.tau.mean if programme.tau is not None else 0.0
    for effect in programme.effects:
        if effect.shipped or verdicts.get(effect.experiment_key) != "inconclusive" or effect.stopped_at < at - _RECENT:
            continue
        value = worth_of_knowing(effect.shrunk, effect.shrunk_sd)
        if value > _WORTH_KNOWING * typical:
            yield _proposal("iterates", effect, value, "It was inconclusive, and knowing more is worth much.")


def _replications(programme: ProgrammeResult) -> Iterator[FollowUp]:
    """Ships that may well do harm."""
    for effect in programme.effects:
        wrong = 1 - effect.chance_positive
        if effect.shipped and wrong > _DOUBTFUL:
            value = worth_of_knowing(effect.shrunk, effect.shrunk_sd)
            reason = f"It was shipped, and has a chance of {wrong:.0%} to have the wrong sign."
            yield _proposal("replicates", effect, value, reason)


def _retests(plan: ReviewPlan, launches: Sequence[LedgerLaunchEffect], at: datetime) -> Iterator[FollowUp]:
    """Launches that have outlived what their experiment saw, or that the ledger does not find."""
    lives = {each.launch_key: each.persistence for each in plan.launches}
    for each in launches:
        if each.experiment_key is None:
            continue
        life = lives.get(each.launch_key)
        age = (at - each.first_at) / timedelta(days=1)
        reason = ""
        if _contradicted(each, plan.direction):
            reason = "The North Star shows less of it than its experiment claimed."
        elif life is not None and life.half_life_days is not None and life.remaining < 1 and age > life.half_life_days:
            reason = f"It is {age:.0f} days old, and its effect was on its way out within {life.half_life_days:.0f}."
        if reason:
            sd = (each.realised_upper_80 - each.realised_lower_80) / (2 * _Z80)
            yield FollowUp(
                kind="retests",
                experiment_key=each.experiment_key,
                name=each.name,
                launch_key=each.launch_key,
                reason=reason,
                expected_value=worth_of_knowing(each.realised, sd),
            )


def _contradicted(launch: LedgerLaunchEffect, direction: Direction) -> bool:
    """Whether the 80 % intervals of the claim and of what was realised are apart, the claim being the better one."""
    if launch.claimed is None or launch.claimed_standard_error is None:
        return False
    margin = _Z80 * launch.claimed_standard_error
    if direction is Direction.DECREASE:
        return launch.claimed + margin < launch.realised_lower_80
    return launch.claimed - margin > launch.realised_upper_80


def _proposal(kind: str, effect: ShrunkEffect, value: float, reason: str) -> FollowUp:
    return FollowUp.model_validate(
        {
            "kind": kind,
            "experiment_key": effect.experiment_key,
            "name": effect.name,
            "launch_key": effect.launch_key,
            "reason": reason,
            "expected_value": value,
        }
    )
