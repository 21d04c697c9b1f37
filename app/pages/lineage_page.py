"""Lineage: from a hypothesis over its experiments to what was launched, and what the ledger found of it."""

from typing import Final

from fastapi import Request
from fastapi.responses import Response

from app.api.deps import DatabaseDep
from app.pages.access import Browser
from app.pages.lineage_view import picture
from app.pages.rendering import render
from app.pages.route import pages
from experiments import experiment, lineage_graph

SHOWN: Final = 12
"""Families on the overview."""

router = pages()


@router.get("/lineage")
async def lineage_overview(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    async with database.read() as session:
        families = await lineage_graph.newest_families(session, most=SHOWN)
        together = await lineage_graph.graph(session, experiments=[each for family in families for each in family])
    pictures = [
        picture(lineage_graph.part_of(together, family), title=family[0].name, key=family[0].key) for family in families
    ]
    return render(request, "lineage.html", pictures=pictures, chosen=None)


@router.get("/lineage/{key}")
async def lineage_page(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    async with database.read() as session:
        row = await experiment.get(session, key=key)
        family = await lineage_graph.family_of(session, experiment=row)
        found = await lineage_graph.graph(session, experiments=family)
    return render(request, "lineage.html", pictures=[picture(found, title=family[0].name, key=key)], chosen=row)
