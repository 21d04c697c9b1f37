"""The compiled road in PostgreSQL: the same numbers as the embedded road has for the same rows, ingested."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import sqlglot
from psycopg.abc import Query

from tests.servers import Postgres
from tests.warehouse.cases import DAY, START
from tests.warehouse.plain import CLOSED, OPEN, World, plan_with, random_world
from tests.warehouse.tables import fill, in_tables, postgres_connection, without_files
from tests.warehouse.test_relational import EVERY_KIND, assert_equal
from warehouse.engines.postgres import PostgresEngine
from warehouse.extract import extract_experiment
from warehouse.reading import columns_read
from warehouse.relational_moments import estimate, extract_relational, statement_text
from warehouse.source_estimate import estimate_source
from warehouse.written import written


@pytest.fixture(scope="module")
def warehouse(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, PostgresEngine]]:
    """A world, and a session on a database that holds it."""
    world = random_world(tmp_path_factory.mktemp("world"), 1, units=150)
    spec, secret = postgres_connection(postgres.create(migrated=False))
    with psycopg.connect(
        host=spec.host, port=spec.port, dbname=spec.database, user=spec.user, password=secret, autocommit=True
    ) as owner:

        def execute(statement: str, rows: Sequence[Sequence[Any]]) -> None:
            query: Query = statement.encode()
            if rows:
                owner.cursor().executemany(query, rows)
            else:
                owner.execute(query)

        execute("SET TIME ZONE 'UTC'", ())
        fill(world, execute)
        execute("ANALYZE", ())
    with closing(PostgresEngine(spec, secret)) as engine:
        yield world, engine


def test_every_kind_of_metric_is_what_the_embedded_road_finds(warehouse: tuple[World, PostgresEngine]) -> None:
    world, engine = warehouse
    plan = plan_with(
        EVERY_KIND,
        segments=["country", "platform"],
        two_way_segments=[("country", "platform")],
        stratify_by=["platform"],
    )
    found = extract_relational(in_tables(plan), without_files(world.data), engine)
    assert_equal(found, extract_experiment(plan, world.data))


@pytest.mark.parametrize("options", [{}, {"cluster": "account"}])
def test_values_that_change_with_the_look(warehouse: tuple[World, PostgresEngine], options: dict[str, Any]) -> None:
    world, engine = warehouse
    plan = plan_with((CLOSED[0], OPEN), segments=["country"], **options)
    data = replace(world.data, data_as_of=START + 8 * DAY)
    found = extract_relational(in_tables(plan), without_files(data), engine)
    assert_equal(found, extract_experiment(plan, data))


def test_what_will_be_read_is_known_before(warehouse: tuple[World, PostgresEngine]) -> None:
    world, engine = warehouse
    plan, data = in_tables(plan_with(CLOSED)), without_files(world.data)
    found = estimate(plan, data, engine)
    assert found.bytes and found.rows
    (setting,) = engine.run(sqlglot.parse_one("SELECT current_setting('enable_nestloop') AS s", read="postgres"))["s"]
    assert setting == "off", "parts of a statement would be searched once per unit"
    assert "enable_nestloop" in statement_text(plan, data, engine).splitlines()[0]


def test_what_is_shown_runs_there_and_its_price_is_known(warehouse: tuple[World, PostgresEngine]) -> None:
    world, engine = warehouse
    plan, data = in_tables(plan_with(CLOSED, segments=["country"])), without_files(world.data)
    shown = written(plan, data, engine, "postgres")
    assert shown.at_home and shown.expects == () and "intervals" in shown.left_out[0]
    rows = engine.run(sqlglot.parse_one(shown.means, read="postgres"))
    wanted = extract_experiment(plan_with(CLOSED), world.data)
    moments = wanted.overall[-1]
    assert rows["variant"].tolist() == list(wanted.variants) and rows["n"].tolist() == moments.count.tolist()
    for i, name in enumerate(wanted.columns):
        assert rows[f"mean of {name}"] == pytest.approx(moments.mean[:, i], rel=1e-9, abs=1e-12)
    columns = columns_read(plan)
    for spec in plan.fact_sources:
        found = estimate_source(engine, spec, data, columns[spec.key], (START, data.data_as_of))
        assert found.rows is not None and found.bytes is not None and found.rows > 0
