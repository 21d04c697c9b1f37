"""The addresses in a problem's `type`: each explains what the problem means, to a program or to a person."""

import html
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel

from app.api.problems import problems
from experiments.errors import DomainError, NotFound

router = APIRouter(tags=["problems"])

_MEANINGS: Final[dict[int, str]] = {
    400: "The request could not be understood.",
    401: "Send a valid key as `X-API-Key: …` or `Authorization: Bearer …`.",
    403: "The key is valid, but lacks the scope that this needs.",
    404: "Nothing has this key or id.",
    405: "The `Allow` header lists the methods that this address knows.",
    409: "The request is well-formed, but the resource is in a state that does not allow it.",
    410: "What this needs was deleted, because it was older than what is kept.",
    412: "Somebody changed the resource after you read it: read it again, then repeat your change.",
    413: "Send smaller batches.",
    415: "Send one of the content types that the problem names.",
    422: "The content breaks a rule; `errors` points at every field, `detail` and `remedy` say what to do.",
    428: "Send the ETag you read as `If-Match`, so that you cannot overwrite somebody else's change.",
    503: "Send the same request again after the seconds that `Retry-After` names.",
    507: "The service's disk is nearly full. Nothing was stored.",
    500: "A fault of Northlift. Nothing was stored.",
}


def catalogue() -> dict[str, type[DomainError]]:
    """Every problem type by its slug."""
    found: dict[str, type[DomainError]] = {}
    pending = [DomainError]
    while pending:
        for kind in pending.pop().__subclasses__():
            found[kind.slug()] = kind
            pending.append(kind)
    return dict(sorted(found.items()))


class ProblemType(BaseModel):
    """What a problem type means."""

    address: str
    status: int
    title: str
    meaning: str

    @classmethod
    def of(cls, kind: type[DomainError]) -> "ProblemType":
        return cls(
            address=f"/problems/{kind.slug()}",
            status=kind.status,
            title=kind.title,
            meaning=_MEANINGS.get(kind.status, ""),
        )


@router.get("/problems", summary="All problem types")
async def list_problem_types() -> list[ProblemType]:
    return [ProblemType.of(kind) for kind in catalogue().values()]


@router.get("/problems/{slug}", summary="What a problem type means", responses=problems(NotFound))
async def get_problem_type(slug: str, request: Request) -> Response:
    kind = catalogue().get(slug)
    if kind is None:
        raise NotFound(f"There is no problem type `{slug}`", remedy="GET /problems lists them.")
    meaning = ProblemType.of(kind)
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse(meaning.model_dump())
    title, text = html.escape(meaning.title), html.escape(meaning.meaning)
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<main><h1>{title}</h1><p>HTTP {meaning.status} · <code>{html.escape(meaning.address)}</code></p>"
        f"<p>{text}</p></main></html>"
    )
