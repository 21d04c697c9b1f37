"""What the inputs of a North Star account for between two periods: the document of METHODS E3 and E4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from experiments.definitions import NorthStarSpec
from experiments.plan import SegmentRates, WeeksWithout
from experiments.result import Attribution, AttributionPart, MixEffect
from experiments.types import finite
from stats.attribution import FEWEST_WEEKS, Array, Attributed, attribute, error_over_weeks, rate_and_mix, t_quantile
from stats.formula import Formula, parse

type Indices = np.ndarray[tuple[int, ...], np.dtype[np.intp]]

NOT_IN_THE_TREE: Final = "not_in_the_tree"
"""The key of what is left where the inputs, as they are known, do not make the North Star."""
DRIVER_EDGES: Final = "driver_edges"
NO_WEEKS: Final = "no_common_weeks"
_LEVEL: Final = 0.8
_WEEK: Final = timedelta(weeks=1)
_SAME: Final = 1e-6


@dataclass(frozen=True, slots=True)
class WeeksOfTree:
    """A North Star and its inputs by week (Mondays without gaps), null where unknown.

    `without` has the same weeks once more for each part of the units, where facts are counted.
    """

    weeks: Sequence[datetime]
    value: Sequence[float | None]
    inputs: Mapping[str, Sequence[float | None]]
    without: Sequence[WeeksWithout] = ()


def attribution(
    spec: NorthStarSpec,
    names: Mapping[str, str],
    known: WeeksOfTree,
    *,
    after: Sequence[int],
    before: Sequence[int],
    seed: int,
    segments: Sequence[SegmentRates] = (),
) -> Attribution:
    """The change from the weeks at positions `before` to those at `after`, week by week in this order.

    `names` are those of the metrics. Pairs with an unknown number are left out. Contributions add up to the change, and
    what is left where the inputs do not make the value is a part of its own. Statistical relations account for nothing:
    a formula with a driver is not taken apart. Means that are known by segment are parted into rates and mix. Raises
    `ValueError` for periods of different lengths.
    """
    if len(after) != len(before) or not after:
        raise ValueError("the two periods must have the same number of weeks, at least one")
    if spec.rests_on_drivers:
        return _nothing(known, after, before, DRIVER_EDGES)
    formula = parse(spec.formula, [item.metric_key for item in spec.input_metrics])
    star = _numbers(known.value)
    inputs = np.stack([_numbers(known.inputs[name]) for name in formula.names], axis=-1)
    pairs = np.array([after, before])
    usable = np.isfinite(star[pairs]).all(axis=0) & np.isfinite(inputs[pairs]).all(axis=(0, 2))
    if not usable.any():
        return _nothing(known, after, before, NO_WEEKS)
    now, then = pairs[:, usable]
    found = attribute(formula, inputs[then], inputs[now], seed=seed)
    if found.reason:
        return _nothing(known, after, before, found.reason)
    change = star[now] - star[then]
    parts = _with_rest(found, change)
    errors, quantile, uncertainty = _errors(known, formula, parts, now, then, seed)
    keys = [*formula.names, NOT_IN_THE_TREE][: parts.shape[1]]
    size = np.abs(star[now]).sum() + np.abs(star[then]).sum()
    return Attribution(
        method=found.method,
        begins_at=known.weeks[after[0]],
        ends_at=known.weeks[after[-1]] + _WEEK,
        compared_begins_at=known.weeks[before[0]],
        compared_ends_at=known.weeks[before[-1]] + _WEEK,
        change=float(change.sum()),
        parts=[
            _part(
                key,
                names.get(key, key),
                parts[:, i],
                None if errors is None else quantile * float(errors[i]),
                inputs[:, i] if i < inputs.shape[1] else None,
                now,
                then,
            )
            for i, key in enumerate(keys)
            if key != NOT_IN_THE_TREE or abs(parts[:, i].sum()) > _SAME * size
        ],
        mix=[_mix(each) for each in segments],
        uncertainty=uncertainty,
        estimable=True,
    )


def _mix(known: SegmentRates) -> MixEffect:
    units = np.array([known.units_before, known.units_after])
    weight = units / units.sum(axis=1, keepdims=True)
    found = rate_and_mix(weight[0], np.array(known.mean_before), weight[1], np.array(known.mean_after))
    return MixEffect(
        metric_key=known.metric_key,
        dimension=known.dimension,
        rate=float(found.rate),
        mix=float(found.mix),
        total=float(found.total),
        reversed=bool(found.reversed),
    )


def _with_rest(found: Attributed, change: Array) -> Array:
    """Contributions (weeks, inputs + 1), the last column what the inputs leave of the change."""
    return np.column_stack([found.parts, change - found.parts.sum(axis=1)])


def _errors(
    known: WeeksOfTree, formula: Formula, parts: Array, now: Indices, then: Indices, seed: int
) -> tuple[Array | None, float, str]:
    """Standard errors of the sums over weeks, the quantile that goes with them, and how they were made.

    From parts of the units that take turns to leave (the jackknife), else from how the weeks differ.
    """
    left_out = [part for each in known.without if (part := _without(each, formula, now, then, seed)) is not None]
    if len(left_out) > 1 and len(left_out) == len(known.without):
        rest, groups = np.array(left_out), len(left_out)
        spread = ((rest - rest.mean(axis=0)) ** 2).sum(axis=0)
        errors = np.sqrt(spread * (groups - 1) / groups)
        return errors, t_quantile(_LEVEL, groups - 1), f"sampling error, from {groups} parts of the units"
    if len(parts) >= FEWEST_WEEKS:
        errors, df = error_over_weeks(parts)
        return errors, t_quantile(_LEVEL, df), f"from how the {len(parts)} weeks differ"
    return None, float("nan"), f"unknown: there are fewer than {FEWEST_WEEKS} weeks, and no units to compare"


def _without(each: WeeksWithout, formula: Formula, now: Indices, then: Indices, seed: int) -> Array | None:
    """The contributions (inputs + 1,) had some units not been there, None where they leave nothing to divide by."""
    star = _numbers(each.value)
    inputs = np.stack([_numbers(each.inputs[name]) for name in formula.names], axis=-1)
    found = attribute(formula, inputs[then], inputs[now], seed=seed)
    if found.reason or not np.isfinite(star[now] + star[then]).all():
        return None
    return np.asarray(_with_rest(found, star[now] - star[then]).sum(axis=0))


def _part(
    key: str, name: str, parts: Array, reach: float | None, values: Array | None, now: Indices, then: Indices
) -> AttributionPart:
    units = float(parts.sum())
    before = None if values is None else finite(float(values[then].mean()))
    after = None if values is None else finite(float(values[now].mean()))
    grew = before is not None and after is not None and before > 0 and after > 0
    return AttributionPart(
        metric_key=key,
        name="Not in the tree" if key == NOT_IN_THE_TREE else name,
        units=units,
        lower_80=None if reach is None else units - reach,
        upper_80=None if reach is None else units + reach,
        covers_zero=None if reach is None else abs(units) <= reach,
        log_change=float(np.log(after / before)) if grew and after is not None and before is not None else None,
        before=before,
        after=after,
    )


def _nothing(known: WeeksOfTree, after: Sequence[int], before: Sequence[int], reason: str) -> Attribution:
    return Attribution(
        method="none",
        begins_at=known.weeks[after[0]],
        ends_at=known.weeks[after[-1]] + _WEEK,
        compared_begins_at=known.weeks[before[0]],
        compared_ends_at=known.weeks[before[-1]] + _WEEK,
        change=None,
        parts=[],
        uncertainty="",
        estimable=False,
        reason=reason,
    )


def _numbers(values: Sequence[float | None]) -> Array:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
