"""Requests that come twice, at once or later; writers that meet."""

import asyncio

import pytest

from app.api import examples
from tests.app.api.service import Service, assert_problem, created, experiment, metric

pytestmark = pytest.mark.anyio


async def test_twenty_requests_at_once_with_one_key_have_one_effect_and_one_answer(service: Service) -> None:
    await service.fill(experiment=False)
    headers = {"Idempotency-Key": "the-same"}
    answers = await asyncio.gather(
        *(service.write.post("/v1/experiments", json=experiment(), headers=headers) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert {answer.headers["location"] for answer in answers} == {"/v1/experiments/one-page-checkout"}
    counts = await service.counts()
    assert (counts["experiments"], counts["idempotent_requests"]) == (1, 1)


async def test_a_key_with_another_request_is_a_mistake(service: Service) -> None:
    await service.fill(experiment=False)
    headers = {"Idempotency-Key": "k"}
    await service.write.post("/v1/metrics", json=metric("first"), headers=headers)
    before = await service.counts()
    for path, document in (("/v1/metrics", metric("second")), ("/v1/experiments", experiment())):
        answer = await service.write.post(path, json=document, headers=headers)
        assert_problem(answer, "idempotency-mismatch", 422)
    assert await service.counts() == before
    # The same text from another caller is another key.
    other = await service.admin.post("/v1/metrics", json=metric("second"), headers=headers)
    assert other.status_code == 201


async def test_a_request_that_failed_may_be_repeated_with_its_key(service: Service) -> None:
    headers = {"Idempotency-Key": "k"}
    refused = await service.write.post("/v1/metrics", json=examples.METRIC, headers=headers)
    assert_problem(refused, "invalid-definition", 422)
    assert (await service.counts())["idempotent_requests"] == 0
    await created(service.write, "/v1/fact-sources", examples.FACT_SOURCE)
    answer = await service.write.post("/v1/metrics", json=examples.METRIC, headers=headers)
    assert (answer.status_code, "idempotent-replayed" in answer.headers) == (201, False)


async def test_moves_and_analyses_are_repeated_too(service: Service) -> None:
    await service.fill()
    for path in ("start", "analyses"):
        headers = {"Idempotency-Key": path}
        first, second = [
            await service.write.post(f"/v1/experiments/one-page-checkout/{path}", headers=headers) for _ in range(2)
        ]
        assert first.status_code in (200, 202), first.text
        assert (first.status_code, first.content) == (second.status_code, second.content)
    assert (await service.counts())["analyses"] == 1


async def test_of_two_writers_with_the_same_version_one_wins(service: Service) -> None:
    await service.fill()
    launch = examples.LAUNCH
    await created(service.write, "/v1/launches", launch)
    cases = {
        "/v1/metrics/orders_per_user": [metric("orders_per_user", window_days=days) for days in (1, 2)],
        "/v1/fact-sources/orders": [{**examples.FACT_SOURCE, "event": event} for event in ("a", "b")],
        "/v1/north-stars/weekly_orders": [{**examples.NORTH_STAR, "owner": owner} for owner in ("a", "b")],
        "/v1/experiments/one-page-checkout": [experiment(owner=owner) for owner in ("a", "b")],
        f"/v1/launches/{launch['key']}": [{**launch, "owner": owner} for owner in ("a", "b")],
    }
    for path, documents in cases.items():
        answers = await asyncio.gather(
            *(service.write.put(path, json=document, headers={"If-Match": '"1"'}) for document in documents)
        )
        assert sorted(answer.status_code for answer in answers) == [200, 412], path
        loser = next(answer for answer in answers if answer.status_code == 412)
        assert_problem(loser, "version-conflict", 412)
        assert (await service.read.get(path)).json()["version"] == 2


async def test_of_many_who_start_an_experiment_one_does(service: Service) -> None:
    await service.fill()
    path = "/v1/experiments/one-page-checkout/start"
    answers = await asyncio.gather(*(service.write.post(path) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    counts = await service.counts()
    assert counts["phases"] == 1


async def test_of_many_who_take_a_key_one_gets_it(service: Service) -> None:
    await service.fill(experiment=False)
    answers = await asyncio.gather(*(service.write.post("/v1/experiments", json=experiment()) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    for answer in answers:
        if answer.status_code == 409:
            assert_problem(answer, "key-taken", 409)
