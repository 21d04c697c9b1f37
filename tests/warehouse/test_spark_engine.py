"""Spark as an engine, local and by Spark Connect: `make engines`."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlglot import exp

from experiments.connection import Access
from experiments.definitions import SparkConnection
from experiments.errors import SourceUnreadable
from tests.patience import LONG
from warehouse.engines.opening import check, open_engine
from warehouse.engines.spark import SparkEngine

HOSTILE = "a`; DROP TABLE facts; --"
AT = datetime(2026, 1, 1, 11, tzinfo=UTC)


def written(folder: Path) -> dict[str, str]:
    """Folders of Parquet files, as tables."""
    facts = pa.table(
        {
            "u": ["u1", "u2"],
            "at": pa.array([AT, None], pa.timestamp("us", "UTC")),
            "local": pa.array([AT.replace(tzinfo=None), None], pa.timestamp("us")),
            "day": pa.array([AT.date(), None]),
            "n": pa.array([1, None], pa.int32()),
            "x": [1.5, None],
            "d": pa.array([2, None], pa.decimal128(10, 2)),
            "b": [True, None],
        }
    )
    notes = pa.table({"u": ['it\'s "secret" 4711'], "p": [1.0]})
    for name, table in (("facts", facts), ("notes", notes)):
        (folder / name).mkdir()
        pq.write_table(table, folder / name / "part.parquet")
    return {name: str(folder / name) for name in ("facts", "notes")}


def start_connect_server(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server of Spark Connect on a free port of this machine."""
    import pyspark

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = Path(pyspark.__file__).parent
    command = [
        *(str(home / "bin" / "spark-submit"), "--master", "local[2]"),
        *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
        *("--conf", f"spark.connect.grpc.binding.port={port}", "--conf", "spark.ui.enabled=false"),
        *("--conf", "spark.driver.bindAddress=127.0.0.1", "--conf", "spark.connect.grpc.binding.address=127.0.0.1"),
        "spark-internal",
    ]
    environment = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1"}
    environment["PYSPARK_PYTHON"] = sys.executable
    with (folder / "connect.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server, f"sc://127.0.0.1:{port}"
        time.sleep(0.3)
    server.kill()
    pytest.fail("no server of Spark Connect: " + (folder / "connect.log").read_text()[-500:], pytrace=False)


@pytest.fixture(scope="module", params=["local", "connect"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkEngine]:
    pytest.importorskip("pyspark", reason="`make engines` installs Spark")
    folder = tmp_path_factory.mktemp("spark")
    server, remote = (None, "local[2]") if request.param == "local" else start_connect_server(folder)
    spec = SparkConnection(
        kind="spark", key="lake", remote=remote, parquet=written(folder), statement_timeout_seconds=20
    )
    try:
        with closing(open_engine(Access(spec))) as engine:
            assert isinstance(engine, SparkEngine)
            yield engine
    finally:
        if server is not None:
            server.terminate()
            server.wait(30)


def facts(*columns: str) -> exp.Select:
    return exp.select(*(exp.column(name, quoted=True) for name in columns)).from_(exp.table_("facts", quoted=True))


@pytest.mark.engines
@pytest.mark.timeout(300)  # Spark's own client tries for ten minutes
def test_a_cluster_that_is_not_there_is_said_at_once_and_without_the_token() -> None:
    pytest.importorskip("pyspark")
    for remote in ("sc://127.0.0.1:9", "sc://127.0.0.1:many"):
        found = check(Access(SparkConnection(kind="spark", key="lake", remote=remote), "hunter2"))
        assert not found.ok and found.problem is not None and "cannot be opened" in found.problem
        assert "hunter2" not in found.problem


@pytest.mark.engines
def test_columns_say_what_they_hold(engine: SparkEngine) -> None:
    assert engine.columns(exp.table_("facts", quoted=True)) == {
        "u": "text",
        "at": "timestamptz",
        "local": "timestamp",
        "day": "date",
        "n": "number",
        "x": "number",
        "d": "number",
        "b": "boolean",
    }


@pytest.mark.engines
def test_results_are_arrays_and_times_are_utc(engine: SparkEngine) -> None:
    found = engine.run(facts("n", "x", "d", "u", "day").order_by("u"))
    np.testing.assert_array_equal(found["n"], [1.0, np.nan])
    np.testing.assert_array_equal(found["x"], [1.5, np.nan])
    np.testing.assert_array_equal(found["d"], [2.0, np.nan])
    assert found["u"].tolist() == ["u1", "u2"] and found["day"].tolist() == [date(2026, 1, 1), None]
    hours = exp.select("hour(at) AS h", "hour(local) AS l").from_("facts").where("n = 1")
    assert {name: values.tolist() for name, values in engine.run(hours).items()} == {"h": [11], "l": [11]}
    counted = engine.run(
        exp.select("count(*) AS Units", "array(CAST(1.5 AS DOUBLE), CAST(NULL AS DOUBLE)) AS xs").from_("facts")
    )
    assert counted["units"].dtype == np.int64 and counted["units"].tolist() == [2]
    assert list(counted["xs"][0]) == [1.5, None]


@pytest.mark.engines
def test_names_are_names_and_values_are_values_whatever_they_hold(engine: SparkEngine) -> None:
    value = exp.Literal.string("'; DROP TABLE facts; -- \\ \\' %s $$ \"x\" ü\n")
    assert engine.run(exp.select(exp.alias_(value, HOSTILE, quoted=True)))[HOSTILE.lower()].tolist() == [value.this]
    for name in ("facts; DROP TABLE facts", "x`y", "'", "\\"):
        with pytest.raises(SourceUnreadable):
            engine.columns(exp.table_(name, quoted=True))
    assert engine.run(exp.select("count(*) AS n").from_("facts"))["n"].tolist() == [2]


@pytest.mark.engines
def test_a_statement_ends_after_its_time_and_the_next_one_runs(
    engine: SparkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited: Any = engine._spec.model_copy(update={"statement_timeout_seconds": 1.0})
    monkeypatch.setattr(engine, "_spec", limited)
    # Many short tasks: Spark stops between them. All of them would take very long.
    many = exp.select("count(*) AS n").from_("range(0, 400000000000, 1, 20000)").where("id % 7 = sqrt(id)")
    with pytest.raises(SourceUnreadable, match="stopped after 1 seconds"):
        engine.run(many)
    monkeypatch.undo()
    assert engine.run(exp.select("count(*) AS n").from_("facts"))["n"].tolist() == [2]


@pytest.mark.engines
def test_faults_of_data_quote_no_values_and_faults_of_names_say_the_name(engine: SparkEngine) -> None:
    with pytest.raises(SourceUnreadable) as refused:
        engine.run(exp.select("CAST(u AS DOUBLE) AS n").from_("notes"))
    assert "CAST_INVALID_INPUT" in refused.value.detail
    assert "secret" not in refused.value.detail and "4711" not in refused.value.detail
    assert refused.value.__cause__ is None and refused.value.__suppress_context__
    with pytest.raises(SourceUnreadable, match="`nowhere` cannot be found"):
        engine.columns(exp.table_("nowhere", quoted=True))
    with pytest.raises(SourceUnreadable, match="`nothing` cannot be resolved"):
        engine.run(facts("nothing"))


@pytest.mark.engines
def test_what_a_statement_will_read_is_known_before_it_runs(engine: SparkEngine) -> None:
    found = engine.estimate(exp.select("count(x)").from_("facts"))
    assert found.bytes is not None and found.bytes > 500 and "Spark" in found.basis


@pytest.mark.engines
def test_a_check_says_who_answers(engine: SparkEngine) -> None:
    found = engine.check()
    assert found.ok and found.server.startswith("Spark 4.1") and found.latency_ms is not None


def test_without_spark_s_client_the_connection_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    found = check(Access(SparkConnection(kind="spark", key="lake", remote="local[2]")))
    assert not found.ok and found.remedy is not None and "northlift[spark]" in found.remedy
