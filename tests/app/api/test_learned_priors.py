"""/v1/metrics/{key}/prior: learned on request, served as stored, refused with what is missing."""

import asyncio
import uuid
from datetime import timedelta

import pytest

from experiments.evidence import learned_prior_result
from experiments.plan import PriorPlan, load
from experiments.tables import Analysis
from tests.app.api.service import Service, assert_problem
from tests.experiments.past import lifts, remember

pytestmark = pytest.mark.anyio

PATH = "/v1/metrics/orders_per_user/prior"


async def with_past(service: Service, experiments: int = 9) -> None:
    await service.fill(experiment=False)
    async with service.database.write() as session:
        await remember(session, lifts(experiments), metric_key="orders_per_user", team="growth")


async def learned(service: Service) -> bytes:
    """Ask for a prior and hand in what a worker would."""
    answer = await service.write.post(PATH)
    assert answer.status_code == 202, answer.text
    async with service.database.write() as session:
        row = await session.get_one(Analysis, uuid.UUID(answer.json()["id"]))
        plan = load(row.plan)
        row.state = "succeeded"
    assert isinstance(plan, PriorPlan)
    body = (
        learned_prior_result(plan, analysis_id=str(row.id), data_as_of=row.data_as_of, code_version="test")
        .model_dump_json()
        .encode()
    )
    await service.store_result(body, kind="prior", subject_key="orders_per_user", data_as_of=row.data_as_of)
    return body


async def test_a_prior_is_asked_for_like_any_analysis_and_served_as_it_was_stored(service: Service) -> None:
    await with_past(service)
    answer = await service.write.post(PATH)
    assert answer.status_code == 202, answer.text
    asked = answer.json()
    assert (asked["kind"], asked["subject_key"], asked["state"]) == ("prior", "orders_per_user", "queued")
    assert answer.headers["location"] == f"/v1/analyses/{asked['id']}"
    listed = (await service.read.get("/v1/analyses", params={"kind": "prior"})).json()["items"]
    assert [each["id"] for each in listed] == [asked["id"]]
    body = await learned(service)
    got = await service.read.get(PATH)
    assert got.status_code == 200 and got.content == body
    assert got.json()["strata"][0]["experiments"] == 9
    again = await service.read.get(PATH, headers={"If-None-Match": got.headers["etag"]})
    assert again.status_code == 304 and not again.content
    versions = (await service.read.get(f"{PATH}/versions")).json()["items"]
    assert [(each["kind"], each["etag"]) for each in versions] == [("prior", got.headers["etag"].strip('"'))]


async def test_a_newer_prior_takes_the_place_of_the_older_which_stays_listed(service: Service) -> None:
    await with_past(service)
    first = await learned(service)
    async with service.database.write() as session:
        more = await remember(session, lifts(10, seed=3), metric_key="orders_per_user", name="more")
        assert more[-1].stopped_at is not None
    second = await learned(service)
    assert first != second
    document = (await service.read.get(PATH)).json()
    assert (document["version"], document["strata"][0]["experiments"]) == (2, 19)
    assert len((await service.read.get(f"{PATH}/versions")).json()["items"]) == 2


async def test_without_a_prior_the_problem_says_what_is_missing(service: Service) -> None:
    await with_past(service, 5)
    problem = assert_problem(await service.read.get(PATH), "not-found", 404)
    assert "5 of 8 experiments" in problem["detail"] and "8 experiments are needed" in problem["remedy"]
    problem = assert_problem(await service.write.post(PATH), "not-ready", 409)
    assert "5 of 8" in problem["detail"] and problem["remedy"]
    async with service.database.write() as session:
        await remember(session, lifts(3), metric_key="orders_per_user", name="more")
    problem = assert_problem(await service.read.get(PATH), "not-found", 404)
    assert f"POST {PATH}" in problem["remedy"]
    assert (await service.read.get(f"{PATH}/versions")).json()["items"] == []


async def test_metrics_that_do_not_exist_and_input_that_is_none(service: Service) -> None:
    await with_past(service)
    for path in ("/v1/metrics/nothing/prior", "/v1/metrics/nothing/prior/versions"):
        assert_problem(await service.read.get(path), "not-found", 404)
    assert_problem(await service.write.post("/v1/metrics/nothing/prior"), "not-found", 404)
    assert_problem(await service.read.get(f"{PATH}/versions", params={"limit": 0}), "invalid-definition", 422)
    assert_problem(await service.write.post("/v1/metrics/%00/prior"), "invalid-definition", 422)


async def test_learning_needs_a_key_that_may_write_and_reading_one_that_may_read(service: Service) -> None:
    await with_past(service)
    before = await service.counts()
    assert_problem(await service.anonymous.post(PATH), "unauthenticated", 401)
    assert_problem(await service.read.post(PATH), "forbidden", 403)
    for path in (PATH, f"{PATH}/versions"):
        assert_problem(await service.anonymous.get(path), "unauthenticated", 401)
        assert_problem(await service.ingest.get(path), "forbidden", 403)
    assert await service.counts() == before


async def test_many_who_ask_at_once_get_the_same_analysis(service: Service) -> None:
    await with_past(service)
    answers = await asyncio.gather(*(service.write.post(PATH) for _ in range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    service.clock.at += timedelta(days=1)
    assert (await service.write.post(PATH)).json()["id"] == answers[0].json()["id"]
    assert (await service.counts())["analyses"] == 1


async def test_repeating_a_request_with_its_key_repeats_the_answer(service: Service) -> None:
    await with_past(service)
    headers = {"Idempotency-Key": "once"}
    first, second = [await service.write.post(PATH, headers=headers) for _ in range(2)]
    assert first.content == second.content and second.headers["idempotent-replayed"] == "true"
