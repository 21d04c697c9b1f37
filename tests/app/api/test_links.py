"""/v1/north-stars/{key}/links: learned on request, served as stored, refused with what is missing."""

import asyncio
import uuid
from datetime import timedelta

import pytest

from experiments.evidence import LinksContext, draft_links
from experiments.plan import LinksPlan, load
from experiments.tables import Analysis
from tests.app.api.service import Service, assert_problem
from tests.experiments.joint import remember_joint

pytestmark = pytest.mark.anyio

PATH = "/v1/north-stars/weekly_orders/links"
LEARN = f"{PATH}/analyses"
KEYS = ("orders_per_user", "active_users", "orders_per_active_user")


async def with_past(service: Service, experiments: int = 8) -> None:
    await service.fill(experiment=False)
    async with service.database.write() as session:
        await remember_joint(session, experiments, keys=KEYS, north_star_key="weekly_orders")


async def test_links_are_asked_for_like_any_analysis_and_served_as_they_were_stored(service: Service) -> None:
    await with_past(service)
    answer = await service.write.post(LEARN)
    assert answer.status_code == 202, answer.text
    asked = answer.json()
    assert (asked["kind"], asked["subject_key"], asked["state"]) == ("links", "weekly_orders", "queued")
    assert answer.headers["location"] == f"/v1/analyses/{asked['id']}"
    listed = (await service.read.get("/v1/analyses", params={"kind": "links"})).json()["items"]
    assert [each["id"] for each in listed] == [asked["id"]]
    async with service.database.write() as session:
        row = await session.get_one(Analysis, uuid.UUID(asked["id"]))
        plan = load(row.plan)
        row.state = "succeeded"
    assert isinstance(plan, LinksPlan)
    body = draft_links(plan, LinksContext(asked["id"], row.data_as_of, 1, "test")).finish().model_dump_json().encode()
    await service.store_result(body, kind="links", subject_key="weekly_orders", data_as_of=row.data_as_of)
    got = await service.read.get(PATH)
    assert got.status_code == 200 and got.content == body
    assert [link["metric_key"] for link in got.json()["links"]] == list(KEYS[1:])
    again = await service.read.get(PATH, headers={"If-None-Match": got.headers["etag"]})
    assert again.status_code == 304 and not again.content


async def test_without_links_the_problem_says_what_is_missing(service: Service) -> None:
    await with_past(service, 5)
    problem = assert_problem(await service.read.get(PATH), "not-found", 404)
    assert "5 of 8 experiments" in problem["detail"] and "8 experiments are needed" in problem["remedy"]
    problem = assert_problem(await service.write.post(LEARN), "not-ready", 409)
    assert "5 of 8" in problem["detail"] and problem["remedy"]
    async with service.database.write() as session:
        await remember_joint(session, 3, keys=KEYS, north_star_key="weekly_orders", name="more")
    problem = assert_problem(await service.read.get(PATH), "not-found", 404)
    assert f"POST {LEARN}" in problem["remedy"]


async def test_north_stars_that_do_not_exist_and_input_that_is_none(service: Service) -> None:
    await service.fill(experiment=False)
    assert_problem(await service.read.get("/v1/north-stars/nothing/links"), "not-found", 404)
    assert_problem(await service.write.post("/v1/north-stars/nothing/links/analyses"), "not-found", 404)
    assert_problem(await service.write.post("/v1/north-stars/%00/links/analyses"), "invalid-definition", 422)


async def test_learning_needs_a_key_that_may_write_and_reading_one_that_may_read(service: Service) -> None:
    await with_past(service)
    before = await service.counts()
    assert_problem(await service.anonymous.post(LEARN), "unauthenticated", 401)
    assert_problem(await service.read.post(LEARN), "forbidden", 403)
    assert_problem(await service.anonymous.get(PATH), "unauthenticated", 401)
    assert_problem(await service.ingest.get(PATH), "forbidden", 403)
    assert await service.counts() == before


async def test_many_who_ask_at_once_get_the_same_analysis(service: Service) -> None:
    await with_past(service)
    answers = await asyncio.gather(*(service.write.post(LEARN) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    service.clock.at += timedelta(days=1)
    assert (await service.write.post(LEARN)).json()["id"] == answers[0].json()["id"]
    assert (await service.counts())["analyses"] == 1
