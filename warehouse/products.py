"""What one bucket of units contributes besides the moments of its columns, and how buckets come together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stats.moments import Ints, Moments
from warehouse.ages import moments_by_age
from warehouse.answers import Respondents, merge_all, respondents
from warehouse.caps import above, apply_caps, capped_columns, caps_of_bucket
from warehouse.likelihoods import UnitParts, merge_units, parts_of_units, unit_summaries
from warehouse.measured import Placed
from warehouse.one_pass import Pass
from warehouse.quantiles import (
    Groups,
    Rows,
    groups_of,
    merge_rows,
    quantile_cells,
    rows_of,
)
from warehouse.values import AllFacts, Values
from warehouse.wanted import Caps


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """Products of one bucket at the last look; those of disjoint units merge.

    `units_above` (k, V) units above the cap, `missing` (k, V) facts without the number that the column takes. `sizes`
    are the levels of each breakdown. `refused`: quantile metrics with values that are not finite.
    """

    caps: Caps
    units_above: Ints
    missing: Ints
    responses: Mapping[str, Respondents]
    by_age: Mapping[str, Moments]
    groups: Groups
    quantiles: Mapping[str, Rows]
    refused: Mapping[str, str]
    units: Mapping[str, UnitParts]
    sizes: tuple[int, ...]

    def merge(self, other: "Products") -> "Products":
        return Products(
            self.caps,
            self.units_above + other.units_above,
            self.missing + other.missing,
            merge_all(self.responses, other.responses),
            {key: days.merge(other.by_age[key]) for key, days in self.by_age.items() if key in other.by_age},
            self.groups.merge(other.groups),
            merge_rows(self.quantiles, other.quantiles, len(self.groups)),
            {**self.refused, **other.refused},
            merge_units(self.units, other.units),
            self.sizes,
        )

    def fields(self, work: Pass, invalid: Mapping[int, str], segments: Sequence[int]) -> dict[str, Any]:
        """The fields of `MomentSet` that come from here.

        `invalid` are the columns withdrawn in any bucket, `segments` the positions of the segments that are shown.
        """
        names = [column.name for column in work.columns]
        return {
            "capped": capped_columns(work.columns, self.caps, self.units_above, invalid),
            "quantiles": {
                metric.metric_key: quantile_cells(
                    work, metric, self.quantiles[metric.metric_key], self.groups, self.sizes, segments
                )
                for metric in work.wanted.quantiles
                if metric.metric_key in self.quantiles
            },
            "refused": dict(self.refused),
            "units": unit_summaries(work.wanted.modelled, self.units, self.caps, invalid),
            "responses": {key: found.table() for key, found in self.responses.items()},
            "by_age": dict(self.by_age),
            "missing": {names[i]: self.missing[i] for i in np.flatnonzero(self.missing.any(axis=1))},
        }


def products_of(
    work: Pass,
    facts: AllFacts,
    table: Values,
    placed: Placed,
) -> Products:
    """The products of a bucket whose `table` is filled as of the last look, without caps; caps are applied to it.

    Those are units, whatever was randomised: a cluster's total is the sum of its units' capped values.
    """
    arms, inside, units, entry = len(work.variants), placed.entered, placed.units, placed.entry
    breakdowns = [(segment.of(units.segment), len(segment.groups)) for segment in work.segments]
    caps = caps_of_bucket(work, facts, table, inside) if work.wanted.caps is None else work.wanted.caps
    units_above = above(table, caps, units.variant, arms, inside)
    missing = np.zeros(units_above.shape, dtype=np.int64)
    for i, position in table.missing.items():
        missing[i] = np.bincount(units.variant[position[inside[position]]], minlength=arms)
    apply_caps(table, caps)
    place = {column.name: i for i, column in enumerate(work.columns)}
    answers = {
        key: respondents(table.values[score], table.values[count], units.variant, arms, inside)
        for key, (score, count) in work.wanted.surveys.items()
        if score not in table.invalid and count not in table.invalid
    }
    found = {metric.metric_key: rows_of(work, metric, facts, entry, inside) for metric in work.wanted.quantiles}
    return Products(
        caps=caps,
        units_above=units_above,
        missing=missing,
        responses=answers,
        by_age=moments_by_age(
            work,
            facts,
            placed.variant,
            caps=lambda metric: caps.values.get(place[metric.column.name]),
            usable=lambda metric: place[metric.column.name] not in table.invalid,
        ),
        groups=groups_of(units.variant, units.cluster, breakdowns, inside),
        quantiles={key: rows for key, (rows, _) in found.items() if rows is not None},
        refused={key: reason for key, (_, reason) in found.items() if reason},
        units=parts_of_units(work, table.values, units.variant, inside),
        sizes=tuple(size for _, size in breakdowns),
    )
