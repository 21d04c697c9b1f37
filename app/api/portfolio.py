"""/v1/portfolio: which comparisons of all running experiments are discoveries."""

from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel

from app.api.deps import ReadSession
from app.api.routing import api_router
from app.api.security import Reader
from experiments import portfolio
from experiments.portfolio import Comparison, Scope

router = api_router("portfolio", "/portfolio")


class ComparisonOut(BaseModel):
    """One metric of one treatment, with its evidence against no effect on the log scale (natural logs)."""

    experiment_key: str
    experiment_name: str
    data_as_of: datetime
    metric_key: str
    variant_key: str
    role: str
    lift: float | None
    ci_lower: float | None
    ci_upper: float | None
    always_valid_lower: float | None
    always_valid_upper: float | None
    log_e_value: float
    log_e_value_adjusted: float
    q_value: float
    discovery: bool

    @classmethod
    def of(cls, item: Comparison) -> "ComparisonOut":
        row = item.row
        return cls(
            experiment_key=item.experiment_key,
            experiment_name=item.experiment_name,
            data_as_of=item.data_as_of,
            metric_key=row.metric_key,
            variant_key=row.variant_key,
            role=row.role,
            lift=row.lift,
            ci_lower=row.ci_lower,
            ci_upper=row.ci_upper,
            always_valid_lower=row.always_valid_lower,
            always_valid_upper=row.always_valid_upper,
            log_e_value=item.log_e_value,
            log_e_value_adjusted=item.log_e_value_adjusted,
            q_value=item.q_value,
            discovery=item.discovery,
        )


class PortfolioOut(BaseModel):
    """Discoveries at false discovery rate `alpha` by e-BH (METHODS B5). `without` comparisons have no e-value yet.

    `unreliable` experiments are left out: one of their checks failed.
    """

    alpha: float
    discoveries: int
    without: int
    unreliable: int
    items: list[ComparisonOut]


@router.get("", summary="Discoveries among all comparisons of the running experiments")
async def get_portfolio(
    caller: Reader,
    session: ReadSession,
    alpha: Annotated[float, Query(gt=0, lt=1, description="False discovery rate")] = 0.05,
    scope: Annotated[Scope, Query(description="`all` includes stopped experiments")] = "running",
) -> PortfolioOut:
    found = await portfolio.portfolio(session, alpha=alpha, scope=scope)
    return PortfolioOut(
        alpha=found.alpha,
        discoveries=len(found.discoveries),
        without=found.without,
        unreliable=found.unreliable,
        items=[ComparisonOut.of(item) for item in found.comparisons],
    )
