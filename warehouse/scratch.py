"""Folders of work in progress. One that nobody works in any more was left by a process that died, and may go.

Whoever works in a folder holds a lock on it, which the kernel lets go when the process ends, however it ends.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

STAGING: Final = ".staging"
INCOMING: Final = "incoming"
_YOUNG_SECONDS: Final = 60.0
"""A folder is locked a moment after it was made."""


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A private folder below `parent`, locked, and gone with all that is in it when the block is left."""
    folder = parent / uuid.uuid4().hex
    parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def sweep_scratch(data_dir: Path, *, younger_than_seconds: float = _YOUNG_SECONDS) -> int:
    """Remove what processes that died left behind; how many folders went. Safe beside processes at work."""
    swept = 0
    for parent in (data_dir / STAGING, data_dir / INCOMING):
        for folder in parent.iterdir() if parent.is_dir() else ():
            swept += _swept(folder, younger_than_seconds)
    return swept


def _swept(folder: Path, younger_than_seconds: float) -> bool:
    try:
        if time.time() - folder.stat().st_mtime < younger_than_seconds:
            return False
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
