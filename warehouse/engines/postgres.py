"""PostgreSQL as an engine: one read-only transaction, so that all statements of an analysis see the same data."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import IsolationLevel, sql
from sqlglot import exp

from experiments.connection import ConnectionCheck
from experiments.definitions import PostgresConnection
from experiments.errors import SourceUnreadable
from warehouse.engines.contract import Estimate, Kind, Table
from warehouse.engines.messages import UNREADABLE_VALUES, first_line, of_condition, without_values

CONNECT_SECONDS: Final = 10
LOCK_SECONDS: Final = 10
_WHOLE: Final = frozenset({20, 21, 23})
_NUMBERS: Final = _WHOLE | {700, 701, 1700}
_ARRAYS: Final = frozenset({1005, 1007, 1016, 1021, 1022, 1231})
_KINDS: Final[Mapping[int, Kind]] = {
    **dict.fromkeys(_NUMBERS, "number"),
    **dict.fromkeys((18, 19, 25, 1042, 1043), "text"),
    16: "boolean",
    1114: "timestamp",
    1184: "timestamptz",
    1082: "date",
}
"""Object ids of built-in types, which never change; a domain is described as the type that it is of."""

# The planner takes every part of a compiled statement for small, and would look through one for each row of another.
_SESSION: Final = """
SELECT set_config(name, wanted, false) FROM pg_settings JOIN (VALUES
  ('statement_timeout', %s), ('lock_timeout', %s), ('idle_in_transaction_session_timeout', %s),
  ('TimeZone', 'UTC'), ('jit', 'off'), ('enable_nestloop', 'off'), ('client_connection_check_interval', '5000')
) AS ours (setting_name, wanted) ON lower(name) = lower(setting_name)
"""
_PRIVILEGES: Final = """
SELECT
  (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  (SELECT rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = current_user),
  has_database_privilege(current_database(), 'CREATE'),
  (SELECT array_agg(nspname::text ORDER BY nspname) FROM pg_namespace
   WHERE nspname NOT LIKE 'pg\\_%' AND has_schema_privilege(oid, 'CREATE')),
  (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
   AND (has_table_privilege(c.oid, 'INSERT') OR has_table_privilege(c.oid, 'UPDATE')
        OR has_table_privilege(c.oid, 'DELETE') OR has_table_privilege(c.oid, 'TRUNCATE')))
"""


class PostgresEngine:
    """One session. The transaction begins with the first statement; an error ends it, and the next begins anew.

    Sessions may only read, whatever the role may do. Statements end after the connection's time-out, and within seconds
    of our own end where the server can notice it (PostgreSQL 14).
    """

    def __init__(self, spec: PostgresConnection, secret: str | None) -> None:
        """Raises `SourceUnreadable` where the server cannot be reached or refuses us."""
        self._spec, self._secret = spec, secret
        try:
            self._session = psycopg.connect(
                host=spec.host,
                port=spec.port,
                dbname=spec.database,
                user=spec.user,
                # Only what the connection itself says may open it: no variable and no file of this machine.
                password=secret or "",
                passfile=f"{os.devnull}/none",
                gssencmode="disable",
                sslmode=spec.tls,
                application_name="northlift",
                connect_timeout=CONNECT_SECONDS,
                client_encoding="UTF8",
                keepalives_idle=30,
                autocommit=True,
            )
        except psycopg.Error as error:
            raise SourceUnreadable(
                f"the connection {spec.key!r} cannot be opened: {first_line(str(error), secret)}",
                remedy="check host, port, database, user and TLS of the connection, its password, and that this "
                "machine may reach the server",
            ) from None
        try:
            limits = (spec.statement_timeout_seconds, LOCK_SECONDS, max(600.0, spec.statement_timeout_seconds))
            self._session.execute("SET default_transaction_read_only = on")
            self._session.execute(_SESSION, [str(max(1, round(1000 * limit))) for limit in limits])
            self._session.read_only = True
            self._session.isolation_level = IsolationLevel.REPEATABLE_READ
            self._session.autocommit = False
        except psycopg.Error as error:
            self._session.close()
            raise self._unreadable(error) from None

    @property
    def dialect(self) -> Literal["postgres"]:
        return "postgres"

    def columns(self, table: exp.Table) -> Mapping[str, Kind]:
        """The columns of a table or view that this role may read. Raises `SourceUnreadable`."""
        nothing = exp.select("*").from_(table.copy()).limit(0)
        _, described = self._execute(nothing.sql(dialect="postgres"))
        return {column.name: _KINDS.get(column.type_code, "other") for column in described}

    def run(self, statement: exp.Expression) -> Table:
        """The whole result. Raises `SourceUnreadable`."""
        rows, described = self._execute(statement.sql(dialect="postgres"))
        columns = zip(*rows, strict=True) if rows else ((),) * len(described)
        return {
            column.name.lower(): _array(values, column.type_code)
            for column, values in zip(described, columns, strict=True)
        }

    def estimate(self, statement: exp.Expression) -> Estimate:
        """What the planner means to read: whole tables and partitions by their size, else rows times their width.

        No rows where the server never counted those of a table: what the planner takes then is no estimate.
        """
        rows, _ = self._execute("EXPLAIN (FORMAT JSON, VERBOSE) " + statement.sql(dialect="postgres"))
        plan = rows[0][0]
        document = json.loads(plan) if isinstance(plan, str | bytes) else plan
        sizes: dict[tuple[str, str], tuple[int, float]] = {}
        read, size, counted = 0.0, 0.0, True
        for node in _scans(document[0]["Plan"]):
            place = (str(node.get("Schema", "")), str(node["Relation Name"]))
            if node["Node Type"] != "Seq Scan":
                read, size = read + node["Plan Rows"], size + node["Plan Rows"] * node["Plan Width"]
                continue
            if place not in sizes:
                sizes[place] = self._size(*place)
            whole, known = sizes[place]
            size += whole
            read += known
            counted &= known >= 0
        return Estimate(
            round(read) if counted else None,
            round(size),
            "PostgreSQL's plan, and the sizes of the tables that it scans",
        )

    def check(self) -> ConnectionCheck:
        """Who answers, how fast, and what the role could do beside reading. Raises `SourceUnreadable`."""
        begun = time.perf_counter()
        rows, _ = self._execute("SELECT current_setting('server_version'), current_user::text")
        latency = 1000 * (time.perf_counter() - begun)
        superuser, attributes, creates, schemas, writable = self._execute(_PRIVILEGES)[0][0]
        warnings = []
        if superuser:
            warnings.append(f"the role {rows[0][1]} is a superuser")
        elif attributes:
            warnings.append(f"the role {rows[0][1]} may make databases or roles, replicate, or see hidden rows")
        if writable and not superuser:
            warnings.append(f"the role may write to {writable} tables")
        if creates and not superuser:
            warnings.append("the role may create schemas in this database")
        if schemas and not superuser:
            warnings.append(f"the role may create tables in the schemas {', '.join(schemas[:5])}")
        if self._spec.tls in ("disable", "prefer") and not self._spec.host.startswith("/"):
            warnings.append(f"with TLS `{self._spec.tls}` the password may travel unencrypted")
        return ConnectionCheck(
            ok=True,
            server=f"PostgreSQL {rows[0][0]}",
            latency_ms=round(latency, 2),
            read_only=not (superuser or attributes or creates or schemas or writable),
            warnings=warnings,
        )

    def close(self) -> None:
        """End the session and its transaction."""
        self._session.close()

    def _size(self, schema: str, relation: str) -> tuple[int, float]:
        """Bytes and rows of a table, the rows -1 where the server never counted them."""
        name = sql.Identifier(*(part for part in (schema, relation) if part)).as_string(self._session)
        rows, _ = self._execute(
            "SELECT pg_relation_size(oid), reltuples FROM pg_class WHERE oid = to_regclass(%s)", (name,)
        )
        return (0, -1.0) if not rows else (int(rows[0][0]), float(rows[0][1]))

    def _execute(
        self, text: str, values: Sequence[str] | None = None
    ) -> tuple[list[tuple[Any, ...]], Sequence[psycopg.Column]]:
        """Rows and their columns. Without `values` the text is sent as it is: a % in it is a %."""
        try:
            with self._session.cursor(binary=True) as cursor:
                cursor.execute(text.encode(), values)
                return cursor.fetchall(), cursor.description or ()
        except psycopg.Error as error:
            unreadable = self._unreadable(error)
            if not self._session.closed:
                self._session.rollback()
            raise unreadable from None

    def _unreadable(self, error: psycopg.Error) -> SourceUnreadable:
        """The problem in words; the original goes no further, because it may quote values."""
        state = error.sqlstate or ""
        said = error.diag.message_primary or str(error)
        # Class 42 is about names and types, 22 about data, and what functions of views raise may be; the rest hardly.
        if state.startswith("42"):
            detail = first_line(said, self._secret)
        else:
            detail = of_condition(error) if state.startswith(("22", "P0")) else without_values(said)
        limit = self._spec.statement_timeout_seconds
        if state == "57014":
            detail = f"a statement was stopped after {limit:g} seconds"
        remedy = {
            "57014": "raise `statement_timeout_seconds` of the connection, give the sources a `day_column`, or index "
            "the tables by time",
            "25006": "Northlift only reads: the statement would have written, which is a defect; report it",
            "42501": "grant the role SELECT on the tables, and USAGE on their schemas",
            "42P01": "correct the table in the fact source, or create it; qualify it with its schema",
            "42703": "correct the column in the definition that names it",
        }.get(state, "")
        if not remedy:
            remedy = (
                UNREADABLE_VALUES
                if state.startswith(("22", "42"))
                else "look at the server's log; ask for the analysis again when the server is well"
            )
        code = f" (SQLSTATE {state})" if state else ""
        return SourceUnreadable(f"PostgreSQL, connection {self._spec.key!r}: {detail}{code}", remedy=remedy)


def _scans(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "Relation Name" in node:
        yield node
    for child in node.get("Plans", ()):
        yield from _scans(child)


def _array(values: Sequence[Any], type_code: int) -> NDArray[Any]:
    if type_code in _NUMBERS:
        if type_code in _WHOLE and None not in values:
            return np.array(values, dtype=np.int64)
        return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    found = np.empty(len(values), dtype=object)
    if type_code in _ARRAYS:
        found[:] = [None if each is None else [None if v is None else float(v) for v in each] for each in values]
    else:
        found[:] = list(values)
    return found
