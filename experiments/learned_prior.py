"""Learned priors: which past experiments go into one, when one is due, and what a new plan takes from it (METHODS C3).

A prior is learned by an analysis of kind `prior` about a metric. Its plan holds the effects that it learns from, so
that the result can be computed again whatever becomes of the experiments. Asking twice for the same effects is asking
once: `data_as_of` is that of the newest effect.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from math import log1p

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.effect_history import PastEffect, past_effects
from experiments.errors import NotFound, NotReady
from experiments.plan import PlannedPrior, PriorEvidence, PriorPlan
from experiments.result import LearnedPriorResult, LearnedStratum, PastEffectShown
from experiments.tables import Analysis, Result
from experiments.version import code_version
from stats.bayes.population import FEWEST_EXPERIMENTS, population

KIND = "prior"


async def prior_plan(session: AsyncSession, *, metric_key: str) -> tuple[PriorPlan, datetime]:
    """What a prior of this metric would be learned from now, and the time of its data.

    Raises `NotReady` with fewer than 8 past experiments.
    """
    past = (await past_effects(session, metric_keys=[metric_key])).get(metric_key, [])
    if len(past) < FEWEST_EXPERIMENTS:
        raise NotReady(f"{_so_few(metric_key, len(past))}: too few to learn a prior from", remedy=_REMEDY)
    effects = _evidence(past)
    newest = (await _newest_plans(session, metric_keys=[metric_key], succeeded=True)).get(metric_key)
    if newest is not None and newest[0].effects == effects and newest[1] == code_version():
        version = newest[0].version
    else:
        version = await _learned_so_far(session, metric_key) + 1
    return PriorPlan(metric_key=metric_key, version=version, effects=effects), _as_of(past)


async def due(session: AsyncSession) -> list[str]:
    """The metrics whose past differs from what their newest prior was asked to learn from, whatever became of that."""
    past = await past_effects(session, metric_keys=None)
    enough = sorted(key for key, effects in past.items() if len(effects) >= FEWEST_EXPERIMENTS)
    newest = await _newest_plans(session, metric_keys=enough, succeeded=False)
    return [key for key in enough if key not in newest or newest[key][0].effects != _evidence(past[key])]


async def without(session: AsyncSession, *, metric_key: str) -> NotFound:
    """The problem of a metric that has no learned prior: what is missing and what to do."""
    past = (await past_effects(session, metric_keys=[metric_key])).get(metric_key, [])
    if len(past) < FEWEST_EXPERIMENTS:
        return NotFound(f"No prior was learned for `{metric_key}`: {_so_few(metric_key, len(past))}", remedy=_REMEDY)
    return NotFound(
        f"No prior was learned for `{metric_key}` yet",
        remedy=f"Ask for one with POST /v1/metrics/{metric_key}/prior; {len(past)} experiments can teach it.",
    )


async def pinned(
    session: AsyncSession, *, metric_keys: Collection[str], experiment_key: str, team: str
) -> dict[str, PlannedPrior]:
    """By metric, the newest prior that a plan frozen now takes; metrics without one are left out.

    Where teams differ it is that of the experiment's team. An experiment whose own effect was learned from takes the
    prior of the others, as long as there are 8 of them.
    """
    rank = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    ranked = (
        sa.select(col(Result.body).label("body"), rank.label("rank"))
        .where(col(Result.kind) == KIND, col(Result.subject_key).in_(sorted(metric_keys)))
        .subquery()
    )
    bodies = (await session.execute(sa.select(ranked.c.body).where(ranked.c.rank == 1))).scalars().all()
    documents = [LearnedPriorResult.model_validate_json(body) for body in bodies]
    found = await asyncio.to_thread(lambda: [_prior_for(each, experiment_key, team) for each in documents])
    return {each.metric_key: prior for each, prior in zip(documents, found, strict=True) if prior is not None}


def _prior_for(document: LearnedPriorResult, experiment_key: str, team: str) -> PlannedPrior | None:
    """The population's prior, that of the team first; `LearnedPriorResult.strata` has all experiments first."""
    for stratum in sorted(document.strata, key=lambda each: each.stratum is None):
        if stratum.stratum not in (None, team or None):
            continue
        members = [each for each in document.effects if stratum.stratum in (None, each.stratum)]
        others = [each for each in members if each.experiment_key != experiment_key]
        prior = _stored(document, stratum) if len(others) == len(members) else _relearned(document, stratum, others)
        if prior is not None:
            return prior
    return None


def _stored(document: LearnedPriorResult, stratum: LearnedStratum) -> PlannedPrior | None:
    if stratum.prior_mean is None or stratum.prior_scale is None:
        return None
    return PlannedPrior(
        prior_id=document.analysis_id,
        version=document.version,
        experiments=stratum.experiments,
        mean=stratum.prior_mean,
        scale=stratum.prior_scale,
        components=stratum.components,
        stratum=stratum.stratum,
    )


def _relearned(
    document: LearnedPriorResult, stratum: LearnedStratum, others: Sequence[PastEffectShown]
) -> PlannedPrior | None:
    found = population([each.log_lift for each in others], [each.standard_error for each in others])
    if found.predictive is None:
        return None
    prior = found.prior(document.metric_key)
    return PlannedPrior(
        prior_id=document.analysis_id,
        version=document.version,
        experiments=found.experiments,
        mean=prior.mean,
        scale=prior.scale,
        components=list(prior.components),
        stratum=stratum.stratum,
    )


def _evidence(past: Iterable[PastEffect]) -> list[PriorEvidence]:
    """On the log scale, where effects add up and errors are the same for gains and losses."""
    return [
        PriorEvidence(
            experiment_key=effect.experiment_key,
            variant_key=effect.variant_key,
            stratum=effect.stratum,
            log_lift=log1p(effect.lift),
            standard_error=effect.standard_error / (1 + effect.lift),
        )
        for effect in past
    ]


def _as_of(past: Sequence[PastEffect]) -> datetime:
    return max(effect.data_as_of for effect in past if effect.data_as_of is not None)


async def _newest_plans(
    session: AsyncSession, *, metric_keys: Sequence[str], succeeded: bool
) -> Mapping[str, tuple[PriorPlan, str]]:
    """By metric, the plan and code version of the newest analysis, of those that succeeded or of all."""
    rank = sa.func.row_number().over(
        partition_by=col(Analysis.subject_key), order_by=(col(Analysis.created_at).desc(), col(Analysis.id).desc())
    )
    of_kind = sa.select(col(Analysis.id).label("id"), rank.label("rank")).where(
        col(Analysis.kind) == KIND, col(Analysis.subject_key).in_(metric_keys)
    )
    if succeeded:
        of_kind = of_kind.where(col(Analysis.state) == "succeeded")
    ranked = of_kind.subquery()
    statement = (
        sa.select(col(Analysis.subject_key), col(Analysis.plan), col(Analysis.code_version))
        .join(ranked, ranked.c.id == col(Analysis.id))
        .where(ranked.c.rank == 1)
    )
    rows = (await session.execute(statement)).all()
    return {key: (PriorPlan.model_validate(plan), version) for key, plan, version in rows}


async def _learned_so_far(session: AsyncSession, metric_key: str) -> int:
    statement = sa.select(sa.func.count()).where(col(Result.kind) == KIND, col(Result.subject_key) == metric_key)
    return int((await session.execute(statement)).scalar_one())


_REMEDY = (
    f"{FEWEST_EXPERIMENTS} experiments are needed that have ended and passed their checks (A/A tests do not count). "
    "Until then the prior that a plan states is used."
)


def _so_few(metric_key: str, experiments: int) -> str:
    return f"{experiments} of {FEWEST_EXPERIMENTS} experiments have ended with an effect on `{metric_key}`"
