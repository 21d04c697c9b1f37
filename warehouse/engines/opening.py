"""From a connection to its engine. The engines' libraries are loaded when one is opened: the API rarely does."""

from contextlib import closing
from typing import TYPE_CHECKING

from experiments.connection import Access, ConnectionCheck
from experiments.definitions import PostgresConnection
from experiments.errors import SourceUnreadable

if TYPE_CHECKING:
    from warehouse.engines.postgres import PostgresEngine
    from warehouse.engines.spark import SparkEngine


def open_engine(access: Access) -> "PostgresEngine | SparkEngine":
    """A session on the warehouse. Whoever opens it closes it. Raises `SourceUnreadable`."""
    if isinstance(access.spec, PostgresConnection):
        from warehouse.engines.postgres import PostgresEngine

        return PostgresEngine(access.spec, access.secret)
    from warehouse.engines.spark import SparkEngine

    return SparkEngine(access.spec, access.secret)


def check(access: Access) -> ConnectionCheck:
    """Whether the warehouse can be opened and asked, and what the role may do. Blocks for seconds."""
    try:
        with closing(open_engine(access)) as engine:
            return engine.check()
    except SourceUnreadable as error:
        return ConnectionCheck(ok=False, problem=error.detail, remedy=error.remedy)
