"""Metrics: what is measured."""

from fastapi import Request
from fastapi.responses import Response

from app.api.deps import DatabaseDep
from app.pages.access import Browser
from app.pages.rendering import render
from app.pages.route import pages
from experiments import metric, overview

router = pages()


@router.get("/catalogue")
async def metric_list(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    async with database.read() as session:
        known = await metric.all_known(session)
        learned = await overview.subjects_with_results(session, kind="prior")
    ordered = sorted(known.values(), key=lambda item: item.spec.name.lower())
    return render(request, "metrics.html", metrics=ordered, learned=learned)
