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

    def source(key: str, table: str, day: str | None = None) -> TableSource:
        return TableSource(
            kind="table",
            key=key,
            connection="dwh",
            table=table,
            unit_column="Unit",
            timestamp_column="happened at",
            day_column=day,
        )

    shown = ExposureSource(fact_source="shown", variant_column="arm", segments={name: name for name in SEGMENTS})
    sources = [source("orders", ORDERS), source("visits", VISITS, "day"), source("shown", SHOWN)]
    return plan.model_copy(update={"fact_sources": sources, "exposures": shown})


def without_files(data: DataSlice) -> DataSlice:
    """The slice of an experiment whose rows are elsewhere."""
    return replace(data, exposure_files=(), event_files={})


def fill(world: World, execute: Execute) -> None:
    """Create the tables in a session whose time zone is UTC, and insert the world's rows.

    Orders and exposures know their time zone; visits do not, but their day. Every table has a row of nobody.
    """
    execute("CREATE SCHEMA dwh", ())
    execute('CREATE TABLE dwh."Orders" ("Unit" TEXT, "happened at" TIMESTAMPTZ, "value" DOUBLE PRECISION)', ())
    execute('CREATE TABLE dwh."Visits" ("Unit" TEXT, "happened at" TIMESTAMP, "value" REAL, day DATE)', ())
    execute(
        'CREATE TABLE dwh."Shown" ("Unit" VARCHAR(99), "happened at" TIMESTAMPTZ, arm TEXT, platform TEXT,'
        " country TEXT, account TEXT)",
        (),
    )
    orders = [(fact.unit, fact.at, fact.value) for fact in world.facts["orders"]]
    execute('INSERT INTO dwh."Orders" VALUES (%s, %s, %s)', [*orders, (None, orders[0][1], 1.0)])
    visits = [(fact.unit, fact.at.replace(tzinfo=None), fact.value, fact.at.date()) for fact in world.facts["visits"]]
    execute('INSERT INTO dwh."Visits" VALUES (%s, %s, %s, %s)', [*visits, (None, *visits[0][1:])])
    rows = [(row.unit, row.at, row.variant, *(row.segments.get(name) for name in SEGMENTS)) for row in world.exposures]
    execute('INSERT INTO dwh."Shown" VALUES (%s, %s, %s, %s, %s, %s)', [*rows, (None, rows[0][1], *["x"] * 4)])


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
