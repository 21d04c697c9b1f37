"""Every engine with every world in it: what is slow, starting one and loading it, happens once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path

import psycopg
import pytest

from experiments.connection import Access
from experiments.definitions import MetricSpec, SparkConnection
from stats.moment_set import MomentSet
from tests.engines.cases import WORLDS
from tests.engines.plain_pass import Found, plainly
from tests.engines.worlds import World, copy_into, write_files, write_folders
from tests.servers import Postgres
from tests.warehouse.tables import postgres_connection
from warehouse.engines.contract import Engine
from warehouse.engines.embedded import DuckDBEngine
from warehouse.engines.opening import open_engine
from warehouse.engines.postgres import PostgresEngine
from warehouse.extract import extract_experiment
from warehouse.relational_moments import extract_relational

type Road = Callable[[str], MomentSet]


@cache
def world(name: str) -> World:
    """A world of `WORLDS`; skips the test where its data are not on this machine."""
    return WORLDS[name]()


def _known(name: str) -> World | None:
    try:
        return world(name)
    except pytest.skip.Exception:
        return None


@pytest.fixture(scope="session")
def specs() -> Callable[[str], Sequence[MetricSpec]]:
    """The metrics of a world."""
    return lambda name: world(name).metrics


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with a world's files."""

    @cache
    def folder(name: str) -> Path:
        made = tmp_path_factory.mktemp(name)
        write_files(world(name), made)
        return made

    return folder


@pytest.fixture(scope="session")
def embedded(files: Callable[[str], Path]) -> Road:
    @cache
    def road(name: str) -> MomentSet:
        return extract_experiment(world(name).plan(), world(name).slice(files(name)), threads=1)

    return road


@pytest.fixture(scope="session")
def plain(embedded: Road) -> Callable[[str], Found]:
    """What loops find at the looks of the embedded road."""

    @cache
    def found(name: str) -> Found:
        return plainly(world(name), embedded(name).looks)

    return found


@pytest.fixture(scope="session")
def duckdb_road(files: Callable[[str], Path]) -> Iterator[Road]:
    with closing(DuckDBEngine(threads=1)) as engine:
        yield cache(lambda name: extract_relational(world(name).plan(), world(name).slice(files(name)), engine))


@pytest.fixture(scope="session")
def postgres_road(postgres: Postgres) -> Iterator[Road]:
    url = postgres.create(migrated=False)
    spec, secret = postgres_connection(url)

    def road(name: str) -> MomentSet:
        with psycopg.connect(
            host=spec.host, port=spec.port, dbname=spec.database, user=spec.user, password=secret, autocommit=True
        ) as owner:
            copy_into(world(name), owner, name)
        with closing(PostgresEngine(spec, secret)) as engine:
            return _in_tables(engine, name, f"{name}.")

    yield road
    postgres.drop(url)


@pytest.fixture(scope="module")  # a process has one session of Spark at a time, and others follow
def spark_road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    pytest.importorskip("pyspark", reason="`make engines` installs Spark")
    folder = tmp_path_factory.mktemp("spark")
    parquet = {}
    for name in WORLDS:
        if (here := _known(name)) is not None:
            tables = write_folders(here, folder / name)
            parquet |= {f"{name} {key}": path for key, path in tables.items()}
    spec = SparkConnection(kind="spark", key="dwh", remote="local[2]", parquet=parquet)
    with closing(open_engine(Access(spec))) as engine:
        yield lambda name: _in_tables(engine, name, f"{name} ")


def _in_tables(engine: Engine, name: str, prefix: str) -> MomentSet:
    return extract_relational(world(name).plan("table", prefix), world(name).slice(), engine)
