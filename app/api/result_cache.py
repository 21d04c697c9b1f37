"""Results in memory: immutable bytes, served without asking the database (SERVICE: as fast as a FastAPI hello).

Which result is the *latest* of a subject is remembered for `LATEST_SECONDS` only; a reader of `…/result` may therefore
see a new result that much later than its analysis reports success. A result by its id is never stale.
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from fastapi import Request
from fastapi.responses import Response

from app.api.security import known_principal
from experiments.tables import Result

LATEST_SECONDS: Final = 0.5
_IMMUTABLE: Final = b"private, max-age=31536000, immutable"
_REVALIDATE: Final = b"private, no-cache"


class StoredBytes:
    """The body of a result with the headers it is served with, made once."""

    __slots__ = ("body", "etag", "headers", "latest_headers", "result_id")

    def __init__(self, result: Result) -> None:
        self.result_id = result.id
        self.body = result.body
        self.etag = f'"{result.etag}"'
        common = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(result.body)).encode()),
            (b"etag", self.etag.encode()),
            (b"x-result-id", str(result.id).encode()),
        ]
        self.headers = [*common, (b"cache-control", _IMMUTABLE)]
        self.latest_headers = [*common, (b"cache-control", _REVALIDATE)]

    def response(self, request: Request, *, latest: bool) -> Response:
        """The bytes, or 304 for a client that has them."""
        headers = self.latest_headers if latest else self.headers
        seen = request.headers.get("if-none-match")
        if seen is not None and (self.etag in seen or seen == "*"):
            return _Prepared(b"", 304, [header for header in headers if not header[0].startswith(b"content-")])
        return _Prepared(self.body, 200, headers)


class _Prepared(Response):
    """A response whose headers are ready: nothing is encoded or counted per request."""

    def __init__(self, body: bytes, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = list(headers)


class ResultCache:
    """The most recently served results, up to a number of bytes, and the latest result of each subject."""

    def __init__(self, max_bytes: int = 64 * 1024 * 1024, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._size = 0
        self._results: OrderedDict[str, StoredBytes] = OrderedDict()
        self._latest: dict[tuple[str, str], tuple[float, str]] = {}

    def get(self, result_id: str) -> StoredBytes | None:
        """A result by the text of its id."""
        stored = self._results.get(result_id)
        if stored is not None:
            self._results.move_to_end(result_id)
        return stored

    def put(self, result: Result) -> StoredBytes:
        """Keep a result, dropping those not asked for the longest."""
        stored = StoredBytes(result)
        key = str(result.id)
        if key not in self._results and len(stored.body) <= self._max_bytes:
            self._results[key] = stored
            self._size += len(stored.body)
            while self._size > self._max_bytes:
                _, dropped = self._results.popitem(last=False)
                self._size -= len(dropped.body)
        return stored

    def latest(self, kind: str, subject_key: str) -> StoredBytes | None:
        """The latest result of a subject, if it was looked up a moment ago.

        When the moment is over one caller is told to look again; the others go on with what is known meanwhile.
        """
        entry = self._latest.get((kind, subject_key))
        if entry is None:
            return None
        now = self._clock()
        if entry[0] < now:
            self._latest[kind, subject_key] = (now + LATEST_SECONDS, entry[1])
            return None
        return self.get(entry[1])

    def remember_latest(self, kind: str, subject_key: str, result_id: uuid.UUID) -> None:
        """Trust for a moment that this is the latest result."""
        if len(self._latest) > 10_000:
            self._latest.clear()
        self._latest[kind, subject_key] = (self._clock() + LATEST_SECONDS, str(result_id))

    def forget_latest(self, kind: str, subject_key: str) -> None:
        """Look again: a newer result has been seen."""
        self._latest.pop((kind, subject_key), None)


def cache_of(request: Request) -> ResultCache:
    """The cache of this process."""
    cache: ResultCache = request.app.state.results
    return cache


def may_read_from_memory(request: Request) -> bool:
    """Whether the caller is known, in memory, to be allowed to read."""
    principal = known_principal(request)
    return principal is not None and principal.may("read")
