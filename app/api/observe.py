"""Around every request: an id, a limit for the body, security headers, Prometheus counters, one ContextVar for logs."""

import re
import secrets
import time
from contextvars import ContextVar
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import MEDIA_TYPE, METHODS, refuse
from experiments.errors import PayloadTooLarge

request_id: ContextVar[str] = ContextVar("request_id", default="")
MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024
UPLOADS: Final = ("/v1/ingest/",)
_ACCEPTABLE_ID = re.compile(rb"^[A-Za-z0-9._\-]{1,64}$")


class Metrics:
    """HTTP counters of one application; each has its own registry, so that tests may make many applications."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "northlift_http_requests", "Requests", ["method", "endpoint", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "northlift_http_request_seconds",
            "Time to the last byte",
            ["endpoint"],
            registry=self.registry,
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
        )
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def count(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Record a request. Labels are bounded: methods we know, names of our own functions, statuses."""
        key = (method, endpoint, status)
        children = self._children.get(key)
        if children is None:
            children = (self._requests.labels(method, endpoint, str(status)), self._seconds.labels(endpoint))
            self._children[key] = children
        children[0].inc()
        children[1].observe(seconds)


class Observe:
    """ASGI middleware; plain, because it runs on every request of the hot path."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, max_upload_bytes: int) -> None:
        self.app = app
        self.metrics = metrics
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        identity, length = _of_headers(scope)
        scope["request_id"] = identity
        token = request_id.set(identity)
        status = 500
        extra = ((b"x-request-id", identity.encode()), (b"x-content-type-options", b"nosniff"))

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        path: str = scope["path"]
        limit = self.max_upload_bytes if path.startswith(UPLOADS) else MAX_DOCUMENT_BYTES
        try:
            if length > limit:
                await _send_problem(answer, _too_large(limit), identity, path)
            elif scope["method"] in ("GET", "HEAD"):
                await self.app(scope, receive, answer)
            else:
                await self.app(scope, _limited(receive, limit), answer)
        finally:
            request_id.reset(token)
            endpoint = scope.get("endpoint")
            name = getattr(endpoint, "__name__", "none")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.count(method, name, status, time.perf_counter() - started)


def _of_headers(scope: Scope) -> tuple[str, int]:
    """The client's request id, if it is harmless, and the announced length of the body (0 when it is not)."""
    identity, length = "", 0
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            length = int(value[:18])
        elif name == b"x-request-id" and _ACCEPTABLE_ID.match(value):
            identity = value.decode()
    return identity or secrets.token_hex(8), length


def _limited(receive: Receive, limit: int) -> Receive:
    received = 0

    async def count() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return count


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The body is larger than {limit:,} bytes; nothing was stored",
        remedy="Send it in smaller batches, each with its own batch id.",
    )


async def _send_problem(send: Send, error: PayloadTooLarge, identity: str, path: str) -> None:
    status, body = refuse(error, identity, path)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
