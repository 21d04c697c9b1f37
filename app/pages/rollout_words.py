"""How far a launch has come, in words. A share of everybody is said only where everybody's share is on record."""

from datetime import datetime
from typing import Final

from app.pages import formats
from experiments.definitions import LaunchSpec, RolloutStep
from experiments.rollout import coverage_at, segments_named

NAMED: Final = 3


def reach(spec: LaunchSpec, at: datetime) -> str:
    """`50 %`, `DE and FR: 100 %`, `5 of 12 segments: 20 % to 100 %`, `not yet`."""
    if spec.rollout[0].at > at:
        return "not yet"
    named = segments_named(spec.rollout)
    everybody = coverage_at(spec.rollout, at)
    if not named:
        return formats.share(everybody)
    shares = {segment: coverage_at(spec.rollout, at, segment=segment) for segment in sorted(named)}
    reached = {segment: share for segment, share in shares.items() if share > 0}
    said = _segments(spec, list(reached)) + f": {_range(list(reached.values()))}" if reached else ""
    if everybody > 0:
        said = f"{said}; all others: {formats.share(everybody)}" if said else f"all others: {formats.share(everybody)}"
    return said or "taken back"


def step_words(step: RolloutStep) -> str:
    """Who a step is about, and their share: `DE, FR: 50 %`."""
    who = listed(step.segments) if step.segments else "Everybody"
    return f"{who}: {formats.share(step.coverage)}"


def listed(segments: list[str]) -> str:
    """The first segments by name, the others counted."""
    named = segments[:NAMED]
    more = len(segments) - len(named)
    return ", ".join([*named, f"{more} more"] if more else named)


def _segments(spec: LaunchSpec, reached: list[str]) -> str:
    if len(reached) <= NAMED:
        return listed(reached)
    if spec.eligible is not None:
        return f"{len(reached)} of {formats.plural(len(spec.eligible.segments), 'segment')}"
    return formats.plural(len(reached), "segment")


def _range(shares: list[float]) -> str:
    low, high = min(shares), max(shares)
    return formats.share(low) if low == high else f"{formats.share(low)} to {formats.share(high)}"
