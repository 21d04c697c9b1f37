"""Launches and metrics: what shipped, and what is measured."""

from fastapi import Request
from fastapi.responses import Response

from app.api.deps import DatabaseDep
from app.pages.access import Browser
from app.pages.rendering import render
from app.pages.route import pages
from experiments import launch, metric, overview

router = pages()


@router.get("/launches")
async def launch_list(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    async with database.read() as session:
        found = await overview.launches_in_order(session)
    return render(request, "launches.html", launches=[(row, launch.spec_of(row), key) for row, key in found])


@router.get("/launches/{key}")
async def launch_page(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    async with database.read() as session:
        row = await launch.get(session, key=key)
    return render(request, "launch.html", launch=row, spec=launch.spec_of(row))


@router.get("/catalogue")
async def metric_list(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    async with database.read() as session:
        known = await metric.all_known(session)
        learned = await overview.metrics_with_priors(session)
    ordered = sorted(known.values(), key=lambda item: item.spec.name.lower())
    return render(request, "metrics.html", metrics=ordered, learned=learned)
