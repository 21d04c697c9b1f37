"""A random world as tables of a warehouse, and its plan with sources that are those tables."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import make_url

from experiments.definitions import ExposureSource, PostgresConnection, TableSource
from experiments.plan import AnalysisPlan
from tests.warehouse.plain import World
from warehouse.data_slice import DataSlice

SEGMENTS = ("platform", "country", "account")
ORDERS, VISITS, SHOWN = "dwh.Orders", "dwh.Visits", "dwh.Shown"
type Execute = Callable[[str, Sequence[Sequence[Any]]], object]
"""Runs a statement without rows once, and one with rows once per row."""


def in_tables(plan: AnalysisPlan) -> AnalysisPlan:
    """The plan with facts and exposures in tables."""

    def source(key: str, table: str) -> TableSource:
        return TableSource(
            kind="table", key=key, connection="dwh", table=table, unit_column="Unit", timestamp_column="happened at"
        )

    shown = ExposureSource(fact_source="shown", variant_column="arm", segments={name: name for name in SEGMENTS})
    sources = [source("orders", ORDERS), source("visits", VISITS), source("shown", SHOWN)]
    return plan.model_copy(update={"fact_sources": sources, "exposures": shown})


def without_files(data: DataSlice) -> DataSlice:
    """The slice of an experiment whose rows are elsewhere."""
    return replace(data, exposure_files=(), event_files={})


def fill(world: World, execute: Execute, *, marker: str = "%s", moment: str = "TIMESTAMPTZ") -> None:
    """Create the tables and insert the world's rows; every table has a row that belongs to nobody."""
    execute("CREATE SCHEMA dwh", ())
    for table, source in (("Orders", "orders"), ("Visits", "visits")):
        execute(f'CREATE TABLE dwh."{table}" ("Unit" TEXT, "happened at" {moment}, "value" DOUBLE PRECISION)', ())
        rows = [(fact.unit, fact.at, fact.value) for fact in world.facts[source]]
        values = ", ".join([marker] * 3)
        execute(f'INSERT INTO dwh."{table}" VALUES ({values})', [*rows, (None, rows[0][1], 1.0)])
    execute(
        f'CREATE TABLE dwh."Shown" ("Unit" TEXT, "happened at" {moment}, arm TEXT, platform TEXT, country TEXT,'
        " account TEXT)",
        (),
    )
    rows = [(row.unit, row.at, row.variant, *(row.segments.get(name) for name in SEGMENTS)) for row in world.exposures]
    execute(f'INSERT INTO dwh."Shown" VALUES ({", ".join([marker] * 6)})', [*rows, (None, rows[0][1], *["x"] * 4)])


def postgres_connection(url: str) -> tuple[PostgresConnection, str]:
    """A connection to a database of the tests, and its secret."""
    at = make_url(url)
    host = at.host or at.query.get("host", "localhost")
    spec = PostgresConnection(
        kind="postgres",
        key="dwh",
        host=host if isinstance(host, str) else host[0],
        port=at.port or 5432,
        database=at.database or "",
        user=at.username or "",
    )
    return spec, at.password or ""
