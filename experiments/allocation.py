"""The stages of a ramp: from when on which share of the units was enrolled, and each variant got (METHODS A8, E5)."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from experiments import lifecycle
from experiments.plan import AnalysisPlan
from experiments.tables import Experiment

type Allocation = tuple[tuple[datetime, tuple[float, ...]], ...]
"""(since, weights in the order of the plan's variants), ascending; neighbours differ."""


async def allocation_of(
    session: AsyncSession, *, experiment: Experiment, plan: AnalysisPlan, until: datetime
) -> Allocation:
    """The stages of weights that had begun before `until`: phases with the same weights in a row are one."""
    stages: list[tuple[datetime, tuple[float, ...]]] = []
    for phase in await lifecycle.phases_of(session, experiment=experiment):
        weights = tuple(float(phase.weights.get(variant.key, 0.0)) for variant in plan.variants)
        if phase.started_at < until and (not stages or stages[-1][1] != weights):
            stages.append((phase.started_at, weights))
    return tuple(stages)


async def coverage_of(
    session: AsyncSession, *, experiment: Experiment, until: datetime
) -> tuple[tuple[datetime, float], ...]:
    """(since, share of eligible traffic enrolled) of the phases that had begun before `until`, ascending."""
    stages: list[tuple[datetime, float]] = []
    for phase in await lifecycle.phases_of(session, experiment=experiment):
        if phase.started_at < until and (not stages or stages[-1][1] != phase.coverage):
            stages.append((phase.started_at, phase.coverage))
    return tuple(stages)
