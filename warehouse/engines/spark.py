"""Spark as an engine: a cluster by Spark Connect, or Spark in this process."""

import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlglot import exp

from experiments.connection import ConnectionCheck
from experiments.definitions import SparkConnection
from experiments.errors import SourceUnreadable
from warehouse.engines.contract import Estimate, Kind, Table
from warehouse.engines.messages import UNREADABLE_VALUES, first_line, without_values

SETTINGS: Final[Mapping[str, str]] = {
    "spark.sql.session.timeZone": "UTC",
    # Text that is no number, and numbers that overflow, fail the statement instead of becoming null.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.crossJoin.enabled": "true",
}
CONNECT_SECONDS: Final = 10
_ONE_SESSION: Final = threading.Lock()
"""Spark's client knows one session per process, whatever it was asked to open."""
_LOCAL: Final[Mapping[str, str]] = {
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "8",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.log.level": "OFF",
}
_KINDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("byte", "short", "integer", "long", "float", "double", "decimal"), "number"),
    **dict.fromkeys(("string", "char", "varchar"), "text"),
    "boolean": "boolean",
    "timestamp": "timestamptz",
    "timestamp_ntz": "timestamp",
    "date": "date",
}
_SIZES: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_STATISTICS: Final = re.compile(r"Statistics\(sizeInBytes=([\d.E+]+) (\w+)(?:, rowCount=([\d.E+]+))?")
_NAMES: Final = ("TABLE_OR_VIEW_NOT_FOUND", "UNRESOLVED", "PARSE_", "DATATYPE_MISMATCH", "SCHEMA_NOT_FOUND")
"""Conditions about the statement, whose words are names and types. All others may quote values."""
_VALUES: Final = ("CAST_", "NUMERIC_", "ARITHMETIC_", "DIVIDE_", "CANNOT_PARSE", "INVALID_", "CONVERSION_", "DATETIME_")


class SparkEngine:
    """One session. Statements end after the connection's time-out. Spark knows no read-only session: what runs is what

    the compiler makes, and it makes only queries; the cluster's own grants are the second fence.
    """

    def __init__(self, spec: SparkConnection, secret: str | None) -> None:
        """Raises `SourceUnreadable` where Spark is not installed, cannot be reached, or refuses us."""
        self._spec, self._secret = spec, secret
        self._local = not spec.remote.startswith("sc://")
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise SourceUnreadable(
                f"the connection {spec.key!r} needs Spark's client, which is not installed here",
                remedy="install `northlift[spark]` where API and workers run, with the versions of "
                "requirements-spark.lock",
            ) from error
        self._errors = _errors_of_spark()
        if not _ONE_SESSION.acquire(timeout=CONNECT_SECONDS):
            raise SourceUnreadable(
                f"the connection {spec.key!r} cannot be opened: this process is busy with another Spark session",
                remedy="try again in a minute",
            )
        self._release = ExitStack()
        self._release.callback(_ONE_SESSION.release)
        try:
            with self._faults("cannot be opened"):
                self._session: Any = self._opened(SparkSession)
        except SourceUnreadable:
            self._release.close()
            raise

    def _opened(self, known: Any) -> Any:
        spec = self._spec
        builder = known.builder.appName("northlift")
        if self._local:
            # A local Spark listens on this machine only, whatever its host name resolves to.
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            builder = builder.master(spec.remote)
            for name, value in _LOCAL.items():
                builder = builder.config(name, value)
        else:
            # Spark's client would try for ten minutes.
            place = urlsplit(spec.remote)
            socket.create_connection((place.hostname or "", place.port or 15002), CONNECT_SECONDS).close()
            builder = builder.remote(_with_token(spec.remote, self._secret))
        session = builder.getOrCreate()
        for name, value in SETTINGS.items():
            session.conf.set(name, value)
        for table, folder in spec.parquet.items():
            quoted = "`" + table.replace("`", "``") + "`"
            session.read.parquet(folder).createOrReplaceTempView(quoted)
        return session

    @property
    def dialect(self) -> Literal["spark"]:
        return "spark"

    def columns(self, table: exp.Table) -> Mapping[str, Kind]:
        """The columns of a table, a view, or a folder of the connection's `parquet`. Raises `SourceUnreadable`."""
        nothing = exp.select("*").from_(table.copy()).limit(0)
        with self._faults():
            schema = self._session.sql(nothing.sql(dialect="spark")).schema
        return {field.name: _KINDS.get(field.dataType.typeName(), "other") for field in schema.fields}

    def run(self, statement: exp.Expression) -> Table:
        """The whole result. Raises `SourceUnreadable`."""
        with self._faults(), self._limited(), self._put_aside(statement) as rest:
            found: pa.Table = self._session.sql(rest.sql(dialect="spark")).toArrow()
        return {name.lower(): _array(found.column(name)) for name in found.column_names}

    @contextmanager
    def _put_aside(self, statement: exp.Expression) -> Iterator[exp.Expression]:
        """The statement without its named parts, which are views now; those that are used often are computed once.

        Spark writes every named part out wherever it is used: the plan of a statement with many parts would take
        minutes to make, and each part would read the facts again.
        """
        rest = statement.copy()
        named = rest.args.get("with_")
        parts = named.expressions if named is not None else []
        used = Counter(table.name for table in rest.find_all(exp.Table) if not table.db)
        rest.set("with_", None)
        try:
            for part in parts:
                frame = self._session.sql(part.this.sql(dialect="spark"))
                if used[part.alias] > 1:
                    frame = frame.localCheckpoint()
                frame.createOrReplaceTempView(part.alias)
            yield rest
        finally:
            for part in parts:
                self._session.catalog.dropTempView(part.alias)

    def estimate(self, statement: exp.Expression) -> Estimate:
        """What the optimised plan reads: the sizes of its tables, and their rows where the catalogue knows them all."""
        with self._faults():
            rows = self._session.sql("EXPLAIN COST " + statement.sql(dialect="spark")).collect()
        return _estimate(str(rows[0][0]))

    def check(self) -> ConnectionCheck:
        """Who answers, and how fast. Raises `SourceUnreadable`."""
        begun = time.perf_counter()
        with self._faults(), self._limited():
            version = str(self._session.version)
            self._session.sql("SELECT 1").collect()
        latency = 1000 * (time.perf_counter() - begun)
        known = "Spark cannot say what this session may write: grant its user SELECT only"
        return ConnectionCheck(
            ok=True,
            server=f"Spark {version}",
            latency_ms=round(latency, 2),
            warnings=[known] if not self._local else [],
        )

    def close(self) -> None:
        """End the session; a local Spark ends with it."""
        try:
            self._session.stop()
        finally:
            self._release.close()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Stop the statement after the connection's time-out. Raises `SourceUnreadable` then."""
        late, over = threading.Event(), threading.Event()

        def stop() -> None:
            # Again and again: what is still being planned has no job yet that could be cancelled.
            if over.wait(self._spec.statement_timeout_seconds):
                return
            late.set()
            while not over.wait(0.5):
                with suppress(*self._errors):
                    if self._local:
                        # The session is this engine's own, so all of its jobs are.
                        self._session.sparkContext.cancelAllJobs()
                    else:
                        self._session.interruptAll()

        threading.Thread(target=stop, daemon=True).start()
        try:
            yield
        except self._errors as error:
            if not late.is_set():
                raise
            raise SourceUnreadable(
                f"Spark, connection {self._spec.key!r}: a statement was stopped after "
                f"{self._spec.statement_timeout_seconds:g} seconds",
                remedy="raise `statement_timeout_seconds` of the connection, or give the sources a `day_column`",
            ) from error
        finally:
            over.set()

    @contextmanager
    def _faults(self, what: str = "") -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            said = str(error)
            condition = getattr(error, "getCondition", lambda: None)() or _condition(said)
            named = condition.startswith(_NAMES)
            words = first_line(said, self._secret) if named or what else without_values(said)
            remedy = (
                "correct the table or the column in the definition that names it"
                if named
                else "check the address, the token, and that this machine may reach the cluster"
                if what
                else UNREADABLE_VALUES
                if condition.startswith(_VALUES)
                else "look at the cluster's log; ask for the analysis again when the cluster is well"
            )
            raise SourceUnreadable(
                f"Spark, connection {self._spec.key!r}: " + " ".join(part for part in (what, words) if part),
                remedy=remedy,
            ) from None


def _errors_of_spark() -> tuple[type[Exception], ...]:
    """What Spark and its two clients raise; they have no class in common."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    found: list[type[Exception]] = [PySparkException, Py4JError, ImportError, OSError, RuntimeError, ValueError]
    with suppress(ImportError):
        from grpc import RpcError

        found.append(RpcError)
    return tuple(found)


def _with_token(remote: str, secret: str | None) -> str:
    """The address with the token, which asks for TLS as Spark Connect does."""
    if secret is None:
        return remote
    base = remote if "/;" in remote else remote.rstrip("/") + "/;"
    return base.rstrip(";") + f";token={secret}"


def _condition(said: str) -> str:
    found = re.search(r"\[([A-Z][A-Z0-9_.]+)\]", said)
    return found[1] if found else ""


def _estimate(explained: str) -> Estimate:
    """Leaves of the optimised plan: lines without a deeper line below them."""
    lines = explained.partition("== Physical Plan ==")[0].splitlines()
    depths = [len(line) - len(line.lstrip(" :+-")) for line in lines]
    size, rows, known = 0.0, 0.0, True
    for i, line in enumerate(lines):
        deeper = i + 1 < len(lines) and depths[i + 1] > depths[i] and lines[i + 1].lstrip(" :").startswith("+-")
        statistics = _STATISTICS.search(line)
        if statistics is None or deeper or "Relation" not in line:
            continue
        size += float(statistics[1]) * _SIZES.get(statistics[2], 1)
        known &= statistics[3] is not None
        rows += float(statistics[3] or 0)
    return Estimate(round(rows) if known and rows else None, round(size), "Spark's optimised plan")


def _array(column: "pa.ChunkedArray[Any]") -> NDArray[Any]:
    """As `Table` has it."""
    kind = column.type
    if pa.types.is_integer(kind) and column.null_count == 0:
        return column.to_numpy().astype(np.int64)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.cast(pa.float64()).to_numpy().astype(np.float64)
    if pa.types.is_decimal(kind):
        values = column.to_pylist()
        return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    found = np.empty(len(column), dtype=object)
    found[:] = column.to_pylist()
    return found
