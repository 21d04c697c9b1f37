"""Fixtures that every test may use: real servers, and databases that are migrated and empty."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
from sqlalchemy.engine import make_url
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling, Scheduling

from tests.servers import Postgres, PostgresUnavailable, migrate, postgres_server, skip_or_fail
from workers.embedded import start_valkey

DATABASES = ("sqlite", "postgresql")

# No deadline: how long an example takes says more about the other work of this machine than about our code.
hypothesis.settings.register_profile("default", deadline=None)
# The same examples on every run, so that a red build is red because of its commit.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


TRIED_ON_POSTGRES_APART = ("app/api/", "workers/")
"""Rooms whose tests are about HTTP and processes: what they say to a database is tested on both in their own rooms."""
ON_BOTH = ("test_idempotency", "test_registry", "test_fuzzing", "at_once")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `make postgres` what the default suite has on SQLite already, but races, fuzzing and the registry."""
    for item in items:
        spec = getattr(item, "callspec", None)
        on_postgres = spec is not None and any(isinstance(p, str) and p == "postgresql" for p in spec.params.values())
        apart = any(f"/tests/{room}" in item.path.as_posix() for room in TRIED_ON_POSTGRES_APART)
        if on_postgres and apart and not any(name in item.nodeid for name in ON_BOTH):
            item.add_marker(pytest.mark.postgres)


@pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
def pytest_order_for_xdist(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        in_order_of_length(items)


SERVICES = ("tests/browser", "tests/system", "tests/docs")
"""Rooms with a running service: each is one unit of work for pytest-xdist, so that no service is started twice."""
LONGEST = ("tests/browser", "tests/system", "tests/workers/test_models.py", "tests/docs", "tests/validation")


def scope_of(nodeid: str) -> str:
    """What one process of pytest-xdist does as a whole: a module, or a room with a service."""
    return next((room for room in SERVICES if nodeid.startswith(f"{room}/")), nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Scopes in the order of the items, see `in_order_of_length`; None is whatever else `--dist` says."""
    if config.getoption("dist") != "loadscope":
        return None
    config.option.loadscopereorder = False
    return _ByScope(config, log)


class _ByScope(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def in_order_of_length(items: list[pytest.Item]) -> None:
    """Long scopes first and small ones last: no process ends long before the other."""
    sizes = Counter(scope_of(item.nodeid) for item in items)

    def place(item: pytest.Item) -> tuple[int, int, str]:
        scope = scope_of(item.nodeid)
        rank = next((i for i, long in enumerate(LONGEST) if scope.startswith(long)), len(LONGEST))
        return rank, -sizes[scope], scope

    items.sort(key=place)  # stable: within a scope nothing changes


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """One real server for the whole run: TEST_REDIS_URL, or an embedded Valkey (one per process of pytest-xdist)."""
    external = os.environ.get("TEST_REDIS_URL")
    if external:
        if os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") != "1":
            pytest.fail("TEST_REDIS_URL names one database and tests flush it: run without -n", pytrace=False)
        yield external
        return
    with start_valkey() as server:
        yield server.url


@pytest.fixture
def empty_redis_url(redis_url: str) -> str:
    """The same server, flushed: for tests that look at what is in it."""
    with redis.from_url(redis_url) as client:
        client.flushdb()
    return redis_url


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One real PostgreSQL for the whole run; skips (or fails, with NORTHLIFT_REQUIRE_POSTGRES=1) where none can run."""
    try:
        with postgres_server() as server:
            yield server
    except PostgresUnavailable as error:
        skip_or_fail(str(error), "NORTHLIFT_REQUIRE_POSTGRES")


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A migrated PostgreSQL database of this test's own."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture(scope="session")
def migrated_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that SQLite databases are copied from."""
    path = tmp_path_factory.mktemp("template") / "migrated.sqlite3"
    migrate(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(migrated_sqlite_file: Path, tmp_path: Path) -> str:
    """A migrated SQLite database of this test's own."""
    path = tmp_path / "northlift.sqlite3"
    shutil.copyfile(migrated_sqlite_file, path)
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of this test's own: the test runs once on SQLite and once on PostgreSQL."""
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")


@pytest.fixture(scope="module", params=DATABASES)
def module_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database that the tests of one module share, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("module") / "northlift.sqlite3"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite_file"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(params=DATABASES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables, for tests of the migrations themselves."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'empty.sqlite3'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create(migrated=False)
    assert make_url(url).database
    yield url
    server.drop(url)
