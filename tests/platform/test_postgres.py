"""The tests' PostgreSQL is real, private to the run, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tests import servers
from tests.patience import LONG
from tests.servers import REPOSITORY, Postgres, PostgresUnavailable, postgres_server

OWNER = """
import time
from tests.servers import postgres_server
with postgres_server() as server:
    print(server.create(migrated=False), flush=True)
    time.sleep(600)
"""


def connect(url: str) -> psycopg.Connection:
    parsed = make_url(url)
    return psycopg.connect(host=str(parsed.query["host"]), user=parsed.username, dbname=parsed.database)


@pytest.fixture
def no_external_server(monkeypatch: pytest.MonkeyPatch, postgres: Postgres) -> None:
    """This test is about the embedded server, which `postgres` has shown to run here."""
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)


def test_each_database_is_migrated_and_separate(postgres: Postgres) -> None:
    first, second = postgres.create(), postgres.create()
    engines = [sa.create_engine(make_url(url).set(drivername="postgresql+psycopg")) for url in (first, second)]
    with engines[0].begin() as connection:
        connection.execute(sa.text("CREATE TABLE only_here (id int)"))
    tables = [set(sa.inspect(engine).get_table_names()) for engine in engines]
    assert tables[0] == tables[1] | {"only_here"}
    assert {"experiments", "analyses", "alembic_version"} <= tables[1]
    for engine in engines:
        engine.dispose()
    for url in (first, second):
        postgres.drop(url)


def test_a_database_is_dropped_although_somebody_is_still_connected(postgres: Postgres) -> None:
    url = postgres.create(migrated=False)
    engine = sa.create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with engine.connect() as forgotten:
        forgotten.execute(sa.text("SELECT 1"))
        postgres.drop(url)
        with pytest.raises(sa.exc.OperationalError):
            forgotten.execute(sa.text("SELECT 1"))


@pytest.mark.usefixtures("no_external_server")
@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root must become somebody else")
def test_root_gets_a_server_where_user_namespaces_are_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> None:
        raise PermissionError("unshare")

    monkeypatch.setattr(servers, "_enter_namespace", forbidden)
    try:
        with postgres_server() as server, connect(server.create(migrated=False)) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("northlift",)
    except PostgresUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("no_external_server")
def test_the_server_is_gone_with_its_directory_when_the_run_ends() -> None:
    with postgres_server() as server:
        url = server.create(migrated=False)
        home = Path(str(make_url(url).query["host"]))
        assert home.exists()
    assert not home.exists()
    with pytest.raises(psycopg.OperationalError):
        connect(url)


@pytest.mark.usefixtures("no_external_server")
@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_the_server_does_not_outlive_a_run_that_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert owner.stdout is not None
    url = owner.stdout.readline().strip()
    connect(url).close()
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + LONG
    while True:
        try:
            connect(url).close()
        except psycopg.OperationalError:
            break
        assert time.monotonic() < deadline, "the server survived the run"
        time.sleep(0.05)
    shutil.rmtree(str(make_url(url).query["host"]), ignore_errors=True)
