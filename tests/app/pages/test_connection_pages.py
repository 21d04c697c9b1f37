"""The pages of connections: registering, the password that nobody sees again, checking, deleting."""

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.main import create_app
from experiments import api_key
from experiments.secret_keys import new_key
from experiments.settings import Settings
from tests.app.pages.conftest import Reader
from tests.app.world import NOW

pytestmark = pytest.mark.anyio
FIELDS = {
    "kind": "postgres", "key": "dwh", "name": "Warehouse", "host": "/nowhere", "port": "5432", "database": "shop",
    "user": "reader", "tls": "verify-full", "statement_timeout_seconds": "300", "restatement_days": "3",
}  # fmt: skip


@pytest.fixture
def app(database_url: str, redis_url: str) -> FastAPI:
    settings = Settings(
        database_url=database_url, redis_url=redis_url, sqlite_synchronous="OFF", secret_keys=SecretStr(new_key())
    )
    return create_app(settings, clock=lambda: NOW)


async def as_administrator(reader: Reader) -> None:
    async with reader.database.write() as session:
        _, token = await api_key.issue(session, name="root", scopes=["admin"], actor="tests", at=NOW)
    assert (await reader.sign_in(token)).status_code == 303


async def test_a_connection_is_registered_secured_checked_changed_and_deleted(visitor: Reader) -> None:
    await as_administrator(visitor)
    assert "No warehouse is connected" in (await visitor.http.get("/connections")).text
    assert 'href="/connections"' in (await visitor.http.get("/catalogue")).text
    assert "Spark Connect" in (await visitor.http.get("/connections/new?kind=spark")).text
    assert 'value="5432"' in (await visitor.http.get("/connections/new")).text
    answer = await visitor.submit("/connections/new", **FIELDS)
    assert (answer.status_code, answer.headers["location"]) == (303, "/connections/dwh"), answer.text
    page = (await visitor.http.get("/connections/dwh")).text
    assert "Not checked since it was last changed" in page and "None is kept" in page and "nothing yet" in page
    assert (await visitor.submit("/connections/dwh/secret", secret="hunter2")).status_code == 303
    assert (await visitor.submit("/connections/dwh/check")).status_code == 303
    page = (await visitor.http.get("/connections/dwh")).text
    assert "It cannot be used" in page and "One is kept, encrypted" in page and "hunter2" not in page
    listed = (await visitor.http.get("/connections")).text
    assert "reader@/nowhere/shop" in listed and "Failed" in listed
    assert '<a href="/catalogue" aria-current="page">Metrics</a>' in listed
    edit = (await visitor.http.get("/connections/dwh/edit")).text
    assert 'name="version" value="2"' in edit and 'value="300"' in edit
    changed = await visitor.submit("/connections/dwh/edit", **FIELDS | {"version": "2", "host": "dwh.example"})
    assert changed.status_code == 303
    assert "None is kept" in (await visitor.http.get("/connections/dwh")).text
    late = await visitor.submit("/connections/dwh/edit", **FIELDS | {"version": "2"})
    assert late.status_code == 412
    assert (await visitor.submit("/connections/dwh/delete")).headers["location"] == "/connections"
    assert (await visitor.http.get("/connections/dwh")).status_code == 404


async def test_what_cannot_be_meant_is_said_beside_its_field(visitor: Reader) -> None:
    await as_administrator(visitor)
    spark = FIELDS | {"kind": "spark", "remote": "local[2]"}
    for fields, said in (
        (FIELDS | {"port": "many"}, 'id="port-error"'),
        (FIELDS | {"host": ""}, 'id="host-error"'),
        (FIELDS | {"key": "Not A Key"}, 'id="key-error"'),
        (spark | {"remote": "http://cluster"}, 'id="remote-error"'),
        (spark | {"remote": "sc://cluster/;token=x"}, "neither a token nor a password"),
        (spark | {"parquet": "events"}, "is not “table = folder”"),
    ):
        answer = await visitor.submit("/connections/new", **fields)
        assert answer.status_code == 422, fields
        assert said in answer.text and 'value="Warehouse"' in answer.text
    answer = await visitor.submit("/connections/new", **spark | {"parquet": "events = /data/events\n\n"})
    assert answer.status_code == 303
    assert "/data/events" in (await visitor.http.get("/connections/dwh")).text


async def test_only_administrators_change_connections(newcomer: Reader) -> None:
    assert "An administrator may connect one" in (await newcomer.http.get("/connections")).text
    assert (await newcomer.http.get("/connections/new")).status_code == 403
    for path in ("new", "dwh/edit", "dwh/secret", "dwh/check", "dwh/delete"):
        assert (await newcomer.submit(f"/connections/{path}", **FIELDS)).status_code == 403, path
    forged = await newcomer.http.post("/connections/new", data=FIELDS)
    assert forged.status_code == 403
