"""A world as tables, and what every engine needs to hold them: files, tables of PostgreSQL, folders for Spark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from experiments.definitions import EventSource, ExposureSource, FileSource, MetricSpec, Role, TableSource
from experiments.plan import AnalysisPlan
from tests.warehouse.cases import START, plan_of
from warehouse.data_slice import DataSlice

type Place = Literal["file", "table"]
UNIT, TIME, SHOWN = "who is it", "happened at", "shown"
MOMENT, LOCAL = pa.timestamp("us", tz="UTC"), pa.timestamp("us")


@dataclass(frozen=True)
class World:
    """Tables by the key of their source, all with a unit and a time; `sources` are further fields of some sources.

    The rows of the table `shown` are exposures, whose variant is in the column `arm` and whose segments are columns of
    their names.
    """

    tables: Mapping[str, pa.Table]
    metrics: Sequence[MetricSpec]
    as_of: datetime
    dimensions: Sequence[str] = ()
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    exposed_if: Sequence[Mapping[str, Any]] = ()
    arms: Sequence[str] = ("control", "treatment")
    options: Mapping[str, Any] = field(default_factory=dict)
    started_at: datetime = START
    ended_at: datetime | None = None
    allocation: Any = ()

    def plan(self, place: Place = "file", prefix: str = "") -> AnalysisPlan:
        """The plan of an experiment on these tables, the first metric being its primary one.

        `prefix` comes before their names in a warehouse.
        """
        shown = ExposureSource.model_validate(
            {
                "fact_source": SHOWN,
                "variant_column": "arm",
                "filters": self.exposed_if,
                "segments": {name: name for name in self.dimensions},
            }
        )
        plan = plan_of(self.metrics, variants=self.arms, sources=[EventSource(key="x", event="x")])
        options = dict(self.options)
        estimation = {name: options.pop(name) for name in list(options) if name in type(plan.estimation).model_fields}
        changed = plan.estimation.model_copy(update=estimation)
        sources = [self._source(key, place, prefix) for key in self.tables]
        first, *others = plan.metrics
        metrics = [first.model_copy(update={"role": Role.PRIMARY}), *others]
        changes = {"metrics": metrics, "fact_sources": sources, "exposures": shown, "estimation": changed, **options}
        return plan.model_copy(update=changes)

    def _source(self, key: str, place: Place, prefix: str) -> FileSource | TableSource:
        given: dict[str, Any] = {"key": key, "unit_column": UNIT, "timestamp_column": TIME, **self.sources.get(key, {})}
        if place == "table":
            return TableSource.model_validate({"kind": "table", "connection": "dwh", "table": prefix + key, **given})
        given.pop("day_column", None)
        return FileSource.model_validate({"kind": "file", "path": f"{key}.parquet", **given})

    def slice(self, folder: Path | None = None) -> DataSlice:
        """What of the world is seen; `folder` has the files."""
        return DataSlice((), {}, self.started_at, self.ended_at, self.as_of, folder, allocation=self.allocation)


def write_files(world: World, folder: Path) -> None:
    """A Parquet file per table, in several row groups."""
    for key, table in world.tables.items():
        pq.write_table(table, folder / f"{key}.parquet", row_group_size=200)


def write_folders(world: World, folder: Path) -> dict[str, str]:
    """A folder with two Parquet files per table: where it is, by the table's name."""
    for key, table in world.tables.items():
        (folder / key).mkdir(parents=True)
        half = table.num_rows // 2
        for i, part in enumerate((table.slice(0, half), table.slice(half))):
            pq.write_table(part, folder / key / f"part-{i}.parquet")
    return {key: str(folder / key) for key in world.tables}


def copy_into(world: World, owner: "psycopg.Connection[Any]", schema: str) -> None:
    """The tables in a schema of a PostgreSQL database, by COPY. Text has a collation in which a comes before B, if the

    server has one.
    """
    known = owner.execute("SELECT collname FROM pg_collation WHERE collname IN ('und-x-icu', 'en_US.utf8')").fetchone()
    text = "text" if known is None else f'text COLLATE "{known[0]}"'
    owner.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    for key, table in world.tables.items():
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(_declared(column.type, text)))
            for column in table.schema
        )
        place = sql.Identifier(schema, key)
        owner.execute(sql.SQL("CREATE TABLE {} ({})").format(place, columns))
        with owner.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(place)) as copy:
            for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
                copy.write_row(row)


def _declared(kind: pa.DataType, text: str) -> Any:
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision}, {kind.scale})"
    return {
        pa.string(): text,
        pa.float64(): "double precision",
        pa.float32(): "real",
        pa.int64(): "bigint",
        pa.int32(): "integer",
        pa.bool_(): "boolean",
        pa.date32(): "date",
        MOMENT: "timestamptz",
        LOCAL: "timestamp",
    }[kind]
