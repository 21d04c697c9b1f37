"""Winsorisation (METHODS A9): one cap per column, from all analysed units of all arms, in every arm and at every look.

A cap that were estimated per arm would be an effect of its own (avast/ep-stats#99). Values above the cap count as the
cap; nobody is left out. The quantile is the smallest value that at least that share of the units does not exceed, so
it is one of the values, and the same in whatever order units come.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from experiments.columns import Column
from stats.moment_set import CappedColumn
from stats.moments import Bools, Floats, Ints
from warehouse.engine import epoch_us
from warehouse.one_pass import Pass
from warehouse.units import Units
from warehouse.values import NON_FINITE, AllFacts, Reader, Values, facts_of, is_calculable, read_all
from warehouse.wanted import Caps

CAP_IS_ZERO = "cap_is_zero"
"""So few units have a value that the quantile is 0: capped there, nothing would be left of the metric."""


def analysed(work: Pass, units: Units) -> Bools:
    """(n,) the units in an arm whose longest window is complete at the last look."""
    return (units.variant >= 0) & (units.at_us + work.longest_us <= epoch_us(work.looks[-1]))


def bases(work: Pass) -> dict[int, Column]:
    """By position of a column that is capped at a quantile, the uncapped column whose quantile it is.

    That is the column itself, or the same measure in the pre-period of the metric (whatever its length: with pre-period
    and window equally long the cap means the same in both).
    """
    found = {}
    for i, column in enumerate(work.columns):
        if column.cap is not None and column.cap.quantile is not None:
            before = column.cap.basis == "pre_period"
            found[i] = replace(column, cap=None, period="pre" if before else column.period)
    return found


def columns_to_read(work: Pass) -> list[Column]:
    """Every column that a bucket needs facts for: those of the moments, of quantile metrics, and bases of caps."""
    own = () if work.wanted.caps is not None else bases(work).values()
    return [*work.columns, *work.wanted.columns, *own]


@dataclass(slots=True)
class Top:
    """The largest of many values, as they come: enough of them to know a quantile above one half, exactly.

    Only values above 0 are kept, since a cap is above 0, and no more of them than a quantile of `bound` values needs.
    """

    quantile: float
    bound: int | None = None
    count: int = 0
    refused: str = ""
    _kept: list[Floats] = field(default_factory=list)

    def add(self, values: Floats) -> None:
        """More values."""
        self.count += len(values)
        if self.refused or not is_calculable(values):
            self.refused = NON_FINITE
            self._kept.clear()
            return
        self._kept.append(values[values > 0])
        if self.bound is not None:
            kept, most = np.concatenate(self._kept), math.floor((1 - self.quantile) * self.bound) + 2
            if len(kept) > most:
                kept = np.partition(kept, len(kept) - most)[len(kept) - most :]
            self._kept = [kept]

    def merge(self, other: "Top") -> "Top":
        """Both together, without a bound."""
        refused = self.refused or other.refused
        kept = [] if refused else [*self._kept, *other._kept]
        return Top(self.quantile, None, self.count + other.count, refused, kept)

    def value(self) -> float | None:
        """The quantile; None if it is not above 0."""
        kept = np.concatenate([np.zeros(0), *self._kept])
        rank = math.ceil(self.quantile * self.count - 1e-9)
        place = len(kept) - 1 - (self.count - max(rank, 1))
        return float(np.partition(kept, place)[place]) if place >= 0 else None


def caps_from(work: Pass, tops: Mapping[int, Top]) -> Caps:
    """The caps of all columns that have one.

    Without any units there is nothing to cap. A covariate that cannot be capped is left as it is: any function of what
    happened before is a valid covariate. A metric is refused instead: without its cap it would not be what was planned.
    """
    values: dict[int, float] = {}
    refused: dict[int, str] = {}
    for i, column in enumerate(work.columns):
        if column.cap is None:
            continue
        if column.cap.value is not None:
            values[i] = column.cap.value
        elif tops[i].count:
            found = None if tops[i].refused else tops[i].value()
            if found is not None:
                values[i] = found
            elif column.period == "outcome":
                refused[i] = tops[i].refused or CAP_IS_ZERO
    return Caps(values, refused)


def caps_of_bucket(work: Pass, facts: AllFacts, table: Values, inside: Bools) -> Caps:
    """The caps when one bucket holds all units; `table` is filled, without caps."""
    tops = {}
    for i, basis in bases(work).items():
        tops[i] = _top(work.columns[i])
        same = basis.period == work.columns[i].period
        if same and i in table.invalid:
            tops[i].refused = table.invalid[i]
            tops[i].count = int(inside.sum())
        else:
            values = table.values[i] if same else _measured(basis, facts, work, len(inside))
            tops[i].add(values[inside])
    return caps_from(work, tops)


def caps_of_buckets(work: Pass, buckets: Iterable[Units], bound: int | None, read: Reader = read_all) -> Caps:
    """The caps when units come in several buckets: a pass of its own, over the capped columns alone.

    `bound` is how many units there are at most. Values are held, 8 bytes each, as far as the quantiles need them.
    """
    wanted = bases(work)
    tops = {i: _top(work.columns[i], bound) for i in wanted}
    for units in buckets if wanted else ():
        facts = read(work, units, epoch_us(work.looks[-1]), list(wanted.values()))
        _add_values(tops, work, facts, analysed(work, units))
    return caps_from(work, tops)


def tops_of(work: Pass, facts: AllFacts, inside: Bools) -> dict[int, Top]:
    """By position of a capped column what its quantile needs of the units that are `inside` (n,)."""
    tops = {i: _top(work.columns[i]) for i in bases(work)}
    _add_values(tops, work, facts, inside)
    return tops


def _add_values(tops: Mapping[int, Top], work: Pass, facts: AllFacts, inside: Bools) -> None:
    for i, basis in bases(work).items():
        tops[i].add(_measured(basis, facts, work, len(inside))[inside])


def apply_caps(table: Values, caps: Caps) -> None:
    """Cap the table, now and whenever it is filled again."""
    for i, reason in caps.refused.items():
        table.refuse(i, table.invalid.get(i, reason))
    for i, cap in caps.values.items():
        if i not in table.invalid:
            table.caps[i] = cap
            np.minimum(table.values[i], cap, out=table.values[i])


def above(table: Values, caps: Caps, variant: Ints, arms: int, inside: Bools) -> Ints:
    """(k, V) how many analysed units have a value above the cap; `table` is not capped yet."""
    counts = np.zeros((len(table.values), arms), dtype=np.int64)
    for i, cap in caps.values.items():
        counts[i] = np.bincount(variant[inside & (table.values[i] > cap)], minlength=arms)
    return counts


def capped_columns(
    columns: Sequence[Column], caps: Caps, units_above: Ints, invalid: Mapping[int, str]
) -> dict[str, CappedColumn]:
    """By name, the capped columns that have a twin without a cap (covariates have none)."""
    bare = [replace(column, name="") for column in columns]
    found = {}
    for i, cap in caps.values.items():
        twin = replace(bare[i], cap=None)
        if i not in invalid and columns[i].period == "outcome" and twin in bare:
            found[columns[i].name] = CappedColumn(cap, columns[bare.index(twin)].name, units_above[i])
    return found


def _top(column: Column, bound: int | None = None) -> Top:
    assert column.cap is not None and column.cap.quantile is not None
    return Top(column.cap.quantile, bound)


def _measured(column: Column, facts: AllFacts, work: Pass, units: int) -> Floats:
    values = np.zeros(units)
    source = facts_of(facts, column)
    if source is not None:
        source.measure(column, epoch_us(work.looks[-1]), values)
    return values
