"""PostgreSQL as an engine: it reads, it never writes, and what it says of a fault holds nobody's values."""

import time
from collections.abc import Iterator
from datetime import date

import numpy as np
import psycopg
import pytest
from sqlalchemy.engine import make_url
from sqlglot import exp

from experiments.connection import Access
from experiments.definitions import PostgresConnection
from experiments.errors import SourceUnreadable
from tests.servers import Postgres
from warehouse.engines.opening import check, open_engine
from warehouse.engines.postgres import PostgresEngine

HOSTILE = 'a"; DROP TABLE facts; --'
ROLE = "northlift_test_reader"


@pytest.fixture(scope="module")
def warehouse(postgres: Postgres) -> Iterator[PostgresConnection]:
    """A database with facts and a role that may read them; the connection of the role."""
    url = make_url(postgres.create(migrated=False))
    host = str(url.query.get("host", url.host))
    owner = psycopg.connect(
        host=host, port=url.port or 5432, dbname=url.database, user=url.username, password=url.password, autocommit=True
    )
    with owner:
        owner.execute("CREATE SCHEMA shop")
        owner.execute(
            "CREATE TABLE shop.facts (u text, at timestamptz, day date, n int, x float8, d numeric, b boolean, "
            "local timestamp, code char(4), id uuid)"
        )
        owner.execute(
            "INSERT INTO shop.facts VALUES ('u1', '2026-01-01 12:00+01', '2026-01-01', 1, 1.5, 2.25, true, "
            "'2026-01-01', 'ab', gen_random_uuid()), ('u2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
        )
        owner.execute(
            psycopg.sql.SQL("CREATE TABLE shop.{} ({} text)").format(
                psycopg.sql.Identifier(HOSTILE), psycopg.sql.Identifier(HOSTILE)
            )
        )
        owner.execute("ANALYZE shop.facts")
        owner.execute("CREATE TABLE shop.notes (u text)")
        owner.execute("INSERT INTO shop.notes VALUES ('it''s \"secret\" 4711')")
        owner.execute(f"DROP ROLE IF EXISTS {ROLE}")
        owner.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'hunter2'")
        owner.execute(f"GRANT USAGE ON SCHEMA shop TO {ROLE}")
        owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA shop TO {ROLE}")
        yield PostgresConnection(
            kind="postgres",
            key="dwh",
            host=host,
            port=url.port or 5432,
            database=str(url.database),
            user=ROLE,
            tls="disable",
            statement_timeout_seconds=0.3,
        )
        owner.execute(f"DROP OWNED BY {ROLE}")
        owner.execute(f"DROP ROLE {ROLE}")
    postgres.drop(url.render_as_string(hide_password=False))


@pytest.fixture
def engine(warehouse: PostgresConnection) -> Iterator[PostgresEngine]:
    engine = open_engine(Access(warehouse, "hunter2"))
    assert isinstance(engine, PostgresEngine)
    yield engine
    engine.close()


def facts(*columns: str) -> exp.Select:
    return exp.select(*(exp.column(name, quoted=True) for name in columns)).from_(exp.table_("facts", db="shop"))


def test_columns_say_what_they_hold(engine: PostgresEngine) -> None:
    assert engine.columns(exp.table_("facts", db="shop", quoted=True)) == {
        "u": "text",
        "at": "timestamptz",
        "day": "date",
        "n": "number",
        "x": "number",
        "d": "number",
        "b": "boolean",
        "local": "timestamp",
        "code": "text",
        "id": "other",
    }


def test_results_are_arrays_and_times_are_utc(engine: PostgresEngine) -> None:
    found = engine.run(facts("n", "x", "d", "u", "day").order_by("u"))
    np.testing.assert_array_equal(found["n"], [1.0, np.nan])  # a null makes a whole number a float
    np.testing.assert_array_equal(found["x"], [1.5, np.nan])
    np.testing.assert_array_equal(found["d"], [2.25, np.nan])
    assert found["u"].tolist() == ["u1", "u2"] and found["day"].tolist() == [date(2026, 1, 1), None]
    hour = exp.select(exp.func("to_char", exp.column("at"), exp.Literal.string("HH24"))).from_("shop.facts")
    assert engine.run(hour.where("n = 1"))["to_char"].tolist() == ["11"]
    counted = engine.run(exp.select("count(*) AS Units", "array_agg(x) AS xs").from_("shop.facts"))
    assert counted["units"].dtype == np.int64 and counted["units"].tolist() == [2]
    assert counted["xs"][0] == [1.5, None]
    assert {name: len(values) for name, values in engine.run(facts("n", "u").limit(0)).items()} == {"n": 0, "u": 0}


def test_an_analysis_sees_one_moment_of_the_data(engine: PostgresEngine, warehouse: PostgresConnection) -> None:
    first = engine.run(exp.select("count(*) AS n").from_("pg_database"))["n"][0]
    clock = exp.select("now()::text AS n")
    one = engine.run(clock)["n"][0]
    time.sleep(0.01)
    assert engine.run(clock)["n"][0] == one and first > 0  # one transaction


def test_nothing_can_be_written_whatever_the_role_may_do(
    engine: PostgresEngine, warehouse: PostgresConnection, postgres: Postgres
) -> None:
    with pytest.raises(SourceUnreadable, match=r"permission denied|read-only"):
        engine.run(exp.insert("SELECT 'x'", "shop.notes"))
    url = make_url(postgres.create(migrated=False))
    owner = warehouse.model_copy(update={"database": url.database, "user": url.username})
    powerful = open_engine(Access(owner, None if url.password is None else str(url.password)))
    assert isinstance(powerful, PostgresEngine)
    for statement in (
        exp.Command(this="CREATE", expression="TABLE t (x int)"),
        exp.Command(this="SELECT", expression="set_config('transaction_read_only', 'off', false)"),
        exp.Command(this="SELECT", expression="1; CREATE TABLE t (x int)"),
    ):
        with pytest.raises(SourceUnreadable):
            powerful.run(statement)
    powerful.close()
    found = check(Access(owner, None if url.password is None else str(url.password)))
    assert found.ok and found.read_only is False and "superuser" in found.warnings[0]
    postgres.drop(url.render_as_string(hide_password=False))


def test_a_check_says_who_answers_and_that_the_role_only_reads(
    engine: PostgresEngine, warehouse: PostgresConnection
) -> None:
    found = engine.check()
    assert found.ok and found.server.startswith("PostgreSQL ") and found.latency_ms is not None
    if found.server < "PostgreSQL 15":  # before, everybody could create in `public`
        found.warnings = [text for text in found.warnings if "public" not in text]
    else:
        assert found.read_only is True
    assert found.warnings == []


def test_names_are_names_whatever_they_hold(engine: PostgresEngine) -> None:
    hostile = exp.table_(HOSTILE, db="shop", quoted=True)
    assert engine.columns(hostile) == {HOSTILE: "text"}
    column = exp.column(HOSTILE, quoted=True)
    value = exp.Literal.string("'; DROP TABLE shop.facts; -- \\ %s %(x)s $$")
    found = engine.run(exp.select(exp.alias_(value, "said")).from_(hostile).where(column.is_(exp.null())))
    assert found["said"].tolist() == []
    assert engine.run(exp.select(exp.alias_(value, "said")))["said"].tolist() == [value.this]
    for name in ("facts; DROP TABLE shop.facts", "pg_catalog.pg_authid", "x\\", "'"):
        with pytest.raises(SourceUnreadable, match="does not exist"):
            engine.columns(exp.table_(name, quoted=True))
    assert engine.run(exp.select("count(*) AS n").from_("shop.facts"))["n"].tolist() == [2]


def test_a_statement_ends_after_its_time_and_the_next_one_runs(engine: PostgresEngine) -> None:
    with pytest.raises(SourceUnreadable, match=r"stopped after 0.3 seconds \(SQLSTATE 57014\)") as stopped:
        engine.run(exp.select("count(pg_sleep(6000)) AS n"))
    assert stopped.value.remedy is not None and "statement_timeout_seconds" in stopped.value.remedy
    assert engine.run(exp.select("1 AS n"))["n"].tolist() == [1]


def test_faults_of_data_quote_no_values_and_faults_of_names_say_the_name(engine: PostgresEngine) -> None:
    numbers = exp.select("CAST(u AS double precision) AS n").from_("shop.notes")
    with pytest.raises(SourceUnreadable) as refused:
        engine.run(numbers)
    assert "22P02" in refused.value.detail and "invalid text representation" in refused.value.detail
    assert "secret" not in refused.value.detail and "4711" not in refused.value.detail
    assert refused.value.__cause__ is None and refused.value.__suppress_context__
    with pytest.raises(SourceUnreadable, match=r'"shop\.nowhere" does not exist'):
        engine.columns(exp.table_("nowhere", db="shop"))
    with pytest.raises(SourceUnreadable, match='column "nothing" does not exist'):
        engine.run(facts("nothing"))


def test_a_server_that_cannot_be_opened_is_said_without_the_password(warehouse: PostgresConnection) -> None:
    nowhere = warehouse.model_copy(update={"host": "127.0.0.1", "port": 9, "user": "hunter2"})
    for spec in (nowhere, warehouse.model_copy(update={"database": "nowhere"})):
        found = check(Access(spec, "hunter2"))
        assert not found.ok and found.remedy is not None
        assert found.problem is not None and "cannot be opened" in found.problem and "hunter2" not in found.problem


def test_what_a_statement_will_read_is_known_before_it_runs(engine: PostgresEngine) -> None:
    found = engine.estimate(exp.select("count(*)").from_("shop.facts"))
    assert (found.bytes, found.rows) == (8192, 2) and "PostgreSQL" in found.basis
    # Without statistics the planner takes ten pages full of rows, which is no estimate.
    assert engine.estimate(exp.select("count(*)").from_("shop.notes")).rows is None
