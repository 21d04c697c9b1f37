"""Ingest when much comes, or comes badly: compressed, from many at once, onto a full disk, with rows to be refused."""

import asyncio
import gzip
import json
import os
import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pyarrow as pa
import pytest

from experiments.settings import Settings
from tests.app.api.service import Service, assert_problem
from tests.app.api.test_ingest import EVENT, EXPOSURE, send, stored_files
from warehouse.dead_letters import FOLDER, dead_letter_file, expire_dead_letters

pytestmark = pytest.mark.anyio
LINES = b"".join(json.dumps({**EVENT, "unit_id": f"u{i}"}).encode() + b"\n" for i in range(50))


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What is tested here lies before the database, or asks the same of any."""
    return sqlite_url


async def packed(service: Service, body: bytes, encoding: str, batch: str) -> httpx.Response:
    headers = {"Batch-Id": batch, "Content-Type": "application/x-ndjson", "Content-Encoding": encoding}
    return await service.ingest.post("/v1/ingest/events", content=body, headers=headers)


async def test_a_compressed_body_is_the_batch_that_it_holds(service: Service, settings: Settings) -> None:
    zstd = pa.Codec("zstd").compress(LINES, asbytes=True)
    first = await packed(service, zstd, "zstd", "z")
    assert (first.status_code, first.json()["accepted"]) == (201, 50), first.text
    assert (await packed(service, gzip.compress(LINES, 1), "gzip", "z")).json()["replayed"]
    assert (await send(service, "events", LINES, batch="z", content_type="application/x-ndjson")).json()["replayed"]
    before = stored_files(settings)
    for body, encoding in ((zstd[:-9], "zstd"), (LINES, "gzip"), (gzip.compress(LINES)[:-20], "gzip")):
        assert_problem(await packed(service, body, encoding, "cut"), "batch-rejected", 422)
    assert_problem(await packed(service, LINES, "br", "other"), "unsupported-media-type", 415)
    bomb = gzip.compress(b"\n" * (settings.max_upload_bytes + 1), 1)
    assert_problem(await packed(service, bomb, "gzip", "bomb"), "payload-too-large", 413)
    assert stored_files(settings) == before


async def test_beyond_its_room_a_process_asks_to_come_back_and_keeps_nothing(
    service: Service, settings: Settings
) -> None:
    settings.ingest_slots = 2
    going, started = asyncio.Event(), asyncio.Semaphore(0)

    async def slow() -> AsyncIterator[bytes]:
        yield LINES
        started.release()
        await going.wait()
        yield LINES.replace(b': "u', b': "v')

    def post(batch: str, content: Any) -> Any:
        headers = {"Batch-Id": batch, "Content-Type": "application/x-ndjson"}
        return service.ingest.post("/v1/ingest/events", content=content, headers=headers)

    held = [asyncio.create_task(post(f"slow{i}", slow())) for i in range(2)]
    for _ in held:
        await started.acquire()
    refused = await post("third", LINES)
    assert_problem(refused, "too-busy", 503)
    assert refused.headers["retry-after"] == "5"
    going.set()
    assert [(await task).json()["accepted"] for task in held] == [100, 100]
    assert (await post("third", LINES)).status_code == 201
    settings.min_free_disk_bytes = 1 << 60
    assert "NORTHLIFT_DATA_DIR" in assert_problem(await post("fourth", LINES), "storage-full", 507)["remedy"]
    assert len(stored_files(settings)) == 3


async def test_a_process_holds_so_many_bytes_of_uploads(service: Service, settings: Settings) -> None:
    settings.spool_bytes = settings.max_upload_bytes
    piece = b" " * (settings.max_upload_bytes // 2) + b"\n"

    async def endless() -> AsyncIterator[bytes]:
        yield piece
        other = await service.ingest.post(
            "/v1/ingest/events", content=piece, headers={"Batch-Id": "b", "Content-Type": "application/x-ndjson"}
        )
        assert_problem(other, "too-busy", 503)
        yield LINES

    answer = await service.ingest.post(
        "/v1/ingest/events", content=endless(), headers={"Batch-Id": "a", "Content-Type": "application/x-ndjson"}
    )
    assert answer.json()["accepted"] == 50
    assert service.app.state.intake.bytes == 0


async def test_refused_rows_can_be_read_back_as_they_were_sent(service: Service, settings: Settings) -> None:
    await service.fill(started=True)
    bad = json.dumps({**EXPOSURE, "unit_id": "u2", "variant_key": "green"})
    body = "\n".join([json.dumps(EXPOSURE), bad, "{oops"])
    sent = await send(
        service, "exposures", body, batch="mon/1", content_type="application/x-ndjson", on_error="keep_good"
    )
    assert (sent.json()["accepted"], sent.json()["rejected"]) == (1, 2)
    await send(service, "events", [EVENT], batch="clean")
    listed = (await service.ingest.get("/v1/ingest/batches")).json()["items"]
    assert [(item["batch_id"], item["dead_letters"]) for item in listed] == [("clean", False), ("mon/1", True)]
    assert [
        item["batch_id"]
        for item in (await service.ingest.get("/v1/ingest/batches", params={"stream": "events"})).json()["items"]
    ] == ["clean"]
    one = (await service.ingest.get("/v1/ingest/batches/exposures/mon/1")).json()
    assert one["reasons"] == {"unknown_variant": 1, "malformed_row": 1}
    assert [error["row"] for error in one["errors"]] == [2, 3]
    address = "/v1/ingest/batches/exposures/mon/1/dead-letters"
    answer = await service.ingest.get(address)
    assert answer.headers["content-type"] == "application/x-ndjson"
    letters = [json.loads(line) for line in answer.text.splitlines()]
    assert [(one["row"], one["field"], one["reason"], one["received"]) for one in letters] == [
        (2, "variant_key", "unknown_variant", bad),
        (3, "", "malformed_row", "{oops"),
    ]
    assert all(one["remedy"] and one["detail"] for one in letters)
    for reader in (service.write, service.read):
        assert_problem(await reader.get(address), "forbidden", 403)
        assert_problem(await reader.get("/v1/ingest/batches"), "forbidden", 403)
    assert (await service.admin.get(address)).status_code == 200
    for missing in ("events/clean/dead-letters", "events/none", "events/none/dead-letters"):
        assert_problem(await service.ingest.get(f"/v1/ingest/batches/{missing}"), "not-found", 404)
    (path,) = (settings.data_dir / FOLDER).iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    days = timedelta(days=settings.dead_letter_days)
    assert await expire_dead_letters(service.database, settings, at=service.clock.at + days / 2) == 0
    orphan = dead_letter_file(settings.data_dir, "orphan.ndjson")
    orphan.write_text("{}")
    os.utime(orphan, (0, 0))
    assert await expire_dead_letters(service.database, settings, at=service.clock.at + days) == 1
    assert list((settings.data_dir / FOLDER).iterdir()) == []
    assert_problem(await service.ingest.get(address), "not-found", 404)


async def test_a_refused_batch_leaves_no_dead_letters(service: Service, settings: Settings) -> None:
    assert_problem(await send(service, "events", [{**EVENT, "unit_id": ""}]), "batch-rejected", 422)
    assert stored_files(settings) == []


async def test_text_that_databases_cannot_hold_is_a_fault_of_its_row(service: Service) -> None:
    rows = [EVENT, {**EVENT, "event": "a\x00b"}, {**EVENT, "properties": {"x": "\x00"}}, {**EVENT, "unit_id": "\x00"}]
    report = (await send(service, "events", rows, on_error="keep_good")).json()
    assert (report["accepted"], report["reasons"]) == (1, {"malformed_row": 3})
