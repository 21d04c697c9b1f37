"""/v1/series/{key}/rollout-design: what history says about a launch to come."""

from functools import partial
from typing import Annotated, Any, Final

import anyio.to_thread
from fastapi import Body

from app.api import examples
from app.api.deps import Now, ReadSession
from app.api.parameters import Handle
from app.api.problems import problems
from app.api.routing import PlainRoute, api_router
from app.api.security import Reader
from experiments import rollout_design, series
from experiments.errors import InvalidDefinition, NotFound, NotReady
from experiments.rollout_design import RolloutDesign, RolloutQuestion

router = api_router("planning", "/series/{key}/rollout-design", PlainRoute)
_EXAMPLE: Final[dict[str, Any]] = {"days": [14, 28], "candidates": [["NO"], ["NO", "DK"]]}


@router.post(
    "",
    summary="Which segments to launch in, and for how long",
    responses=problems(NotFound, NotReady, InvalidDefinition),
)
async def design_rollout(
    caller: Reader,
    session: ReadSession,
    now: Now,
    key: Handle,
    asked: Annotated[RolloutQuestion, Body(openapi_examples=examples.example(_EXAMPLE))],
) -> RolloutDesign:
    """The smallest effect that a launch in some segments would show, from the series' own history; changes nothing."""
    row = await series.get(session, key=key)
    history = await rollout_design.history_of(session, series=row, known_at=now, periods=asked.history)
    return await anyio.to_thread.run_sync(partial(rollout_design.rollout_design, history, asked))
