"""Discoveries among everything that runs, from all experiments at once (METHODS B5)."""

from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response

from app.api.deps import DatabaseDep
from app.pages.access import Browser
from app.pages.rendering import render
from app.pages.route import pages
from experiments import metric, portfolio
from experiments.portfolio import Scope

MOST_SHOWN = 200

router = pages()


@router.get("/portfolio")
async def portfolio_page(
    request: Request, browser: Browser, database: DatabaseDep, scope: Annotated[Scope, Query()] = "running"
) -> Response:
    async with database.read() as session:
        found = await portfolio.portfolio(session, scope=scope)
        known = await metric.all_known(session, archived=True)
    names = {key: item.spec.name for key, item in known.items()}
    return render(
        request,
        "portfolio.html",
        portfolio=found,
        shown=found.comparisons[:MOST_SHOWN],
        scope=scope,
        metric_names=names,
    )
