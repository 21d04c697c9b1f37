"""What is in the store, as people, programs and the terminal see it."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from app.cli.store import compact_now, table_of_store
from app.main import create_app
from experiments import api_key, fact_source
from experiments.definitions import FileSource, Filter
from experiments.settings import Settings
from experiments.tables import Erasure
from tests.app.pages.conftest import Reader, browsing
from tests.app.pages.test_pages import Structure
from tests.app.world import NOW
from tests.warehouse.cases import START
from tests.warehouse.recorded_world import Recorded

pytestmark = pytest.mark.anyio


@pytest.fixture
async def desk(sqlite_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[tuple[Reader, Settings]]:
    """Signed in to read, in a company without data."""
    settings = Settings(
        database_url=sqlite_url, redis_url=redis_url, data_dir=tmp_path / "data", sqlite_synchronous="OFF"
    )
    async with browsing(create_app(settings, clock=lambda: NOW)) as reader:
        async with reader.database.write() as session:
            _, key = await api_key.issue(session, name="reader", scopes=["read"], actor="ada", at=NOW)
        assert (await reader.sign_in(key)).status_code == 303
        reader.http.headers["X-API-Key"] = key
        yield reader, settings


def well_formed(answer: httpx.Response) -> str:
    page = Structure()
    page.feed(answer.text)
    assert (answer.status_code, page.faults, page.open) == (200, [], [])
    assert all(table["caption"] and table["scoped"] for table in page.tables)
    return answer.text


async def test_what_is_in_the_store_before_and_after_compaction(desk: tuple[Reader, Settings], tmp_path: Path) -> None:
    reader, settings = desk
    assert (await reader.http.get("/v1/store")).json()["subjects"] == []
    assert "None yet." in well_formed(await reader.http.get("/data"))
    world = Recorded(reader.database, settings, tmp_path)
    await world.begin()
    good = {"event": "orders [b]<b>", "unit_id": "u", "occurred_at": START.isoformat()}
    for i in range(3):
        await world.send("events", [good, good, {**good, "event": "visit"}][: 3 - i], START)
    shown = {"experiment_key": "checkout", "unit_id": "u", "variant_key": "control", "exposed_at": START.isoformat()}
    await world.send("exposures", [shown, {**shown, "variant_key": "no such"}], START)
    told = (await reader.http.get("/v1/store")).json()
    counts = ("stream", "subject", "rows", "batches", "loose_files", "segments")
    assert [tuple(one[name] for name in counts) for one in told["subjects"]] == [
        ("exposures", "checkout", 1, 1, 1, 0),
        ("events", "orders [b]<b>", 5, 3, 3, 0),
        ("events", "visit", 1, 1, 1, 0),
    ]
    assert (told["refused_rows"], told["batches_with_refused_rows"], told["events_kept_since"]) == (1, 1, None)
    assert (await compact_now(settings, everything=False)) == ["dead letters expired: 1"]
    assert (await compact_now(settings, everything=False)) == ["The store was in order."]
    assert "segments written: 3" in await compact_now(settings, everything=True)
    told = (await reader.http.get("/v1/store")).json()
    assert [tuple(one[name] for name in counts) for one in told["subjects"]] == [
        ("exposures", "checkout", 1, 1, 0, 1),
        ("events", "orders [b]<b>", 5, 3, 0, 1),
        ("events", "visit", 1, 1, 0, 1),
    ]
    files = [path for path in world.files() if path.name.endswith("-of-16.parquet")]
    assert sum(one["size_bytes"] for one in told["subjects"]) == sum(path.stat().st_size for path in files)
    page = well_formed(await reader.http.get("/data"))
    assert "orders [b]&lt;b&gt;" in page and 'href="/experiments/checkout"' in page
    assert "1 row of 1 batch was not taken" in page
    assert "<b>Unknown variant</b> (1): use the key of one of the experiment&#39;s variants." in page
    assert "/dead-letters" not in page, "they expired"
    table, line = await table_of_store(settings)
    console = Console(width=160, record=True)
    console.print(table)
    text = console.export_text()
    assert "orders [b]<b>" in text and "visit" in text
    assert line == "Kept: everything, for ever. Refused rows: 1, in so many batches: 1."


async def test_only_who_may_read_sees_the_store(desk: tuple[Reader, Settings]) -> None:
    reader, _ = desk
    reader.http.headers.pop("X-API-Key")
    assert (await reader.http.get("/v1/store")).status_code == 401
    async with reader.database.write() as session:
        _, key = await api_key.issue(session, name="sender", scopes=["ingest"], actor="ada", at=NOW)
    assert (await reader.http.get("/v1/store", headers={"X-API-Key": key})).status_code == 403
    reader.http.cookies.clear()
    assert (await reader.http.get("/data")).status_code == 303


async def test_administrators_ask_for_an_erasure_and_nobody_reads_ids_again(desk: tuple[Reader, Settings]) -> None:
    reader, _ = desk
    asked = {
        "unit_ids": "secret-id\n\n secret-device ",
        "unit_type": "user",
        "reason": "ticket 9",
        "refuse_future": "yes",
    }
    assert "Delete for good" not in (await reader.http.get("/data")).text
    assert (await reader.submit("/data/erasures", **asked)).status_code == 403
    async with reader.database.write() as session:
        _, key = await api_key.issue(session, name="boss", scopes=["admin"], actor="ada", at=NOW)
    assert (await reader.sign_in(key)).status_code == 303
    for fault in ({"unit_ids": " "}, {"unit_type": ""}, {"unit_ids": "secret-id" * 50}):
        refused = await reader.submit("/data/erasures", **asked | fault)
        assert refused.status_code == 422 and "secret" not in refused.text and "ticket 9" in refused.text
    answer = await reader.submit("/data/erasures", **asked)
    assert (answer.status_code, answer.headers["location"]) == (303, "/data#erasures")
    page = well_formed(await reader.http.get("/data"))
    assert page.count("ticket 9") == page.count("new rows are refused") == 2
    assert "secret" not in page


async def test_fact_sources_are_listed_with_their_places_and_erasures_without_ids(
    desk: tuple[Reader, Settings],
) -> None:
    reader, _ = desk
    async with reader.database.write() as session:
        done = Erasure(
            unit_type="user", unit_digest="0" * 64, reason="ticket <1>", state="removing", refuse_future=True,
            requested_by="ada", requested_at=NOW, rewritten_at=NOW,
            effects={"rows": {"events": {"orders": 1200}}, "experiments": {"checkout": {"control": 1}}, "rounds": 1},
        )  # fmt: skip
        waiting = Erasure(unit_type="device", unit_digest="1" * 64, unit_id="d", requested_by="ada", requested_at=NOW)
        session.add_all([done, waiting])
        source = FileSource(
            kind="file", key="payments", path="a/payments<1>.parquet", unit_column="who", timestamp_column="at",
            filters=[Filter(column="status", value="settled")],
        )  # fmt: skip
        await fact_source.create(session, spec=source, actor="ada", at=NOW)
    page = well_formed(await reader.http.get("/data"))
    for text in (
        "a/payments&lt;1&gt;.parquet", "status = settled",
        "ticket &lt;1&gt;", "1,200", "new rows are refused", 'href="/experiments/checkout"', "Waiting",
    ):  # fmt: skip
        assert text in page
