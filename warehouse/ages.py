"""What units do on each day of their window, for effects by days since exposure (METHODS E6)."""

from collections.abc import Callable

import numpy as np

from experiments.columns import AgedMetric
from stats.moments import Floats, Ints, Moments
from warehouse.aggregates import sum_per_unit
from warehouse.cells import moments_by_cell, regroup
from warehouse.engine import MICROSECONDS_A_DAY, epoch_us
from warehouse.facts import Facts, span_of, takes_numbers
from warehouse.one_pass import Pass
from warehouse.values import AllFacts, facts_of, is_calculable


def by_day(metric: AgedMetric, source: Facts, look_us: int, units: int) -> Floats:
    """(days, units) what each day of the window adds to the metric's value, without a cap.

    Day 0 begins with the window: at exposure, or after the metric's delay.
    """
    column = metric.column
    if takes_numbers(column):
        numbers = source.numbers(column, look_us)
        facts, position, values = numbers.facts, numbers.position, numbers.values
    else:
        chosen = source.select(column, look_us)
        facts, position, values = chosen.facts, chosen.position, None
    day = (source.since_exposure[facts] - span_of(column).start) // MICROSECONDS_A_DAY
    key = day * units + position
    if values is None:
        counts = np.bincount(key, minlength=metric.days * units).astype(np.float64)
        return counts.reshape(metric.days, units)
    return sum_per_unit(values, key, metric.days * units, source.most).reshape(metric.days, units)


def capped_by_day(values: Floats, cap: float | None) -> Floats:
    """What each day adds to the capped value so far, so that the days add up to the metric's capped value."""
    if cap is None:
        return values
    reached = np.minimum(np.cumsum(values, axis=0), cap)
    return np.diff(reached, axis=0, prepend=0.0)


def moments_by_age(
    work: Pass,
    facts: AllFacts,
    of_arm: Ints,
    caps: Callable[[AgedMetric], float | None],
    usable: Callable[[AgedMetric], bool],
) -> dict[str, Moments]:
    """Per metric key: moments with cells (variants,) and one column per day, of the units with an arm (-1: none).

    The units are the same on every day: those whose whole window has passed, whether they came back or not. A metric
    whose column is withdrawn, or whose days are not finite, has none.
    """
    arms, units = len(work.variants), len(of_arm)
    order = regroup(of_arm, arms) if work.wanted.ages else None
    found = {}
    for metric in work.wanted.ages:
        if not usable(metric):
            continue
        source = facts_of(facts, metric.column)
        values = np.zeros((metric.days, units))
        if source is not None:
            values = capped_by_day(by_day(metric, source, epoch_us(work.looks[-1]), units), caps(metric))
        if is_calculable(values.ravel()):
            found[metric.metric_key] = moments_by_cell(values, of_arm, arms, work.pool, order)
    return found
