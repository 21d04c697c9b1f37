"""Totals of facts that stay in a warehouse: engines add up, and only totals by period come back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from typing import Final

from experiments.columns import Column
from experiments.connection import Access
from experiments.definitions import FactSourceSpec, TableSource
from warehouse.compile import everybody
from warehouse.compile.everybody import Everybody, Span
from warehouse.compile.relations import rows_of
from warehouse.compile.words import Words
from warehouse.data_slice import DataSlice
from warehouse.engine import epoch_us
from warehouse.engines.contract import Engine
from warehouse.engines.opening import open_engine
from warehouse.period_totals import (
    MAX_SEGMENTS,
    Beginnings,
    Periods,
    PeriodTotals,
    StoredTotals,
    Totals,
    beginnings_of,
    totals_of,
)

_MICROSECOND: Final = timedelta(microseconds=1)


class RelationalTotals:
    """The facts of sources that are in one engine (`period_totals.Totals`)."""

    def __init__(self, engine: Engine, sources: Iterable[FactSourceSpec], data: DataSlice) -> None:
        """Raises `SourceUnreadable`, also for a source that is not there."""
        self._engine = engine
        known = {source.key: source for source in sources}
        rows = {key: rows_of(engine, spec, data) for key, spec in known.items()}
        self._facts = Everybody(Words(engine.dialect), rows, known, epoch_us(data.data_as_of))

    def period_totals(
        self, key: str, columns: Sequence[Column], periods: Periods, *, dimension: str = "", buckets: int = 0
    ) -> PeriodTotals:
        """As `period_totals.period_totals`, but for the hash of units, which is MD5. Raises `SourceUnreadable`."""
        length_us = periods.length // _MICROSECOND
        span = Span(epoch_us(periods.first), epoch_us(periods.until), length_us)
        asked = everybody.period_totals(self._facts, key, columns, span, dimension=dimension, buckets=buckets)
        if asked is None:
            return totals_of({}, columns, periods)
        found = self._engine.run(asked)
        table = {**found, "period": found["period"] // length_us}
        return totals_of(table, columns, periods)

    def beginnings(self, key: str, *, dimension: str = "") -> Beginnings:
        """As `period_totals.beginnings`. Raises `SourceUnreadable`."""
        asked = everybody.beginnings(self._facts, key, self._facts.as_of_us, dimension=dimension, most=MAX_SEGMENTS + 2)
        if asked is None:
            return Beginnings({}, 0)
        found = self._engine.run(asked)
        rows = zip(found["segment"].tolist(), found["first_us"].tolist(), found["n"].tolist(), strict=True)
        return beginnings_of(rows, key, dimension)


class TotalsByPlace:
    """Facts of several places: what was sent and files, and the tables of each connection (`period_totals.Totals`)."""

    def __init__(self, stored: Totals, connections: Mapping[str, Totals], sources: Iterable[FactSourceSpec]) -> None:
        self._of = {
            source.key: connections[source.connection] if isinstance(source, TableSource) else stored
            for source in sources
        }

    def period_totals(
        self, key: str, columns: Sequence[Column], periods: Periods, *, dimension: str = "", buckets: int = 0
    ) -> PeriodTotals:
        return self._of[key].period_totals(key, columns, periods, dimension=dimension, buckets=buckets)

    def beginnings(self, key: str, *, dimension: str = "") -> Beginnings:
        return self._of[key].beginnings(key, dimension=dimension)


@contextmanager
def totals_by_place(
    sources: Sequence[FactSourceSpec],
    data: DataSlice,
    access: Sequence[Access],
    *,
    threads: int = 2,
    memory_limit: str | None = None,
) -> Iterator[Totals]:
    """The facts of a plan wherever they are; `access` opens the connections of its tables.

    Units are hashed alike everywhere, so that their parts are the same ones. Raises `SourceUnreadable`.
    """
    here = [source for source in sources if not isinstance(source, TableSource)]
    with ExitStack() as stack:
        stored = stack.enter_context(
            StoredTotals.open(here, data, threads=threads, memory_limit=memory_limit, by_md5=True)
        )
        connections = {}
        for each in access:
            own = [s for s in sources if isinstance(s, TableSource) and s.connection == each.spec.key]
            engine = stack.enter_context(closing(open_engine(each)))
            connections[each.spec.key] = RelationalTotals(engine, own, data)
        yield TotalsByPlace(stored, connections, sources)
