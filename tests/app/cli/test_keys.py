"""The first admin key is made on the command line; keys are listed without their secret and revoked by prefix."""

import io

import pytest
from rich.console import Console

from app.cli.keys import create_key, is_valid, revoke_key, table_of_keys
from experiments import api_key
from experiments.database import Database
from experiments.errors import InvalidDefinition, NotFound
from experiments.settings import Settings
from experiments.types import utc_now

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url)


async def listed(settings: Settings) -> str:
    written = io.StringIO()
    Console(width=160, file=written).print(await table_of_keys(settings))
    return written.getvalue()


async def test_a_new_key_is_valid_and_is_listed_without_its_secret(settings: Settings) -> None:
    key = await create_key(settings, name="first", scopes=["admin"], days=30)
    assert key.startswith("nl_") and await is_valid(settings, key)
    text = await listed(settings)
    assert key[:9] in text and "first" in text and "admin" in text
    assert key not in text


async def test_a_revoked_key_is_not_valid_any_more(settings: Settings) -> None:
    kept = await create_key(settings, name="kept", scopes=["read"])
    ended = await create_key(settings, name="ended", scopes=["read", "ingest"])
    await revoke_key(settings, prefix=ended[:9])
    assert not await is_valid(settings, ended)
    assert await is_valid(settings, kept)


async def test_a_prefix_of_no_or_of_several_keys_revokes_none(settings: Settings) -> None:
    keys = [await create_key(settings, name=f"key {number}", scopes=["read"]) for number in range(2)]
    for prefix, count in (("nl_", 2), ("nl_nobody", 0)):
        with pytest.raises(NotFound, match=f"{count} valid keys begin with"):
            await revoke_key(settings, prefix=prefix)
    assert [await is_valid(settings, key) for key in keys] == [True, True]


async def test_an_unknown_scope_makes_no_key(settings: Settings) -> None:
    with pytest.raises(InvalidDefinition, match="Unknown scope: root"):
        await create_key(settings, name="x", scopes=["root"])
    assert "nl_" not in await listed(settings)


async def test_more_keys_than_fit_on_a_page_are_all_listed(settings: Settings) -> None:
    database = Database(settings.database_url)
    async with database.write() as session:
        for number in range(205):
            await api_key.issue(session, name=f"key-{number:03d}", scopes=["read"], actor="test", at=utc_now())
    await database.dispose()
    text = await listed(settings)
    assert [number for number in range(205) if f"key-{number:03d}" not in text] == []
