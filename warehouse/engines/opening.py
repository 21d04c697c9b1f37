"""From a connection to its engine."""

from contextlib import closing

from experiments.connection import Access, ConnectionCheck
from experiments.definitions import PostgresConnection
from experiments.errors import SourceUnreadable
from warehouse.engines.postgres import PostgresEngine
from warehouse.engines.spark import SparkEngine

type RemoteEngine = PostgresEngine | SparkEngine


def open_engine(access: Access) -> RemoteEngine:
    """A session on the warehouse. Whoever opens it closes it. Raises `SourceUnreadable`."""
    if isinstance(access.spec, PostgresConnection):
        return PostgresEngine(access.spec, access.secret)
    return SparkEngine(access.spec, access.secret)


def check(access: Access) -> ConnectionCheck:
    """Whether the warehouse can be opened and asked, and what the role may do. Blocks for seconds."""
    try:
        with closing(open_engine(access)) as engine:
            return engine.check()
    except SourceUnreadable as error:
        return ConnectionCheck(ok=False, problem=error.detail, remedy=error.remedy)
