"""The list of experiments, filtered and searched by its address."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request
from fastapi.responses import Response

from app.api.deps import DatabaseDep, Now
from app.pages import words
from app.pages.access import Browser
from app.pages.glance import lines, reach
from app.pages.rendering import render
from app.pages.route import pages
from experiments import experiment, metric, overview

PAGE_SIZE = 25

router = pages()


@router.get("/experiments")
async def experiment_list(
    request: Request,
    browser: Browser,
    database: DatabaseDep,
    at: Now,
    status: str = "",
    verdict: str = "",
    owner: str = "",
    team: str = "",
    tag: str = "",
    q: Annotated[str, Query(max_length=200)] = "",
    cursor: str = "",
) -> Response:
    filters = {"status": status, "verdict": verdict, "owner": owner, "team": team, "tag": tag, "q": q.strip()}
    wanted: dict[str, Any] = {name: value or None for name, value in filters.items()}
    async with database.read() as session:
        found = await experiment.page(session, limit=PAGE_SIZE, after=cursor or None, **wanted)
        glances = await overview.glances(session, experiments=found.items)
        choices = await overview.filter_choices(session)
        known = await metric.all_known(session, archived=True)
    shown = lines(glances, {key: item.spec for key, item in known.items()})
    active = {name: value for name, value in filters.items() if value}
    fragment = request.headers.get("hx-target", "").endswith("experiment-rows")
    return render(
        request,
        "_experiment_rows.html" if fragment else "experiments.html",
        headers={"Vary": "HX-Target"},
        lines=shown,
        reach=reach(shown),
        filters=filters,
        filtered=bool(active),
        first_page=not cursor,
        choices=choices,
        statuses=words.STATUSES,
        verdicts=words.VERDICTS,
        next_page=f"/experiments?{urlencode({**active, 'cursor': found.next_cursor})}" if found.next_cursor else None,
        first_address=f"/experiments?{urlencode(active)}" if active else "/experiments",
        now=at,
    )
