"""Other launches on the same series at about the same time: what an effect cannot be told apart from (METHODS D)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.definitions import Confounder, LaunchSpec, RolloutStep
from experiments.launch import spec_of
from experiments.tables import Launch, RolloutStepRow

CLOSE: Final = timedelta(days=14)
"""Changes of level that are no further apart look like one."""


async def launches_beside(session: AsyncSession, row: Launch) -> Mapping[str, list[Confounder]]:
    """By series that the launch is measured on: other launches with the same series whose steps fall into the time
    measured or shortly before it, as something else that happened then.
    """
    spec = spec_of(row)
    known = min(spec.announced_at or spec.rollout[0].at, spec.rollout[0].at)
    begin, longest = known - CLOSE, max((item.measure_for_days for item in spec.measurements), default=0)
    moved = sa.select(col(RolloutStepRow.launch_id)).where(
        col(RolloutStepRow.at) >= begin, col(RolloutStepRow.at) < spec.rollout[-1].at + timedelta(days=longest)
    )
    statement = sa.select(Launch).where(col(Launch.id) != row.id, col(Launch.id).in_(moved)).order_by(col(Launch.key))
    found: dict[str, list[Confounder]] = defaultdict(list)
    keys = {item.series_key for item in spec.measurements}
    for other in await session.scalars(statement):
        its = spec_of(other)
        for key in sorted(keys & {item.series_key for item in its.measurements}):
            found[key].extend(_as_confounders(its, begin))
    return found


def _as_confounders(spec: LaunchSpec, begin: datetime) -> Iterator[Confounder]:
    """One for each group of segments that its steps from `begin` on are about, until the group has it no more."""
    everybody = spec.eligible.segments if spec.eligible is not None else []
    groups: dict[tuple[str, ...], list[RolloutStep]] = defaultdict(list)
    for step in spec.rollout:
        if step.at >= begin:
            groups[tuple(step.segments or everybody)].append(step)
    for segments, steps in groups.items():
        over = steps[-1].at if len(steps) > 1 and steps[-1].coverage == 0 else None
        yield Confounder(name=f"launch {spec.key}", began_at=steps[0].at, ended_at=over, segments=list(segments))
