"""Problems (RFC 9457): every domain error is one problem type, `/problems/<slug>`, with a remedy and field pointers."""

import json
from collections.abc import Callable
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from experiments.errors import DomainError, NotFound, PayloadTooLarge, TooBusy, Unauthenticated
from experiments.validation import invalid

MEDIA_TYPE = "application/problem+json"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_UNEXPECTED = "An unexpected error occurred; nothing was changed"
log = structlog.get_logger(__name__)


class MethodNotAllowed(DomainError):
    status, title = 405, "The resource does not know that method"


class BadRequest(DomainError):
    status, title = 400, "The request could not be read"


class ConcurrentChange(DomainError):
    status, title = 409, "Somebody stored the same thing at the same moment"


class InternalError(DomainError):
    status, title = 500, "Northlift failed"


class FieldFault(BaseModel):
    pointer: str = Field(description="JSON pointer into the body, or /query/…, /path/…, /header/…")
    detail: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(description="`/problems/<slug>`: what kind of problem; the address explains it")
    title: str
    status: int
    detail: str
    remedy: str | None = Field(default=None, description="What to do about it")
    errors: list[FieldFault] = []
    instance: str = Field(default="", description="Path of the request")
    request_id: str = Field(default="", description="Also in the X-Request-ID header and in the server's log")


def problems(*kinds: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that can end in these problems (401, 403 and 422 are added by the routers)."""
    by_status: dict[int | str, list[type[DomainError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: {
            "description": "; ".join(f"{kind.title} (`{kind.slug()}`)" for kind in of_status),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {kind.slug(): {"value": _document(kind, kind.title)} for kind in of_status},
                }
            },
        }
        for status, of_status in by_status.items()
    }


def with_example(
    responses: dict[int | str, dict[str, Any]], status: int, name: str, document: dict[str, Any]
) -> dict[int | str, dict[str, Any]]:
    """The same responses with one more example of a problem; `name` says what it is about."""
    response = responses[status]
    content = response["content"][MEDIA_TYPE]
    examples = {**content["examples"], name: {"value": document}}
    return {**responses, status: {**response, "content": {MEDIA_TYPE: {**content, "examples": examples}}}}


def _document(kind: type[DomainError], detail: str) -> dict[str, Any]:
    return {"type": f"/problems/{kind.slug()}", "title": kind.title, "status": kind.status, "detail": detail}


def problem_response(request: Request, error: DomainError, headers: dict[str, str] | None = None) -> Response:
    """The problem as `application/problem+json`."""
    document = _document(type(error), error.detail) | {
        "remedy": error.remedy,
        "errors": [{"pointer": fault.pointer, "detail": fault.detail} for fault in error.errors],
        "instance": request.url.path,
        "request_id": request.scope.get("request_id", ""),
        **error.extra,
    }
    headers = dict(headers or {})
    if isinstance(error, TooBusy):
        headers["Retry-After"] = str(error.extra.get("retry_after_seconds", 1))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="northlift"'
    return JSONResponse(document, status_code=error.status, media_type=MEDIA_TYPE, headers=headers)


async def _domain(request: Request, error: Exception) -> Response:
    assert isinstance(error, DomainError)
    return problem_response(request, error)


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(request, invalid(error.errors(), error.body))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, DomainError):  # raised while the body was being read
        return problem_response(request, error.__cause__)
    if error.status_code == 404:
        return problem_response(
            request,
            NotFound(f"There is nothing at {request.url.path}", remedy="GET /openapi.json lists all addresses."),
        )
    if error.status_code == 405:
        allowed = allowed_methods(request)
        return problem_response(
            request,
            MethodNotAllowed(f"{request.url.path} knows {', '.join(allowed)}, not {request.method}", allowed=allowed),
            {"Allow": ", ".join(allowed)},
        )
    if error.status_code == 413:
        return problem_response(request, PayloadTooLarge("The request body is too large"))
    return problem_response(request, BadRequest(str(error.detail)))


async def _concurrent(request: Request, error: Exception) -> Response:
    """A unique constraint that no service foresaw: the loser of a race, whose transaction is undone."""
    log.warning("concurrent_change", method=request.method, path=request.url.path, detail=str(error.__cause__))
    return problem_response(
        request,
        ConcurrentChange(
            "Another request stored the same thing at the same moment; nothing of this one was kept",
            remedy="Read the resource to see what is there, then send the request again if it is still needed.",
        ),
    )


_UNEXPECTED = "An unexpected error occurred; nothing was changed"


async def _unexpected(request: Request, error: Exception) -> Response:
    # This is answered outside all middleware: the id is added here, to the log and to the headers.
    identity = request.scope.get("request_id", "")
    log.error("request_failed", method=request.method, path=request.url.path, request_id=identity, exc_info=error)
    return problem_response(
        request,
        InternalError(
            _UNEXPECTED,
            remedy="Try again. If it persists, report the request_id; the server's log has the cause.",
        ),
        {"X-Request-ID": identity},
    )


def allowed_methods(request: Request) -> list[str]:
    """All methods of a path: Starlette's own 405 lists only those of the first route that matches it."""

    def answers(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)

    return [method for method in METHODS if answers(method)]


def install(app: FastAPI, page: Callable[[Request, DomainError], Response]) -> None:
    """Answer every failure of the app with a problem: as a `page` where a person's browser asks outside the API."""

    async def nothing_here(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 404 and _by_a_person(request):
            return page(request, NotFound(f"There is nothing at {request.url.path}", remedy="Start at the home page."))
        return await _http(request, error)

    async def unexpected(request: Request, error: Exception) -> Response:
        answer = await _unexpected(request, error)
        return page(request, InternalError(_UNEXPECTED)) if _by_a_person(request) else answer

    app.add_exception_handler(DomainError, _domain)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, nothing_here)
    app.add_exception_handler(IntegrityError, _concurrent)
    app.add_exception_handler(Exception, unexpected)


def _by_a_person(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")


def refuse(scope_error: DomainError, request_id: str, path: str) -> tuple[int, bytes]:
    """Status and body of a problem for a place that has no request yet (middleware)."""
    document = _document(type(scope_error), scope_error.detail) | {
        "remedy": scope_error.remedy,
        "errors": [],
        "instance": path,
        "request_id": request_id,
    }
    return scope_error.status, json.dumps(document).encode()
