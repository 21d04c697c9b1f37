"""Triggered analysis: a unit counts from its first trigger fact after it was assigned (METHODS A12, E5)."""

import duckdb

from experiments.definitions import FactSourceSpec, Trigger
from warehouse.data_slice import DataSlice
from warehouse.engine import Parameters, identifier
from warehouse.sources import open_source, predicate, unreadable
from warehouse.units import UNITS

_ASSIGNED = "assigned_units"


def keep_triggered(
    connection: duckdb.DuckDBPyConnection,
    spec: FactSourceSpec,
    trigger: Trigger,
    data: DataSlice,
    exposed_us: tuple[int, int],
) -> None:
    """Leave only the triggered units in the table `UNITS`, with the time of their first trigger as `triggered_us`.

    A trigger counts from the unit's assignment (the table's `at_us`) up to, not including, the end of exposure.
    Raises `SourceUnreadable`.
    """
    parameters = Parameters()
    source = open_source(connection, spec, data, parameters)
    first = "SELECT NULL::BIGINT AS row_of, NULL::BIGINT AS triggered_us WHERE FALSE"
    if source is not None:
        unit = identifier(source.unit)
        passing = "".join(f" AND {predicate(source, item, parameters)}" for item in trigger.filters)
        facts = (
            f"SELECT CAST({unit} AS VARCHAR) AS unit_id, {source.time_us} AS at_us FROM {source.relation}"
            f" WHERE {unit} IS NOT NULL AND {source.time_test('>=', parameters.add(exposed_us[0]))}"
            f" AND {source.time_test('<', parameters.add(exposed_us[1]))}{passing}"
        )
        first = (
            f"SELECT u.rowid AS row_of, min(f.at_us) AS triggered_us FROM ({facts}) f"
            f" JOIN {_ASSIGNED} u ON f.unit_id = u.unit_id AND f.at_us >= u.at_us GROUP BY u.rowid"
        )
    connection.execute(f"ALTER TABLE {UNITS} RENAME TO {_ASSIGNED}")
    try:
        connection.execute(
            f"CREATE TEMP TABLE {UNITS} AS SELECT a.*, t.triggered_us FROM {_ASSIGNED} a"
            f" JOIN ({first}) t ON a.rowid = t.row_of",
            parameters.values,
        )
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    finally:
        connection.execute(f"DROP TABLE {_ASSIGNED}")
