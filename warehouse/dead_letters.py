"""Dead letters: the rows that a batch was taken without, each with what was wrong and as it was received.

One NDJSON file per batch below `Settings.data_dir`, readable by the service's own user alone: it holds identifiers of
people. It is complete before its batch is recorded, and goes when `Settings.dead_letter_days` are over.
"""

import json
import os
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TextIO

import anyio

from experiments import ingest_batch
from experiments.database import Database
from experiments.settings import Settings
from warehouse.report import RowError

FOLDER: Final = "dead_letters"
_ORPHAN_SECONDS: Final = 86_400.0
_LONGEST: Final = 1 << 20


class DeadLetters:
    """Collects the refused rows of one batch in a file of a staging folder; there is no file while there are none."""

    def __init__(self, staging: Path) -> None:
        self._path = staging / "refused.ndjson"
        self._file: TextIO | None = None

    def add(self, error: RowError, received: object) -> None:
        """Keep a row. `received` is its text, or the fields of a table's row."""
        if self._file is None:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(handle, "w", encoding="utf-8")
        letter = {
            "row": error.row,
            "field": error.field,
            "reason": error.reason,
            "detail": error.detail,
            "remedy": error.remedy,
            "received": _text(received),
        }
        self._file.write(json.dumps(letter) + "\n")

    def close(self) -> None:
        """Done with the file, whether or not it is wanted."""
        if self._file is not None:
            self._file.close()

    def publish(self, data_dir: Path, name: str) -> str | None:
        """Flush the file and put it in its place; its name, or None when no row was refused."""
        if self._file is None:
            return None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        target = dead_letter_file(data_dir, name)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(self._path, target)
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        return name


def dead_letter_file(data_dir: Path, name: str) -> Path:
    """Where the file of `IngestBatch.dead_letters` is."""
    return data_dir / FOLDER / name


async def expire_dead_letters(database: Database, settings: Settings, *, at: datetime) -> int:
    """Delete the dead letters of batches older than `Settings.dead_letter_days`, and files that no batch refers to.

    Returns how many batches lost theirs. The rows go first: a reader never finds a name without a file for long.
    """
    before = at - timedelta(days=settings.dead_letter_days)
    async with database.write() as session:
        expired = await ingest_batch.forget_dead_letters(session, before=before)
    async with database.read() as session:
        kept = await ingest_batch.dead_letter_names(session)
    await anyio.to_thread.run_sync(_remove, settings.data_dir / FOLDER, set(expired), kept, at.timestamp())
    return len(expired)


def _remove(folder: Path, expired: Collection[str], kept: Collection[str], now: float) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        # A file is there a moment before its batch is recorded.
        orphan = path.name not in kept and now - path.stat().st_mtime > _ORPHAN_SECONDS
        if path.name in expired or orphan:
            path.unlink(missing_ok=True)


def _text(received: object) -> str:
    if isinstance(received, bytes):
        return received[:_LONGEST].decode(errors="replace").strip()
    return json.dumps(_plain(received), ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    """Values that JSON has; numbers that are not finite become text."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value
