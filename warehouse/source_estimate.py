"""What an engine says that reading a source of a plan takes: an estimate of its own, for which it reads no rows."""

from collections.abc import Collection
from datetime import datetime

from experiments.definitions import FactSourceSpec
from warehouse.compile.relations import in_period, passing, rows_of
from warehouse.compile.words import Words, select, stored
from warehouse.data_slice import DataSlice
from warehouse.engine import epoch_us
from warehouse.engines.contract import Engine, Estimate


def estimate_source(
    engine: Engine, spec: FactSourceSpec, data: DataSlice, columns: Collection[str], period: tuple[datetime, datetime]
) -> Estimate:
    """The rows of `period` that pass the source's filters, with unit, time and `columns`. Raises `SourceUnreadable`."""
    rows = rows_of(engine, spec, data)
    if rows is None:
        return Estimate(0, 0, "nothing was ever sent")
    words = Words(engine.dialect)
    names = dict.fromkeys((rows.unit, rows.time, *(rows.physical(column) for column in sorted(columns))))
    conditions = in_period(words, rows, epoch_us(period[0]), epoch_us(period[1]))
    if spec.filters:
        conditions.append(passing(words, rows, spec.filters))
    return engine.estimate(select([stored(one) for one in names], rows.from_(), where=conditions))
