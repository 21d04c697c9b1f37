"""How much of the company an experiment reached, week by week (METHODS E5): one pass over the facts of everybody.

Units do not leave the engine: it returns totals by week, arm and hash bucket. A unit is reached from its first exposure
on, or from its first trigger; what it did before, and what units in two arms did, counts for the company alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np

from experiments.columns import Column, company_specs, layout
from experiments.definitions import FactSourceSpec
from experiments.plan import AnalysisPlan
from stats.moment_set import Reach
from stats.moments import Bools, Floats, Ints
from warehouse.engine import MICROSECONDS_A_DAY, Parameters, identifier
from warehouse.exact_totals import any_not_finite, any_off_scale, scales_of, total_over_units, unit_value
from warehouse.one_pass import Pass
from warehouse.sources import open_source, unreadable
from warehouse.units import CLUSTER, UNITS

BUCKETS: Final = 64
WEEK_US: Final = 7 * MICROSECONDS_A_DAY
# A source may have columns of any name: those of the units that are joined to it get names that none of them has.
_UNIT, _ARM, _SINCE = (identifier(f"{name} of the reached") for name in ("unit", "arm", "time"))

type Rows = Mapping[str, np.ndarray[tuple[int], np.dtype[np.generic]]]
"""One row per `bucket`, `week` and `arm` (-1: in none): its `units`, those `reached`, and of the i-th column the totals

`t{i}` and `r{i}`, of all facts and of those since exposure, and `b{i}`: whether there is what is no number.
"""

type Read = Callable[[FactSourceSpec, Sequence[Column]], Rows | None]
"""The rows of a source's columns; None without any facts."""


@dataclass(frozen=True, slots=True)
class ReachWanted:
    """The North Star's columns, and the full weeks of exposure in which they are added up."""

    columns: tuple[Column, ...]
    weeks: int


@dataclass(frozen=True, slots=True, eq=False)
class ReachSums:
    """The arrays of `Reach`; `bad` (C,) columns that hold what is no number."""

    company: Floats
    exposed: Floats
    company_units: Ints
    exposed_units: Ints
    bad: Bools

    def finish(self, wanted: ReachWanted) -> Reach:
        """What the evidence sees; columns that hold what is no number are zeros."""
        return Reach(
            columns=tuple(column.name for column in wanted.columns),
            company=np.where(self.bad, 0.0, self.company),
            exposed=np.where(self.bad, 0.0, self.exposed),
            company_units=self.company_units,
            exposed_units=self.exposed_units,
            withdrawn=tuple(column.name for column, bad in zip(wanted.columns, self.bad, strict=True) if bad),
        )


def reach_wanted(plan: AnalysisPlan, exposed_us: tuple[int, int]) -> ReachWanted | None:
    """What is to be added up; None for a plan without a North Star, or with one that is no function of totals."""
    found = layout(list(company_specs(plan).values()))
    if not found.columns or plan.purpose == "aa":
        return None
    columns = tuple(column for column in found.columns if column.content != "responded")
    return ReachWanted(columns, max(0, (exposed_us[1] - exposed_us[0]) // WEEK_US))


def reach_sums(work: Pass, wanted: ReachWanted, *, triggered: bool) -> ReachSums:
    """The sums over the units that are in the table `UNITS`, and over everybody. Raises `SourceUnreadable`."""

    def read(spec: FactSourceSpec, columns: Sequence[Column]) -> Rows | None:
        return _read(work, spec, columns, wanted.weeks, triggered=triggered)

    return sums_of(work, wanted, read)


def sums_of(work: Pass, wanted: ReachWanted, read: Read) -> ReachSums:
    """The sums over everybody, and over the units of each arm since their exposure.

    A unit counts in a week if it has any fact then in the source of the last column (a ratio's denominator).
    """
    arms, width = len(work.variants), len(wanted.columns)
    company, exposed = np.zeros((BUCKETS, wanted.weeks, width)), np.zeros((BUCKETS, wanted.weeks, arms, width))
    company_units = np.zeros(company.shape[:-1], dtype=np.int64)
    exposed_units = np.zeros(exposed.shape[:-1], dtype=np.int64)
    bad = np.zeros(width, dtype=np.bool_)
    keys = [column.measure.fact_source if column.measure else "" for column in wanted.columns]
    for key in dict.fromkeys(keys) if wanted.weeks else ():
        places = [i for i, name in enumerate(keys) if name == key]
        columns = [wanted.columns[i] for i in places]
        rows = read(work.sources[key], columns)
        if rows is None:
            continue
        bucket, week, arm = (np.asarray(rows[name], dtype=np.int64) for name in ("bucket", "week", "arm"))
        inside = arm >= 0
        cell = bucket[inside], week[inside], arm[inside]
        for i, place in enumerate(places):
            np.add.at(company[..., place], (bucket, week), np.asarray(rows[f"t{i}"], dtype=np.float64))
            exposed[*cell, place] = np.asarray(rows[f"r{i}"], dtype=np.float64)[inside]
            bad[place] |= bool(np.asarray(rows[f"b{i}"], dtype=np.bool_).any())
        if key == keys[-1]:
            np.add.at(company_units, (bucket, week), np.asarray(rows["units"], dtype=np.int64))
            exposed_units[cell] = np.asarray(rows["reached"], dtype=np.int64)[inside]
    bad |= ~(np.isfinite(company).all(axis=(0, 1)) & np.isfinite(exposed).all(axis=(0, 1, 2)))
    return ReachSums(company, exposed, company_units, exposed_units, bad)


def _read(work: Pass, spec: FactSourceSpec, columns: Sequence[Column], weeks: int, *, triggered: bool) -> Rows | None:
    """One row per bucket, week and arm (-1: in none): totals of all their facts, and of those since their exposure."""
    parameters = Parameters()
    source = open_source(work.connection, spec, work.data, parameters)
    if source is None:
        return None
    begin, unit = work.exposed_us[0], f"CAST({identifier(source.unit)} AS VARCHAR)"
    where = (
        f"WHERE {identifier(source.unit)} IS NOT NULL AND {source.time_test('>=', parameters.add(begin))}"
        f" AND {source.time_test('<', parameters.add(begin + weeks * WEEK_US))}"
    )
    since = f"{source.time_us} >= {_SINCE}"
    in_arm = f"arm = last_arm AND arm < {len(work.variants)}" + (f" AND {CLUSTER} IS NOT NULL" * work.clustered)
    units = (
        f"SELECT unit_id AS {_UNIT}, CASE WHEN {in_arm} THEN arm::INTEGER ELSE -1 END AS {_ARM},"
        f" {'triggered_us' if triggered else 'at_us'} AS {_SINCE} FROM {UNITS}"
    )
    try:
        scales = scales_of(work.connection, source, columns, f"FROM {source.relation} {where}", parameters)
        per_one = [parameters.add(1.0 if c.content == "indicator" else scales[i]) for i, c in enumerate(columns)]
        inner = ", ".join(
            f"{unit_value(source, c, scales[i], parameters)} AS t{i},"
            f" {unit_value(source, c, scales[i], parameters, among=since)} AS r{i},"
            f" {any_not_finite(source, c, parameters)} OR {any_off_scale(source, c, parameters)} AS b{i}"
            for i, c in enumerate(columns)
        )
        outer = ", ".join(
            f"{total_over_units(c, f't{i}')} / {per_one[i]} AS t{i},"
            f" {total_over_units(c, f'r{i}')} / {per_one[i]} AS r{i}, bool_or(b{i}) AS b{i}"
            for i, c in enumerate(columns)
        )
        per_unit = (
            f"SELECT {unit} AS who, ({source.time_us} - {parameters.add(begin)}) // {WEEK_US} AS week,"
            f" coalesce(any_value({_ARM}), -1) AS arm, coalesce(bool_or({since}), FALSE) AS seen, {inner}"
            f" FROM {source.relation} LEFT JOIN ({units}) ON {unit} = {_UNIT} {where} GROUP BY 1, 2"
        )
        sql = (
            f"SELECT hash(who) % {BUCKETS} AS bucket, week, arm, count(*) AS units,"
            f" count(CASE WHEN seen THEN 1 END) AS reached, {outer} FROM ({per_unit}) GROUP BY 1, 2, 3"
            " ORDER BY 1, 2, 3"  # arms are added up in this order
        )
        return work.connection.sql(sql, params=parameters.values).fetchnumpy()
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
