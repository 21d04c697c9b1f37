"""The portfolio: what can be called a discovery among all comparisons of all running experiments (METHODS B5).

Everybody looks at all of them every day and acts on the best ones. e-values allow that: e-BH controls the false
discovery rate under every dependence between metrics and experiments, and however often one looks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.tables import Experiment, Result, ResultRow
from stats.multiplicity import e_bh

ROLES: Final = ("primary", "secondary")
STATUSES: Final[dict[str, tuple[str, ...]]] = {
    "running": ("running", "paused"),
    "all": ("running", "paused", "stopped"),
}

type Scope = Literal["running", "all"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One primary or secondary metric of one treatment. `e_value_adjusted` reaches 1 / alpha for discoveries.

    `q_value` is min(1, 1 / adjusted e-value): the smallest false discovery rate at which this is a discovery.
    """

    experiment_key: str
    experiment_name: str
    data_as_of: datetime
    row: ResultRow
    log_e_value: float
    log_e_value_adjusted: float
    q_value: float
    discovery: bool


@dataclass(frozen=True, slots=True)
class Portfolio:
    """All comparisons that have an e-value, strongest evidence first; `without` counts those that have none yet.

    `unreliable` experiments failed a check: nothing of theirs can be a discovery, so they are left out.
    """

    comparisons: Sequence[Comparison]
    alpha: float
    without: int
    unreliable: int

    @property
    def discoveries(self) -> Sequence[Comparison]:
        """What may be called a discovery."""
        return [comparison for comparison in self.comparisons if comparison.discovery]


async def portfolio(session: AsyncSession, *, alpha: float = 0.05, scope: Scope = "running") -> Portfolio:
    """e-BH at false discovery rate `alpha` over the newest result of every experiment in scope."""
    newest = (
        sa.func.row_number()
        .over(partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc()))
        .label("rank")
    )
    ranked = (
        sa.select(
            col(Result.id),
            col(Result.data_as_of),
            col(Result.verdict),
            col(Experiment.key),
            col(Experiment.name),
            newest,
        )
        .join(Experiment, col(Experiment.key) == col(Result.subject_key))
        .where(col(Result.kind) == "experiment", col(Experiment.status).in_(STATUSES[scope]))
        .subquery()
    )
    statement = (
        sa.select(ranked.c.verdict, ranked.c.key, ranked.c.name, ranked.c.data_as_of, ResultRow)
        .join(ResultRow, col(ResultRow.result_id) == ranked.c.id)
        .where(ranked.c.rank == 1, col(ResultRow.segment).is_(None), col(ResultRow.role).in_(ROLES))
        .order_by(ranked.c.key, col(ResultRow.id))
    )
    every = (await session.execute(statement)).all()
    found = [rest for verdict, *rest in every if verdict != "unreliable"]
    distrusted = {key for verdict, key, *_ in every if verdict == "unreliable"}
    known = [(*rest, row, row.log_e_value) for *rest, row in found if row.log_e_value is not None]
    rejected, adjusted = e_bh([log_e for *_, log_e in known], alpha)
    comparisons = [
        Comparison(key, name, at, row, log_e, float(lifted), math.exp(min(0.0, -float(lifted))), bool(discovery))
        for (key, name, at, row, log_e), discovery, lifted in zip(known, rejected, adjusted, strict=True)
    ]
    comparisons.sort(key=lambda item: -item.log_e_value)
    return Portfolio(comparisons, alpha, len(found) - len(known), len(distrusted))
