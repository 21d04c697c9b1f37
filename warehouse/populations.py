"""How many units there are of what kind: what sample-ratio checks are made of (METHODS A12)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stats.moments import Bools, Ints
from warehouse.facts import measure_of
from warehouse.measured import Measured
from warehouse.values import AllFacts

ASSIGNED = "assigned"
EXPOSED = "exposed"
ANALYSED = "analysed"
WITH_OUTCOME = "with_outcome"
WITHOUT_CLUSTER = "without_cluster"


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """`exposures` (looks, V) units exposed by each look; `named` (V,) per population, and `by_segment` (segments, V)

    exposed units, at the last look.
    """

    exposures: Ints
    named: Mapping[str, Ints]
    by_segment: Ints

    def merge(self, other: "Counts") -> "Counts":
        """Union with other units."""
        return Counts(
            self.exposures + other.exposures,
            {name: n + other.named[name] for name, n in self.named.items()},
            self.by_segment + other.by_segment,
        )


def count(measured: Measured, facts: AllFacts, looks_us: Ints) -> Counts:
    """The populations among the units of a bucket. Units in two variants are in none.

    `assigned` is there where a trigger exposes, `without_cluster` with clustered randomisation; with an outcome are the
    analysed units with a value other than 0 in any column of the outcome period, or with a fact of a quantile metric.
    """
    work, placed, arms = measured.work, measured.placed, measured.arms
    units = placed.units
    seen = np.searchsorted(looks_us, units.at_us, side="right")
    exposed = (units.variant >= 0) & (seen < len(looks_us))

    def by_arm(chosen: Bools) -> Ints:
        return np.bincount(units.variant[chosen], minlength=arms)

    cell = seen[exposed] * arms + units.variant[exposed]
    daily = np.bincount(cell, minlength=len(looks_us) * arms).reshape(len(looks_us), arms)
    active = np.zeros(len(units), dtype=np.bool_)
    for i, column in enumerate(work.columns):
        if column.period == "outcome":
            active |= measured.values[i] != 0
    for metric in work.wanted.quantiles:
        source = facts[measure_of(metric.column).fact_source]
        if source is not None:
            source.mark(metric.column, int(looks_us[-1]), active)
    named = {EXPOSED: by_arm(exposed), ANALYSED: by_arm(placed.entered), WITH_OUTCOME: by_arm(placed.entered & active)}
    if units.assigned is not None:
        named = {ASSIGNED: units.assigned, **named}
    if units.without_cluster is not None:
        named[WITHOUT_CLUSTER] = units.without_cluster
    levels = [
        np.bincount(
            segment.of(units.segment)[exposed] * arms + units.variant[exposed], minlength=len(segment.groups) * arms
        ).reshape(-1, arms)
        for segment in work.segments
    ]
    by_segment = np.concatenate(levels) if levels else np.zeros((0, arms), dtype=np.int64)
    return Counts(np.cumsum(daily, axis=0), named, by_segment)
