"""Erasures over HTTP: administrators ask for them, who reads sees what became of them, nobody sees ids."""

import asyncio

import pytest
from sqlmodel import col, select

from app.api import examples
from experiments.tables import Erasure
from tests.app.api.service import Service, assert_problem, pointers

pytestmark = pytest.mark.anyio
PATH = "/v1/erasures"
ID = "very-secret-4711"
WANTED = {**examples.ERASURE, "unit_id": ID}


async def test_an_erasure_is_asked_for_and_followed(service: Service) -> None:
    answers = await asyncio.gather(*(service.admin.post(PATH, json=WANTED) for _ in range(2)))
    assert [answer.status_code for answer in answers] == [202, 202]
    first = answers[0].json()["items"]
    assert [item["state"] for item in first] == ["queued", "queued"]
    assert len({item["unit_digest"] for item in first}) == 2
    assert first[0]["unit_digest"] == answers[1].json()["items"][0]["unit_digest"]
    # Later than both, a third request finds what waits.
    again = await service.admin.post(PATH, json={**WANTED, "also_ids": [], "refuse_future": True})
    (item,) = again.json()["items"]
    read = (await service.read.get(f"{PATH}/{item['id']}")).json()
    assert read == item and read["refuse_future"] is True and read["effects"] is None
    listed = (await service.read.get(PATH, params={"state": "queued"})).json()["items"]
    assert item["id"] in {one["id"] for one in listed}
    assert (await service.read.get(PATH, params={"state": "done"})).json()["items"] == []
    events = (await service.admin.get("/v1/audit-events")).text
    assert "erasure.requested" in events and "erasure.refused" in events
    assert all(ID not in text for text in (events, again.text, *(answer.text for answer in answers)))
    async with service.database.read() as session:
        waiting = await session.scalars(select(Erasure).where(col(Erasure.unit_id) == ID))
        assert {row.unit_digest for row in waiting} == {read["unit_digest"]}


async def test_what_cannot_be_erased_is_refused_without_repeating_it(service: Service) -> None:
    refused = [
        ({**WANTED, "reason": f"{ID} asked for it"}, "invalid-definition"),
        ({**WANTED, "unit_id": " "}, "invalid-request"),
        ({**WANTED, "also_ids": [ID, ID * 20]}, "invalid-request"),
        ({**WANTED, "unit_id": ID + "\x00"}, "invalid-request"),
        ({**WANTED, "unit_id": [ID]}, "invalid-request"),
        ({"unit_id": ID}, "invalid-request"),
        ({**WANTED, "more": ID}, "invalid-request"),
    ]
    for body, _ in refused:
        answer = await service.admin.post(PATH, json=body)
        assert answer.status_code == 422 and ID not in answer.text, answer.text
    assert pointers((await service.admin.post(PATH, json=refused[0][0])).json()) == ["/reason"]
    for client in (service.write, service.read, service.ingest):
        assert (await client.post(PATH, json=WANTED)).status_code == 403
    assert (await service.anonymous.post(PATH, json=WANTED)).status_code == 401
    assert (await service.ingest.get(PATH)).status_code == 403
    missing = await service.read.get(f"{PATH}/00000000-0000-7000-8000-000000000000")
    assert_problem(missing, "not-found", 404)
    assert (await service.counts())["erasures"] == 0


async def test_an_experiment_says_how_many_units_its_result_still_counts(service: Service) -> None:
    await service.fill(started=True)
    address = "/v1/experiments/one-page-checkout/erased-units"
    assert (await service.read.get(address)).json()["since_start"] == {}
    before = service.clock()
    result = await service.store_result(b"{}", subject_key="one-page-checkout")
    async with service.database.write() as session:
        for at, variant in ((before, "control"), (service.clock(), "control"), (service.clock(), "one_page")):
            session.add(
                Erasure(
                    unit_type="user", unit_digest="0" * 64, state="removing", requested_by="ada", requested_at=at,
                    rewritten_at=at, effects={"experiments": {"one-page-checkout": {variant: 1}}, "rounds": 1},
                )
            )  # fmt: skip
    assert (await service.read.get(address)).json() == {
        "experiment_key": "one-page-checkout",
        "since_start": {"control": 2, "one_page": 1},
        "result_id": str(result.id),
        "since_result": {"control": 1, "one_page": 1},
    }
    assert_problem(await service.read.get("/v1/experiments/nothing/erased-units"), "not-found", 404)
