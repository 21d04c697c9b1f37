"""Bodies that do not fit in memory: spooled to a file while they arrive, gone when the request is over."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import anyio
from fastapi import Depends, Header, Query, Request
from starlette.requests import ClientDisconnect

from app.api.problems import BadRequest
from experiments.errors import FieldError, InvalidDefinition

_PIECE: Final = 1 << 20
"""Pieces are written on a thread; smaller ones would cost more in hand-overs than in writing."""


@asynccontextmanager
async def spooled(request: Request, folder: Path) -> AsyncIterator[Path]:
    """The body as a file below `folder`. The size limit is enforced while it arrives (`PayloadTooLarge`)."""
    await anyio.to_thread.run_sync(lambda: folder.mkdir(parents=True, exist_ok=True))
    with tempfile.TemporaryDirectory(prefix="upload-", dir=folder) as directory:
        path = Path(directory) / "body"
        try:
            async with await anyio.open_file(path, "wb") as file:
                pending = bytearray()
                async for piece in request.stream():
                    pending += piece
                    if len(pending) >= _PIECE:
                        await file.write(bytes(pending))
                        pending.clear()
                await file.write(bytes(pending))
        except ClientDisconnect as error:
            raise BadRequest("The upload was cut off", remedy="Send the batch again; nothing was stored.") from error
        yield path


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


BatchId = Annotated[str, Depends(batch_id)]
