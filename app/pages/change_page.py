"""What accounts for the latest change of a North Star: a part of the home page that loads after it (METHODS E3)."""

from dataclasses import dataclass
from math import expm1

from fastapi import Request
from fastapi.responses import Response

from app.api.deps import DatabaseDep, Now
from app.charts.attribution import attribution_chart
from app.charts.theme import Spec
from app.charts.units import with_interval
from app.pages.access import Browser
from app.pages.rendering import render
from app.pages.route import pages
from experiments import metric, north_star
from experiments.errors import NotReady
from experiments.observed_change import RecentChange, recent_changes
from experiments.result import Attribution

router = pages()


@dataclass(frozen=True, slots=True)
class Part:
    """What an input accounts for, in words: units with their 80 % interval, and its own relative change."""

    name: str
    units: str
    own: float | None
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """The change over a span of weeks; `chart` is None where it could not be taken apart."""

    weeks: int
    found: Attribution | None
    total: str
    chart: Spec | None
    parts: list[Part]


@router.get("/north-stars/{key}/change")
async def change_page(key: str, request: Request, browser: Browser, database: DatabaseDep, at: Now) -> Response:
    """The part by itself where the home page asks for it, else a page around it."""
    problem = None
    changes: list[RecentChange] = []
    async with database.read() as session:
        spec = north_star.spec_of(await north_star.get(session, key=key))
        measured = (await metric.all_known(session, archived=True)).get(spec.metric_key)
        try:
            changes = await recent_changes(session, north_star_key=key, at=at)
        except NotReady as error:
            problem = error
    unit = measured.spec.unit if measured else ""
    part = bool(request.headers.get("hx-request"))
    return render(
        request,
        "_change.html" if part else "change.html",
        star=spec,
        unit=unit,
        changes=[change_view(change, unit) for change in changes],
        problem=problem,
    )


def change_view(change: RecentChange, unit: str) -> Change:
    """A change as it is shown. Pure."""
    found = change.attribution
    if found is None:
        return Change(change.weeks, None, "", None, [])
    return Change(
        weeks=change.weeks,
        found=found,
        total=with_interval(found.change, None, None),
        chart=attribution_chart(found, {}, unit=unit) if found.estimable and found.parts else None,
        parts=[
            Part(
                part.name,
                with_interval(part.units, part.lower_80, part.upper_80),
                None if part.log_change is None else expm1(part.log_change),
                part.before,
                part.after,
            )
            for part in found.parts
        ],
    )
