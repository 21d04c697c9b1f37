"""/v1/growth-reviews: which period of which North Star, asked for and read; /v1/ledger-lines: what moved it."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.api import examples
from experiments import lease, ledger_lines
from experiments.definitions import ReviewSpec
from experiments.ledger_lines import KIND
from experiments.result import GrowthReviewResult
from experiments.tables import Analysis
from tests.app.api.service import Service, assert_problem, created, pointers
from tests.app.review_documents import review_result

pytestmark = pytest.mark.anyio

PATH = f"/v1/growth-reviews/{examples.GROWTH_REVIEW['key']}"
INVALID = ("invalid-definition", 422)
FIRST = datetime(2025, 6, 30, tzinfo=UTC)
WEEK = timedelta(weeks=1)


def review(**changes: Any) -> dict[str, Any]:
    return {**examples.GROWTH_REVIEW, **changes}


@pytest.fixture
async def reviewing(service: Service) -> Service:
    """The shop with a North Star whose weeks are pushed, and a review of it."""
    await service.fill()
    await created(service.write, "/v1/series", {"key": "orders-by-week", "name": "Orders", "grain": "week"})
    star = (await service.read.get(f"/v1/north-stars/{examples.NORTH_STAR['key']}")).json()
    spec = {**examples.NORTH_STAR, "series_key": "orders-by-week"}
    answer = await service.write.put(
        f"/v1/north-stars/{spec['key']}", json=spec, headers={"If-Match": f'"{star["version"]}"'}
    )
    assert answer.status_code == 200, answer.text
    rows = [{"segment": "", "at": (FIRST + i * WEEK).isoformat(), "value": 1000.0 + i} for i in range(65)]
    sent = await service.ingest.post(
        "/v1/series/orders-by-week/values",
        content=json.dumps(rows),
        headers={"Content-Type": "application/json", "Batch-Id": "history"},
    )
    assert sent.status_code in (200, 201), sent.text
    await created(service.write, "/v1/growth-reviews", review())
    return service


async def test_a_review_is_registered_read_changed_and_listed(shop: Service) -> None:
    answer = await created(shop.write, "/v1/growth-reviews", review(key="a-quarter"))
    assert answer.headers["location"] == "/v1/growth-reviews/a-quarter"
    assert ReviewSpec.model_validate({k: answer.json()[k] for k in ReviewSpec.model_fields}).engine == "collapsed"
    seen = await shop.read.get(answer.headers["location"], headers={"If-None-Match": answer.headers["etag"]})
    assert seen.status_code == 304
    changed = await shop.write.put(
        answer.headers["location"],
        json=review(key="a-quarter", notes="Sales held."),
        headers={"If-Match": answer.headers["etag"]},
    )
    assert (changed.status_code, changed.json()["version"], changed.json()["notes"]) == (200, 2, "Sales held.")
    listed = (await shop.read.get("/v1/growth-reviews", params={"north_star_key": "weekly_orders"})).json()["items"]
    assert [item["key"] for item in listed] == ["a-quarter"]
    assert (await shop.read.get("/v1/growth-reviews", params={"north_star_key": "other"})).json()["items"] == []
    events = (await shop.admin.get("/v1/audit-events", params={"subject_key": "a-quarter"})).json()["items"]
    assert {event["action"] for event in events} == {"growth_review.created", "growth_review.updated"}


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"north_star_key": "nothing"}, "/north_star_key"),
    ({"begins_on": "2026-06-30"}, ""),
    ({"ends_on": "2026-06-29"}, ""),
    ({"ends_on": "2028-01-03"}, ""),
    ({"engine": "oracle"}, "/engine"),
    ({"surprise": 1}, "/surprise"),
    ({"key": "NOT A KEY"}, "/key"),
]


async def test_a_review_that_makes_no_sense_is_refused_and_the_fault_named(shop: Service) -> None:
    for changes, pointer in FAULTS:
        problem = assert_problem(await shop.write.post("/v1/growth-reviews", json=review(**changes)), *INVALID)
        assert any(pointer in each for each in pointers(problem)) and problem["remedy"]


async def test_only_writers_change_and_only_readers_read(shop: Service) -> None:
    assert_problem(await shop.read.post("/v1/growth-reviews", json=review(key="b")), "forbidden", 403)
    assert_problem(await shop.anonymous.post("/v1/growth-reviews", json=review(key="b")), "unauthenticated", 401)
    assert_problem(await shop.ingest.get("/v1/growth-reviews"), "forbidden", 403)
    assert_problem(await shop.ingest.get("/v1/ledger-lines"), "forbidden", 403)
    for path in ("", "/analyses", "/results", "/result"):
        assert_problem(await shop.read.get(f"/v1/growth-reviews/nothing{path}"), "not-found", 404)
    for query in ({"since": "yesterday"}, {"limit": "0"}, {"cursor": "x"}, {"component": "luck"}):
        assert_problem(await shop.read.get("/v1/ledger-lines", params=query), *INVALID)


async def test_of_two_writers_one_wins_and_the_other_is_told(shop: Service) -> None:
    answer = await created(shop.write, "/v1/growth-reviews", review(key="contested"))
    path, etag = answer.headers["location"], answer.headers["etag"]
    assert_problem(await shop.write.post("/v1/growth-reviews", json=review(key="contested")), "key-taken", 409)
    assert_problem(await shop.write.put(path, json=review(key="contested")), "precondition-required", 428)
    writes = [
        shop.write.put(path, json=review(key="contested", notes=note), headers={"If-Match": etag})
        for note in ("first", "second")
    ]
    answers = await asyncio.gather(*writes)
    assert sorted(each.status_code for each in answers) == [200, 412]
    moved = review(key="contested", north_star_key="another")
    problem = assert_problem(await shop.write.put(path, json=moved, headers={"If-Match": "*"}), *INVALID)
    assert "/north_star_key" in pointers(problem)


async def test_a_review_without_a_known_week_cannot_be_made_and_says_what_to_do(shop: Service) -> None:
    await created(shop.write, "/v1/growth-reviews", review(key="too-early"))
    problem = assert_problem(await shop.write.post("/v1/growth-reviews/too-early/analyses"), "not-ready", 409)
    assert "series_key" in problem["remedy"] and pointers(problem) == ["/north_star_key"]
    assert_problem(await shop.read.post("/v1/growth-reviews/too-early/analyses"), "forbidden", 403)
    ahead = {"data_as_of": "2099-01-01T00:00:00Z"}
    assert (await shop.write.post("/v1/growth-reviews/too-early/analyses", json=ahead)).status_code in (409, 422)


async def test_a_review_is_analysed_like_anything_else(reviewing: Service) -> None:
    when = {"data_as_of": reviewing.clock().isoformat()}
    asked = await reviewing.write.post(f"{PATH}/analyses", json=when)
    assert asked.status_code == 202, asked.text
    assert (asked.json()["kind"], asked.json()["subject_key"]) == (KIND, examples.GROWTH_REVIEW["key"])
    again = await reviewing.write.post(f"{PATH}/analyses", json=when)
    assert again.json()["id"] == asked.json()["id"], "the same question is asked once"
    listed = (await reviewing.read.get(f"{PATH}/analyses")).json()["items"]
    assert [each["id"] for each in listed] == [asked.json()["id"]]
    assert_problem(await reviewing.read.get(f"{PATH}/result"), "not-found", 404)


async def hand_in(service: Service, document: GrowthReviewResult) -> GrowthReviewResult:
    """Ask for an analysis of the review and hand in this document, as a worker does."""
    asked = (await service.write.post(f"{PATH}/analyses")).json()
    document = document.model_copy(update={"analysis_id": asked["id"], "review_key": asked["subject_key"]})
    result = lease.StoredResult(document.model_dump_json().encode(), uuid.uuid4().hex, rows=ledger_lines.flat(document))
    async with service.database.write() as session:
        row = await session.get_one(Analysis, uuid.UUID(asked["id"]))
        token = {"analysis_id": row.id, "owner": "w"}
        held = await lease.claim(session, **token, lease_seconds=60, at=service.clock())
        assert held is not None
        assert await lease.finish(session, **token, attempt=held.attempt, result=result, at=service.clock())
    return document


async def test_results_are_served_as_stored_and_their_lines_are_flat(reviewing: Service) -> None:
    read = reviewing.read
    await hand_in(reviewing, review_result(units=100.0))
    reviewing.clock.at += timedelta(days=1)
    between = reviewing.clock().isoformat()
    newest = await hand_in(reviewing, review_result(units=250.0))
    got = await read.get(f"{PATH}/result")
    assert got.content == newest.model_dump_json().encode()
    seen = await read.get(f"{PATH}/result", headers={"If-None-Match": got.headers["etag"]})
    assert seen.status_code == 304 and not seen.content
    assert len((await read.get(f"{PATH}/results")).json()["items"]) == 2
    assert (await read.get(f"/v1/results/{got.headers['x-result-id']}")).content == got.content

    lines = (await read.get("/v1/ledger-lines", params={"review_key": newest.review_key})).json()["items"]
    assert {(line["component"], line["key"]): line["units"] for line in lines} == {
        (line.component, line.key): line.units for line in newest.ledger.lines
    }
    launches = {"component": "launches", "north_star_key": newest.north_star_key}
    only = (await read.get("/v1/ledger-lines", params=launches)).json()["items"]
    assert {line["component"] for line in only} == {"launches"} and len(only) == 2
    everything = (await read.get("/v1/ledger-lines", params={"newest": "false"})).json()["items"]
    stored = (await read.get("/v1/ledger-lines", params={"newest": "false", "since": between})).json()["items"]
    assert len(everything) == 2 * len(lines) and {line["id"] for line in stored} == {line["id"] for line in lines}
    page = (await read.get("/v1/ledger-lines", params={"limit": 2})).json()
    rest = (await read.get("/v1/ledger-lines", params={"limit": 200, "cursor": page["next_cursor"]})).json()
    assert len(page["items"]) == 2 and len(page["items"] + rest["items"]) == len(lines)


async def test_a_north_star_names_series_that_exist_and_have_the_part_that_it_gives_them(shop: Service) -> None:
    await created(shop.write, "/v1/series", {"key": "rain", "name": "Rain", "grain": "week", "role": "regressor"})
    spec: dict[str, Any] = {
        **examples.NORTH_STAR,
        "key": "other",
        "series_key": "rain",
        "influences": [{"series_key": "nothing", "rationale": "Nobody launches that"}],
    }
    problem = assert_problem(await shop.write.post("/v1/north-stars", json=spec), *INVALID)
    assert pointers(problem) == ["/series_key", "/influences/0/series_key"]
    spec |= {"series_key": None, "influences": [{"series_key": "rain", "rationale": "Nobody launches the rain"}]}
    await created(shop.write, "/v1/north-stars", spec)
