"""The coverage path c(t) of a launch, as a whole and by segment (METHODS D6)."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime

from experiments.definitions import RolloutStep


def coverage_at(rollout: Sequence[RolloutStep], at: datetime, *, segment: str | None = None) -> float:
    """The share of a segment that has the change at a time: that of the last step about it or about everybody.

    Without a segment, steps about segments count for nothing: see `company_coverage`.
    """
    share = 0.0
    for step in rollout:
        if step.at > at:
            break
        if not step.segments or segment in step.segments:
            share = step.coverage
    return share


def mean_coverage(rollout: Sequence[RolloutStep], begin: datetime, end: datetime, *, segment: str | None) -> float:
    """The time average of `coverage_at` over a period [begin, end)."""
    cuts = [begin, *(step.at for step in rollout if begin < step.at < end), end]
    parts = ((until - at) * coverage_at(rollout, at, segment=segment) for at, until in itertools.pairwise(cuts))
    return sum(part.total_seconds() for part in parts) / (end - begin).total_seconds()


def company_coverage(rollout: Sequence[RolloutStep], at: datetime, *, sizes: Mapping[str, float]) -> float:
    """The share of everybody, where `sizes` are those of all segments; with none, that of steps about everybody."""
    if not sizes:
        return coverage_at(rollout, at)
    total = sum(sizes.values())
    return sum(size * coverage_at(rollout, at, segment=name) for name, size in sizes.items()) / total


def segments_named(rollout: Sequence[RolloutStep]) -> frozenset[str]:
    """All segments that some step is about."""
    return frozenset(segment for step in rollout for segment in step.segments)
