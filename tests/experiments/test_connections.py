"""Connections to warehouses and their secrets: written, used, and shown to nobody."""

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from experiments import audit, connection, fact_source, metric
from experiments.database import Database
from experiments.definitions import Measure, PostgresConnection, SparkConnection, TableSource
from experiments.errors import InUse, InvalidDefinition, KeyTaken, NoSecretKey, SecretUnreadable
from experiments.secret_keys import SecretKeys, new_key
from experiments.tables import Connection, Experiment
from tests.experiments.shop import AT, mean, open_shop

pytestmark = pytest.mark.anyio
SPEC = PostgresConnection(kind="postgres", key="dwh", host="db.example", database="shop", user="northlift_reader")
KEYS = SecretKeys(new_key())
SECRET = "p4ss'; DROP TABLE users --"


async def stored(session: AsyncSession, spec: PostgresConnection = SPEC, secret: str | None = SECRET) -> Connection:
    row = await connection.create(session, spec=spec, actor="ada", at=AT)
    if secret is not None:
        await connection.set_secret(session, connection=row, secret=secret, keys=KEYS, actor="ada", at=AT)
    return row


async def test_a_secret_opens_the_connection_and_is_nowhere_to_be_read(database: Database) -> None:
    async with database.write() as session:
        row = await stored(session)
    async with database.read() as session:
        row = await connection.get(session, key="dwh")
        opened = connection.access(row, KEYS)
        events = list((await audit.events(session, subject_key="dwh")).items)
    assert opened.secret == SECRET and opened.spec == SPEC
    assert row.secret is not None and SECRET.encode() not in row.secret
    assert SECRET not in repr(opened) and SECRET not in repr(KEYS)
    assert [event.action for event in events] == ["connection.secret_set", "connection.created"]
    assert all(SECRET not in f"{event.before} {event.after}" for event in events)
    assert SECRET not in str(row.spec)


async def test_a_secret_is_forgotten_where_the_connection_leads_elsewhere(database: Database) -> None:
    """Otherwise whoever may edit the connection could have the password sent to a server of their own."""
    for number, (changes, kept) in enumerate(
        [
            ({"name": "Warehouse", "statement_timeout_seconds": 60}, True),
            ({"host": "evil.example"}, False),
            ({"port": 6432}, False),
            ({"user": "postgres"}, False),
            ({"tls": "disable"}, False),
        ]
    ):
        async with database.write() as session:
            row = await stored(session, SPEC.model_copy(update={"key": f"dwh{number}"}))
            spec = connection.spec_of(row).model_copy(update=changes)
            await connection.update(session, connection=row, spec=spec, expected=2, actor="eve", at=AT)
            assert (row.secret is not None) == kept, changes
            assert row.version == 3


async def test_a_secret_that_was_moved_to_another_row_stays_shut(database: Database) -> None:
    async with database.write() as session:
        row = await stored(session)
        other = await stored(session, SPEC.model_copy(update={"key": "other", "host": "evil.example"}), None)
        await session.execute(sa.update(Connection).where(Connection.key == "other").values(secret=row.secret))  # type: ignore[arg-type]  # a column
        await session.refresh(other)
        with pytest.raises(SecretUnreadable):
            connection.access(other, KEYS)


async def test_keys_are_rotated_without_asking_for_secrets_again(database: Database) -> None:
    old, new = new_key(), new_key()
    async with database.write() as session:
        row = await connection.create(session, spec=SPEC, actor="ada", at=AT)
        await connection.set_secret(session, connection=row, secret=SECRET, keys=SecretKeys(old), actor="ada", at=AT)
    both = SecretKeys(f"{new}, {old}")
    async with database.write() as session:
        assert connection.access(await connection.get(session, key="dwh"), both).secret == SECRET
        assert await connection.seal_all_again(session, keys=both, actor="ada", at=AT) == 1
    async with database.read() as session:
        row = await connection.get(session, key="dwh")
    assert connection.access(row, SecretKeys(new)).secret == SECRET
    with pytest.raises(SecretUnreadable):
        connection.access(row, SecretKeys(old))


async def test_without_a_key_no_secret_is_kept(database: Database) -> None:
    async with database.write() as session:
        row = await stored(session, secret=None)
        with pytest.raises(NoSecretKey, match="no key to encrypt") as refused:
            await connection.set_secret(session, connection=row, secret=SECRET, keys=SecretKeys(""), actor="ada", at=AT)
    assert refused.value.remedy is not None and "northlift secrets new-key" in refused.value.remedy
    assert connection.access(row, SecretKeys("")).secret is None  # and none is needed where there is none
    with pytest.raises(NoSecretKey, match="no key"):
        SecretKeys("not a key")


async def test_a_connection_that_is_needed_stays(database: Database) -> None:
    table = TableSource(
        kind="table", key="sales", connection="dwh", table="sales", unit_column="u", timestamp_column="at"
    )
    async with database.write() as session:
        with pytest.raises(InvalidDefinition, match="no connection `dwh`"):
            await fact_source.create(session, spec=table, actor="ada", at=AT)
        row = await stored(session)
        source = await fact_source.create(session, spec=table, actor="ada", at=AT)
        with pytest.raises(InUse, match="the fact source `sales`"):
            await connection.delete(session, connection=row, expected=None, actor="ada", at=AT)
        # A frozen plan keeps the source that it was made with, whatever becomes of the source.
        draft = await open_shop(session)
        await metric.create(session, spec=mean("sold", measure=Measure(fact_source="sales")), actor="ada", at=AT)
        plan = {"fact_sources": [table.model_dump(mode="json")]}
        await session.execute(sa.update(Experiment).where(Experiment.id == draft.id).values(plan=plan))  # type: ignore[arg-type]  # a column
        events = table.model_dump() | {"kind": "file", "path": "sales.csv"}
        moved = fact_source.ADAPTER.validate_python(
            {name: value for name, value in events.items() if name not in ("connection", "table", "day_column")}
        )
        await fact_source.update(session, source=source, spec=moved, expected=None, actor="ada", at=AT)
        with pytest.raises(InUse, match="the plan of the experiment `draft`"):
            await connection.delete(session, connection=row, expected=None, actor="ada", at=AT)
        await session.execute(sa.update(Experiment).values(plan=None))
        await connection.delete(session, connection=row, expected=None, actor="ada", at=AT)
        assert await session.scalar(sa.select(sa.func.count()).select_from(Connection)) == 0


async def test_definitions_hold_no_secrets(database: Database) -> None:
    async with database.write() as session:
        for remote in ("sc://cluster:443/;token=abc", "sc://ada:secret@cluster:443"):
            with pytest.raises(InvalidDefinition, match="neither a token nor a password"):
                spec = SparkConnection(kind="spark", key="lake", remote=remote)
                await connection.create(session, spec=spec, actor="ada", at=AT)
        await stored(session, secret=None)
        with pytest.raises(KeyTaken):
            await stored(session, secret=None)
