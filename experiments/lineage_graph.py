"""The lineage of experiments as a graph, from the hypothesis to the ledger line and the holdout (METHODS H5).

Read in as many queries for a hundred experiments as for one.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import expm1
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import launch_overview, metric, overview
from experiments.definitions import HoldoutSpec
from experiments.ledger_lines import newest_results as newest_reviews
from experiments.overview import Glance
from experiments.programme_effects import newest_results as newest_programmes
from experiments.tables import Experiment, Holdout, Launch, LaunchEffect, LedgerRow, ProgrammeRow, ResultRow

type Kind = Literal["hypothesis", "experiment", "launch", "ledger", "holdout"]
type Relation = Literal["tested_by", "iterates", "replicates", "contradicts", "shipped_as", "reconciled_in", "held_by"]

_LEVEL: Final = 0.8
"""Of what is believed and of ledger lines."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval: a lift, or units of a North Star (`unit` is then not empty)."""

    of: str
    value: float | None
    lower: float | None
    upper: float | None
    level: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A stage in the life of an idea. `measured` is what was seen, `believed` what is left of it among all others.

    `by` and `at` are who registered, decided or shipped it, and when; `outcome` is that of the newest decision. Ledger
    lines have the key of their review.
    """

    id: str
    kind: Kind
    key: str
    name: str
    by: str = ""
    at: datetime | None = None
    status: str | None = None
    verdict: str | None = None
    outcome: str | None = None
    grade: str | None = None
    measured: Estimate | None = None
    believed: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """From what came first to what came of it."""

    source: str
    target: str
    relation: Relation


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes, the earlier ones first, and the edges between them."""

    nodes: Sequence[Node]
    edges: Sequence[Edge]


async def family_of(session: AsyncSession, *, experiment: Experiment) -> list[Experiment]:
    """Everything that the experiment descends from or shares a forebear with: parents before children."""
    for family in await families(session):
        if any(each == experiment.id for each in family):
            return await _in_order(session, family)
    return [experiment]


async def families(session: AsyncSession) -> list[list[uuid.UUID]]:
    """All experiments by forebear, parents before children, the newest family first."""
    statement = sa.select(col(Experiment.id), col(Experiment.parent_id)).order_by(col(Experiment.id))
    rows = (await session.execute(statement)).all()
    children: dict[uuid.UUID | None, list[uuid.UUID]] = defaultdict(list)
    for identity, parent in rows:
        children[parent].append(identity)
    found = []
    for root in children[None]:
        family = [root]
        for each in family:  # grows while it is read: breadth first
            family += children[each]
        found.append(family)
    return sorted(found, key=max, reverse=True)


async def graph(session: AsyncSession, *, experiments: Sequence[Experiment]) -> Graph:
    """The graph of these experiments (parents first) and of what came of them."""
    launches = await _launches(session, [each.id for each in experiments])
    keys = [launch.key for launch in launches]
    glances = await overview.glances(session, experiments=experiments)
    names = {key: item.spec.name for key, item in (await metric.all_known(session, archived=True)).items()}
    series = await launch_overview.series_names(session)
    effects = await launch_overview.primary_effects(session, launch_keys=keys)
    believed = await _believed(session, [each.key for each in experiments])
    ledger = await _ledger(session, keys)
    holdouts = [HoldoutSpec.model_validate(spec) for spec in await session.scalars(sa.select(col(Holdout.spec)))]

    by_id = {each.id: each for each in experiments}
    nodes: list[Node] = []
    edges: list[Edge] = []
    for glance in glances:
        row = glance.experiment
        parent = by_id.get(row.parent_id) if row.parent_id else None
        hypothesis = str(row.spec.get("hypothesis") or "")
        if hypothesis and (parent is None or parent.spec.get("hypothesis") != hypothesis):
            nodes.append(Node(f"hypothesis:{row.key}", "hypothesis", row.key, hypothesis, row.owner, row.created_at))
            edges.append(Edge(f"hypothesis:{row.key}", f"experiment:{row.key}", "tested_by"))
        nodes.append(_experiment(glance, believed.get(row.key, ()), names))
        if parent is not None:
            edges.append(Edge(f"experiment:{parent.key}", f"experiment:{row.key}", _relation(row.relation)))
    for launch in launches:
        origin = by_id[launch.experiment_id] if launch.experiment_id else None
        nodes.append(_launch(launch, effects.get(launch.key), series))
        if origin is not None:
            edges.append(Edge(f"experiment:{origin.key}", f"launch:{launch.key}", "shipped_as"))
        line = ledger.get(launch.key)
        if line is not None:
            nodes.append(_line(line, launch))
            edges.append(Edge(f"launch:{launch.key}", f"ledger:{launch.key}", "reconciled_in"))
    seen = set()
    for holdout in holdouts:
        for launch in launches:
            if _kept_from(holdout, launch):
                edges.append(Edge(f"launch:{launch.key}", f"holdout:{holdout.key}", "held_by"))
                seen.add(holdout.key)
    shown = [holdout for holdout in holdouts if holdout.key in seen]
    return Graph([*nodes, *await _holdout_nodes(session, shown, names)], edges)


def part_of(whole: Graph, family: Sequence[Experiment]) -> Graph:
    """What of a graph is about these experiments: they, what led to them, and all that came of them."""
    kept = {f"experiment:{each.key}" for each in family}
    kept |= {edge.source for edge in whole.edges if edge.target in kept and edge.relation == "tested_by"}
    for relation in ("shipped_as", "reconciled_in", "held_by"):
        kept |= {edge.target for edge in whole.edges if edge.source in kept and edge.relation == relation}
    return Graph(
        [node for node in whole.nodes if node.id in kept],
        [edge for edge in whole.edges if edge.source in kept and edge.target in kept],
    )


async def _in_order(session: AsyncSession, ids: Sequence[uuid.UUID]) -> list[Experiment]:
    rows = {row.id: row for row in await session.scalars(sa.select(Experiment).where(col(Experiment.id).in_(ids)))}
    return [rows[each] for each in ids if each in rows]


async def newest_families(session: AsyncSession, *, most: int) -> list[list[Experiment]]:
    """Families that hold at least two experiments, or one that was launched: the newest ones, at most `most`."""
    launched = set(
        await session.scalars(sa.select(col(Launch.experiment_id)).where(col(Launch.experiment_id).is_not(None)))
    )
    chosen = [ids for ids in await families(session) if len(ids) > 1 or not launched.isdisjoint(ids)][:most]
    rows = {row.id: row for row in await _in_order(session, [each for ids in chosen for each in ids])}
    return [[rows[each] for each in ids] for ids in chosen]


def _experiment(glance: Glance, believed: Iterable[ProgrammeRow], names: Mapping[str, str]) -> Node:
    row, decision = glance.experiment, glance.decision
    primary = [
        each for each in glance.primary if decision is None or decision.shipped_variant in (None, each.variant_key)
    ]
    measured = next((each for each in primary or glance.primary if each.lift is not None), None)
    shrunk = next(
        iter(sorted(believed, key=lambda each: measured is None or each.metric_key != measured.metric_key)), None
    )
    return Node(
        id=f"experiment:{row.key}",
        kind="experiment",
        key=row.key,
        name=row.name,
        by=decision.decided_by if decision else row.owner,
        at=decision.decided_at if decision else row.stopped_at or row.started_at or row.created_at,
        status=row.status,
        verdict=glance.verdict,
        outcome=decision.outcome if decision else None,
        grade=shrunk.evidence_grade if shrunk else None,
        measured=None if measured is None else _lift(measured, names.get(measured.metric_key, measured.metric_key)),
        believed=None if shrunk is None else _shrunk(shrunk, names.get(shrunk.metric_key, shrunk.metric_key)),
    )


def _lift(row: ResultRow | LaunchEffect, name: str) -> Estimate | None:
    return None if row.lift is None else Estimate(name, row.lift, row.ci_lower, row.ci_upper, row.ci_level)


def _shrunk(row: ProgrammeRow, name: str) -> Estimate:
    return Estimate(name, expm1(row.shrunk), expm1(row.shrunk_lower_80), expm1(row.shrunk_upper_80), _LEVEL)


def _launch(launch: Launch, effect: LaunchEffect | None, series: Mapping[str, str]) -> Node:
    return Node(
        id=f"launch:{launch.key}",
        kind="launch",
        key=launch.key,
        name=launch.name,
        by=str(launch.spec.get("owner") or ""),
        at=launch.first_at,
        grade=effect.evidence_grade if effect else None,
        measured=None if effect is None else _lift(effect, series.get(effect.series_key, effect.series_key)),
    )


def _line(line: LedgerRow, launch: Launch) -> Node:
    return Node(
        id=f"ledger:{launch.key}",
        kind="ledger",
        key=line.review_key,
        name=line.review_key,
        at=line.ends_at,
        grade=line.evidence_grade,
        measured=Estimate(line.north_star_key, line.units, line.lower_80, line.upper_80, _LEVEL, line.unit or "units"),
    )


async def _holdout_nodes(
    session: AsyncSession, holdouts: Sequence[HoldoutSpec], names: Mapping[str, str]
) -> list[Node]:
    keys = [holdout.experiment_key for holdout in holdouts]
    rows = list(await session.scalars(sa.select(Experiment).where(col(Experiment.key).in_(keys)))) if keys else []
    found = {each.experiment.key: each for each in await overview.glances(session, experiments=rows)}
    nodes = []
    for holdout in holdouts:
        seen = _experiment(found[holdout.experiment_key], (), names) if holdout.experiment_key in found else None
        nodes.append(
            Node(
                id=f"holdout:{holdout.key}",
                kind="holdout",
                key=holdout.key,
                name=holdout.name,
                by=holdout.owner,
                at=holdout.released_at or holdout.started_at,
                status="released" if holdout.released_at else "running",
                measured=seen.measured if seen else None,
            )
        )
    return nodes


def _kept_from(holdout: HoldoutSpec, launch: Launch) -> bool:
    if holdout.launch_keys:
        return launch.key in holdout.launch_keys
    return holdout.started_at <= launch.first_at and (
        holdout.released_at is None or launch.first_at < holdout.released_at
    )


def _relation(text: str | None) -> Relation:
    return "replicates" if text == "replicates" else "contradicts" if text == "contradicts" else "iterates"


async def _launches(session: AsyncSession, ids: Collection[uuid.UUID]) -> Sequence[Launch]:
    statement = sa.select(Launch).where(col(Launch.experiment_id).in_(ids))
    return (await session.scalars(statement.order_by(col(Launch.first_at), col(Launch.id)))).all()


async def _believed(session: AsyncSession, keys: Collection[str]) -> Mapping[str, list[ProgrammeRow]]:
    """By experiment, of the newest programme of each metric."""
    rows = await session.scalars(
        sa.select(ProgrammeRow).where(
            col(ProgrammeRow.experiment_key).in_(keys), col(ProgrammeRow.result_id).in_(newest_programmes())
        )
    )
    found: dict[str, list[ProgrammeRow]] = defaultdict(list)
    for row in rows:
        found[row.experiment_key].append(row)
    return found


async def _ledger(session: AsyncSession, launch_keys: Collection[str]) -> Mapping[str, LedgerRow]:
    """By launch: its line in the review of the latest period that has one."""
    keys = [f"launch:{key}" for key in launch_keys]
    rows = await session.scalars(
        sa.select(LedgerRow)
        .where(col(LedgerRow.key).in_(keys), col(LedgerRow.result_id).in_(newest_reviews()))
        .order_by(col(LedgerRow.ends_at), col(LedgerRow.id))
    )
    return {str(row.key).removeprefix("launch:"): row for row in rows}
