"""Totals of facts by period, and by segment where the facts have one: every unit counts, and windows do not apply."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import duckdb
import numpy as np

from experiments.columns import Column
from experiments.definitions import FactSourceSpec
from experiments.errors import SourceUnreadable
from stats.moments import Bools, Floats
from warehouse.data_slice import DataSlice
from warehouse.engine import Parameters, connect, days_us, epoch_us, identifier
from warehouse.exact_totals import adds_up, any_not_finite, any_off_scale, scales_of, total_over_units, unit_value
from warehouse.ids import plain_text
from warehouse.sources import FactRelation, open_source, unreadable
from warehouse.unit_mapping import with_mappings

MAX_SEGMENTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Periods:
    """`count` periods of `length`, the first of which starts at `first`; facts at or after `until` do not count."""

    first: datetime
    length: timedelta
    count: int
    until: datetime

    @property
    def starts(self) -> tuple[datetime, ...]:
        """When each begins."""
        return tuple(self.first + self.length * i for i in range(self.count))


@dataclass(frozen=True, slots=True, eq=False)
class PeriodTotals:
    """`totals` (segments, periods, columns) of one source, 0 where a segment had no fact in a period.

    An indicator's total is how many units had a value above 0 in the period, any other column's the sum over units of
    the period's aggregate. `not_finite` and `off_scale`, of the same shape, mark totals that facts are in which are no
    numbers, or no answers on their scale.
    """

    segments: tuple[str, ...]
    totals: Floats
    not_finite: Bools
    off_scale: Bools


@dataclass(frozen=True, slots=True)
class Beginnings:
    """When the first fact of each segment happened, in microseconds; `unplaced` facts name no segment."""

    by_segment: Mapping[str, int]
    unplaced: int

    @property
    def earliest(self) -> int | None:
        """The source's first fact in a segment; None without any."""
        return min(self.by_segment.values(), default=None)


class Totals(Protocol):
    """Where facts are added up, by the keys of their sources. Raises `SourceUnreadable`."""

    def period_totals(
        self, key: str, columns: Sequence[Column], periods: Periods, *, dimension: str = "", buckets: int = 0
    ) -> PeriodTotals:
        """The totals of a source's columns, as `period_totals` has them."""
        ...

    def beginnings(self, key: str, *, dimension: str = "") -> Beginnings:
        """When a source's segments began."""
        ...


@dataclass(frozen=True, slots=True)
class StoredTotals:
    """Facts that were sent, files, and tables of DuckDB databases; `by_md5`: the hash that other engines have too."""

    connection: duckdb.DuckDBPyConnection
    sources: Mapping[str, FactSourceSpec]
    data: DataSlice
    by_md5: bool = False

    @classmethod
    @contextmanager
    def open(
        cls,
        sources: Sequence[FactSourceSpec],
        data: DataSlice,
        *,
        threads: int = 2,
        memory_limit: str | None = None,
        by_md5: bool = False,
    ) -> Iterator["StoredTotals"]:
        """On a connection of their own. Raises `SourceUnreadable`."""
        with connect(threads=threads, memory_limit=memory_limit) as connection:
            known = {source.key: source for source in sources}
            yield cls(connection, known, with_mappings(connection, sources, data), by_md5)

    def period_totals(
        self, key: str, columns: Sequence[Column], periods: Periods, *, dimension: str = "", buckets: int = 0
    ) -> PeriodTotals:
        return period_totals(
            self.connection,
            self.sources[key],
            columns,
            self.data,
            periods,
            dimension=dimension,
            buckets=buckets,
            by_md5=self.by_md5,
        )

    def beginnings(self, key: str, *, dimension: str = "") -> Beginnings:
        return beginnings(self.connection, self.sources[key], self.data, dimension=dimension)


def period_totals(
    connection: duckdb.DuckDBPyConnection,
    spec: FactSourceSpec,
    columns: Sequence[Column],
    data: DataSlice,
    periods: Periods,
    *,
    dimension: str = "",
    buckets: int = 0,
    by_md5: bool = False,
) -> PeriodTotals:
    """The totals of a source's columns. `dimension` is the facts' property that names their segment; facts without it

    count in none. Without a dimension the one segment is the empty text; with `buckets` the segments are so many parts
    of the units by hash, `0`, `1` … as text. Raises `SourceUnreadable`.
    """
    parameters = Parameters()
    source = open_source(connection, spec, data, parameters)
    if source is None:
        return totals_of({}, columns, periods)
    start, unit = epoch_us(periods.first), identifier(source.unit)
    text = f"CAST({unit} AS VARCHAR)"
    hashed = f"CAST('0x' || substr(md5({text}), 1, 8) AS BIGINT)" if by_md5 else f"hash({text})"
    segment = f"CAST({hashed} % {buckets} AS VARCHAR)" if buckets else _segment(source, dimension)
    facts = (
        f"FROM {source.relation} WHERE {unit} IS NOT NULL AND {source.time_test('>=', parameters.add(start))}"
        f" AND {source.time_test('<', parameters.add(epoch_us(periods.until)))} AND {segment} IS NOT NULL"
    )
    try:
        scales = scales_of(connection, source, columns, facts, parameters)
        inner = ", ".join(
            f"{unit_value(source, c, scales[i], parameters)} AS c{i}, {any_not_finite(source, c, parameters)} AS b{i},"
            f" {any_off_scale(source, c, parameters)} AS o{i}"
            for i, c in enumerate(columns)
        )
        per_one = [parameters.add(1.0 if c.content == "indicator" else scales[i]) for i, c in enumerate(columns)]
        outer = ", ".join(
            f"{total_over_units(c, f'c{i}')} / {per_one[i]} AS t{i}, bool_or(b{i}) AS b{i}, bool_or(o{i}) AS o{i}"
            for i, c in enumerate(columns)
        )
        period = f"({source.time_us} - {start}) // {days_us(periods.length / timedelta(days=1))}"
        whose = "0" if all(map(adds_up, columns)) else unit
        per_unit = (
            f"SELECT {segment} AS segment, {period} AS period, {whose} AS unit_id, {inner} {facts} GROUP BY 1, 2, 3"
        )
        sql = f"SELECT segment, period, {outer} FROM ({per_unit}) GROUP BY segment, period"
        table = connection.sql(sql, params=parameters.values).fetchnumpy()
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    return totals_of(table, columns, periods)


def beginnings(
    connection: duckdb.DuckDBPyConnection, spec: FactSourceSpec, data: DataSlice, *, dimension: str = ""
) -> Beginnings:
    """When a source's segments began. Raises `SourceUnreadable`, also for more than `MAX_SEGMENTS` of them."""
    parameters = Parameters()
    source = open_source(connection, spec, data, parameters)
    if source is None:
        return Beginnings({}, 0)
    sql = (
        f"SELECT {_segment(source, dimension)} AS segment, min({source.time_us}), count(*) FROM {source.relation}"
        f" WHERE {identifier(source.unit)} IS NOT NULL"
        f" AND {source.time_test('<', parameters.add(epoch_us(data.data_as_of)))}"
        f" GROUP BY 1 ORDER BY 1 NULLS FIRST LIMIT {MAX_SEGMENTS + 2}"
    )
    try:
        rows = connection.execute(sql, parameters.values).fetchall()
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    return beginnings_of(rows, spec.key, dimension)


def beginnings_of(rows: Iterable[tuple[str | None, int, int]], key: str, dimension: str) -> Beginnings:
    """From (segment, its first fact, its facts), at most two more than `MAX_SEGMENTS` of them."""
    known = list(rows)
    found = {str(segment): int(first) for segment, first, _ in known if segment is not None}
    if len(found) > MAX_SEGMENTS:
        raise SourceUnreadable(
            f"fact source {key!r}: {dimension!r} has more than {MAX_SEGMENTS} different values",
            remedy="make the series by a property with few values, such as a country or a plan",
            column=dimension,
        )
    return Beginnings(found, sum(int(count) for segment, _, count in known if segment is None))


def totals_of(
    table: Mapping[str, np.ndarray[tuple[int], np.dtype[np.generic]]], columns: Sequence[Column], periods: Periods
) -> PeriodTotals:
    """The engine's rows in the shape of `PeriodTotals`."""
    names = [str(name) for name in table["segment"]] if table else []
    segments = tuple(sorted(set(names)))
    place = {name: i for i, name in enumerate(segments)}
    shape = (len(segments), periods.count, len(columns))
    totals: Floats = np.zeros(shape)
    not_finite: Bools = np.zeros(shape, dtype=np.bool_)
    off_scale: Bools = np.zeros(shape, dtype=np.bool_)
    if names:
        where = np.array([place[name] for name in names]), np.asarray(table["period"])
        for i in range(len(columns)):
            total = np.asarray(table[f"t{i}"], dtype=np.float64)
            totals[*where, i] = total
            not_finite[*where, i] = np.asarray(table[f"b{i}"], dtype=np.bool_) | ~np.isfinite(total)
            off_scale[*where, i] = np.asarray(table[f"o{i}"], dtype=np.bool_)
    return PeriodTotals(segments, totals, not_finite, off_scale)


def _segment(source: FactRelation, dimension: str) -> str:
    """A fact's segment as text, null where it has none; a number that shares its column with text is read as text."""
    if not dimension:
        return "''"
    return f"nullif({plain_text(source.column(dimension))}, '')"
