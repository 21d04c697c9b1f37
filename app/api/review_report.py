"""/v1/growth-reviews/{key}/report: a review as one file to mail."""

from typing import Annotated

from fastapi import Query, Response

from app.api.deps import DatabaseDep
from app.api.parameters import Handle
from app.api.problems import problems
from app.api.routing import api_router
from app.api.security import Reader
from app.pages.reports import stored
from experiments.errors import InvalidDefinition, NotFound

router = api_router("growth reviews", "/growth-reviews")


@router.get(
    "/{key}/report",
    summary="A growth review as a file to mail",
    response_class=Response,
    responses={
        200: {"content": {"text/html": {}, "application/pdf": {}}, "description": "The file"},
        **problems(NotFound, InvalidDefinition),
    },
)
async def get_report_of_growth_review(
    caller: Reader,
    database: DatabaseDep,
    key: Handle,
    format: Annotated[stored.Format, Query(description="HTML without scripts, or PDF")] = "html",
) -> Response:
    """The newest result with notes and next bets. Nothing in it is loaded from elsewhere."""
    async with database.read() as session:
        report = await stored.report_of(session, key=key)
    return await stored.answer(report, key=key, format=format)
