"""Problems, health, counters, and the OpenAPI document."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from pydantic import BaseModel

from app.api import examples
from app.api.problem_types import catalogue
from app.main import create_app
from experiments import api_key
from experiments.database import Database
from experiments.result import BaselineResult, MetricBaseline
from experiments.result import beliefs as result_beliefs
from experiments.settings import Settings
from tests.app.api.service import NOW, Service, assert_problem, created, metric

pytestmark = pytest.mark.anyio


async def test_what_does_not_exist_is_a_problem(shop: Service) -> None:
    for path in ("/v1/nothing", "/v1/metrics/nothing", "/v1/experiments/nothing/lineage", "/problems/nothing"):
        assert_problem(await shop.read.get(path), "not-found", 404)


async def test_a_wrong_method_is_told_all_the_right_ones(shop: Service) -> None:
    cases = {
        "/v1/metrics": "GET, POST",
        "/v1/metrics/orders_per_user": "GET, PUT",
        "/v1/experiments/one-page-checkout": "GET, PUT, PATCH",
        "/v1/api-keys": "GET, POST",
        "/v1/experiments/one-page-checkout/analyses": "GET, POST",
    }
    for path, allowed in cases.items():
        answer = await shop.write.delete(path)
        assert_problem(answer, "method-not-allowed", 405)
        assert answer.headers["allow"] == allowed


async def test_a_failure_of_ours_is_a_problem_without_its_insides(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret insides")

    monkeypatch.setattr("experiments.metric.create", fail)
    answer = await service.write.post("/v1/metrics", json=metric("x"))
    assert_problem(answer, "internal-error", 500)
    assert "secret" not in answer.text


async def test_a_commit_that_fails_is_the_answer(service: Service) -> None:
    def fail(connection: object) -> None:
        raise OSError("disk full")

    await service.fill(experiment=False)
    before = await service.counts()
    engine = service.database.engine.sync_engine
    sa.event.listen(engine, "commit", fail)
    answer = await service.write.post("/v1/metrics", json=metric("x"))
    sa.event.remove(engine, "commit", fail)
    assert_problem(answer, "internal-error", 500)
    assert await service.counts() == before


async def test_every_problem_type_explains_itself_to_programs_and_to_people(shop: Service) -> None:
    listed = (await shop.anonymous.get("/problems")).json()
    assert {item["address"] for item in listed} == {f"/problems/{slug}" for slug in catalogue()}
    for item in listed:
        assert item["meaning"] and item["title"]
        assert (await shop.anonymous.get(item["address"])).json() == item
        page = await shop.anonymous.get(item["address"], headers={"Accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        assert item["title"] in page.text


async def test_the_service_says_whether_it_is_alive_and_ready(shop: Service) -> None:
    assert (await shop.anonymous.get("/healthz")).json()["status"] == "ok"
    ready = await shop.anonymous.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ok", "database": "ok", "queue": "ok"})


async def test_a_service_without_its_tables_is_not_ready(tmp_path: Path, redis_url: str) -> None:
    app = create_app(Settings(database_url=f"sqlite+aiosqlite:///{tmp_path / 'empty.sqlite3'}", redis_url=redis_url))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["database"]) == (503, "unreachable or not migrated")


async def test_requests_are_counted(shop: Service) -> None:
    await shop.read.get("/v1/metrics")
    text = (await shop.anonymous.get("/metrics")).text
    assert 'northlift_http_requests_total{endpoint="list_metrics",method="GET",status="200"}' in text
    assert 'northlift_analyses{state="queued"} 0.0' in text


async def test_a_harmless_request_id_is_kept_and_any_other_replaced(shop: Service) -> None:
    kept = await shop.read.get("/v1/metrics", headers={"X-Request-ID": "trace-1.a_b"})
    assert kept.headers["x-request-id"] == "trace-1.a_b"
    for strange in ("a b", "x" * 65, "<script>"):
        replaced = await shop.read.get("/v1/metrics", headers={"X-Request-ID": strange})
        assert len(replaced.headers["x-request-id"]) == 16


async def test_the_document_describes_every_operation_with_its_problems(shop: Service) -> None:
    document = (await shop.anonymous.get("/openapi.json")).json()
    assert "HTTPValidationError" not in str(document)
    for path, operations in document["paths"].items():
        if not path.startswith("/v1/"):
            continue
        for operation in operations.values():
            assert operation["summary"], path
            assert {"401", "403", "422"} <= set(operation["responses"]), path
            for status, response in operation["responses"].items():
                if status.startswith("4"):
                    assert list(response["content"]) == ["application/problem+json"], (path, status)
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if operation["operationId"].startswith(("create_", "amend_", "decide_", "ingest_", "plan_", "issue_")):
                assert "examples" in body or "example" in body, path


async def test_the_document_says_what_everything_of_the_bayesian_engine_is(shop: Service) -> None:
    schemas = (await shop.anonymous.get("/openapi.json")).json()["components"]["schemas"]
    beliefs = schemas["Beliefs"]["properties"]
    assert [name for name, field in beliefs.items() if not field.get("description")] == []
    for name in vars(result_beliefs).values():
        if isinstance(name, type) and issubclass(name, BaseModel) and name.__name__ in schemas:
            assert schemas[name.__name__].get("description"), name
    assert {"FittedModel", "PriorUse", "WaitingValue", "EngineDecision", "LearnedPriorResult"} <= set(schemas)


async def test_examples_of_beliefs_are_taken_and_the_refused_one_is_refused_as_shown(service: Service) -> None:
    await service.fill(experiment=False)
    answer = await created(service.write, "/v1/metrics", examples.LIKELIHOOD_METRIC)
    assert answer.json()["likelihood"] == "hurdle_lognormal"
    answer = await created(service.write, "/v1/experiments", examples.BELIEFS_LEAD)
    assert answer.json()["estimation"]["beliefs"]["prior"] == "learned"
    refused = await service.write.post("/v1/experiments", json=examples.FLAT_PRIOR)
    assert_problem(refused, "invalid-definition", 422)
    assert {key: refused.json()[key] for key in examples.FLAT_PRIOR_REFUSED} == examples.FLAT_PRIOR_REFUSED
    document = (await service.anonymous.get("/openapi.json")).json()
    shown = document["paths"]["/v1/experiments"]["post"]["responses"]["422"]["content"]["application/problem+json"]
    assert shown["examples"]["a flat prior that is watched"]["value"] == examples.FLAT_PRIOR_REFUSED


async def test_launches_are_recorded_and_extended(service: Service) -> None:
    await service.fill()
    answer = await created(service.write, "/v1/launches", examples.LAUNCH)
    assert answer.headers["location"] == "/v1/launches/faster-search"
    longer = {
        **examples.LAUNCH,
        "experiment_key": "one-page-checkout",
        "shipped_variant": "one_page",
        "rollout": [*examples.LAUNCH["rollout"], {"at": "2026-10-01T00:00:00Z", "coverage": 0, "mechanism": "ordered"}],
    }
    changed = await service.write.put("/v1/launches/faster-search", json=longer, headers={"If-Match": '"1"'})
    assert (changed.status_code, len(changed.json()["rollout"])) == (200, 3), changed.text
    assert (await service.counts())["rollout_steps"] == 3
    found = await service.read.get("/v1/launches", params={"experiment_key": "one-page-checkout"})
    assert [item["key"] for item in found.json()["items"]] == ["faster-search"]
    seen = await service.read.get("/v1/launches/faster-search", headers={"If-None-Match": '"2"'})
    assert seen.status_code == 304
    before = await service.counts()
    for changes in (
        {"shipped_variant": "nothing"},
        {"experiment_key": "nothing"},
        {"experiment_key": None},
        {"rollout": []},
        {"rollout": longer["rollout"][::-1]},
        {"key": "other"},
    ):
        refused = await service.write.put(
            "/v1/launches/faster-search", json={**longer, **changes}, headers={"If-Match": "*"}
        )
        assert_problem(refused, "invalid-definition", 422)
    assert_problem(await service.write.post("/v1/launches", json=longer), "key-taken", 409)
    assert await service.counts() == before


async def test_sample_size_is_planned_from_the_latest_history(service: Service) -> None:
    await service.fill(experiment=False)
    wanted = {
        "unit_type": "user",
        "variants": examples.EXPERIMENT["variants"],
        "metrics": examples.EXPERIMENT["metrics"],
    }
    assert_problem(await service.read.post("/v1/sample-size", json=wanted), "not-found", 404)
    baseline = BaselineResult(
        analysis_id="a",
        unit_type="user",
        data_as_of=NOW,
        metrics=[
            MetricBaseline(metric_key=key, n=10_000, mean=0.4, sd=1.0, cuped_r_squared=0.2)
            for key in ("orders_per_user", "refunds_per_user")
        ],
        cumulative_units=[1000 * day for day in range(1, 57)],
        code_version="test",
    )
    await service.store_result(baseline.model_dump_json().encode(), kind="baseline", subject_key="user")
    planned = await service.read.post("/v1/sample-size", json=wanted)
    assert planned.status_code == 200, planned.text
    assert planned.json()["units"] > 1000
    assert planned.json()["limiting_metric"] in ("orders_per_user", "refunds_per_user")
    unbalanced = {**wanted, "variants": [{"key": "a", "weight": 0.5, "is_control": True}, {"key": "b", "weight": 0.4}]}
    assert_problem(await service.read.post("/v1/sample-size", json=unbalanced), "invalid-definition", 422)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_real_server_answers_over_a_real_socket(sqlite_url: str, redis_url: str, tmp_path: Path) -> None:
    database = Database(sqlite_url)
    async with database.write() as session:
        _, token = await api_key.issue(session, name="t", scopes=["admin"], actor="tests", at=NOW)
    await database.dispose()
    port = free_port()
    environment = {
        **os.environ,
        "NORTHLIFT_DATABASE_URL": sqlite_url,
        "NORTHLIFT_REDIS_URL": redis_url,
        "NORTHLIFT_DATA_DIR": str(tmp_path / "data"),
        "NORTHLIFT_MAX_UPLOAD_BYTES": "1048576",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app", "--port", str(port)]
    server = _started([*command, "--log-level", "warning"], environment)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": token}, timeout=30
        ) as client:
            await _until_alive(client, server)
            headers = {"Batch-Id": "b", "Content-Type": "application/x-ndjson"}
            row = b'{"event":"order","unit_id":"u","occurred_at":"2026-10-02T00:00:00Z"}\n'
            taken = await client.post("/v1/ingest/events", content=row * 1000, headers=headers)
            assert (taken.status_code, taken.json()["accepted"]) == (201, 1000), taken.text
            problem = await _upload_a_gigabyte(port, token)
            assert b" 413 " in problem and b"payload-too-large" in problem
            assert (await client.get("/healthz")).status_code == 200
    finally:
        server.terminate()
        assert server.wait(20) in (0, -15)


def _started(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, env=environment)


async def _until_alive(client: httpx.AsyncClient, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            await client.get("/healthz")
            return
        except httpx.TransportError:
            assert server.poll() is None and time.monotonic() < deadline, "the server did not start"
            await asyncio.sleep(0.1)


async def _upload_a_gigabyte(port: int, token: str) -> bytes:
    """Announce 1 GB and begin to send it; what the server answers before it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        "POST /v1/ingest/events HTTP/1.1\r\nHost: localhost\r\nBatch-Id: big\r\n"
        f"Content-Type: application/x-ndjson\r\nX-API-Key: {token}\r\nContent-Length: {1 << 30}\r\n\r\n"
    )
    writer.write(head.encode() + b" " * 65536)
    await writer.drain()
    headers = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    answer = headers + await asyncio.wait_for(reader.read(65536), 20)
    writer.close()
    return answer
