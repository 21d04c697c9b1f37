"""The migrations build exactly the tables of the models, and can be undone, on both databases."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL, make_url

from experiments.tables import metadata
from tests.servers import REPOSITORY

SYNCHRONOUS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}


def synchronous(url: str) -> URL:
    parsed = make_url(url)
    return parsed.set(drivername=SYNCHRONOUS[parsed.get_backend_name()])


def config_for(url: str) -> Config:
    config = Config(str(REPOSITORY / "alembic.ini"))
    config.attributes["url"] = url
    return config


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(synchronous(database_url), poolclass=sa.NullPool)
    yield engine
    engine.dispose()


def test_the_migrated_database_has_no_drift_from_the_models(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_every_table_and_index_of_the_models_exists_after_migrating(engine: sa.Engine) -> None:
    inspector = sa.inspect(engine)
    assert set(inspector.get_table_names()) == {*metadata.tables, "alembic_version"}
    for table in metadata.sorted_tables:
        present = {index["name"] for index in inspector.get_indexes(table.name)}
        assert {index.name for index in table.indexes} <= present


def test_downgrading_removes_everything_and_upgrading_again_restores_it(database_url: str, engine: sa.Engine) -> None:
    command.downgrade(config_for(database_url), "base")
    assert set(sa.inspect(engine).get_table_names()) == {"alembic_version"}
    command.upgrade(config_for(database_url), "head")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_each_revision_can_be_stepped_down_and_up(database_url: str, engine: sa.Engine) -> None:
    script = ScriptDirectory.from_config(config_for(database_url))
    revisions = [revision.revision for revision in script.walk_revisions()]
    assert len(revisions) == len(set(revisions)), "one linear history"
    assert len(script.get_heads()) == 1
    for _ in revisions:
        command.downgrade(config_for(database_url), "-1")
    for _ in revisions:
        command.upgrade(config_for(database_url), "+1")
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == revisions[0]


def test_rows_that_are_stored_survive_new_columns_and_losing_them_again(database_url: str, engine: sa.Engine) -> None:
    command.downgrade(config_for(database_url), "0001")
    at, key = datetime(2026, 1, 1, tzinfo=UTC), "checkout"
    result, row = uuid.uuid4(), uuid.uuid4()
    types = {table.name: {column.name: column.type for column in table.columns} for table in metadata.sorted_tables}

    def insert(connection: sa.Connection, name: str, **values: object) -> None:
        table = sa.table(name, *(sa.column(column, types[name][column]) for column in values))
        connection.execute(sa.insert(table).values(**values))

    with engine.begin() as connection:
        stored = {"kind": "experiment", "subject_key": key, "data_as_of": at, "body": b"{}", "etag": "e"}
        insert(connection, "results", id=result, created_at=at, **stored)
        numbers = {"n_control": 2**40, "n_treatment": 7, "ci_level": 0.95, "lift": 0.125, "estimable": True}
        names = {"experiment_key": key, "metric_key": "m", "variant_key": "b", "role": "primary", "method": "A1"}
        more = {"metric_version": 1, "interval_kind": "none"}
        insert(connection, "result_rows", id=row, result_id=result, **numbers, **names, **more)
    command.upgrade(config_for(database_url), "head")
    rows = sa.select(sa.text("lift, n_control, family, p_value_adjusted, significant, hdi_lower, prior_source"))
    with engine.connect() as connection:
        found = connection.execute(rows.select_from(sa.text("result_rows"))).one()
        assert found == (0.125, 2**40, None, None, None, None, None)
    command.downgrade(config_for(database_url), "0001")
    with engine.connect() as connection:
        assert connection.execute(sa.text("select lift, n_control from result_rows")).one() == (0.125, 2**40)


def test_metadata_names_are_the_same_on_both_databases() -> None:
    unnamed = [
        (table.name, constraint)
        for table in metadata.sorted_tables
        for constraint in table.constraints
        if constraint.name is None
    ]
    assert unnamed == []
