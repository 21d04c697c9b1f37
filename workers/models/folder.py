"""The folder of compiled models: written once, read by every worker of this machine, bounded."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from workers.models.messages import SizedModel

LIMIT_BYTES: Final = 256 * 1024 * 1024
_SUFFIX: Final = ".bundle"
_ABANDONED_SECONDS: Final = 3600.0


@cache
def key_of(model: SizedModel) -> str:
    """The name of a model's bundle on this machine: says everything that its code depends on."""
    from stats.bayes.sampling.fingerprint import fingerprint

    return fingerprint(model.definition, model.size)


@dataclass(frozen=True, slots=True)
class BundleFolder:
    """Bundles by key (`key_of`). Any number of processes may share it."""

    path: Path
    limit_bytes: int = LIMIT_BYTES

    def size(self, key: str) -> int | None:
        """Bytes of the bundle; None when it is not there."""
        try:
            return self._file(key).stat().st_size
        except OSError:
            return None

    def read(self, key: str) -> bytes:
        """The bundle. Raises `FileNotFoundError`."""
        file = self._file(key)
        bundle = file.read_bytes()
        with contextlib.suppress(OSError):  # a folder that came with the image may be read-only
            os.utime(file)  # what is used is the last to be removed
        return bundle

    def write(self, key: str, bundle: bytes) -> None:
        """Put a bundle there, whole or not at all. Raises `OSError`."""
        handle, name = tempfile.mkstemp(prefix=f"{key}.", suffix=".part", dir=self.path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(bundle)
            os.replace(name, self._file(key))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def remove(self, key: str) -> None:
        """Forget a bundle, if it can be removed."""
        with contextlib.suppress(OSError):
            self._file(key).unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Wait until no other process makes this bundle. A process that dies inside lets the next one in."""
        try:
            import fcntl
        except ImportError:  # no such locks here: both compile, one of the two files stays
            yield
            return
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                lock = stack.enter_context((self.path / f"{key}.lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def tidy(self, wanted: Collection[str]) -> None:
        """Bound the folder: bundles of other versions go first, then ours, each time those longest unused.

        Nothing is removed below the limit: workers of two versions may share the folder during an upgrade. A program
        that is loaded does not need its file.
        """
        found: list[tuple[bool, float, int, Path]] = []
        for file in self.path.iterdir():
            with contextlib.suppress(FileNotFoundError):
                seen = file.stat()
                if file.suffix == _SUFFIX:
                    found.append((file.stem in wanted, seen.st_mtime, seen.st_size, file))
                elif file.suffix == ".part" and time.time() - seen.st_mtime > _ABANDONED_SECONDS:
                    file.unlink(missing_ok=True)
        total = sum(size for _, _, size, _ in found)
        for _, _, size, file in sorted(found):
            if total <= self.limit_bytes:
                return
            self.remove(file.stem)
            file.with_suffix(".lock").unlink(missing_ok=True)
            total -= size

    def _file(self, key: str) -> Path:
        return self.path / f"{key}{_SUFFIX}"
