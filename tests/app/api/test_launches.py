"""/v1/launches: what may be recorded, and how it is measured, asked for and read."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest

from app.api import examples
from experiments import launch_effects, lease, series
from experiments.definitions import SeriesSpec
from experiments.result import LaunchResult
from experiments.tables import Analysis
from tests.app.api.service import Service, assert_problem, created, pointers
from tests.app.launch_documents import before_after, launch_result, measured

pytestmark = pytest.mark.anyio

PATH = f"/v1/launches/{examples.MEASURED_LAUNCH['key']}"
SERIES: list[dict[str, Any]] = [
    {"key": "orders-by-country", "dimension": "country"},
    {"key": "orders_elsewhere", "dimension": "country"},
    {"key": "weather", "role": "regressor"},
    {"key": "orders_weekly", "grain": "week"},
    {"key": "orders_by_platform", "dimension": "platform"},
    {"key": "orders_total"},
    {"key": "orders_on_off", "dimension": "arm"},
    {"key": "orders_before", "dimension": "country"},
    {"key": "facts_total", "source": "facts", "metric_key": "orders_per_user"},
    {"key": "facts_by_country", "source": "facts", "metric_key": "orders_per_user", "dimension": "country"},
]


async def register(service: Service, *specs: dict[str, Any]) -> None:
    async with service.database.write() as session:
        for spec in specs:
            definition = SeriesSpec.model_validate({"name": spec["key"], **spec})
            await series.create(session, spec=definition, actor="tests", at=service.clock())


async def archive(service: Service, key: str) -> None:
    async with service.database.write() as session:
        row = await series.get(session, key=key)
        await series.archive(session, series=row, expected=None, actor="tests", at=service.clock())


@pytest.fixture
async def measuring(service: Service) -> Service:
    """A service with one series and the launch that is measured on it."""
    await register(service, SERIES[0])
    await created(service.write, "/v1/launches", examples.MEASURED_LAUNCH)
    return service


@pytest.fixture(scope="module")
async def registered(shop: Service) -> Service:
    await register(shop, *SERIES)
    await archive(shop, "orders_before")
    return shop


def on(**measurement: Any) -> dict[str, Any]:
    """The launch of the examples, measured on something else."""
    return {"measurements": [{"series_key": "orders-by-country", **measurement}]}


GERMANY = {"dimension": "country", "segments": ["DE"]}
EVERYBODY = [{"at": "2026-09-01T00:00:00Z", "coverage": 1, "mechanism": "all_at_once"}]
UNMEASURABLE: list[tuple[dict[str, Any], str]] = [
    (on(series_key="nothing"), "/measurements/0/series_key"),
    (on(series_key="orders_before"), "/measurements/0/series_key"),
    (on(series_key="weather"), "/measurements/0/series_key"),
    (on(series_key="orders_total"), "/measurements/0/series_key"),
    (on(series_key="orders_on_off"), "/measurements/0/series_key"),
    (on(regressors=["nothing"]), "/measurements/0/regressors/0"),
    (on(regressors=["weather", "orders_elsewhere"]), "/measurements/0/regressors/1"),
    (on(controls=["weather"]), "/measurements/0/controls/0"),
    (on(controls=["orders_weekly"]), "/measurements/0/controls/0"),
    (on(controls=["orders_by_platform"]), "/measurements/0/controls/0"),
    (on(controls=["orders-by-country"]), "/measurements/0"),
    (on(series_key="facts_by_country", controls=["facts_total"]), "/measurements/0/controls/0"),
    (on(excluded_segments=["AT", "FR"]), "/measurements/0/excluded_segments/1"),
    (
        {**on(series_key="orders_total", excluded_segments=["AT"]), "rollout": EVERYBODY},
        "/measurements/0/excluded_segments",
    ),
    (
        {**on(), "rollout": EVERYBODY, "eligible": {"dimension": "platform", "segments": ["ios"]}},
        "/measurements/0/series_key",
    ),
    (
        {
            **on(excluded_segments=["DE"]),
            "rollout": EVERYBODY,
            "eligible": {"dimension": "country", "segments": ["DE"]},
        },
        "/measurements/0/excluded_segments/0",
    ),
    ({"measurements": [*on()["measurements"], {"series_key": "nothing"}]}, "/measurements/1/series_key"),
    (on(level=1), "/measurements/0/level"),
    ({"announced_at": "2026-09-02T00:00:00Z"}, "/announced_at"),
    ({"eligible": GERMANY}, "/rollout"),
]


async def test_what_a_launch_cannot_be_measured_on_is_refused_and_named(registered: Service) -> None:
    before = await registered.counts()
    for changes, pointer in UNMEASURABLE:
        refused = await registered.write.post("/v1/launches", json={**examples.MEASURED_LAUNCH, **changes})
        problem = assert_problem(refused, "invalid-definition", 422)
        assert pointers(problem) == [pointer], (changes, problem)
    assert await registered.counts() == before


async def test_what_fits_is_recorded_and_says_since_when_it_is_measured(registered: Service) -> None:
    fits = [
        on(regressors=["weather"], controls=["orders_elsewhere", "orders_total"], excluded_segments=["AT"]),
        {**on(series_key="orders_total", controls=["facts_total"]), "rollout": EVERYBODY},
        {**on(series_key="orders_on_off"), "rollout": EVERYBODY},
        {**on(series_key="orders_total"), "rollout": EVERYBODY, "eligible": {"dimension": "os", "segments": ["ios"]}},
    ]
    for position, changes in enumerate(fits):
        document = {**examples.MEASURED_LAUNCH, "key": f"fits-{position}", **changes}
        answer = await created(registered.write, "/v1/launches", document)
        assert answer.json()["measured_since"] == answer.json()["created_at"]


async def test_only_another_measurement_moves_the_time_since_which_a_launch_is_measured(measuring: Service) -> None:
    def change(document: dict[str, Any], version: int) -> Any:
        return measuring.write.put(PATH, json=document, headers={"If-Match": f'"{version}"'})

    first = (await measuring.read.get(PATH)).json()
    corrected = {
        **examples.MEASURED_LAUNCH,
        "rollout": [{**examples.MEASURED_LAUNCH["rollout"][0], "at": "2026-08-30T00:00:00Z"}],
    }
    answer = await change(corrected, 1)
    assert answer.status_code == 200, answer.text
    assert answer.json()["measured_since"] == first["measured_since"] < answer.json()["updated_at"]
    # A series that was archived meanwhile can still be named by the launch that named it before.
    await archive(measuring, "orders-by-country")
    longer = {**corrected, "measurements": [{**examples.MEASURED_LAUNCH["measurements"][0], "measure_for_days": 90}]}
    answer = await change(longer, 2)
    assert answer.status_code == 200, answer.text
    assert answer.json()["measured_since"] == answer.json()["updated_at"]
    problem = assert_problem(await measuring.write.post("/v1/launches", json={**longer, "key": "other"}), *INVALID)
    assert pointers(problem) == ["/measurements/0/series_key"]
    answers = await asyncio.gather(*(change({**longer, "owner": owner}, 3) for owner in "abcd"))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]


INVALID = ("invalid-definition", 422)


async def test_shipping_measures_the_launch_on_the_only_series_of_the_primary_metric(service: Service) -> None:
    await service.fill(started=True)
    key = "/v1/experiments/one-page-checkout"
    await service.write.post(f"{key}/stop", json={"at": "2026-10-20T00:00:00Z"})
    await register(service, {"key": "orders_daily", "metric_key": "orders_per_user"})
    first = (await service.write.post(f"{key}/decisions", json=examples.DECISION)).json()["launch_key"]
    await register(service, {"key": "orders_weekly", "metric_key": "orders_per_user", "grain": "week"})
    second = (await service.write.post(f"{key}/decisions", json=examples.DECISION)).json()["launch_key"]
    on_series = [
        [item["series_key"] for item in (await service.read.get(f"/v1/launches/{launch}")).json()["measurements"]]
        for launch in (first, second)
    ]
    assert on_series == [["orders_daily"], []]


async def test_a_launch_is_analysed_like_anything_else(measuring: Service) -> None:
    answers = await asyncio.gather(
        *(measuring.write.post(f"{PATH}/analyses", json={"data_as_of": "2026-10-01T00:00:00Z"}) for _ in range(4))
    )
    asked = answers[0].json()
    assert {answer.status_code for answer in answers} == {202} and len({each.json()["id"] for each in answers}) == 1
    assert (asked["kind"], asked["subject_key"], asked["state"]) == ("launch", "same-day-delivery", "queued")
    assert answers[0].headers["location"] == f"/v1/analyses/{asked['id']}"
    for path in (f"{PATH}/analyses", "/v1/analyses?kind=launch"):
        assert [each["id"] for each in (await measuring.read.get(path)).json()["items"]] == [asked["id"]]
    cancelled = (await measuring.write.post(f"/v1/analyses/{asked['id']}/cancel")).json()
    assert cancelled["state"] == "cancelled"
    again = await measuring.write.post(f"{PATH}/analyses", json={"data_as_of": "2026-10-01T00:00:00Z"})
    assert (again.json()["id"], again.json()["state"]) == (asked["id"], "queued")
    headers = {"Idempotency-Key": "once"}
    now = [await measuring.write.post(f"{PATH}/analyses", headers=headers) for _ in range(2)]
    assert now[0].content == now[1].content and now[0].json()["id"] != asked["id"]


async def test_analyses_that_cannot_be_asked_for(measuring: Service) -> None:
    await created(measuring.write, "/v1/launches", examples.LAUNCH)
    before = await measuring.counts()
    problem = assert_problem(await measuring.write.post("/v1/launches/faster-search/analyses"), "not-ready", 409)
    assert pointers(problem) == ["/measurements"] and "PUT /v1/launches/faster-search" in problem["remedy"]
    future = {"data_as_of": "2027-10-01T00:00:00Z"}
    assert_problem(await measuring.write.post(f"{PATH}/analyses", json=future), *INVALID)
    assert_problem(await measuring.write.post(f"{PATH}/analyses", json={"surprise": 1}), *INVALID)
    assert_problem(await measuring.write.post("/v1/launches/nothing/analyses"), "not-found", 404)
    assert_problem(await measuring.read.post(f"{PATH}/analyses"), "forbidden", 403)
    assert_problem(await measuring.anonymous.post(f"{PATH}/analyses"), "unauthenticated", 401)
    for path in ("analyses", "results", "results/latest", "effects"):
        assert_problem(await measuring.read.get(f"/v1/launches/nothing/{path}"), "not-found", 404)
        assert_problem(await measuring.ingest.get(f"{PATH}/{path}"), "forbidden", 403)
    assert_problem(await measuring.read.get(f"{PATH}/results/latest"), "not-found", 404)
    assert_problem(await measuring.ingest.get("/v1/launch-effects"), "forbidden", 403)
    for query in ({"since": "yesterday"}, {"limit": "0"}, {"cursor": "x"}, {"leads": "perhaps"}):
        assert_problem(await measuring.read.get("/v1/launch-effects", params=query), *INVALID)
    assert await measuring.counts() == before


async def hand_in(service: Service, document: LaunchResult) -> LaunchResult:
    """Ask for an analysis of the launch and hand in this document, as a worker does."""
    asked = (await service.write.post(f"{PATH}/analyses")).json()
    document = document.model_copy(update={"analysis_id": asked["id"], "launch_key": asked["subject_key"]})
    body = document.model_dump_json().encode()
    result = lease.StoredResult(body, uuid.uuid4().hex, rows=launch_effects.flat(document))
    async with service.database.write() as session:
        row = await session.get_one(Analysis, uuid.UUID(asked["id"]))
        token = {"analysis_id": row.id, "owner": "w"}
        held = await lease.claim(session, **token, lease_seconds=60, at=service.clock())
        assert held is not None
        assert await lease.finish(session, **token, attempt=held.attempt, result=result, at=service.clock())
    return document


async def test_results_are_served_as_stored_and_their_rows_are_flat(measuring: Service) -> None:
    read = measuring.read
    assert (await read.get("/v1/launches", params={"measured": "true"})).json()["items"] == []
    await hand_in(measuring, launch_result(before_after()))
    measuring.clock.at += timedelta(days=1)
    between = measuring.clock().isoformat()
    newest = await hand_in(measuring, launch_result(measured(), before_after(series_key="visits")))
    got = await read.get(f"{PATH}/results/latest")
    assert got.content == newest.model_dump_json().encode()
    seen = await read.get(f"{PATH}/results/latest", headers={"If-None-Match": got.headers["etag"]})
    assert seen.status_code == 304 and not seen.content
    assert len((await read.get(f"{PATH}/results")).json()["items"]) == 2
    by_id = await read.get(f"/v1/results/{got.headers['x-result-id']}")
    assert by_id.content == got.content

    rows = (await read.get(f"{PATH}/effects")).json()["items"]
    assert len(rows) == sum(len(each.estimates) for each in newest.measurements)
    for each in newest.measurements:
        lead = next(estimate for estimate in each.estimates if estimate.leads)
        row = next(row for row in rows if row["series_key"] == each.series_key and row["leads"])
        assert (row["method"], row["lift"], row["bias_sd"]) == (lead.method, lead.lift, lead.bias_sd)
        assert (row["evidence_grade"], row["periods_after"]) == (each.grade.grade, each.periods_after)
    leading = (await read.get(f"{PATH}/effects", params={"leads": "true", "series_key": "visits"})).json()["items"]
    assert [row["series_key"] for row in leading] == ["visits"]
    everything = (await read.get("/v1/launch-effects", params={"newest": "false", "limit": 200})).json()["items"]
    stored = (await read.get("/v1/launch-effects", params={"newest": "false", "since": between})).json()["items"]
    assert len(everything) > len(rows) and {row["id"] for row in stored} == {row["id"] for row in rows}
    of_metric = (await read.get("/v1/launch-effects", params={"metric_key": "nothing"})).json()["items"]
    assert of_metric == []
    one = (await read.get("/v1/launch-effects", params={"limit": 1})).json()
    next_one = (await read.get("/v1/launch-effects", params={"limit": 1, "cursor": one["next_cursor"]})).json()
    assert [one["items"][0], next_one["items"][0]] == rows[:2]
    listed = {
        value: [item["key"] for item in (await read.get("/v1/launches", params={"measured": value})).json()["items"]]
        for value in ("true", "false")
    }
    assert listed == {"true": ["same-day-delivery"], "false": []}
