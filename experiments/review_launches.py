"""What was launched, as a ledger sees it: who had it in each week, and what was measured of it (METHODS D6, F6).

Before its launch a change may have been in an experiment: the units that it was shown to had it then.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

import numpy as np
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import launch, launch_effects, lifecycle, series_values
from experiments.belonging import launch_is_about
from experiments.definitions import LaunchSpec
from experiments.plan import EvidenceLetter, LedgerLaunch, ProgrammeEffect
from experiments.rollout import mean_coverage, segments_named
from experiments.series_table import SeriesTable
from experiments.tables import Analysis, Experiment, Launch, LaunchEffect, Phase, RolloutStepRow, Series
from experiments.weekly_values import WEEK

_BLIND: Final[EvidenceLetter] = "U"


@dataclass(frozen=True, slots=True)
class MeasuredOnSeries:
    """The leading estimate of a launch on a series of the metric: log effect and errors, with its grade."""

    evidence_grade: EvidenceLetter
    log_effect: float
    standard_error: float
    bias_sd: float
    analysis_id: str | None


async def launches_of(
    session: AsyncSession,
    *,
    north_star_key: str,
    metric_key: str,
    weeks: Sequence[datetime],
    effects: Sequence[ProgrammeEffect],
    known_at: datetime,
) -> list[LedgerLaunch]:
    """Launches about a North Star whose coverage changed within the weeks, the first one first.

    Whatever was covered before and stayed so is a part of the base. What an experiment of the programme measured speaks
    for its launch, then what its series say; without either the launch is blind.
    """
    rows = await _moved_within(session, weeks)
    by_experiment = {effect.experiment_key: effect for effect in effects if effect.topline_log_lift is not None}
    experiments = await _experiments_of(session, rows)
    on_series = await _measured_on_series(session, metric_key, [row.key for row in rows], known_at)
    found = []
    for row in rows:
        spec = launch.spec_of(row)
        experiment = experiments.get(row.experiment_id) if row.experiment_id is not None else None
        if not launch_is_about([north_star_key], launch=spec, experiment=experiment):
            continue
        effect = by_experiment.get(experiment.key) if experiment is not None else None
        if effect is not None and not _about(effect, spec):
            effect = None
        measured = None if effect is not None else on_series.get(row.key)
        coverage = await _coverage(session, spec, experiment, weeks, known_at)
        found.append(
            LedgerLaunch(
                launch_key=row.key,
                name=row.name,
                owner=spec.owner,
                first_at=row.first_at,
                coverage=coverage,
                experiment_key=effect.experiment_key if effect else None,
                evidence_grade=effect.evidence_grade if effect else measured.evidence_grade if measured else _BLIND,
                log_effect=measured.log_effect if measured else None,
                standard_error=measured.standard_error if measured else None,
                bias_sd=measured.bias_sd if measured else None,
                analysis_id=effect.analysis_id if effect else measured.analysis_id if measured else None,
                persistence=effect.persistence if effect else None,
            )
        )
    return found


def exposure(phases: Sequence[Phase], variant_key: str, weeks: Sequence[datetime], *, until: datetime) -> list[float]:
    """The share of everybody eligible that an experiment showed a variant to, averaged over each week, before `until`.

    A phase without an end goes on.
    """
    shares = np.zeros(len(weeks))
    for phase in phases:
        weight = phase.weights.get(variant_key, 0.0) / (sum(phase.weights.values()) or 1.0)
        over = min(phase.ended_at or until, until)
        for i, week in enumerate(weeks):
            overlap = min(week + WEEK, over) - max(week, phase.started_at)
            shares[i] += max(overlap / WEEK, 0.0) * weight * phase.coverage
    return [float(share) for share in shares]


def _about(effect: ProgrammeEffect, spec: LaunchSpec) -> bool:
    """Whether the effect is that of the variant that was launched."""
    if spec.shipped_variant is None:
        return effect.shipped or effect.variants == 1
    return spec.shipped_variant == effect.variant_key


async def _moved_within(session: AsyncSession, weeks: Sequence[datetime]) -> Sequence[Launch]:
    moved = sa.select(col(RolloutStepRow.launch_id)).where(
        col(RolloutStepRow.at) >= weeks[0], col(RolloutStepRow.at) < weeks[-1] + WEEK
    )
    statement = sa.select(Launch).where(col(Launch.id).in_(moved)).order_by(col(Launch.first_at), col(Launch.key))
    return (await session.scalars(statement)).all()


async def _experiments_of(session: AsyncSession, rows: Sequence[Launch]) -> Mapping[object, Experiment]:
    ids = [row.experiment_id for row in rows if row.experiment_id is not None]
    found = await session.scalars(sa.select(Experiment).where(col(Experiment.id).in_(ids)))
    return {row.id: row for row in found}


async def _coverage(
    session: AsyncSession,
    spec: LaunchSpec,
    experiment: Experiment | None,
    weeks: Sequence[datetime],
    known_at: datetime,
) -> list[float]:
    sizes = await _sizes(session, spec, known_at)
    shares = [_mean_over_company(spec, week, sizes) for week in weeks]
    if experiment is not None and spec.shipped_variant is not None:
        phases = await lifecycle.phases_of(session, experiment=experiment)
        until = min(spec.rollout[0].at, experiment.stopped_at or known_at)
        before = exposure(phases, spec.shipped_variant, weeks, until=until)
        shares = [min(1.0, share + shown) for share, shown in zip(shares, before, strict=True)]
    return shares


def _mean_over_company(spec: LaunchSpec, week: datetime, sizes: Mapping[str, float]) -> float:
    """`rollout.company_coverage`, averaged over a week."""
    if not sizes:
        return mean_coverage(spec.rollout, week, week + WEEK, segment=None)
    shares = {name: mean_coverage(spec.rollout, week, week + WEEK, segment=name) for name in sizes}
    return sum(size * shares[name] for name, size in sizes.items()) / sum(sizes.values())


async def _sizes(session: AsyncSession, spec: LaunchSpec, known_at: datetime) -> Mapping[str, float]:
    """How large the segments are that steps name: by a series that the launch is measured on, else all alike."""
    named = segments_named(spec.rollout)
    if not named:
        return {}
    for item in spec.measurements:
        row = await session.scalar(sa.select(Series).where(col(Series.key) == item.series_key))
        if row is None or row.spec["source"] != "pushed" or row.spec["aggregation"] != "total":
            continue
        table = await series_values.table_of(
            session, series=row, known_at=known_at, since=spec.rollout[0].at - 13 * WEEK
        )
        sizes = sizes_in(table)
        if named <= sizes.keys():
            return sizes
    return dict.fromkeys(spec.eligible.segments if spec.eligible is not None else sorted(named), 1.0)


def sizes_in(table: SeriesTable) -> Mapping[str, float]:
    """The mean of each segment of a series of totals; none where that is no size: negative, or nothing at all."""
    known = np.isfinite(table.values)
    count = known.sum(axis=1)
    means = np.where(known, table.values, 0.0).sum(axis=1) / np.maximum(count, 1)
    sizes = {name: float(mean) for name, mean, n in zip(table.segments, means, count, strict=True) if n}
    return sizes if min(sizes.values(), default=0.0) >= 0 and sum(sizes.values()) > 0 else {}


async def _measured_on_series(
    session: AsyncSession, metric_key: str, launch_keys: Collection[str], known_at: datetime
) -> Mapping[str, MeasuredOnSeries]:
    """By launch, the leading estimate of its newest result on the metric; of several series the most precise one."""
    runs = await session.execute(
        sa.select(col(Analysis.result_id), col(Analysis.id)).where(
            col(Analysis.kind) == launch_effects.KIND, col(Analysis.subject_key).in_(launch_keys)
        )
    )
    made_by = {result_id: str(analysis_id) for result_id, analysis_id in runs}
    statement = (
        sa.select(LaunchEffect)
        .where(
            col(LaunchEffect.result_id).in_(launch_effects.newest_results(known_at=known_at)),
            col(LaunchEffect.launch_key).in_(launch_keys),
            col(LaunchEffect.metric_key) == metric_key,
            col(LaunchEffect.leads),
            col(LaunchEffect.estimable),
            col(LaunchEffect.evidence_grade) != _BLIND,
            col(LaunchEffect.log_effect).is_not(None),
            col(LaunchEffect.standard_error) > 0,
        )
        .order_by(col(LaunchEffect.standard_error), col(LaunchEffect.series_key))
    )
    found: dict[str, MeasuredOnSeries] = {}
    for row in await session.scalars(statement):
        assert row.log_effect is not None and row.standard_error is not None
        measured = MeasuredOnSeries(
            evidence_grade=cast("EvidenceLetter", row.evidence_grade),
            log_effect=row.log_effect,
            standard_error=row.standard_error,
            bias_sd=row.bias_sd or 0.0,
            analysis_id=made_by.get(row.result_id),
        )
        found.setdefault(row.launch_key, measured)
    return found
