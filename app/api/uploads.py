"""Bodies that do not fit in memory: spooled to a file while they arrive, gone when the request is over.

A process takes so many uploads and so many bytes at once. One that finds no room is told when to come back, before or
while it is read; nothing of it is kept.
"""

import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import anyio
from fastapi import Depends, Header, Query, Request
from starlette.requests import ClientDisconnect

from app.api.problems import BadRequest
from experiments.errors import FieldError, InvalidDefinition, StorageFull, TooBusy
from experiments.settings import Settings
from warehouse.encodings import Encoding, decode, encoding_of
from warehouse.scratch import INCOMING, scratch_folder

_PIECE: Final = 1 << 20
"""Pieces are written on a thread; smaller ones would cost more in hand-overs than in writing."""
_COME_BACK_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that has arrived, without its compression; `digest` is its SHA-256."""

    path: Path
    digest: str


class Intake:
    """The room that one process has for uploads: how many there are now, and how many bytes they may take."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.data_dir / INCOMING
        self.uploads = 0
        self.bytes = 0

    @asynccontextmanager
    async def spooled(self, request: Request) -> AsyncIterator[Upload]:
        """The body as a file. Raises `TooBusy`, `StorageFull`, `PayloadTooLarge`, `UnsupportedMediaType`."""
        encoding = encoding_of(request.headers.get("content-encoding", ""))
        with self._place() as place:
            place.claim(int(request.headers.get("content-length") or 0))
            await anyio.to_thread.run_sync(self._check_disk, place.claimed)
            scratch = scratch_folder(self._folder)
            folder = await anyio.to_thread.run_sync(scratch.__enter__)
            try:
                yield await self._received(request, folder, encoding, place)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(scratch.__exit__, None, None, None)

    async def _received(self, request: Request, folder: Path, encoding: Encoding | None, place: "_Place") -> Upload:
        path = folder / "body"
        digest = hashlib.sha256()
        arrived = 0
        with await anyio.to_thread.run_sync(path.open, "wb") as file:
            pending = bytearray()
            try:
                async for piece in request.stream():
                    pending += piece
                    arrived += len(piece)
                    place.claim(arrived)
                    if len(pending) >= _PIECE:
                        await anyio.to_thread.run_sync(self._write, file, digest, bytes(pending))
                        pending.clear()
            except ClientDisconnect as error:
                raise BadRequest(
                    "The upload was cut off", remedy="Send the batch again; nothing was stored."
                ) from error
            await anyio.to_thread.run_sync(self._write, file, digest, bytes(pending))
        if encoding is None:
            return Upload(path, digest.hexdigest())
        plain = folder / "plain"
        limit = self._settings.max_upload_bytes
        unpacked, size = await anyio.to_thread.run_sync(lambda: decode(path, plain, encoding, limit=limit))
        place.claim(arrived + size)
        return Upload(plain, unpacked)

    def _write(self, file: BinaryIO, digest: "hashlib._Hash", piece: bytes) -> None:
        self._check_disk(len(piece))
        digest.update(piece)
        file.write(piece)

    def _check_disk(self, more: int) -> None:
        """Room for the bytes twice, as they arrive and as they are stored, with what must always stay free."""
        parent = next(path for path in (self._folder, *self._folder.parents) if path.exists())
        if shutil.disk_usage(parent).free < self._settings.min_free_disk_bytes + 2 * more:
            raise StorageFull(
                "The disk of the data folder is nearly full; nothing was stored",
                remedy="Free space below NORTHLIFT_DATA_DIR, or lower NORTHLIFT_MIN_FREE_DISK_BYTES;"
                " then send the batch again.",
            )

    def _place(self) -> "_Place":
        if self.uploads >= self._settings.ingest_slots:
            raise _too_busy(f"{self.uploads} uploads are being taken")
        return _Place(self)

    def grow(self, more: int) -> None:
        """Claim more bytes (or give some back), or raise `TooBusy`."""
        capacity = max(self._settings.spool_bytes, self._settings.max_upload_bytes)
        if more > 0 and self.bytes + more > capacity:
            raise _too_busy(f"uploads of {self.bytes:,} bytes are being taken")
        self.bytes += more

    def count(self, change: int) -> None:
        """One upload more or less."""
        self.uploads += change


class _Place:
    """What one upload takes up of an `Intake`."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.claimed = 0

    def __enter__(self) -> "_Place":
        self._intake.count(1)
        return self

    def __exit__(self, *failure: object) -> None:
        self._intake.grow(-self.claimed)
        self._intake.count(-1)

    def claim(self, size: int) -> None:
        """Have room for `size` bytes altogether."""
        if size > self.claimed:
            self._intake.grow(size - self.claimed)
            self.claimed = size


def _too_busy(detail: str) -> TooBusy:
    return TooBusy(
        f"{detail}, and there is no room for more; nothing was stored",
        remedy=f"Send the same batch again in {_COME_BACK_SECONDS} seconds, and fewer batches at once.",
        retry_after_seconds=_COME_BACK_SECONDS,
    )


def get_intake(request: Request) -> Intake:
    """The room that this process has."""
    intake: Intake = request.app.state.intake
    return intake


def batch_id(
    header: Annotated[
        str | None, Header(alias="Batch-Id", max_length=200, description="Your id of this batch (or `?batch_id=`)")
    ] = None,
    query: Annotated[str | None, Query(alias="batch_id", max_length=200)] = None,
) -> str:
    """The client's name for the batch: what makes sending it again harmless. Raises `InvalidDefinition` without one."""
    found = (header or query or "").strip()
    if not found:
        raise InvalidDefinition(
            "The batch has no id",
            remedy="Send a Batch-Id header (or ?batch_id=) that is unique to this batch; reuse it only to retry.",
            errors=[FieldError("/header/Batch-Id", "is required")],
        )
    return found


IntakeDep = Annotated[Intake, Depends(get_intake)]
BatchId = Annotated[str, Depends(batch_id)]
