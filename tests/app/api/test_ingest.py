"""Exposures, events and summaries over HTTP: good rows are in, bad ones are named, nothing is half stored."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from experiments.settings import Settings
from experiments.tables import Summary
from tests.app.api.service import Service, assert_problem, created, experiment

pytestmark = pytest.mark.anyio
EXPOSURE = {
    "experiment_key": "one-page-checkout",
    "unit_id": "u1",
    "variant_key": "control",
    "exposed_at": "2026-10-02T00:00:00Z",
}
EVENT = {"event": "order", "unit_id": "u1", "occurred_at": "2026-10-02T00:00:00Z", "value": 1}


async def send(service: Service, stream: str, rows: Any, *, batch: str = "b1", **options: Any) -> Any:
    content = rows if isinstance(rows, bytes | str) else json.dumps(rows)
    headers = {"Batch-Id": batch, "Content-Type": options.pop("content_type", "application/json")}
    return await service.ingest.post(f"/v1/ingest/{stream}", content=content, headers=headers, params=options)


def stored_files(settings: Settings) -> list[Path]:
    return sorted(path for path in settings.data_dir.rglob("*") if path.is_file())


async def test_a_batch_is_in_once_however_often_it_is_sent(service: Service, settings: Settings) -> None:
    await service.fill(started=True)
    first = await send(service, "events", [EVENT, {**EVENT, "unit_id": "u2"}])
    assert (first.status_code, first.json()["accepted"], first.json()["replayed"]) == (201, 2, False), first.text
    files, counts = stored_files(settings), await service.counts()
    again = await send(service, "events", [EVENT, {**EVENT, "unit_id": "u2"}])
    assert (again.status_code, again.json()["accepted"], again.json()["replayed"]) == (200, 2, True)
    other = await send(service, "events", [EVENT])
    assert_problem(other, "batch-mismatch", 409)
    assert (stored_files(settings), await service.counts()) == (files, counts)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", json.dumps([EXPOSURE])),
        ("application/x-ndjson", json.dumps(EXPOSURE) + "\n"),
        ("text/csv; charset=utf-8", ",".join(EXPOSURE) + "\n" + ",".join(EXPOSURE.values()) + "\n"),
    ],
)
async def test_exposures_come_in_every_format(service: Service, content_type: str, body: str) -> None:
    await service.fill(started=True)
    answer = await send(service, "exposures", body, content_type=content_type)
    assert (answer.status_code, answer.json()["accepted"]) == (201, 1), answer.text


async def test_bad_rows_refuse_the_batch_with_a_named_problem_and_nothing_is_stored(
    service: Service, settings: Settings
) -> None:
    await service.fill(started=True)
    future = (service.clock.at + timedelta(days=1)).isoformat()
    cases: list[tuple[str, list[dict[str, Any]], str]] = [
        ("exposures", [{**EXPOSURE, "variant_key": "nothing"}], "unknown_variant"),
        ("exposures", [{**EXPOSURE, "experiment_key": "nothing"}], "unknown_experiment"),
        ("exposures", [{**EXPOSURE, "exposed_at": future}], "future_timestamp"),
        ("exposures", [EXPOSURE, {**EXPOSURE, "variant_key": "one_page"}], "unit_in_two_variants"),
        ("exposures", [{**EXPOSURE, "unit_id": " "}], "missing_unit_id"),
        ("events", [{**EVENT, "occurred_at": None}], "missing_timestamp"),
        ("events", [{k: v for k, v in EVENT.items() if k != "occurred_at"}], "missing_timestamp"),
        ("events", [{**EVENT, "occurred_at": "2026-10-02T00:00:00"}], "naive_timestamp"),
        ("events", [{**EVENT, "occurred_at": future}], "future_timestamp"),
        ("events", [EVENT, {**EVENT, "value": float("nan")}], "non_finite_value"),
        ("events", [EVENT, {**EVENT, "value": float("inf")}], "non_finite_value"),
        ("events", [{**EVENT, "value": "many"}], "non_numeric_value"),
    ]
    before = await service.counts()
    for stream, rows, reason in cases:
        answer = await send(service, stream, rows)
        problem = assert_problem(answer, "batch-rejected", 422)
        assert any(fault["detail"].startswith(reason) for fault in problem["errors"]), (reason, problem)
        assert problem["remedy"]
    assert await service.counts() == before
    assert stored_files(settings) == []


async def test_good_rows_are_kept_when_asked_for_and_the_others_reported(service: Service) -> None:
    await service.fill(started=True)
    rows = [EVENT, {**EVENT, "occurred_at": None}, {**EVENT, "unit_id": "u2"}]
    report = (await send(service, "events", rows, on_error="keep_good")).json()
    assert (report["accepted"], report["rejected"], report["reasons"]) == (2, 1, {"missing_timestamp": 1})
    assert [(error["row"], error["field"]) for error in report["errors"]] == [(2, "occurred_at")]


async def test_an_upload_over_the_limit_is_cut_off_and_leaves_nothing(service: Service, settings: Settings) -> None:
    await service.fill(started=True)
    before = await service.counts()
    announced = await service.ingest.post(
        "/v1/ingest/events",
        headers={"Batch-Id": "b", "Content-Type": "application/x-ndjson", "Content-Length": str(1 << 30)},
        content=b"",
    )
    problem = assert_problem(announced, "payload-too-large", 413)
    assert "smaller" in problem["remedy"]

    async def endless() -> Any:
        while True:
            yield b'{"event": "order"}\n' * 100

    streamed = await service.ingest.post(
        "/v1/ingest/events",
        headers={"Batch-Id": "b", "Content-Type": "application/x-ndjson"},
        content=endless(),
    )
    assert_problem(streamed, "payload-too-large", 413)
    assert await service.counts() == before
    assert stored_files(settings) == []


async def test_a_document_over_the_limit_is_refused_too(service: Service) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 1_000_000

    answer = await service.write.post(
        "/v1/experiments", headers={"Content-Type": "application/json"}, content=endless()
    )
    assert_problem(answer, "payload-too-large", 413)


async def test_a_batch_needs_an_id_and_a_known_format(service: Service) -> None:
    await service.fill(started=True)
    before = await service.counts()
    nameless = await service.ingest.post("/v1/ingest/events", json=[EVENT])
    assert "Batch-Id" in assert_problem(nameless, "invalid-definition", 422)["remedy"]
    assert_problem(await send(service, "events", "<row/>", content_type="text/xml"), "unsupported-media-type", 415)
    assert_problem(await send(service, "events", [EVENT], on_error="guess"), "invalid-definition", 422)
    assert await service.counts() == before
    by_query = await service.ingest.post("/v1/ingest/events", params={"batch_id": "q"}, json=[EVENT])
    assert (by_query.status_code, by_query.json()["batch_id"]) == (201, "q")


async def test_exposures_of_a_draft_are_refused(service: Service) -> None:
    await service.fill()
    answer = await send(service, "exposures", [EXPOSURE])
    assert "experiment_not_started" in assert_problem(answer, "batch-rejected", 422)["errors"][0]["detail"]


async def test_summaries_are_taken_by_experiments_that_want_them(service: Service) -> None:
    await service.fill(started=True)
    row = {
        "metric_key": "orders_per_user",
        "variant_key": "control",
        "as_of": "2026-10-08T00:00:00Z",
        "n": 10,
        "mean": 0.5,
        "variance": 0.25,
    }
    await created(service.write, "/v1/experiments", experiment(key="summed", data="summary"))
    await service.write.post("/v1/experiments/summed/start", json={"at": "2026-10-01T00:00:00Z"})
    path, headers = "/v1/experiments/summed/summaries", {"Batch-Id": "s1"}
    answer = await service.ingest.post(path, json=[row], headers=headers)
    assert (answer.status_code, answer.json()["accepted"]) == (201, 1), answer.text
    before = await service.counts()
    assert (await service.ingest.post(path, json=[row], headers=headers)).json()["replayed"]
    csv = ",".join(row) + "\n" + ",".join(str(value) for value in row.values())
    taken = await service.ingest.post(path, content=csv, headers={"Batch-Id": "s2", "Content-Type": "text/csv"})
    assert_problem(taken, "batch-rejected", 422)
    for changes in ({"variance": -1}, {"n": 1.5}, {"metric_key": "nothing"}, {"variant_key": "nothing"}):
        answer = await service.ingest.post(path, json=[{**row, **changes}], headers={"Batch-Id": "s3"})
        assert_problem(answer, "batch-rejected", 422)
    for number in (b"NaN", b"Infinity", b"1e999"):
        body = json.dumps([{**row, "mean": 0}]).encode().replace(b'"mean": 0', b'"mean": ' + number)
        answer = await service.ingest.post(
            path, content=body, headers={"Batch-Id": "s4", "Content-Type": "application/json"}
        )
        assert_problem(answer, "batch-rejected", 422)
    unit_level = await service.ingest.post(
        "/v1/experiments/one-page-checkout/summaries", json=[row], headers={"Batch-Id": "s5"}
    )
    assert_problem(unit_level, "not-ready", 409)
    assert await service.counts() == before


async def test_summaries_may_carry_covariances_that_some_data_could_have(service: Service) -> None:
    await service.fill()
    await created(service.write, "/v1/experiments", experiment(key="summed", data="summary"))
    await service.write.post("/v1/experiments/summed/start", json={"at": "2026-10-01T00:00:00Z"})
    common = {"variant_key": "control", "as_of": "2026-10-08T00:00:00Z", "n": 10, "mean": 0.5}
    rows = [
        {**common, "metric_key": "orders_per_user", "variance": 1.0, "covariances": {"active_users": 0.4}},
        {**common, "metric_key": "active_users", "variance": 0.25},
    ]
    path = "/v1/experiments/summed/summaries"

    async def sent(batch: str, *changes: dict[str, object]) -> httpx.Response:
        body = [{**row, **change} for row, change in zip(rows, changes or ({}, {}), strict=True)]
        return await service.ingest.post(path, json=body, headers={"Batch-Id": batch})

    for number, (change, reason) in enumerate(
        [
            ({"covariances": {"active_users": 0.6}}, "covariance_too_large"),
            ({"covariances": {"nothing": 0.1}}, "unknown_metric"),
            ({"covariances": {"active_users": "much"}}, "non_numeric_value"),
            ({"covariances": {"active_users": 0.4}, "n": 11}, "units_differ"),
        ]
    ):
        problem = assert_problem(await sent(f"bad{number}", change, {}), "batch-rejected", 422)
        assert reason in problem["errors"][0]["detail"], problem
    assert (await sent("good")).status_code == 201
    async with service.database.read() as session:
        stored = {row.metric_key: row.covariances for row in await session.scalars(sa.select(Summary))}
    assert stored == {"orders_per_user": {"active_users": 0.4}, "active_users": None}
