"""What other experiments gave the units of this one (METHODS A16)."""

import duckdb
import numpy as np
from numpy.typing import NDArray

from stats.moments import Ints
from warehouse import exposures
from warehouse.data_slice import DataSlice
from warehouse.engine import Parameters, epoch_us
from warehouse.units import UNITS, Units

FEWEST_COMMON_UNITS = 200
"""An interaction between experiments with fewer common units could not be seen."""


def variants_elsewhere(connection: duckdb.DuckDBPyConnection, data: DataSlice, units: Units) -> Ints:
    """(others, n) position of each unit's arm in each of the slice's concurrent experiments.

    -1 where a unit is not in it, was seen in two of its variants, or in one that it no longer has.
    """
    if units.elsewhere is not None:
        return units.elsewhere
    found: Ints = arms_elsewhere(connection, data, len(units))[:, units.rowid].astype(np.int64)
    return found


def arms_elsewhere(connection: duckdb.DuckDBPyConnection, data: DataSlice, size: int) -> NDArray[np.int16]:
    """(others, size) what `variants_elsewhere` says of each row of the table `UNITS`."""
    return arms_of(connection, data, size, f"{UNITS} u ON shown.unit_id = u.unit_id", "u.rowid")


def arms_of(
    connection: duckdb.DuckDBPyConnection, data: DataSlice, size: int, units: str, row: str
) -> NDArray[np.int16]:
    """(others, size) what `variants_elsewhere` says of units by their row.

    `units` (SQL) joins a relation of them to the exposures `shown`, and `row` is its column with the row of each.
    """
    others = data.concurrent
    found = np.full((len(others), size), -1, dtype=np.int16)
    if not others or not size:
        return found
    parameters = Parameters()
    selects = []
    for i, other in enumerate(others):
        rows = exposures.relation(other, parameters, data.recorded_before_us)
        if rows is None:
            continue
        arm = " ".join(f"WHEN {parameters.add(key)} THEN {j}" for j, key in enumerate(other.variants))
        selects.append(
            f"SELECT {i} AS other, unit_id, CASE variant_key {arm} ELSE {len(other.variants)} END AS arm FROM {rows}"
            f" WHERE exposed_at >= make_timestamptz({parameters.add(epoch_us(other.started_at))})"
            f" AND exposed_at < make_timestamptz({parameters.add(epoch_us(other.ended_at))})"
        )
    if not selects:
        return found
    table = connection.sql(
        f"SELECT shown.other, {row} AS r, min(shown.arm) AS arm, max(shown.arm) AS last_arm"
        f" FROM ({' UNION ALL '.join(selects)}) shown JOIN {units} GROUP BY shown.other, {row}",
        params=parameters.values,
    ).fetchnumpy()
    which, at, place, last_place = (
        np.asarray(table[name], dtype=np.int64) for name in ("other", "r", "arm", "last_arm")
    )
    clean = (place == last_place) & (place < np.array([len(other.variants) for other in others])[which])
    found[which[clean], at[clean]] = place[clean]
    return found
