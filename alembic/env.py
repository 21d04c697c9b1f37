"""Run the migrations over a synchronous connection, on SQLite and on PostgreSQL.

The URL is `config.attributes["url"]` (what `northlift migrate` and the tests set), else the service's own setting. A
caller that already has a connection passes it as `config.attributes["connection"]`.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.types import TypeDecorator
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

import experiments.tables  # noqa: F401  (fills the metadata)
from experiments.settings import Settings

SYNCHRONOUS_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}


def synchronous(url: str) -> URL:
    """The same database through a driver that blocks."""
    parsed = make_url(url)
    return parsed.set(drivername=SYNCHRONOUS_DRIVERS[parsed.get_backend_name()])


def render_item(kind: str, item: Any, autogen_context: AutogenContext) -> str | bool:
    """Write plain SQLAlchemy types: a migration is frozen history and must not import our code or SQLModel."""
    if kind != "type":
        return False
    if isinstance(item, AutoString):
        return f"sa.String(length={item.length})" if item.length else "sa.String()"
    if isinstance(item, TypeDecorator):
        plain = item.impl_instance if hasattr(item, "impl_instance") else item.impl
        return f"sa.{plain!r}"
    return False


def open_transactions_ourselves(engine: Engine) -> None:
    """Make a failed migration roll back on SQLite too: its driver does not open a transaction before DDL."""

    @sa.event.listens_for(engine, "connect")
    def configure(driver: Any, record: Any) -> None:
        driver.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_item=render_item,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        transaction_per_migration=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    attributes = context.config.attributes
    connection = attributes.get("connection")
    if connection is not None:
        run(connection)
        return
    url = synchronous(attributes.get("url") or Settings().database_url)
    if context.is_offline_mode():
        context.configure(url=url, target_metadata=SQLModel.metadata, literal_binds=True, render_item=render_item)
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if engine.dialect.name == "sqlite":
        open_transactions_ourselves(engine)
    with engine.connect() as fresh:
        run(fresh)


main()
