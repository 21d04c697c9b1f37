"""Batches: stored and recorded together, once, and only when they are good."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

import warehouse.ingest
from experiments import ingest_batch, plan
from experiments.database import Database
from experiments.definitions import EventSource, ExperimentSpec
from experiments.errors import BatchMismatch, BatchRejected, NotReady
from experiments.settings import Settings
from experiments.tables import Experiment, IngestBatch, Summary
from tests.warehouse.cases import plan_of
from tests.warehouse.test_extract_cases import metric
from warehouse.catalog import slice_for
from warehouse.extract import extract_experiment, extract_summaries
from warehouse.ingest import ingest
from warehouse.report import MAX_ERRORS, IngestReport
from warehouse.row_lists import parse_rows
from warehouse.summaries import ingest_summaries

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
STARTED = datetime(2026, 1, 5, tzinfo=UTC)
NDJSON = "application/x-ndjson"


class World:
    """A database with four experiments, and a folder."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.settings = Settings(data_dir=folder / "data")
        self.folder = folder

    async def send(
        self, stream: Any, rows: list[Any] | bytes, batch_id: str = "b1", *, at: datetime = NOW, **options: Any
    ) -> IngestReport:
        body = self.folder / f"body-{len(list(self.folder.iterdir()))}"
        body.write_bytes(rows if isinstance(rows, bytes) else "\n".join(map(json.dumps, rows)).encode())
        arguments = {"content_type": NDJSON, "actor": "tests", **options}
        return await ingest(
            self.database, self.settings, stream=stream, batch_id=batch_id, body=body, at=at, **arguments
        )

    async def experiment(self, key: str = "checkout") -> Experiment:
        async with self.database.read() as session:
            found = await session.execute(sa.select(Experiment).where(Experiment.key == key))  # type: ignore[arg-type]
            return found.scalar_one()

    async def batches(self) -> list[IngestBatch]:
        async with self.database.read() as session:
            return list((await session.execute(sa.select(IngestBatch))).scalars())

    def files(self) -> list[Path]:
        return sorted(path for path in self.settings.data_dir.rglob("*") if path.is_file())


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    database = Database(database_url)
    specs = {
        key: ExperimentSpec.model_validate(
            {
                "key": key,
                "name": key,
                "data": "summary" if key == "summed" else "events",
                "variants": [
                    {"key": "control", "weight": 0.5, "is_control": True},
                    {"key": "treatment", "weight": 0.5},
                ],
            }
        )
        for key in ("checkout", "other", "draft", "summed")
    }
    async with database.write() as session:
        for key, spec in specs.items():
            started = None if key == "draft" else STARTED
            frozen = plan_of([metric("revenue")]).model_copy(update={"experiment_key": key, "data": spec.data})
            session.add(
                Experiment(
                    key=key, name=key, spec=spec.model_dump(mode="json"), started_at=started,
                    status="running" if started else "draft", created_at=STARTED, updated_at=STARTED,
                    plan=plan.document(frozen) if started else None,
                )
            )  # fmt: skip
    yield World(database, tmp_path)
    await database.dispose()


def exposure(unit: str = "u1", **fields: Any) -> dict[str, Any]:
    row = {
        "experiment_key": "checkout",
        "unit_id": unit,
        "variant_key": "control",
        "exposed_at": "2026-01-06T00:00:00Z",
    }
    return {name: value for name, value in {**row, **fields}.items() if value != "absent"}


def event(unit: str = "u1", **fields: Any) -> dict[str, Any]:
    row = {"event": "order", "unit_id": unit, "occurred_at": "2026-01-07T00:00:00Z", "value": 2.0}
    return {name: value for name, value in {**row, **fields}.items() if value != "absent"}


async def test_ingested_rows_are_what_an_analysis_reads(world: World) -> None:
    rows = [exposure("u1"), exposure("u2", variant_key="treatment"), exposure("u3", experiment_key="other")]
    first = await world.send("exposures", rows)
    assert (first.accepted, first.rejected, first.replayed) == (3, 0, False)
    await world.send("events", [event("u1"), event("u2", value=5), event("u2", event="visit")])
    later = NOW + timedelta(days=1)
    await world.send("events", [event("u1", value=100.0)], "b2", at=later)
    planned = plan_of([metric("revenue")], sources=[EventSource(key="orders", event="order")])
    for as_of, expected in ((NOW, [2.0, 5.0]), (later, [102.0, 5.0])):
        async with world.database.read() as session:
            data = await slice_for(session, world.settings, planned, await world.experiment(), as_of)
        assert extract_experiment(planned, data).last.mean[:, 0].tolist() == expected


async def test_the_same_batch_again_gives_the_recorded_report_and_stores_nothing_more(world: World) -> None:
    rows = [event("u1"), event("u2", value="NaN"), event("", value=1)]
    first = await world.send("events", rows, on_error="keep_good")
    files = [(path, path.stat().st_mtime_ns) for path in world.files()]
    again = await world.send("events", rows, on_error="keep_good", at=NOW + timedelta(days=9))
    assert again.replayed
    assert (again.accepted, again.rejected, again.errors) == (1, 2, first.errors)
    assert again.reasons == first.reasons == {"non_finite_value": 1, "missing_unit_id": 1}
    assert [(path, path.stat().st_mtime_ns) for path in world.files()] == files
    assert len(await world.batches()) == 1


async def test_a_batch_id_with_other_content_is_refused(world: World) -> None:
    await world.send("events", [event("u1")])
    files = world.files()
    with pytest.raises(BatchMismatch):
        await world.send("events", [event("u2")])
    assert world.files() == files


async def test_the_same_batch_sent_twice_at_once_is_stored_once(world: World) -> None:
    reports: list[IngestReport | type[Exception]] = []

    async def send(rows: list[Any]) -> None:
        try:
            reports.append(await world.send("events", rows))
        except BatchMismatch:
            reports.append(BatchMismatch)

    async with anyio.create_task_group() as group:
        for i in range(6):
            (world.folder / f"pad{i}").touch()
            group.start_soon(send, [event("u1")])
        group.start_soon(send, [event("another")])
    assert len(await world.batches()) == 1
    assert len(world.files()) == 1
    assert sum(isinstance(r, IngestReport) and not r.replayed for r in reports) == 1


class Rendezvous(Database):
    """Lets nobody write before two want to: both have their files in the store by then."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._wanted, self._both = 0, anyio.Event()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        self._wanted += 1
        if self._wanted == 2:
            self._both.set()
        await self._both.wait()
        async with super().write() as session:
            yield session


async def test_the_same_batch_at_once_on_both_sides_of_a_moment_counts_what_its_files_have(
    world: World, tmp_path: Path
) -> None:
    moment = NOW + timedelta(seconds=world.settings.allowed_clock_skew_seconds)
    rows = [event("u1"), event("u2", occurred_at=moment.isoformat())]
    world.database = Rendezvous(world.database.url)
    reports = []

    async def send(at: datetime) -> None:
        reports.append(await world.send("events", rows, at=at, on_error="keep_good"))

    async with anyio.create_task_group() as group:
        for i, at in enumerate((NOW, NOW - timedelta(seconds=1))):
            (world.folder / f"pad{i}").touch()
            group.start_soon(send, at)
    (batch,) = await world.batches()
    (path,) = world.settings.data_dir.rglob("*.parquet")
    assert pq.read_metadata(path).num_rows == batch.accepted == 2 - batch.rejected
    letters = list(world.settings.data_dir.rglob("*.ndjson"))
    assert [letter.name for letter in letters] == ([batch.dead_letters] if batch.rejected else [])
    assert {(report.accepted, report.rejected) for report in reports} == {(batch.accepted, batch.rejected)}
    await world.database.dispose()


BAD_EXPOSURES: list[tuple[dict[str, Any], str, str]] = [
    ({"unit_id": "absent"}, "unit_id", "missing_unit_id"),
    ({"unit_id": "  "}, "unit_id", "missing_unit_id"),
    ({"unit_id": "x" * 201}, "unit_id", "too_long"),
    ({"exposed_at": "absent"}, "exposed_at", "missing_timestamp"),
    ({"exposed_at": "yesterday"}, "exposed_at", "invalid_timestamp"),
    ({"exposed_at": 1767225600}, "exposed_at", "invalid_timestamp"),
    ({"exposed_at": "2026-01-06T00:00:00"}, "exposed_at", "naive_timestamp"),
    ({"exposed_at": "2026-02-01T12:05:01Z"}, "exposed_at", "future_timestamp"),
    ({"experiment_key": "absent"}, "experiment_key", "missing_experiment"),
    ({"experiment_key": "nope"}, "experiment_key", "unknown_experiment"),
    ({"experiment_key": "draft"}, "experiment_key", "experiment_not_started"),
    ({"experiment_key": "summed"}, "experiment_key", "summary_experiment"),
    ({"variant_key": "absent"}, "variant_key", "missing_variant"),
    ({"variant_key": "nope"}, "variant_key", "unknown_variant"),
    ({"color": "red"}, "color", "unknown_field"),
    ({"segments": {"a/b": "x"}}, "segments/a/b", "invalid_name"),
    ({"segments": {"Country": "x", "country": "y"}}, "segments/country", "duplicate_field"),
    ({"segments": {"country": ["DE"]}}, "segments/country", "invalid_attribute"),
    ({"segments": "DE"}, "segments", "invalid_attribute"),
]
BAD_EVENTS: list[tuple[dict[str, Any], str, str]] = [
    ({"unit_id": None}, "unit_id", "missing_unit_id"),
    ({"occurred_at": "absent"}, "occurred_at", "missing_timestamp"),
    ({"occurred_at": "2026-03-01T00:00:00Z"}, "occurred_at", "future_timestamp"),
    ({"event": ""}, "event", "missing_event"),
    ({"event": "x" * 201}, "event", "too_long"),
    ({"value": "many"}, "value", "non_numeric_value"),
    ({"value": True}, "value", "non_numeric_value"),
    ({"value": float("nan")}, "value", "non_finite_value"),
    ({"value": float("-inf")}, "value", "non_finite_value"),
    ({"value": 10**400}, "value", "non_numeric_value"),
    ({"properties": {"x": float("inf")}}, "properties/x", "non_finite_value"),
    ({"properties": {"x": "y" * 1001}}, "properties/x", "too_long"),
    ({"properties": {"x": {"y": 1}}}, "properties/x", "invalid_attribute"),
]


async def test_every_bad_row_has_its_reason_and_remedy_and_the_good_rows_can_be_kept(world: World) -> None:
    for stream, make, cases in (("exposures", exposure, BAD_EXPOSURES), ("events", event, BAD_EVENTS)):
        rows = [make("good")]
        for i, (fields, _, _) in enumerate(cases):
            rows += [make(**{"unit_id": f"bad{i}", **fields}), make(f"good{i}")]
        with pytest.raises(BatchRejected) as caught:
            await world.send(stream, rows)
        assert caught.value.extra["rejected"] == len(cases)
        assert len(caught.value.errors) == len(cases)
        assert world.files() == []
        assert await world.batches() == []
        report = await world.send(stream, rows, on_error="keep_good")
        assert (report.accepted, report.rejected) == (len(cases) + 1, len(cases))
        found = [(error["row"], error["field"], error["reason"]) for error in report.errors]
        assert found == [(2 * i + 2, field, reason) for i, (_, field, reason) in enumerate(cases)]
        assert all(error["detail"] and error["remedy"] for error in report.errors)
        for path in world.files():
            path.unlink()
        async with world.database.write() as session:
            await session.execute(sa.delete(IngestBatch))


async def test_lines_that_are_no_objects_are_malformed_rows(world: World) -> None:
    body = b"\n".join([json.dumps(event()).encode(), b"{oops", b"[1]", b'"text"', b'{"event": "\xff"}', b""])
    report = await world.send("events", body, on_error="keep_good")
    assert report.accepted == 1
    assert [(error["row"], error["reason"]) for error in report.errors] == [(n, "malformed_row") for n in (2, 3, 4, 5)]


async def test_a_csv_row_with_a_field_too_many_is_one_malformed_row(world: World) -> None:
    at = "2026-01-06T00:00:00Z"
    body = f"event,unit_id,occurred_at,p_n\norder,a,{at},1\norder,b,{at},1,2\norder,c,{at},\n".encode()
    report = await world.send("events", body, content_type="text/csv", on_error="keep_good")
    assert (report.accepted, report.reasons) == (2, {"malformed_row": 1})
    assert report.errors[0]["row"] == 2


async def test_a_unit_in_two_variants_of_a_batch_is_refused_whole(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warehouse.json_lines.BLOCK", 300)
    rows = [exposure(f"u{i}") for i in range(8)]
    rows += [exposure("u1", variant_key="treatment"), exposure("u1", experiment_key="other", variant_key="treatment")]
    with pytest.raises(BatchRejected, match="2 rows"):
        await world.send("exposures", rows)
    assert world.files() == []
    report = await world.send("exposures", rows, on_error="keep_good")
    assert report.reasons == {"unit_in_two_variants": 2}
    assert [error["row"] for error in report.errors] == [2, 9]
    assert report.accepted == 8


async def test_many_errors_are_counted_and_the_first_ones_listed(world: World) -> None:
    rows = [event("", value=1) for _ in range(250)] + [event(value="x")]
    report = await world.send("events", rows, on_error="keep_good")
    assert report.reasons == {"missing_unit_id": 250, "non_numeric_value": 1}
    assert len(report.errors) == MAX_ERRORS + 1
    again = await world.send("events", rows, on_error="keep_good")
    assert again.reasons == report.reasons


async def test_chunks_with_different_columns_become_one_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warehouse.json_lines.BLOCK", 200)
    rows = [event(f"u{i}", properties={"n": i} if i < 5 else {"n": "text", "b": True}) for i in range(10)]
    await world.send("events", rows)
    (path,) = world.files()
    table = pq.read_table(path).sort_by("unit_id")
    assert table.column("p_n").to_pylist() == ["0", "1", "2", "3", "4"] + ["text"] * 5
    assert table.column("p_b").to_pylist() == [None] * 5 + [True] * 5


async def test_a_crash_between_rename_and_record_is_invisible_and_healed_by_sending_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan_of([metric("revenue")])
    await world.send("exposures", [exposure("u1")])

    async def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(warehouse.ingest.ingest_batch, "record", crash)
        with pytest.raises(KeyboardInterrupt):
            await world.send("events", [event("u1")])
    assert len(world.files()) == 2
    async with world.database.read() as session:
        data = await slice_for(session, world.settings, planned, await world.experiment(), NOW)
    assert data.event_files == {"order": ()}
    report = await world.send("events", [event("u1")])
    assert not report.replayed
    assert len(world.files()) == 2
    async with world.database.read() as session:
        data = await slice_for(session, world.settings, planned, await world.experiment(), NOW)
    assert extract_experiment(planned, data).last.mean[0, 0] == 2.0


async def test_names_of_events_cannot_leave_the_store_or_collide(world: World) -> None:
    names = ["../../etc/passwd", "Order", "order", "a/b", "a b", "…", "CON"]
    await world.send("events", [event(event=name) for name in names])
    assert len(world.files()) == len(names)
    assert all(path.parent.parent == world.settings.data_dir / "events" for path in world.files())
    async with world.database.read() as session:
        recorded = await ingest_batch.recorded(session, stream="events", subjects=names, until=NOW)
    assert all(len(found) == 1 for found in recorded.values())


async def test_an_empty_batch_is_recorded_without_files(world: World) -> None:
    report = await world.send("events", b"[]", content_type="application/json")
    assert (report.accepted, report.rejected) == (0, 0)
    assert world.files() == []


def summary(**fields: Any) -> dict[str, Any]:
    row = {
        "metric_key": "revenue",
        "variant_key": "control",
        "as_of": "2026-01-10T00:00:00Z",
        "n": 10,
        "mean": 1.5,
        "variance": 2.0,
    }
    return {name: value for name, value in {**row, **fields}.items() if value != "absent"}


async def send_summaries(
    world: World, rows: list[dict[str, Any]], batch_id: str = "s1", key: str = "summed"
) -> IngestReport:
    experiment = await world.experiment(key)
    async with world.database.write() as session:
        return await ingest_summaries(
            session, world.settings, experiment=experiment, rows=rows, batch_id=batch_id, actor="tests", at=NOW
        )


async def test_summaries_become_moments_at_their_own_looks(world: World) -> None:
    rows = [
        summary(), summary(variant_key="treatment", n=12), summary(as_of="2026-01-11T00:00:00Z", n=20, mean=2.5),
    ]  # fmt: skip
    csv = "metric_key,variant_key,as_of,n,mean,variance\n" + "\n".join(",".join(map(str, row.values())) for row in rows)
    parsed = parse_rows(csv.encode(), "text/csv", noun="summaries")
    assert parsed == [{k: str(v) for k, v in row.items()} for row in rows]
    report = await send_summaries(world, parsed)
    assert report.accepted == 3
    assert (await send_summaries(world, parsed)).replayed
    async with world.database.read() as session:
        stored = list((await session.execute(sa.select(Summary))).scalars())
    planned = plan_of([metric("revenue"), metric("unsent")])
    ((keys, found),) = extract_summaries(planned, stored)
    assert keys == ("revenue",)
    assert found.overall.count.tolist() == [[10, 12], [20, 12]]
    assert found.overall.mean[..., 0].tolist() == [[1.5, 1.5], [2.5, 1.5]]
    assert found.last.covariance[:, 0, 0].tolist() == [2.0, 2.0]


async def test_bad_summaries_are_refused_together_with_their_reasons(world: World) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"metric_key": "nope"}, "unknown_metric"),
        ({"variant_key": "nope"}, "unknown_variant"),
        ({"as_of": "absent"}, "missing_timestamp"),
        ({"as_of": "2026-03-01T00:00:00Z"}, "future_timestamp"),
        ({"n": -1}, "invalid_count"),
        ({"n": 1.5}, "invalid_count"),
        ({"n": "absent"}, "invalid_count"),
        ({"mean": float("nan")}, "non_finite_value"),
        ({"mean": None}, "missing_moment"),
        ({"variance": -0.1}, "negative_variance"),
        ({"variance": float("inf")}, "non_finite_value"),
        ({"variance": "much"}, "non_numeric_value"),
        ({"sd": 1}, "unknown_field"),
        ({}, "duplicate_summary"),
    ]
    with pytest.raises(BatchRejected) as caught:
        await send_summaries(world, [summary(), *(summary(**fields) for fields, _ in cases)])
    assert [error.detail.split(":")[0] for error in caught.value.errors] == [reason for _, reason in cases]
    assert await world.batches() == []
    await send_summaries(world, [summary()])
    with pytest.raises(BatchMismatch):
        await send_summaries(world, [summary(n=11)])
    with pytest.raises(BatchRejected, match="1 rows"):
        await send_summaries(world, [summary(n=11)], "s2")


async def test_summaries_need_a_started_experiment_that_takes_them(world: World) -> None:
    for key in ("draft", "checkout"):
        with pytest.raises(NotReady):
            await send_summaries(world, [summary()], key=key)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"{}", "application/json"),
        (b"[1]", "application/json"),
        (b"n,mean,n\n1,2,3\n", "text/csv"),
        (b"\xff", "text/csv"),
    ],
)
async def test_unreadable_summaries_are_refused(body: bytes, kind: str) -> None:
    with pytest.raises(BatchRejected):
        parse_rows(body, kind, noun="summaries")
