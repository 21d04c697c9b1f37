"""/v1/experiments/{key}/lineage and /follow-up: where an experiment came from, what came of it, what may come next."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.deps import ReadSession
from app.api.experiments import ExperimentOut
from app.api.launches import LaunchOut
from app.api.parameters import Handle
from app.api.problems import problems
from app.api.routing import api_router
from app.api.security import Reader
from experiments import experiment, lineage, lineage_graph
from experiments.definitions import ExperimentSpec
from experiments.errors import InvalidDefinition, NotFound
from experiments.follow_up import follow_up

router = api_router("experiments", "/experiments/{key}")


class EstimateOut(BaseModel):
    """A number with its interval: a lift, or units of a North Star where `unit` is not empty."""

    model_config = ConfigDict(from_attributes=True)

    of: str = Field(description="Name of the metric or series; for ledger lines the key of the North Star")
    value: float | None
    lower: float | None
    upper: float | None
    level: float
    unit: str


class NodeOut(BaseModel):
    """A stage in the life of an idea; ledger lines have the key of their review."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    kind: Literal["hypothesis", "experiment", "launch", "ledger", "holdout"]
    key: str
    name: str
    by: str
    at: datetime | None
    status: str | None
    verdict: str | None
    outcome: str | None
    grade: str | None
    measured: EstimateOut | None
    believed: EstimateOut | None = Field(description="Once all other experiments are known, with its 80 % interval")


class EdgeOut(BaseModel):
    """From what came first to what came of it."""

    model_config = ConfigDict(from_attributes=True)

    source: str
    target: str
    relation: Literal["tested_by", "iterates", "replicates", "contradicts", "shipped_as", "reconciled_in", "held_by"]


class LineageOut(BaseModel):
    """Ancestors from the parent upwards; children and launches, oldest first.

    `nodes` and `edges` are the whole family of the experiment: hypotheses, experiments, launches, their lines in the
    newest growth review, and the holdouts that were kept from them.
    """

    ancestors: list[ExperimentOut]
    children: list[ExperimentOut]
    launches: list[LaunchOut]
    nodes: list[NodeOut]
    edges: list[EdgeOut]


@router.get("/lineage", summary="Where it came from and what became of it", responses=problems(NotFound))
async def get_lineage(caller: Reader, session: ReadSession, key: Handle) -> LineageOut:
    row = await experiment.get(session, key=key)
    found = await lineage.of(session, experiment=row)
    verdicts = await experiment.verdicts_of(session, experiments=[*found.ancestors, *found.children])
    family = await lineage_graph.family_of(session, experiment=row)
    whole = await lineage_graph.graph(session, experiments=family)
    return LineageOut(
        ancestors=[ExperimentOut.of(item, verdicts[item.key]) for item in found.ancestors],
        children=[ExperimentOut.of(item, verdicts[item.key]) for item in found.children],
        launches=[LaunchOut.of(item) for item in found.launches],
        nodes=[NodeOut.model_validate(node) for node in whole.nodes],
        edges=[EdgeOut.model_validate(edge) for edge in whole.edges],
    )


@router.get(
    "/follow-up",
    summary="The draft of an experiment that follows this one",
    responses=problems(NotFound, InvalidDefinition),
)
async def get_follow_up(
    caller: Reader,
    session: ReadSession,
    key: Handle,
    relation: Annotated[
        Literal["iterates", "replicates"], Query(description="A launch is retested by replicating its experiment")
    ] = "iterates",
) -> ExperimentSpec:
    """Registers nothing: edit it and POST it to /v1/experiments. The key is the next one that is free."""
    return await follow_up(session, parent=await experiment.get(session, key=key), relation=relation)
