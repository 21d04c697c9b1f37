"""Series over HTTP: definitions in versions, values as they were known, and batches that are in once or not at all."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.api import examples
from tests.app.api.service import Service, assert_problem, created, metric, pointers, ratio

pytestmark = pytest.mark.anyio
KEY = "orders-by-country"
PATH = f"/v1/series/{KEY}"
VALUES = f"{PATH}/values"
ROWS = [
    {"segment": "NO", "at": "2026-10-29", "value": 100},
    {"segment": "NO", "at": "2026-10-30", "value": 110},
    {"segment": "SE", "at": "2026-10-30T00:00:00Z", "value": 210},
]


async def registered(service: Service, **changes: Any) -> str:
    """A series of daily totals by country, unless changed; the path of its values."""
    document = {**examples.SERIES, "metric_key": None, **changes}
    await created(service.write, "/v1/series", document)
    return f"/v1/series/{document['key']}/values"


async def with_metrics(service: Service, *more: dict[str, Any]) -> None:
    await created(service.write, "/v1/fact-sources", examples.FACT_SOURCE)
    for document in (examples.METRIC, *more):
        await created(service.write, "/v1/metrics", document)


async def push(service: Service, rows: Any, *, batch: str, path: str = VALUES) -> httpx.Response:
    return await service.ingest.post(path, json=rows, params={"batch_id": batch})


async def told(service: Service, path: str = VALUES, **asked: str) -> dict[tuple[str, str], float]:
    """What the series says, by segment and date."""
    answer = await service.read.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    return {(item["segment"], item["at"][:10]): item["value"] for item in answer.json()["items"]}


async def test_a_changed_series_is_a_new_version_and_an_archived_one_is_not_listed(service: Service) -> None:
    await with_metrics(service)
    answer = await created(service.write, "/v1/series", examples.SERIES)
    assert (answer.headers["location"], answer.headers["etag"]) == (PATH, '"1"')
    assert_problem(await service.write.post("/v1/series", json=examples.SERIES), "key-taken", 409)
    changed = {**examples.SERIES, "name": "Orders"}
    assert_problem(await service.write.put(PATH, json=changed), "precondition-required", 428)
    assert_problem(await service.write.put(PATH, json=changed, headers={"If-Match": '"7"'}), "version-conflict", 412)
    answer = await service.write.put(PATH, json=changed, headers={"If-Match": '"1"'})
    assert (answer.json()["version"], answer.headers["etag"]) == (2, '"2"'), answer.text
    versions = (await service.read.get(f"{PATH}/versions")).json()["items"]
    assert [(item["version"], item["definition"]["name"]) for item in versions] == [
        (2, "Orders"),
        (1, "Orders by country"),
    ]
    await created(service.write, "/v1/series", examples.REGRESSOR_SERIES)
    for question, keys in (({"role": "regressor"}, ["ad-spend"]), ({"metric_key": "orders_per_user"}, [KEY])):
        assert [item["key"] for item in (await service.read.get("/v1/series", params=question)).json()["items"]] == keys
    answer = await service.write.post(f"{PATH}/archive", headers={"If-Match": '"2"'})
    assert answer.json()["archived_at"]
    assert [item["key"] for item in (await service.read.get("/v1/series")).json()["items"]] == ["ad-spend"]
    assert_problem(await push(service, ROWS, batch="late"), "not-ready", 409)
    events = (await service.read.get("/v1/audit-events", params={"subject_key": KEY})).json()["items"]
    assert [event["action"] for event in events] == ["series.archived", "series.updated", "series.created"]


async def test_what_values_mean_cannot_change_once_there_are_any(service: Service) -> None:
    await with_metrics(service)
    await registered(service)
    weekly = {**examples.SERIES, "metric_key": None, "grain": "week", "dimension": "plan"}
    answer = await service.write.put(PATH, json=weekly, headers={"If-Match": "*"})
    assert answer.json()["grain"] == "week", answer.text
    answer = await push(service, [{"segment": "free", "at": "2026-10-26", "value": 1}], batch="b")
    assert answer.status_code == 201, answer.text
    changes = {"grain": "day", "dimension": "", "aggregation": "mean", "role": "regressor", "key": "other"}
    problem = assert_problem(
        await service.write.put(PATH, json={**weekly, **changes}, headers={"If-Match": "*"}), "invalid-definition", 422
    )
    assert pointers(problem) == ["/key", "/role", "/grain", "/dimension", "/aggregation"]
    renamed = {**weekly, "name": "Other", "direction": "decrease", "metric_key": "orders_per_user"}
    assert (await service.write.put(PATH, json=renamed, headers={"If-Match": "*"})).status_code == 200


async def test_a_series_from_facts_needs_a_metric_whose_facts_make_totals(service: Service) -> None:
    await with_metrics(
        service,
        metric("p90", kind="quantile", quantile=0.9),
        {"key": "sent", "name": "Sent", "kind": "mean"},
        ratio("orders_per_active_user"),
    )
    facts = examples.FACT_SERIES
    cases = [
        ({"metric_key": "nothing"}, "/metric_key"),
        ({"metric_key": "p90"}, "/metric_key"),
        ({"metric_key": "sent"}, "/metric_key"),
        ({"metric_key": "orders_per_active_user"}, "/aggregation"),
        ({"aggregation": "mean"}, "/aggregation"),
        ({"metric_key": None}, "/metric_key"),
        ({"dimension": "arm"}, "/dimension"),
        ({"role": "regressor"}, "/role"),
    ]
    for changes, pointer in cases:
        answer = await service.write.post("/v1/series", json={**facts, **changes})
        assert pointers(assert_problem(answer, "invalid-definition", 422)) == [pointer], changes
    await created(service.write, "/v1/series", facts)
    await created(
        service.write,
        "/v1/series",
        {**facts, "key": "ratio", "metric_key": "orders_per_active_user", "aggregation": "mean"},
    )
    path = f"/v1/series/{facts['key']}"
    assert_problem(await push(service, ROWS, batch="b", path=f"{path}/values"), "not-ready", 409)
    for read in ("values", "restatements"):
        assert_problem(await service.read.get(f"{path}/{read}"), "not-ready", 409)


async def test_values_are_kept_as_they_were_known(service: Service) -> None:
    await registered(service)
    first = (await push(service, ROWS, batch="1")).json()
    assert (first["accepted"], first["unchanged"], first["restated"], first["early"]) == (3, 0, 0, 0)
    again = [
        ROWS[0],
        {**ROWS[1], "value": 111},
        {**ROWS[2], "value": None},
        {**ROWS[2], "at": "2026-10-31", "value": 5},
    ]
    second = (await push(service, again, batch="2")).json()
    assert (second["accepted"], second["unchanged"], second["restated"]) == (4, 1, 2)
    assert (await service.counts())["series_values"] == 6, "what was known already is not stored again"
    assert await told(service) == {("NO", "2026-10-29"): 100, ("NO", "2026-10-30"): 111, ("SE", "2026-10-31"): 5}
    assert await told(service, known_at=first["known_at"]) == {
        ("NO", "2026-10-29"): 100,
        ("NO", "2026-10-30"): 110,
        ("SE", "2026-10-30"): 210,
    }
    assert await told(service, segment="NO", since="2026-10-30T00:00:00Z", until="2026-10-31T00:00:00Z") == {
        ("NO", "2026-10-30"): 111
    }
    history = (await service.read.get(f"{PATH}/restatements")).json()["items"]
    assert [(item["segment"], item["before"]["value"], item["now"]["value"]) for item in history] == [
        ("NO", 110, 111),
        ("SE", 210, None),
    ]
    assert history[0]["now"]["known_at"] == second["known_at"]
    one = {"segment": "SE", "at": "2026-10-30T00:00:00Z"}
    assert len((await service.read.get(f"{PATH}/restatements", params=one)).json()["items"]) == 1


async def test_a_batch_of_values_is_in_once_however_often_it_is_sent(service: Service) -> None:
    await registered(service)
    await registered(service, key="other")
    reports = [await push(service, ROWS, batch="1")]
    reports.append(await push(service, [{**row, "value": 1} for row in ROWS[:2]], batch="2"))
    before = await service.counts()
    for batch, rows in (("1", ROWS), ("2", [{**row, "value": 1} for row in ROWS[:2]])):
        answer = await push(service, rows, batch=batch)
        assert answer.status_code == 200
        assert answer.json() == {**reports[int(batch) - 1].json(), "replayed": True}
    assert_problem(await push(service, ROWS[:1], batch="1"), "batch-mismatch", 409)
    assert_problem(await push(service, ROWS, batch="1", path="/v1/series/other/values"), "batch-mismatch", 409)
    assert await service.counts() == before


async def test_pages_of_values_show_what_was_known_when_the_first_was_read(service: Service) -> None:
    await registered(service)
    rows = [{"segment": s, "at": f"2026-10-{day:02}", "value": day} for day in range(1, 8) for s in ("NO", "SE")]
    await push(service, rows, batch="1")
    found: list[tuple[str, str]] = []
    asked: dict[str, Any] = {"limit": 5}
    for page in range(3):
        answer = (await service.read.get(VALUES, params=asked)).json()
        found += [(item["at"][:10], item["segment"]) for item in answer["items"]]
        assert all(item["value"] < 100 for item in answer["items"])
        asked["cursor"] = answer["next_cursor"]
        if page == 0:
            await push(service, [{**row, "value": 100} for row in rows], batch="2")
    assert asked["cursor"] is None
    assert found == sorted(found, key=lambda cell: (-int(cell[0][-2:]), cell[1]))
    assert len(set(found)) == 14
    for wrong in ("nonsense", "bm9uc2Vuc2U=", "WzEsIDIsIDNd", "W10="):
        answer = await service.read.get(VALUES, params={"cursor": wrong})
        assert pointers(assert_problem(answer, "invalid-definition", 422)) == ["/query/cursor"]


async def test_writers_at_the_same_moment_take_turns(service: Service) -> None:
    await registered(service)
    await registered(service, key="other")
    at = service.clock.at
    service.app.state.clock = lambda: at
    answers = await asyncio.gather(
        *(push(service, [{**ROWS[0], "value": number}], batch=f"b{number}") for number in range(4))
    )
    assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
    assert len({answer.json()["known_at"] for answer in answers}) == 4, "each is known at a time of its own"
    assert sorted(answer.json()["restated"] for answer in answers) == [0, 1, 1, 1]
    same = await asyncio.gather(*(push(service, ROWS, batch="same") for _ in range(3)))
    assert sorted(answer.status_code for answer in same) == [200, 200, 201], [answer.text for answer in same]
    both = await asyncio.gather(
        *(push(service, ROWS, batch="both", path=f"/v1/series/{key}/values") for key in (KEY, "other"))
    )
    assert sorted(answer.status_code for answer in both) == [201, 409], [answer.text for answer in both]


async def test_a_definition_and_its_first_values_do_not_cross(service: Service) -> None:
    await registered(service)
    weekly = {**examples.SERIES, "metric_key": None, "grain": "week"}
    edited, pushed = await asyncio.gather(
        service.write.put(PATH, json=weekly, headers={"If-Match": '"1"'}), push(service, ROWS, batch="1")
    )
    assert (edited.status_code, pushed.status_code) in ((200, 409), (200, 422), (422, 201)), (edited.text, pushed.text)


async def test_one_bad_row_refuses_the_batch_and_is_named(service: Service) -> None:
    await registered(service)
    before = await service.counts()
    late = {**ROWS[0], "at": (service.clock.at + timedelta(days=1)).date().isoformat()}
    problem = assert_problem(
        await push(service, [ROWS[0], {**ROWS[0], "n": 5}, late], batch="b"), "batch-rejected", 422
    )
    assert pointers(problem) == ["/2/n", "/3/at"]
    assert [fault["detail"].split(":")[0] for fault in problem["errors"]] == ["unexpected_moment", "future_timestamp"]
    assert "keep_good" not in problem["remedy"]
    headers = {"Content-Type": "text/xml", "Batch-Id": "b"}
    answer = await service.ingest.post(VALUES, content=b"<values/>", headers=headers)
    assert_problem(answer, "unsupported-media-type", 415)
    assert await service.counts() == before


async def test_each_request_needs_its_scope_and_an_existing_series(service: Service) -> None:
    await registered(service)
    body = {"content": json.dumps(ROWS), "headers": {"Content-Type": "application/json", "Batch-Id": "b"}}
    assert_problem(await service.anonymous.post(VALUES, **body), "unauthenticated", 401)
    for client in (service.read, service.write):
        assert_problem(await client.post(VALUES, **body), "forbidden", 403)
    for client in (service.read, service.ingest):
        assert_problem(await client.post("/v1/series", json=examples.SERIES), "forbidden", 403)
    assert_problem(await service.ingest.get(VALUES), "forbidden", 403)
    for path in ("", "/values", "/versions", "/restatements"):
        assert_problem(await service.read.get(f"/v1/series/nothing{path}"), "not-found", 404)
    assert_problem(await service.ingest.post("/v1/series/nothing/values", **body), "not-found", 404)
    nameless = await service.ingest.post(VALUES, json=ROWS)
    assert "Batch-Id" in assert_problem(nameless, "invalid-definition", 422)["remedy"]
    naive = await service.read.get(VALUES, params={"known_at": "2026-10-29T00:00:00"})
    assert_problem(naive, "invalid-definition", 422)
