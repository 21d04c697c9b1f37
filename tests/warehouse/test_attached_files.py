"""A DuckDB database is read by several connections of one process, one after the other and at the same time."""

import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import duckdb

from experiments.definitions import DuckDBSource
from tests.patience import LONG
from tests.warehouse.cases import START, slice_of
from warehouse.engine import connect, detach_all, identifier
from warehouse.source_files import attach

ROUNDS = 12


def test_connections_that_come_and_go_never_wait_for_a_file_that_another_one_reads(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with duckdb.connect(path) as database:
        database.execute("CREATE TABLE facts AS SELECT i FROM range(3) AS r(i)")
    columns = {"unit_column": "i", "timestamp_column": "i"}
    sources = [DuckDBSource(kind="duckdb", key=key, path="w.duckdb", table="facts", **columns) for key in "ab"]
    data = replace(slice_of([], {}, data_as_of=START), file_source_dir=tmp_path)
    rows: list[int] = []

    def come_and_go() -> None:
        with ExitStack() as stays:
            for i in range(ROUNDS):
                if i % 6 == 1:
                    stays.close()
                with ExitStack() as goes:
                    connection = (stays if i % 6 == 1 else goes).enter_context(connect(threads=1, memory_limit=None))
                    (catalogue,) = {attach(connection, path, source, data) for source in sources}
                    table = f"{identifier(catalogue)}.main.facts"
                    ((n,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
                    rows.append(n)

    reader = threading.Thread(target=come_and_go, daemon=True)
    reader.start()
    reader.join(LONG)
    assert rows == [3] * ROUNDS


def test_a_connection_gives_its_files_back(tmp_path: Path) -> None:
    """What is attached when a database closes stays on DuckDB's list of files in use."""
    duckdb.connect(tmp_path / "w.duckdb").close()
    with connect(threads=1, memory_limit=None) as connection:
        connection.execute(f'ATTACH \'{tmp_path / "w.duckdb"}\' AS "its ""name" (READ_ONLY)')
        detach_all(connection)
        found = connection.execute("SELECT database_name FROM duckdb_databases() WHERE path IS NOT NULL").fetchall()
        assert not found
