"""/v1/north-stars/{key}/attribution: what its inputs account for in an observed change."""

from datetime import date
from typing import Annotated

from fastapi import Query

from app.api.deps import Now, ReadSession
from app.api.parameters import Handle
from app.api.problems import problems
from app.api.routing import api_router
from app.api.security import Reader
from experiments.errors import InvalidDefinition, NotFound, NotReady
from experiments.observed_change import ComparedWith, observed_change
from experiments.result import Attribution

router = api_router("north stars", "/north-stars")


@router.get(
    "/{key}/attribution",
    summary="What the inputs account for in a change of the North Star",
    responses=problems(NotFound, InvalidDefinition, NotReady),
)
async def get_attribution(
    caller: Reader,
    session: ReadSession,
    now: Now,
    key: Handle,
    begins_on: Annotated[date | None, Query(description="A Monday; default: four weeks before the end")] = None,
    ends_on: Annotated[date | None, Query(description="The Monday after; default: the last week that is known")] = None,
    compare_with: Annotated[ComparedWith, Query(description="The weeks that the period is held against")] = (
        "previous_period"
    ),
) -> Attribution:
    """Descriptive: an identity taken apart, not causes (METHODS E3). The parts add up to the change."""
    return await observed_change(
        session, north_star_key=key, begins_on=begins_on, ends_on=ends_on, compare_with=compare_with, at=now
    )
