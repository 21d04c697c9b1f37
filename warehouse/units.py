"""Who is analysed: one row per unit with its first exposure, in a table of the engine and as arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np
from numpy.typing import NDArray

from stats.moments import Ints
from warehouse import exposures
from warehouse.data_slice import DataSlice
from warehouse.engine import Parameters, epoch_us, identifier

UNITS = "units"
"""The table: unit_id, at_us (microseconds of first exposure); its rowids run from 0 without gaps."""

CLUSTER = "cluster"
_LEVELS_DIFFER = "levels_differ"
_CROSSED = 255
"""The last arm of units that were not in two arms themselves but whose cluster was."""

MAX_LEVELS = 50
"""More levels of a segment than this are not a breakdown; the rarest share one level."""

NO_LEVEL = "(none)"
OTHER_LEVELS = "(other)"
SEGMENT_PREFIX = "segment_"


def segment_column(name: str) -> str:
    """The stored column of a segment dimension. The engine ignores case in names: they are kept in lower case."""
    return SEGMENT_PREFIX + name.lower()


@dataclass(frozen=True, slots=True)
class Bucket:
    """The units whose hash leaves `index` when divided by `of`: buckets hold disjoint units, so their moments merge."""

    index: int = 0
    of: int = 1

    @property
    def condition(self) -> str:
        return "TRUE" if self.of == 1 else f"hash(unit_id) % {self.of} = {self.index}"

    @property
    def of_clusters(self) -> str:
        """The condition that keeps the units of a cluster together."""
        return "TRUE" if self.of == 1 else f"hash({CLUSTER}) % {self.of} = {self.index}"


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """n units: `at_us` (n,) when windows begin, `variant` (n,) position of the arm or -1 where it is not analysed.

    `assigned_us` (n,) first exposure, at which pre-periods end: it is `at_us`, except where a trigger comes later.
    `unit_hash` (n,) orders units reproducibly; `segment` (dimensions, n) is the position of the level; `rowid` (n,)
    the row in the table. `cluster` (n,) is a hash of the cluster. `assigned` and `without_cluster` count units (arms,)
    that are not among the n: those assigned, of which only the triggered are here, and those without a cluster. Of
    units that come in buckets `bucket` says which one they are, and `elsewhere` (others, n) is what
    `warehouse.other_experiments` knows of them.
    """

    at_us: Ints
    variant: Ints
    unit_hash: NDArray[np.uint64]
    segment: Ints
    rowid: Ints
    crossover: int
    assigned_us: Ints
    cluster: NDArray[np.uint64] | None = None
    assigned: Ints | None = None
    without_cluster: Ints | None = None
    bucket: int = 0
    elsewhere: Ints | None = None

    def __len__(self) -> int:
        return len(self.at_us)

    @property
    def position(self) -> Ints:
        """(n,) the place of every rowid of the table."""
        place = np.empty(len(self.rowid), dtype=np.int64)
        place[self.rowid] = np.arange(len(self.rowid))
        return place

    def take(self, order: NDArray[np.int64]) -> "Units":
        """The same units in another order."""
        return replace(
            self,
            at_us=self.at_us[order],
            variant=self.variant[order],
            unit_hash=self.unit_hash[order],
            segment=self.segment[:, order],
            rowid=self.rowid[order],
            assigned_us=self.assigned_us[order],
            cluster=None if self.cluster is None else self.cluster[order],
            elsewhere=None if self.elsewhere is None else self.elsewhere[:, order],
        )


def exposed_units(
    connection: duckdb.DuckDBPyConnection,
    data: DataSlice,
    variants: Sequence[str],
    segments: Sequence[tuple[str, Sequence[str]]],
    bucket: Bucket,
    *,
    cluster: str | None = None,
    trigger: Callable[[], None] | None = None,
) -> Units:
    """First exposure per unit of the bucket, from the recorded files; creates the table `UNITS`.

    A unit seen in more than one variant during the experiment is `crossover`: counted, in no arm. An arm that is no
    longer in the plan counts as another arm. `segments` are (dimension, levels), a unit's level being that of its first
    exposure (the smallest one when rows of that very moment disagree), and so is its cluster, if a dimension `cluster`
    names it. The units of a cluster that was seen in more than one variant are crossover too, those without a cluster
    in no arm. `trigger` drops from the table whoever was not triggered (`triggers.keep_triggered`).
    """
    assigned = create_units(connection, data, variants, segments, bucket, cluster=cluster, trigger=trigger)
    parameters = Parameters()
    columns = selected_columns(segments, parameters, clustered=cluster is not None, triggered=trigger is not None)
    table = connection.sql(f"SELECT {', '.join(columns)} FROM {UNITS}", params=parameters.values).fetchnumpy()
    return as_units(table, len(variants), len(segments), assigned)


def create_units(
    connection: duckdb.DuckDBPyConnection,
    data: DataSlice,
    variants: Sequence[str],
    segments: Sequence[tuple[str, Sequence[str]]],
    bucket: Bucket,
    *,
    cluster: str | None,
    trigger: Callable[[], None] | None,
) -> Ints | None:
    """The table `UNITS` (see `exposed_units`). Returns `Units.assigned`."""
    connection.execute(f"DROP TABLE IF EXISTS {UNITS}")
    parameters = Parameters()
    rows = _rows_with_arm(connection, data, parameters, variants, [name for name, _ in segments], cluster)
    first = "".join(f", min({_column(i)}) AS {_column(i)}" for i in range(len(segments)))
    differ = " OR ".join(f"min({_column(i)}) <> max({_column(i)})" for i in range(len(segments))) or "FALSE"
    first += f", {differ} AS {_LEVELS_DIFFER}"
    grouped = f"SELECT unit_id, min(at_us) AS at_us, min(arm) AS arm, max(arm) AS last_arm{first}"
    if cluster is None:
        chosen = f"{grouped} FROM ({rows}) WHERE {bucket.condition} GROUP BY unit_id"
    else:
        # A struct orders by time, then by name with the nulls last. Buckets hold whole clusters.
        of_first = f"min(struct_pack(t := at_us, c := {CLUSTER})).c AS {CLUSTER}"
        chosen = f"SELECT * FROM ({grouped}, {of_first} FROM ({rows}) GROUP BY unit_id) WHERE {bucket.of_clusters}"
    connection.execute(f"CREATE TEMP TABLE {UNITS} AS {chosen}", parameters.values)
    if segments:
        _levels_of_first_exposure(connection, data, segments)
    if cluster is not None:
        _cross_units_of_crossed_clusters(connection, data, variants, cluster)
    assigned = None if trigger is None else _count_by_arm(connection, len(variants), cluster)
    if trigger is not None:
        trigger()
    return assigned


def selected_columns(
    segments: Sequence[tuple[str, Sequence[str]]], parameters: Parameters, *, clustered: bool, triggered: bool
) -> dict[str, str]:
    """What `as_units` needs of the table: SQL expression with its name, to the type of its numbers; none is null."""
    columns = {"at_us": "i8", "arm": "u1", "last_arm": "u1", "hash(unit_id) AS h": "u8", "rowid AS r": "i8"}
    for i, (_, levels) in enumerate(segments):
        columns[f"{_level_code(_column(i), levels, parameters)} AS {_column(i)}"] = "i2"
    if clustered:
        columns |= {f"hash({CLUSTER}) AS c": "u8", f"({CLUSTER} IS NULL)::UTINYINT AS alone": "u1"}
    if triggered:
        columns["triggered_us"] = "i8"
    return columns


def as_units(table: Mapping[str, NDArray[np.generic]], arms: int, segments: int, assigned: Ints | None) -> Units:
    """The rows of the table as arrays; `assigned` is there if there is a trigger."""
    first, last = np.asarray(table["arm"], dtype=np.int64), np.asarray(table["last_arm"], dtype=np.int64)
    crossed = first != last
    variant = np.where(crossed | (first == arms), -1, first)
    without_cluster = None
    if "alone" in table:
        alone = np.asarray(table["alone"], dtype=np.bool_)
        without_cluster = np.bincount(variant[alone & (variant >= 0)], minlength=arms)
        variant = np.where(alone, -1, variant)
    assigned_us = np.asarray(table["at_us"], dtype=np.int64)
    return Units(
        at_us=assigned_us if assigned is None else np.asarray(table["triggered_us"], dtype=np.int64),
        variant=variant,
        unit_hash=np.asarray(table["h"], dtype=np.uint64),
        segment=np.array([np.asarray(table[_column(i)], dtype=np.int64) for i in range(segments)]).reshape(
            segments, len(first)
        ),
        rowid=np.asarray(table["r"], dtype=np.int64),
        crossover=int(crossed.sum()),
        assigned_us=assigned_us,
        cluster=np.asarray(table["c"], dtype=np.uint64) if "c" in table else None,
        assigned=assigned,
        without_cluster=without_cluster,
    )


def _count_by_arm(connection: duckdb.DuckDBPyConnection, arms: int, cluster: str | None) -> Ints:
    """(arms,) units of the table that are in one arm (and in a cluster)."""
    of_cluster = "" if cluster is None else f" AND {CLUSTER} IS NOT NULL"
    rows = connection.execute(
        f"SELECT arm, count(*) FROM {UNITS} WHERE arm = last_arm AND arm < {arms}{of_cluster} GROUP BY arm"
    ).fetchall()
    counts = np.zeros(arms, dtype=np.int64)
    for arm, n in rows:
        counts[arm] = n
    return counts


def _cross_units_of_crossed_clusters(
    connection: duckdb.DuckDBPyConnection, data: DataSlice, variants: Sequence[str], cluster: str
) -> None:
    """Mark the units whose cluster has exposures in two arms."""
    parameters = Parameters()
    rows = _rows_with_arm(connection, data, parameters, variants, (), cluster)
    connection.execute(
        f"UPDATE {UNITS} SET last_arm = {_CROSSED} WHERE {CLUSTER} IN (SELECT {CLUSTER} FROM ({rows})"
        f" WHERE {CLUSTER} IS NOT NULL GROUP BY {CLUSTER} HAVING min(arm) <> max(arm))",
        parameters.values,
    )


def segment_levels(
    connection: duckdb.DuckDBPyConnection, data: DataSlice, dimensions: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """The levels of each dimension that exposures carry, most frequent first; a dimension nobody sent is left out."""
    found = []
    present = _columns(connection, data)
    for name in dimensions:
        if segment_column(name) not in present:
            continue
        parameters = Parameters()
        rows = _exposure_rows(data, parameters, [name])
        levels = connection.execute(
            f"SELECT {_column(0)} AS level, count(*) AS n FROM ({rows}) GROUP BY level ORDER BY n DESC, level"
            f" LIMIT {MAX_LEVELS + 1}",
            parameters.values,
        ).fetchall()
        kept = [str(level) for level, _ in levels]
        if kept:
            found.append((name, [*kept[: MAX_LEVELS - 1], OTHER_LEVELS] if len(kept) > MAX_LEVELS else kept))
    return found


def count_level_combinations(
    connection: duckdb.DuckDBPyConnection, data: DataSlice, dimensions: Sequence[tuple[str, Sequence[str]]]
) -> list[tuple[int, ...]]:
    """The combinations of positions of levels that exposures carry, most frequent first."""
    parameters = Parameters()
    rows = _exposure_rows(data, parameters, [name for name, _ in dimensions])
    codes = ", ".join(_level_code(_column(i), levels, parameters) for i, (_, levels) in enumerate(dimensions))
    counted = connection.execute(f"SELECT {codes}, count(*) FROM ({rows}) GROUP BY ALL", parameters.values).fetchall()
    return [tuple(combination) for *combination, _ in sorted(counted, key=lambda row: (-row[-1], *row[:-1]))]


def count_exposures(connection: duckdb.DuckDBPyConnection, data: DataSlice) -> int:
    """Rows of exposures, an upper bound of the number of units, from the files' footers alone."""
    parameters = Parameters()
    rows = exposures.relation(data, parameters, None)
    if rows is None:
        return 0
    row = connection.execute(f"SELECT count(*) FROM {rows}", parameters.values).fetchone()
    return int(row[0]) if row else 0


def _levels_of_first_exposure(
    connection: duckdb.DuckDBPyConnection, data: DataSlice, segments: Sequence[tuple[str, Sequence[str]]]
) -> None:
    """Correct the levels of units whose exposures disagree on them: those of the first moment count."""
    parameters = Parameters()
    ((any_differ,),) = connection.execute(f"SELECT coalesce(bool_or({_LEVELS_DIFFER}), FALSE) FROM {UNITS}").fetchall()
    if not any_differ:
        return
    rows = _exposure_rows(data, parameters, [name for name, _ in segments])
    chosen = ", ".join(f"min(r.{_column(i)}) AS {_column(i)}" for i in range(len(segments)))
    assign = ", ".join(f"{_column(i)} = c.{_column(i)}" for i in range(len(segments)))
    connection.execute(
        f"UPDATE {UNITS} AS u SET {assign} FROM (SELECT r.unit_id, {chosen} FROM ({rows}) r JOIN"
        f" (SELECT unit_id, at_us FROM {UNITS} WHERE {_LEVELS_DIFFER}) e"
        " ON r.unit_id = e.unit_id AND r.at_us = e.at_us GROUP BY r.unit_id) c WHERE u.unit_id = c.unit_id",
        parameters.values,
    )


def _rows_with_arm(
    connection: duckdb.DuckDBPyConnection,
    data: DataSlice,
    parameters: Parameters,
    variants: Sequence[str],
    segments: Sequence[str],
    cluster: str | None,
) -> str:
    """Exposures with the position of their variant as `arm` (one past the last for variants not in the plan)."""
    if cluster is not None and segment_column(cluster) not in _columns(connection, data):
        cluster = ""
    rows = _exposure_rows(data, parameters, segments, cluster)
    arm = " ".join(f"WHEN {parameters.add(key)} THEN {i}" for i, key in enumerate(variants))
    return f"SELECT *, CASE variant_key {arm} ELSE {len(variants)} END::UTINYINT AS arm FROM ({rows})"


def _exposure_rows(data: DataSlice, parameters: Parameters, segments: Sequence[str], cluster: str | None = None) -> str:
    """Exposures that count, with levels. `cluster` names a stored dimension; "" is one that nobody sent."""
    levels = "".join(
        f", coalesce(CAST({identifier(segment_column(name))} AS VARCHAR), {parameters.add(NO_LEVEL)}) AS {_column(i)}"
        for i, name in enumerate(segments)
    )
    if cluster is not None:
        named = f"CAST({identifier(segment_column(cluster))} AS VARCHAR)" if cluster else "NULL::VARCHAR"
        levels += f", {named} AS {CLUSTER}"
    stored = exposures.relation(data, parameters, data.recorded_before_us)
    if stored is None:
        nothing = "".join(f", NULL::VARCHAR AS {_column(i)}" for i in range(len(segments)))
        nothing += "" if cluster is None else f", NULL::VARCHAR AS {CLUSTER}"
        return (
            f"SELECT NULL::VARCHAR AS unit_id, NULL::BIGINT AS at_us, NULL::VARCHAR AS variant_key{nothing} WHERE FALSE"
        )
    end = data.data_as_of if data.ended_at is None else min(data.ended_at, data.data_as_of)
    bounds = [f"exposed_at < make_timestamptz({parameters.add(epoch_us(end))})"]
    if data.started_at is not None:
        bounds.append(f"exposed_at >= make_timestamptz({parameters.add(epoch_us(data.started_at))})")
    return (
        f"SELECT unit_id, epoch_us(exposed_at) AS at_us, variant_key{levels} FROM {stored} WHERE {' AND '.join(bounds)}"
    )


def _columns(connection: duckdb.DuckDBPyConnection, data: DataSlice) -> set[str]:
    parameters = Parameters()
    rows = exposures.relation(data, parameters, None)
    if rows is None:
        return set()
    described = connection.execute(f"DESCRIBE SELECT * FROM {rows}", parameters.values).fetchall()
    return {str(row[0]) for row in described}


def _column(index: int) -> str:
    return f"level_{index}"


def _level_code(column: str, levels: Sequence[str], parameters: Parameters) -> str:
    named = levels[:-1] if levels and levels[-1] == OTHER_LEVELS else levels
    cases = " ".join(f"WHEN {parameters.add(level)} THEN {i}" for i, level in enumerate(named))
    return f"CAST(CASE {column} {cases} ELSE {len(named)} END AS SMALLINT)" if named else "0::SMALLINT"
