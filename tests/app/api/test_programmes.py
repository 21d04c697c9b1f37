"""/v1/metrics/{key}/programme, /v1/programme-effects and /v1/holdouts."""

import asyncio
import uuid
from typing import Any

import pytest

from experiments import experiment, lifecycle, programme_effects
from experiments.definitions import ExperimentSpec
from experiments.evidence import programme_result
from experiments.plan import ProgrammePlan, load
from experiments.tables import Analysis, ProgrammeRow
from experiments.types import new_id
from tests.app.api.service import NOW, Service, assert_problem, created, pointers
from tests.experiments.programmes import BEGAN, analyse

pytestmark = pytest.mark.anyio

METRIC = "orders_per_user"
PATH = f"/v1/metrics/{METRIC}/programme"
HOLDOUT: dict[str, Any] = {
    "key": "autumn",
    "name": "Held back in autumn",
    "experiment_key": "held",
    "metric_key": METRIC,
    "started_at": "2026-05-01T00:00:00Z",
}


async def ended(service: Service, key: str, lift: float, purpose: str = "test") -> None:
    """An experiment that has ended and has a result."""
    spec = {
        "key": key, "name": key, "data": "summary", "purpose": purpose,
        "metrics": [{"metric_key": METRIC, "role": "primary"}],
        "variants": [{"key": "control", "weight": 0.5, "is_control": True}, {"key": "new", "weight": 0.5}],
    }  # fmt: skip
    async with service.database.write() as session:
        row = await experiment.create(session, spec=ExperimentSpec.model_validate(spec), actor="ada", at=BEGAN)
        await lifecycle.start(session, experiment=row, actor="ada", at=BEGAN)
        await lifecycle.stop(session, experiment=row, actor="ada", at=NOW)
        await analyse(session, row, lift, at=NOW)


async def computed(service: Service) -> bytes:
    """Ask for the programme and hand in what a worker would."""
    answer = await service.write.post(PATH)
    assert answer.status_code == 202, answer.text
    async with service.database.write() as session:
        row = await session.get_one(Analysis, uuid.UUID(answer.json()["id"]))
        plan = load(row.plan)
        row.state = "succeeded"
    assert isinstance(plan, ProgrammePlan)
    document = programme_result(plan, analysis_id=str(row.id), data_as_of=row.data_as_of, code_version="test")
    body = document.model_dump_json().encode()
    stored = await service.store_result(body, kind="programme", subject_key=METRIC, data_as_of=row.data_as_of)
    async with service.database.write() as session:
        session.add_all(
            ProgrammeRow(id=new_id(), result_id=stored.id, **each) for each in programme_effects.flat(document)
        )
    return body


async def test_a_programme_is_asked_for_like_any_analysis_and_served_as_it_was_stored(service: Service) -> None:
    await service.fill(experiment=False)
    problem = assert_problem(await service.write.post(PATH), "not-ready", 409)
    assert problem["remedy"]
    problem = assert_problem(await service.read.get(PATH), "not-found", 404)
    assert f"POST {PATH}" in problem["remedy"]
    await ended(service, "first", 0.05)
    await ended(service, "second", -0.01)
    answers = await asyncio.gather(*(service.write.post(PATH) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {202} and len({each.json()["id"] for each in answers}) == 1
    assert answers[0].headers["location"] == f"/v1/analyses/{answers[0].json()['id']}"
    body = await computed(service)
    got = await service.read.get(PATH)
    assert got.status_code == 200 and got.content == body
    assert (got.json()["experiments"], got.json()["reason"]) == (2, "nothing_shipped")
    again = await service.read.get(PATH, headers={"If-None-Match": got.headers["etag"]})
    assert again.status_code == 304 and not again.content
    versions = (await service.read.get(f"{PATH}/versions")).json()["items"]
    assert [each["kind"] for each in versions] == ["programme"]
    rows = (await service.read.get("/v1/programme-effects", params={"metric_key": METRIC})).json()["items"]
    assert {row["experiment_key"] for row in rows} == {"first", "second"}
    assert (await service.read.get("/v1/programme-effects", params={"shipped": True})).json()["items"] == []
    assumed = await service.write.post(PATH, json={"winners_only": True})
    assert assumed.status_code == 202 and assumed.json()["id"] != answers[0].json()["id"]


async def test_programmes_need_a_metric_valid_input_and_the_right_key(shop: Service) -> None:
    for answer in (
        await shop.read.get("/v1/metrics/nothing/programme"),
        await shop.write.post("/v1/metrics/nothing/programme"),
        await shop.read.get("/v1/metrics/nothing/programme/versions"),
    ):
        assert_problem(answer, "not-found", 404)
    problem = assert_problem(await shop.write.post(PATH, json={"winners": True}), "invalid-definition", 422)
    assert pointers(problem) == ["/winners"] and problem["remedy"]
    assert_problem(await shop.read.get("/v1/programme-effects", params={"limit": 0}), "invalid-definition", 422)
    assert_problem(await shop.read.post(PATH), "forbidden", 403)
    assert_problem(await shop.anonymous.post(PATH), "unauthenticated", 401)
    for path in (PATH, "/v1/programme-effects", "/v1/holdouts", "/v1/holdouts/autumn"):
        assert_problem(await shop.anonymous.get(path), "unauthenticated", 401)
        assert_problem(await shop.ingest.get(path), "forbidden", 403)
    assert_problem(await shop.read.post("/v1/holdouts", json=HOLDOUT), "forbidden", 403)
    assert_problem(await shop.read.get("/v1/holdouts/nothing"), "not-found", 404)
    problem = assert_problem(await shop.write.post("/v1/holdouts", json=HOLDOUT), "invalid-definition", 422)
    assert pointers(problem) == ["/experiment_key"] and problem["remedy"]
    early = HOLDOUT | {"released_at": "2026-04-01T00:00:00Z"}
    problem = assert_problem(await shop.write.post("/v1/holdouts", json=early), "invalid-definition", 422)
    assert pointers(problem) == ["/released_at"]


async def test_a_holdout_is_registered_read_and_released_by_one_writer_at_a_time(service: Service) -> None:
    await service.fill(experiment=False)
    await ended(service, "held", 0.02, "holdout")
    answer = await created(service.write, "/v1/holdouts", HOLDOUT)
    assert answer.headers["location"] == "/v1/holdouts/autumn" and answer.json()["version"] == 1
    assert_problem(await service.write.post("/v1/holdouts", json=HOLDOUT), "key-taken", 409)
    got = await service.read.get("/v1/holdouts/autumn")
    assert got.status_code == 200 and got.json()["experiment_key"] == "held"
    unchanged = await service.read.get("/v1/holdouts/autumn", headers={"If-None-Match": got.headers["etag"]})
    assert unchanged.status_code == 304
    released = HOLDOUT | {"released_at": "2026-10-01T00:00:00Z"}
    assert_problem(await service.write.put("/v1/holdouts/autumn", json=released), "precondition-required", 428)
    answers = await asyncio.gather(
        *(
            service.write.put(
                "/v1/holdouts/autumn", json=released | {"name": name}, headers={"If-Match": got.headers["etag"]}
            )
            for name in ("one", "two", "three")
        )
    )
    assert sorted(each.status_code for each in answers) == [200, 412, 412]
    moved = await service.write.put(
        "/v1/holdouts/autumn", json=released | {"experiment_key": "other"}, headers={"If-Match": '"2"'}
    )
    assert pointers(assert_problem(moved, "invalid-definition", 422)) == ["/experiment_key"]
    listed = (await service.read.get("/v1/holdouts", params={"metric_key": METRIC})).json()["items"]
    assert [(each["key"], each["version"]) for each in listed] == [("autumn", 2)]
    events = (await service.admin.get("/v1/audit-events", params={"subject_type": "holdout"})).json()["items"]
    assert {each["action"] for each in events} == {"holdout.created", "holdout.updated"}
    await computed(service)
    document = (await service.read.get(PATH)).json()
    assert [(each["holdout_key"], each["reason"]) for each in document["holdouts"]] == [("autumn", "no_claims")]
