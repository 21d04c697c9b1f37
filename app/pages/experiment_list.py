"""The list of experiments, filtered and searched by its address."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request
from fastapi.responses import Response

from app.api.deps import DatabaseDep, Now
from app.charts.numbers import Tone
from app.pages import words
from app.pages.access import Browser
from app.pages.rendering import render
from app.pages.route import pages
from experiments import experiment, overview
from experiments.overview import Glance
from experiments.tables import ResultRow

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
    active = {name: value for name, value in filters.items() if value}
    fragment = request.headers.get("hx-target", "").endswith("experiment-rows")
    return render(
        request,
        "_experiment_rows.html" if fragment else "experiments.html",
        headers={"Vary": "HX-Target"},
        glances=glances,
        reach=reach(glances),
        tones={row.id: row_tone(row, direction_of(glance, row)) for glance in glances for row in glance.primary},
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


def reach(glances: list[Glance]) -> float:
    """Half-width of the axis that all mini intervals of a list share, so that rows compare at a glance."""
    ends = sorted(
        max(abs(row.ci_lower), abs(row.ci_upper))
        for glance in glances
        for row in glance.primary
        if row.ci_lower is not None and row.ci_upper is not None
    )
    return ends[int(0.8 * (len(ends) - 1))] * 1.1 if ends else 0.1


def direction_of(glance: Glance, row: ResultRow) -> str:
    """Which way the metric should go, as planned."""
    planned = (glance.experiment.plan or {}).get("metrics", [])
    return next((item["direction"] for item in planned if item["metric_key"] == row.metric_key), "increase")


def row_tone(row: ResultRow, direction: str) -> Tone:
    """As `numbers.tone`, for the row that the list has."""
    if row.ci_lower is None or row.ci_upper is None or row.ci_lower <= 0 <= row.ci_upper:
        return "neutral"
    return "good" if (row.ci_lower > 0) == (direction == "increase") else "bad"
