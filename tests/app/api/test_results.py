"""Analyses and results over HTTP: submitted once, followed to the end, served as the bytes that were stored."""

import asyncio
import json
import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from arq.connections import ArqRedis
from sqlmodel import col

from app.api.result_cache import LATEST_SECONDS, ResultCache
from experiments.tables import Analysis, Result, ResultRow
from tests.app.api.service import NOW, Service, assert_problem, pointers
from workers.queue import connect, job_id

pytestmark = pytest.mark.anyio
KEY = "/v1/experiments/one-page-checkout"


async def set_state(service: Service, analysis_id: str, **values: Any) -> None:
    async with service.database.write() as session:
        await session.execute(sa.update(Analysis).where(col(Analysis.id) == uuid.UUID(analysis_id)).values(**values))


async def test_an_analysis_is_submitted_once_per_plan_and_time(service: Service) -> None:
    await service.fill(started=True)
    body = {"data_as_of": "2026-10-20T00:00:00Z"}
    answers = await asyncio.gather(*(service.write.post(f"{KEY}/analyses", json=body) for _ in range(6)))
    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1
    document = answers[0].json()
    assert (document["state"], document["subject_key"]) == ("queued", "one-page-checkout")
    assert answers[0].headers["location"] == f"/v1/analyses/{document['id']}"
    listed = (await service.read.get(f"{KEY}/analyses")).json()["items"]
    assert [item["id"] for item in listed] == [document["id"]]
    assert (await service.read.get("/v1/analyses", params={"state": "running"})).json()["items"] == []


async def test_workers_are_told_after_the_commit(service: Service, empty_redis_url: str) -> None:
    await service.fill(started=True)
    document = (await service.write.post(f"{KEY}/analyses")).json()
    await service.app.state.background.finish()
    queue: ArqRedis = await connect(empty_redis_url)
    try:
        assert await queue.exists(f"arq:job:{job_id(uuid.UUID(document['id']), 0)}")
    finally:
        await queue.aclose()


async def test_what_cannot_be_analysed_says_why(service: Service) -> None:
    await service.fill()
    before = await service.counts()
    assert "/start" in assert_problem(await service.write.post(f"{KEY}/analyses"), "not-ready", 409)["remedy"]
    assert_problem(await service.write.post("/v1/experiments/nothing/analyses"), "not-found", 404)
    assert_problem(await service.write.post("/v1/baselines/account/analyses"), "not-found", 404)
    assert_problem(await service.write.post("/v1/north-stars/nothing/analyses"), "not-found", 404)
    await service.write.post(f"{KEY}/start")
    future = await service.write.post(f"{KEY}/analyses", json={"data_as_of": "2100-01-01T00:00:00Z"})
    assert pointers(assert_problem(future, "invalid-definition", 422)) == ["/data_as_of"]
    after = await service.counts()
    assert after["analyses"] == before["analyses"] == 0


async def test_north_stars_and_baselines_are_analysed_too(service: Service) -> None:
    await service.fill()
    for path, kind in (("north-stars/weekly_orders", "north_star"), ("baselines/user", "baseline")):
        answer = await service.write.post(f"/v1/{path}/analyses")
        assert (answer.status_code, answer.json()["kind"]) == (202, kind), answer.text


async def test_a_queued_analysis_is_cancelled_at_once_and_can_be_asked_for_again(service: Service) -> None:
    await service.fill(started=True)
    body = {"data_as_of": "2026-10-20T00:00:00Z"}
    document = (await service.write.post(f"{KEY}/analyses", json=body)).json()
    path = f"/v1/analyses/{document['id']}"
    cancelled = (await service.write.post(f"{path}/cancel")).json()
    assert cancelled["state"] == "cancelled"
    assert_problem(await service.read.get(f"{path}/result"), "not-ready", 409)
    again = (await service.write.post(f"{KEY}/analyses", json=body)).json()
    assert (again["id"], again["state"]) == (document["id"], "queued")
    await set_state(service, document["id"], state="succeeded")
    assert_problem(await service.write.post(f"{path}/cancel"), "not-ready", 409)
    assert_problem(await service.read.get(f"/v1/analyses/{uuid.uuid4()}"), "not-found", 404)
    assert_problem(await service.read.get("/v1/analyses/not-an-id"), "invalid-definition", 422)


async def test_progress_is_followed_to_the_end(service: Service) -> None:
    await service.fill(started=True)
    document = (await service.write.post(f"{KEY}/analyses")).json()
    path = f"/v1/analyses/{document['id']}"

    async def work() -> None:
        for fraction in (0.25, 0.75):
            await asyncio.sleep(0.3)
            await set_state(service, document["id"], state="running", stage="inference", fraction=fraction)
        await asyncio.sleep(0.3)
        await set_state(service, document["id"], state="failed", error={"type": "x", "detail": "y"})

    working = asyncio.create_task(work())
    answer = await service.read.get(f"{path}/events", timeout=20)
    await working
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\n") for block in answer.text.strip().split("\n\n") if block.startswith("event")]
    names = [lines[0].removeprefix("event: ") for lines in events]
    documents = [json.loads(lines[1].removeprefix("data: ")) for lines in events]
    assert names == ["progress"] * (len(names) - 1) + ["done"]
    fractions = [item["fraction"] for item in documents]
    assert fractions == sorted(fractions) and {0.25, 0.75} <= set(fractions)
    assert documents[-1]["state"] == "failed"
    assert_problem(await service.read.get(f"/v1/analyses/{uuid.uuid4()}/events"), "not-found", 404)


async def test_results_are_served_as_the_bytes_that_were_stored(service: Service) -> None:
    await service.fill(started=True)
    body = b'{"b":1,"a":[1.0,2e-7],"name":"\xc3\xa9"}'
    stored = await service.store_result(body, subject_key="one-page-checkout", verdict="better")
    for _ in range(2):  # from the database, then from memory
        for path in (f"/v1/results/{stored.id}", f"{KEY}/result"):
            answer = await service.read.get(path)
            assert (answer.status_code, answer.content) == (200, body), answer.text
            assert answer.headers["etag"] == f'"{stored.etag}"'
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-request-id"]
            seen = await service.read.get(path, headers={"If-None-Match": f'"{stored.etag}"'})
            assert (seen.status_code, seen.content, seen.headers["etag"]) == (304, b"", f'"{stored.etag}"')
    assert "immutable" in (await service.read.get(f"/v1/results/{stored.id}")).headers["cache-control"]
    assert "no-cache" in (await service.read.get(f"{KEY}/result")).headers["cache-control"]


async def test_bytes_in_memory_are_only_for_keys_that_may_read(service: Service) -> None:
    await service.fill(started=True)
    stored = await service.store_result(b"{}", subject_key="one-page-checkout")
    for path in (f"/v1/results/{stored.id}", f"{KEY}/result"):
        assert (await service.read.get(path)).status_code == 200
        assert_problem(await service.anonymous.get(path), "unauthenticated", 401)
        for _ in range(2):
            assert_problem(await service.ingest.get(path), "forbidden", 403)


async def test_the_latest_result_is_the_one_with_the_newest_data(service: Service) -> None:
    await service.fill(started=True)
    assert_problem(await service.read.get(f"{KEY}/result"), "not-found", 404)
    assert_problem(await service.read.get(f"{KEY}/rows"), "not-found", 404)
    newest = await service.store_result(b'{"n":2}', subject_key="one-page-checkout")
    await service.store_result(b'{"n":1}', subject_key="one-page-checkout", data_as_of=NOW.replace(year=2020))
    await service.store_result(b'{"n":3}', subject_key="another")
    assert (await service.read.get(f"{KEY}/result")).json() == {"n": 2}
    history = (await service.read.get(f"{KEY}/results")).json()["items"]
    assert sorted(item["data_as_of"][:4] for item in history) == ["2020", "2026"]
    third = await service.store_result(b'{"n":4}', subject_key="one-page-checkout")
    await asyncio.sleep(LATEST_SECONDS + 0.05)
    assert (await service.read.get(f"{KEY}/result")).headers["x-result-id"] == str(third.id) != str(newest.id)


async def test_who_sees_an_analysis_succeed_sees_its_result_as_the_latest(service: Service) -> None:
    await service.fill(started=True)
    await service.store_result(b'{"n":1}', subject_key="one-page-checkout")
    document = (await service.write.post(f"{KEY}/analyses")).json()
    assert (await service.read.get(f"{KEY}/result")).json() == {"n": 1}
    second = await service.store_result(b'{"n":2}', subject_key="one-page-checkout")
    await set_state(service, document["id"], state="succeeded", result_id=second.id)
    assert (await service.read.get(f"/v1/analyses/{document['id']}")).json()["state"] == "succeeded"
    assert (await service.read.get(f"{KEY}/result")).json() == {"n": 2}
    assert (await service.read.get(f"/v1/analyses/{document['id']}/result")).json() == {"n": 2}


async def test_series_and_baselines_are_served_as_stored(service: Service) -> None:
    await service.fill()
    assert_problem(await service.read.get("/v1/north-stars/weekly_orders/series"), "not-found", 404)
    assert_problem(await service.read.get("/v1/baselines/user"), "not-found", 404)
    await service.store_result(b'{"points":[]}', kind="north_star", subject_key="weekly_orders")
    await service.store_result(b'{"metrics":[]}', kind="baseline", subject_key="user")
    assert (await service.read.get("/v1/north-stars/weekly_orders/series")).json() == {"points": []}
    assert (await service.read.get("/v1/baselines/user")).json() == {"metrics": []}


async def test_rows_are_filtered(service: Service) -> None:
    await service.fill(started=True)
    stored = await service.store_result(b"{}", subject_key="one-page-checkout")
    base = {
        "result_id": stored.id,
        "experiment_key": "one-page-checkout",
        "metric_version": 1,
        "variant_key": "one_page",
        "method": "A1",
        "interval_kind": "log_delta",
        "n_control": 3_000_000_000,
        "n_treatment": 10,
        "ci_level": 0.95,
        "estimable": False,
        "reason": "too_few_units",
    }
    numbers = dict.fromkeys(set(ResultRow.model_fields) - set(base) - {"id"})
    async with service.database.write() as session:
        session.add(ResultRow(**numbers | base | {"metric_key": "orders_per_user", "role": "primary"}))
        segment = {
            "metric_key": "refunds_per_user",
            "role": "guardrail",
            "segment_dimension": "country",
            "segment": "NO",
        }
        session.add(ResultRow(**numbers | base | segment))

    async def found(**params: Any) -> list[str]:
        answer = await service.read.get(f"{KEY}/rows", params=params)
        assert answer.status_code == 200, answer.text
        return [item["metric_key"] for item in answer.json()["items"]]

    assert sorted(await found()) == ["orders_per_user", "refunds_per_user"]
    assert await found(role="primary") == ["orders_per_user"]
    assert await found(overall=False) == ["refunds_per_user"]
    assert await found(overall=True, metric_key="orders_per_user") == ["orders_per_user"]
    assert await found(segment_dimension="country", variant_key="one_page") == ["refunds_per_user"]
    assert await found(result_id=str(uuid.uuid4())) == []


def test_memory_holds_the_results_asked_for_most_recently() -> None:
    now = 0.0
    cache = ResultCache(max_bytes=25, clock=lambda: now)
    rows = [Result(kind="experiment", subject_key="x", body=b"0123456789", etag=str(n)) for n in range(3)]
    cache.put(rows[0])
    cache.put(rows[1])
    assert cache.get(str(rows[0].id)) is not None
    cache.put(rows[2])
    assert [cache.get(str(row.id)) is not None for row in rows] == [True, False, True]
    cache.put(Result(kind="experiment", subject_key="x", body=b"x" * 100, etag="big"))
    assert cache.get(str(rows[2].id)) is not None
    cache.remember_latest("experiment", "x", rows[2].id)
    assert cache.latest("experiment", "x") is cache.get(str(rows[2].id))
    now = LATEST_SECONDS + 0.01
    assert cache.latest("experiment", "x") is None


async def test_rows_carry_corrected_and_deciding_numbers_and_beliefs_beside_the_plain_ones(service: Service) -> None:
    await service.fill(started=True)
    stored = await service.store_result(b"{}", subject_key="one-page-checkout")
    numbers: dict[str, Any] = {
        "p_value": 0.01,
        "p_value_adjusted": 0.02,
        "ci_lower_adjusted": 0.001,
        "ci_upper_adjusted": 0.09,
        "always_valid_lower": -0.01,
        "always_valid_upper": 0.1,
        "log_e_value": 2.5,
        "harm_p_value": 1.0,
        "non_inferiority_p_value": 0.004,
        "decision_lower": 0.001,
        "decision_upper": 0.09,
        "decision_p_value": 0.02,
        "significant": True,
        "equivalent": False,
        "family": "success",
        "correction": "holm (intervals: bonferroni)",
        "chance_to_win": 0.97,
        "expected_loss": 0.0002,
        "expected_loss_of_not_shipping": 0.021,
        "posterior_lift": 0.02,
        "hdi_lower": -0.001,
        "hdi_upper": 0.041,
        "rope_probability": 0.1,
        "prior_source": "learned from 24 experiments (version 3); hurdle-lognormal units",
    }
    rest: dict[str, Any] = dict.fromkeys(set(ResultRow.model_fields) - set(numbers) - {"id"})
    rest |= {"result_id": stored.id, "experiment_key": "one-page-checkout", "metric_key": "orders_per_user"}
    rest |= {"metric_version": 1, "variant_key": "one_page", "role": "primary", "method": "A1", "interval_kind": "none"}
    rest |= {"n_control": 1, "n_treatment": 1, "ci_level": 0.95, "estimable": True}
    async with service.database.write() as session:
        session.add(ResultRow(**rest, **numbers))
    (item,) = (await service.read.get(f"{KEY}/rows")).json()["items"]
    assert {name: item[name] for name in numbers} == numbers
