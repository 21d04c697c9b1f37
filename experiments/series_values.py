"""The values of pushed series, as they were known at a time (METHODS D).

Nothing is overwritten: a value that is sent again differently is another row with a later `known_at`, and null
withdraws. What was sent before its period had ended is about a part of the period: analyses take it only once it was
sent again, changed or not, after the end.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from experiments.definitions import Grain
from experiments.series_table import PERIOD, SeriesTable, periods_between
from experiments.tables import Series, metadata
from stats.moments import Floats

_said: Final = metadata.tables["series_values"].c
_NUMBERS: Final = (_said.value, _said.n, _said.variance)
_CELL: Final = (_said.segment, _said.at)


class Cell(NamedTuple):
    """A period of a segment."""

    segment: str
    at: datetime


class Known(NamedTuple):
    """What was said of a cell; `value` is None where it was withdrawn. `complete`: said after the period had ended."""

    value: float | None
    n: int | None
    variance: float | None
    known_at: datetime
    complete: bool


@dataclass(frozen=True, slots=True)
class Restatement:
    """A number that took the place of another one."""

    cell: Cell
    now: Known
    before: Known


async def table_of(
    session: AsyncSession, *, series: Series, known_at: datetime, since: datetime | None = None
) -> SeriesTable:
    """The series as known at a time: from the first period with a value, at or after `since`, to the last.

    Periods that had not ended by `known_at` are left out, and so are values that were sent before the end of their
    period. A segment without any value is left out.
    """
    grain = _grain_of(series)
    complete = [_is_complete(grain), _said.known_at <= known_at, *([_said.at >= since] if since is not None else [])]
    told = sa.func.count().over(partition_by=_CELL).label("told")
    newest = _ranked(series, *complete, also=told)
    columns = [newest.c[name] for name in ("segment", "at", "value", "n", "variance", "told")]
    statement = sa.select(*columns).where(newest.c.rank == 1, newest.c.value.is_not(None))
    rows = (await session.execute(statement)).all()
    if not rows:
        return SeriesTable.empty()
    of_segment, of_time, value, n, variance, times_told = zip(*rows, strict=True)
    segments = {segment: i for i, segment in enumerate(sorted(set(of_segment)))}
    periods = periods_between(min(of_time), max(of_time), grain)
    place = {at: i for i, at in enumerate(periods)}
    where = np.array([segments[name] for name in of_segment]), np.array([place[at] for at in of_time])

    def table(numbers: Sequence[float | None]) -> Floats:
        filled: Floats = np.full((len(segments), len(periods)), np.nan)
        filled[where] = np.array(numbers, dtype=np.float64)
        return filled

    restated = sum(count > 1 for count in times_told)
    return SeriesTable(tuple(segments), periods, table(value), table(n), table(variance), restated)


async def values_as_of(
    session: AsyncSession,
    *,
    series: Series,
    known_at: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    segment: str | None = None,
    after: Cell | None = None,
    limit: int = 1000,
) -> Sequence[tuple[Cell, Known]]:
    """Cells with a value as known at a time, `since` <= at < `until`: the newest period first, then by segment.

    At most `limit`, beginning behind the cell `after`. Values of a period that had not ended are among them.
    """
    wanted: list[sa.ColumnElement[bool]] = [_said.known_at <= known_at]
    wanted += [_said.at >= since] if since is not None else []
    wanted += [_said.at < until] if until is not None else []
    wanted += [_said.segment == segment] if segment is not None else []
    if after is not None:
        wanted.append(sa.or_(_said.at < after.at, sa.and_(_said.at == after.at, _said.segment > after.segment)))
    newest = _ranked(series, *wanted)
    statement = sa.select(newest).where(newest.c.rank == 1, newest.c.value.is_not(None))
    statement = statement.order_by(newest.c.at.desc(), newest.c.segment).limit(limit)
    return [(Cell(row.segment, row.at), _known(row)) for row in await session.execute(statement)]


async def last_said(session: AsyncSession, *, series: Series, cells: Collection[Cell]) -> dict[Cell, Known]:
    """What was said last of these cells, withdrawals included; a cell of which nothing was said is not in it."""
    if not cells:
        return {}
    times = [cell.at for cell in cells]
    newest = _ranked(series, _said.at.between(min(times), max(times)))
    rows = await session.execute(sa.select(newest).where(newest.c.rank == 1))
    found = {Cell(row.segment, row.at): _known(row) for row in rows}
    return {cell: found[cell] for cell in cells if cell in found}


async def last_known_at(session: AsyncSession, *, series: Series) -> datetime | None:
    """When the newest value became known."""
    statement = sa.select(sa.func.max(_said.known_at, type_=_said.known_at.type)).where(_said.series_id == series.id)
    found: datetime | None = await session.scalar(statement)
    return found


async def restatements(
    session: AsyncSession,
    *,
    series: Series,
    segment: str | None = None,
    at: datetime | None = None,
    limit: int = 50,
) -> Sequence[Restatement]:
    """The newest `limit` numbers that took the place of others, in a segment and a period or in all."""
    wanted = [_said.segment == segment] if segment is not None else []
    wanted += [_said.at == at] if at is not None else []
    rows = _with_earlier(series, *wanted)
    statement = sa.select(rows).where(rows.c.earlier_known_at.is_not(None), _differs(rows))
    statement = statement.order_by(rows.c.known_at.desc(), rows.c.at.desc(), rows.c.segment).limit(limit)
    return [
        Restatement(Cell(row.segment, row.at), _known(row), _known(row, "earlier_"))
        for row in await session.execute(statement)
    ]


async def changes_of(session: AsyncSession, *, series: Series, batch_id: uuid.UUID) -> tuple[int, int]:
    """How many cells a batch gave their first number, and how many another one."""
    rows = _with_earlier(series)
    new = sa.func.count().filter(rows.c.earlier_known_at.is_(None))
    restated = sa.func.count().filter(rows.c.earlier_known_at.is_not(None), _differs(rows))
    counts = (await session.execute(sa.select(new, restated).where(rows.c.batch_id == batch_id))).one()
    return counts[0], counts[1]


def _with_earlier(series: Series, *wanted: sa.ColumnElement[bool]) -> sa.Subquery:
    """Rows of values, each with what was said of its cell before, as columns named `earlier_…`."""
    said = (*_NUMBERS, _said.known_at, _is_complete(_grain_of(series)))
    earlier = [
        sa.func.lag(column, type_=column.type)
        .over(partition_by=_CELL, order_by=_said.known_at)
        .label(f"earlier_{column.key}")
        for column in said
    ]
    rows = sa.select(*_CELL, *said, _said.batch_id, *earlier)
    return rows.where(_said.series_id == series.id, *wanted).subquery()


def _differs(rows: sa.Subquery) -> sa.ColumnElement[bool]:
    """Whether a row of `_with_earlier` says another number than the one before it."""
    return sa.or_(*(rows.c[each.key].is_distinct_from(rows.c[f"earlier_{each.key}"]) for each in _NUMBERS))


def _ranked(series: Series, *wanted: sa.ColumnElement[bool], also: sa.Label[Any] | None = None) -> sa.Subquery:
    """Rows of values, with `rank` 1 for the newest of each cell."""
    rank = sa.func.row_number().over(partition_by=_CELL, order_by=_said.known_at.desc()).label("rank")
    more = [] if also is None else [also]
    rows = sa.select(*_CELL, *_NUMBERS, _said.known_at, _is_complete(_grain_of(series)), rank, *more)
    return rows.where(_said.series_id == series.id, *wanted).subquery()


def _is_complete(grain: Grain) -> sa.Label[bool]:
    """Whether a value was said after its period had ended; in seconds, because both databases can add those."""
    ended = sa.extract("epoch", _said.at) + PERIOD[grain].total_seconds()
    return (sa.extract("epoch", _said.known_at) >= ended).label("complete")


def _known(row: Any, prefix: str = "") -> Known:
    return Known(*(getattr(row, prefix + name) for name in Known._fields))


def _grain_of(series: Series) -> Grain:
    grain: Grain = series.spec["grain"]
    return grain
