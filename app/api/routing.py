"""The route class of the API: refuses text no database can keep, and answers a repeated POST with its first answer."""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from app.api.deps import Now, UnitOfWork
from app.api.problems import problems
from app.api.security import Caller
from experiments import idempotency
from experiments.errors import Forbidden, IdempotencyMismatch, InvalidDefinition, Unauthenticated

type Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_KEPT_HEADERS = ("content-type", "etag", "location")


class _Replay(Exception):
    def __init__(self, response: Response) -> None:
        self.response = response


async def claim_idempotency_key(
    request: Request,
    caller: Caller,
    session: UnitOfWork,
    now: Now,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            description="Any unique text. Repeating the request with it repeats the answer, not the effect",
        ),
    ] = None,
) -> None:
    """Reserve the key in the transaction of the request, or repeat the answer that is stored under it."""
    if idempotency_key is None:
        return
    body = await request.body()
    fingerprint = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode() + body)
    principal = str(caller.key_id)
    stored = await idempotency.claim(
        session, principal=principal, key=idempotency_key, fingerprint=fingerprint.hexdigest(), at=now
    )
    if stored is not None:
        headers = {**stored.headers, "Idempotent-Replayed": "true"}
        raise _Replay(Response(stored.body, status_code=stored.status, headers=headers))
    request.state.idempotency = (principal, idempotency_key)


class UploadRoute(APIRoute):
    """A route whose body is too large for memory: only its address is looked at here, its rows where they are read."""

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            _refuse_nul_in_address(request)
            return await handler(request)

        return handle


class PlainRoute(APIRoute):
    """A route of the REST interface without idempotency keys: for reads, uploads (batch ids), and secrets."""

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            await _refuse_nul(request)
            return await handler(request)

        return handle


class ApiRoute(PlainRoute):
    """A route whose POSTs honour `Idempotency-Key`, inside the transaction of the handler."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if "POST" in (options.get("methods") or ()):
            options["dependencies"] = [Depends(claim_idempotency_key), *(options.get("dependencies") or ())]
            options["responses"] = {
                **problems(IdempotencyMismatch, InvalidDefinition),
                **(options.get("responses") or {}),
            }
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await handler(request)
            except _Replay as replay:
                return replay.response
            claimed: tuple[str, str] | None = getattr(request.state, "idempotency", None)
            if claimed is not None:
                # The session's transaction ends after this function: the answer is stored with its effect.
                await idempotency.complete(
                    request.state.session,
                    principal=claimed[0],
                    key=claimed[1],
                    status=response.status_code,
                    headers={name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers},
                    body=bytes(response.body),
                )
            return response

        return handle


async def _refuse_nul(request: Request) -> None:
    """PostgreSQL's text cannot hold U+0000; SQLite's can, which would be worse: half of the tools then stop reading."""
    _refuse_nul_in_address(request)
    if request.headers.get("content-type", "").startswith("application/json") and b"\\u0000" in await request.body():
        raise _contains_nul()


def _refuse_nul_in_address(request: Request) -> None:
    if "\x00" in request.url.path or b"%00" in request.scope["query_string"]:
        raise _contains_nul()


def _contains_nul() -> InvalidDefinition:
    return InvalidDefinition("The request contains the character U+0000", remedy="Remove it.")


def api_router(tag: str, prefix: str = "", route_class: type[APIRoute] = ApiRoute) -> APIRouter:
    """A router of the REST interface."""
    return APIRouter(
        prefix=f"/v1{prefix}",
        tags=[tag],
        route_class=route_class,
        responses=problems(Unauthenticated, Forbidden, InvalidDefinition),
    )
