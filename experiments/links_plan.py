"""Learned links: which experiments say what moves in inputs have been worth, and when to ask again (METHODS E9).

Links are learned by an analysis of kind `links` about a North Star, at its current version. Its plan holds the effects
that it learns from. Asking twice for the same effects is asking once: `data_as_of` is that of the newest result.
"""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import north_star
from experiments.errors import NotFound, NotReady
from experiments.json_query import json_text
from experiments.plan import JointEvidence, LinksPlan, MissingEffect, PlannedNorthStar
from experiments.result import JointEffects
from experiments.tables import Analysis, Experiment, NorthStar, Result
from stats.programme.links import FEWEST_EXPERIMENTS

KIND: Final = "links"
_REMEDY: Final = (
    f"{FEWEST_EXPERIMENTS} experiments are needed that have ended, name this North Star and passed their checks "
    "(A/A tests and holdouts do not count)."
)
_KEPT: Final = 10_000


class _About(BaseModel):
    north_star_key: str
    north_star_version: int


class _Measured(BaseModel):
    """What links need of the result of an experiment; the rest of the document is not looked at."""

    analysis_id: str
    north_star: list[_About]
    joint_effects: list[JointEffects] = Field(default_factory=list)


_measured: dict[uuid.UUID, _Measured] = {}
"""By result: what was read of one is the same for ever."""


async def links_plan(session: AsyncSession, *, north_star_key: str) -> tuple[LinksPlan, datetime | None]:
    """What links of this North Star would be learned from now, and the time of its data: None without any experiment.

    Every experiment that has ended and names the North Star is in it, whatever was decided, or is missing for a reason.
    Raises `NotFound`.
    """
    row = await north_star.get(session, key=north_star_key)
    planned = PlannedNorthStar(version=row.version, spec=north_star.spec_of(row))
    ended = await _ended(session, north_star_key)
    read = await _read(session, [each["result_id"] for each in ended if each["result_id"] is not None])
    effects: list[JointEvidence] = []
    missing: list[MissingEffect] = []
    for each in ended:
        found = _evidence(each, read.get(each["result_id"]), planned)
        if isinstance(found, JointEvidence):
            effects.append(found)
        else:
            missing.append(MissingEffect(experiment_key=each["key"], name=each["name"], reason=found))
    known = [each["data_as_of"] for each in ended if each["data_as_of"] is not None]
    return LinksPlan(north_star=planned, effects=effects, missing=missing), max(known, default=None)


async def learnable(session: AsyncSession, *, north_star_key: str) -> tuple[LinksPlan, datetime]:
    """`links_plan` with enough to learn from. Raises `NotFound`, and `NotReady` with fewer than 8 experiments."""
    plan, data_as_of = await links_plan(session, north_star_key=north_star_key)
    if len(plan.effects) < FEWEST_EXPERIMENTS or data_as_of is None:
        raise NotReady(f"{_so_few(plan)}: too few to learn links from", remedy=_REMEDY)
    return plan, data_as_of


async def without(session: AsyncSession, *, north_star_key: str) -> NotFound:
    """The problem of a North Star that has no learned links: what is missing and what to do."""
    plan, _ = await links_plan(session, north_star_key=north_star_key)
    if len(plan.effects) < FEWEST_EXPERIMENTS:
        return NotFound(f"No links were learned for `{north_star_key}`: {_so_few(plan)}", remedy=_REMEDY)
    return NotFound(
        f"No links were learned for `{north_star_key}` yet",
        remedy=f"Ask for them with POST /v1/north-stars/{north_star_key}/links/analyses; "
        f"{len(plan.effects)} experiments can teach them.",
    )


async def due(session: AsyncSession) -> list[tuple[LinksPlan, datetime]]:
    """Plans of the North Stars whose joint effects are not those that were last learned from, whatever became of it."""
    newest = await _newest_effects(session)
    found = []
    for key in (await session.scalars(sa.select(col(NorthStar.key)).order_by(col(NorthStar.key)))).all():
        plan, data_as_of = await links_plan(session, north_star_key=key)
        if len(plan.effects) >= FEWEST_EXPERIMENTS and data_as_of is not None and newest.get(key) != plan.effects:
            found.append((plan, data_as_of))
    return found


async def _ended(session: AsyncSession, key: str) -> Sequence[sa.RowMapping]:
    """Every test that has ended and names the North Star, in order of its key, with its newest result if it has one."""
    place = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    results = (
        sa.select(
            col(Result.id).label("id"), col(Result.subject_key).label("subject_key"), place.label("place"),
            col(Result.data_as_of).label("data_as_of"), col(Result.verdict).label("verdict"),
        )
        .where(col(Result.kind) == "experiment")
        .subquery()
    )  # fmt: skip
    statement = (
        sa.select(
            col(Experiment.key).label("key"), col(Experiment.name).label("name"), col(Experiment.team).label("team"),
            results.c.id.label("result_id"), results.c.data_as_of, results.c.verdict,
        )
        .outerjoin(results, sa.and_(results.c.subject_key == col(Experiment.key), results.c.place == 1))
        .where(
            col(Experiment.stopped_at).is_not(None),
            json_text(session, Experiment.spec, "north_star_key") == key,
            sa.func.coalesce(json_text(session, Experiment.spec, "purpose"), "test") == "test",
        )
        .order_by(col(Experiment.key))
    )  # fmt: skip
    return (await session.execute(statement)).mappings().all()


async def _read(session: AsyncSession, result_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, _Measured]:
    if len(_measured) > _KEPT:
        _measured.clear()
    unread = [result_id for result_id in result_ids if result_id not in _measured]
    if unread:
        statement = sa.select(col(Result.id), col(Result.body)).where(col(Result.id).in_(unread))
        bodies = (await session.execute(statement)).all()
        parsed = await asyncio.to_thread(lambda: [_Measured.model_validate_json(body) for _, body in bodies])
        _measured.update({result_id: each for (result_id, _), each in zip(bodies, parsed, strict=True)})
    return {result_id: _measured[result_id] for result_id in result_ids}


def _evidence(row: sa.RowMapping, measured: _Measured | None, planned: PlannedNorthStar) -> JointEvidence | str:
    """The effects of its most precisely measured variant, in the order of the North Star's metrics, or why none."""
    if measured is None:
        return "it has no result"
    if row["verdict"] == "unreliable":
        return "its result failed a check"
    about = {(each.north_star_key, each.north_star_version) for each in measured.north_star}
    if not any(key == planned.spec.key for key, _ in about):
        return "its result says nothing about this North Star"
    if (planned.spec.key, planned.version) not in about:
        return f"its result is about another version of the North Star than {planned.version}"
    keys = north_star.metric_keys_of(planned.spec)
    usable = [each for each in measured.joint_effects if set(keys) <= set(each.metric_keys)]
    if not usable:
        return "its result does not have effects on the North Star and all inputs together"
    order = {id(each): [each.metric_keys.index(key) for key in keys] for each in usable}
    variances = {id(each): [each.covariance[i][i] for i in order[id(each)]] for each in usable}
    usable = [each for each in usable if min(variances[id(each)]) > 0]
    if not usable:
        return "an effect has no standard error"
    best = min(usable, key=lambda each: (variances[id(each)][0], each.variant_key))
    taken = order[id(best)]
    return JointEvidence(
        experiment_key=row["key"],
        name=row["name"],
        team=row["team"] or None,
        variant_key=best.variant_key,
        analysis_id=measured.analysis_id,
        data_as_of=row["data_as_of"],
        log_lifts=[best.log_lifts[i] for i in taken],
        covariance=[[best.covariance[i][j] for j in taken] for i in taken],
    )


async def _newest_effects(session: AsyncSession) -> dict[str, list[JointEvidence]]:
    """By North Star, the effects that its newest analysis was asked to learn from."""
    place = sa.func.row_number().over(
        partition_by=col(Analysis.subject_key), order_by=(col(Analysis.created_at).desc(), col(Analysis.id).desc())
    )
    ranked = sa.select(col(Analysis.id).label("id"), place.label("place")).where(col(Analysis.kind) == KIND).subquery()
    statement = (
        sa.select(col(Analysis.subject_key), col(Analysis.plan))
        .join(ranked, ranked.c.id == col(Analysis.id))
        .where(ranked.c.place == 1)
    )
    rows = (await session.execute(statement)).all()
    return {key: LinksPlan.model_validate(plan).effects for key, plan in rows}


def _so_few(plan: LinksPlan) -> str:
    said = f"{len(plan.effects)} of {FEWEST_EXPERIMENTS} experiments on `{plan.north_star.spec.key}` have ended"
    return f"{said} with effects on it and on its inputs"
