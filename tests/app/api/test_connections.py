"""Connections over HTTP: administrators change them, everybody who reads sees where they are, nobody sees secrets."""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from app.api import examples
from experiments.secret_keys import new_key
from experiments.settings import Settings
from tests.app.api.service import Service, assert_problem, created, pointers
from tests.servers import Postgres

pytestmark = pytest.mark.anyio
SECRET = "hunter2'--"
PATH = "/v1/connections/dwh"


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        sqlite_synchronous="OFF",
        secret_keys=SecretStr(new_key()),
    )


async def test_a_connection_lives_from_registration_to_deletion(service: Service) -> None:
    answer = await created(service.admin, "/v1/connections", examples.CONNECTION)
    assert (answer.headers["location"], answer.headers["etag"]) == (PATH, '"1"')
    assert_problem(await service.admin.post("/v1/connections", json=examples.CONNECTION), "key-taken", 409)
    assert (await service.read.get(PATH, headers={"If-None-Match": '"1"'})).status_code == 304
    kept = await service.admin.put(f"{PATH}/secret", json={"secret": SECRET})
    assert kept.status_code == 200 and kept.json()["has_secret"] is True and kept.json()["version"] == 2
    changed = {**examples.CONNECTION, "name": "Warehouse"}
    assert_problem(await service.admin.put(PATH, json=changed, headers={"If-Match": '"1"'}), "version-conflict", 412)
    assert_problem(await service.admin.put(PATH, json=changed), "precondition-required", 428)
    answers = await asyncio.gather(
        *(service.admin.put(PATH, json={**changed, "port": port}, headers={"If-Match": '"2"'}) for port in (1, 2))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    now = (await service.read.get(PATH)).json()
    assert (now["version"], now["has_secret"], now["definition"]["name"]) == (3, False, "Warehouse")
    listed = (await service.read.get("/v1/connections")).json()["items"]
    assert [item["key"] for item in listed] == ["dwh"]
    source = {"kind": "table", "key": "sales", "connection": "dwh", "table": "s", "unit_column": "u"}
    await created(service.write, "/v1/fact-sources", {**source, "timestamp_column": "at"})
    used = assert_problem(await service.admin.delete(PATH), "in-use", 409)
    assert "the fact source `sales`" in used["detail"]
    lake = {**source, "key": "lake", "connection": "lake", "timestamp_column": "at"}
    refused = assert_problem(await service.write.post("/v1/fact-sources", json=lake), "invalid-definition", 422)
    assert pointers(refused) == ["/connection"]
    await created(service.admin, "/v1/connections", examples.SPARK_CONNECTION)
    assert (await service.admin.delete("/v1/connections/lake")).status_code == 204
    assert_problem(await service.read.get("/v1/connections/lake"), "not-found", 404)


async def test_a_secret_is_in_no_answer_no_audit_event_and_no_problem(service: Service) -> None:
    await created(service.admin, "/v1/connections", {**examples.CONNECTION, "host": "/nowhere"})
    texts = [
        (await service.admin.put(f"{PATH}/secret", json={"secret": SECRET})).text,
        (await service.admin.put(f"{PATH}/secret", json={"secret": SECRET * 1000})).text,
        (await service.admin.put(f"{PATH}/secret", json={"secret": SECRET, "also": SECRET})).text,
        (await service.admin.put(f"{PATH}/secret", json=SECRET)).text,
        (await service.admin.post(f"{PATH}/check")).text,
        (await service.admin.get(PATH)).text,
        (await service.admin.get("/v1/audit-events")).text,
    ]
    assert all(SECRET not in text for text in texts)
    assert '"ok":false' in texts[4] and "connection.secret_set" in texts[6] and "connection.checked" in texts[6]
    forgotten = await service.admin.put(f"{PATH}/secret", json={"secret": None})
    assert forgotten.json()["has_secret"] is False and forgotten.json()["check"] is None


async def test_a_check_is_kept_with_the_connection(service: Service, postgres: Postgres) -> None:
    url = make_url(postgres.create(migrated=False))
    place = {"host": url.query.get("host", url.host), "port": url.port or 5432, "tls": "disable"}
    document = {**examples.CONNECTION, **place, "database": url.database, "user": url.username}
    await created(service.admin, "/v1/connections", document)
    if url.password:
        await service.admin.put(f"{PATH}/secret", json={"secret": url.password})
    found = (await service.admin.post(f"{PATH}/check")).json()
    assert found["ok"] and found["server"].startswith("PostgreSQL") and found["read_only"] is False
    kept = (await service.read.get(PATH)).json()
    assert kept["check"] == found and kept["checked_at"] is not None
    assert_problem(await service.admin.post("/v1/connections/nowhere/check"), "not-found", 404)
    postgres.drop(url.render_as_string(hide_password=False))


async def test_without_a_key_the_service_says_how_to_make_one(service: Service) -> None:
    service.app.state.settings = service.app.state.settings.model_copy(update={"secret_keys": None})
    await created(service.admin, "/v1/connections", examples.CONNECTION)
    refused = assert_problem(await service.admin.put(f"{PATH}/secret", json={"secret": SECRET}), "no-secret-key", 409)
    assert "northlift secrets new-key" in refused["remedy"]
