"""What facts say in their order: steps of a funnel, returns after a start, and on how many days there is any."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from experiments.columns import Column
from stats.moments import Bools, Floats, Ints
from warehouse.aggregates import Positions, distinct_per_unit
from warehouse.engine import MICROSECONDS_A_DAY, days_us
from warehouse.facts import Facts

NEVER: Final = np.iinfo(np.int64).max
"""When something happens that does not."""

type Read = tuple[Facts | None, Column]
"""A plain column with the facts of its source; None for a source without any."""


def fill_sequence(column: Column, reads: Sequence[Read], look_us: int, out: Floats) -> None:
    """Fill `out` (units,) with a column of the content "step" or "returned", whose facts are in `reads`.

    Every source has the times since the same moment of the same unit. See `Column` for what counts.
    """
    out[:] = 0.0
    found = [_times(facts, read, look_us) for facts, read in reads]
    whose = _returns if column.content == "returned" else _last_step
    out[whose(column, found, len(out))] = 1.0


def fill_days_share(column: Column, facts: Facts, look_us: int, out: Floats) -> None:
    """Fill `out` (units,) with the share of the days of a column's period that have a fact, 24 hours each."""
    chosen = facts.select(column, look_us)
    length = column.pre_period_days if column.period == "pre" else column.window_days
    assert length is not None
    days = facts.since(column)[chosen.facts] // MICROSECONDS_A_DAY
    out[:] = distinct_per_unit(days, chosen.position, len(out)) / math.ceil(length)


def _times(facts: Facts | None, read: Column, look_us: int) -> tuple[Positions, Ints]:
    """Whose the facts of a period are (n,), and when they were (n,)."""
    if facts is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    chosen = facts.select(read, look_us)
    return chosen.position, facts.since(read)[chosen.facts]


def _returns(column: Column, found: Sequence[tuple[Positions, Ints]], units: int) -> Positions:
    """Whose facts come in the window after the unit's first start."""
    (starters, started), (position, times) = found
    assert column.window_days is not None
    begin = first_per_unit(started, starters, units)[position]
    low = days_us(column.delay_days)
    after = begin <= times - low  # never of those who did not start
    return position[after & (times < np.where(after, begin, 0) + low + days_us(column.window_days))]


def _last_step(column: Column, found: Sequence[tuple[Positions, Ints]], units: int) -> Positions:
    """Whose facts end a whole sequence of steps.

    A fact can be the k-th of a sequence if some fact that can be the one before came earlier, in time. Of those the
    latest is as good as any: later it has no more time than that, and what came before it does not matter any more.
    """
    position, times = found[0]
    for step, (places, moments) in zip(column.steps[1:], found[1:], strict=True):
        first = first_per_unit(times, position, units)
        reached: Bools = moments > first[places]
        places, moments = places[reached], moments[reached]
        if step.within_days is not None:
            near = follows(position, times, places, moments, days_us(step.within_days))
            places, moments = places[near], moments[near]
        position, times = places, moments
    return position


def first_per_unit(times: Ints, position: Positions, units: int) -> Ints:
    """(units,) the earliest time of each unit, `NEVER` without any."""
    first = np.full(units, NEVER)
    np.minimum.at(first, position, times)
    return first


def follows(before: Positions, before_us: Ints, position: Positions, times: Ints, within_us: int) -> Bools:
    """(n,) whether a unit's fact at `times` (n,) has one of `before` earlier than it, by at most `within_us`.

    Both are sorted together, and each fact looks at the last one of `before` that is sorted ahead of it.
    """
    n = len(times)
    found: Bools = np.zeros(n, dtype=np.bool_)
    if not n or not len(before):
        return found
    unit = np.concatenate([position, before])
    # Of facts at the same moment those that look come first, so that they see only what is earlier.
    moment = np.concatenate([2 * times, 2 * before_us + 1])
    order = _by_unit_and_moment(unit, moment)
    latest = np.maximum.accumulate(np.where(order >= n, np.arange(len(order)), -1))
    looking = order < n
    fact, ahead = order[looking], latest[looking]
    last = np.maximum(order[np.maximum(ahead, 0)] - n, 0)
    found[fact] = (ahead >= 0) & (before[last] == position[fact]) & (times[fact] - before_us[last] <= within_us)
    return found


def _by_unit_and_moment(unit: Positions, moment: Ints) -> Ints:
    """(n,) places of facts by unit, then moment; in one number where that has room, three times as fast."""
    low = int(moment.min())
    width = int(moment.max()) - low + 1
    if (int(unit.max()) + 1) * width >= 2**63:
        return np.lexsort((moment, unit))
    return np.argsort(unit.astype(np.int64) * width + (moment - low))
