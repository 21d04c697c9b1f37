"""Home: where the North Star is, what moves it, what was launched and learned."""

from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.charts.north_star import LaunchMark, north_star_curve
from app.charts.theme import Spec
from app.pages.access import Browser, Submitted, actor
from app.pages.glance import lines
from app.pages.headers import SECURITY_HEADERS
from app.pages.rendering import render
from app.pages.route import pages
from app.pages.submission import ring
from experiments import analysis_request, launch_overview, overview, review_overview, weekly_values
from experiments.definitions import InputMetric, MetricSpec
from experiments.formula_defects import formula_defects
from experiments.overview import Home
from experiments.result import NorthStarSeries, SeriesPoint
from experiments.tables import Launch

SHOWN_WEEKS = 52
SPARK_WEEKS = 8
COMPARED_WEEKS = 4

router = pages()


@dataclass(frozen=True, slots=True)
class TreeInput:
    """One input on the tree: its latest complete week and its last eight."""

    input: InputMetric
    metric: MetricSpec | None
    value: float | None
    change: float | None
    history: list[float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """The North Star's numbers: `value` is that of the last complete week, changes are relative."""

    chart: Spec
    points: list[SeriesPoint]
    value: float | None
    week: SeriesPoint | None
    change: float | None
    gap: float | None
    marks: list[tuple[int, Launch]]


@router.get("/")
async def home_page(
    request: Request, browser: Browser, database: DatabaseDep, at: Now, north_star: str = ""
) -> Response:
    async with database.read() as session:
        view = await overview.home(session, key=north_star or None)
        keys = [launch.key for launch in view.launches]
        effects = await launch_overview.primary_effects(session, launch_keys=keys)
        series_names = await launch_overview.series_names(session) if effects else {}
        review = await review_overview.newest(session, north_star_key=view.chosen.key) if view.chosen else None
        formula = await formula_defects(session, view.chosen, at=at) if view.chosen else None
        pushed = await weekly_values.pushed_weeks(session, view.chosen, at=at) if view.chosen else None
    counted = NorthStarSeries.model_validate_json(view.series.body) if view.series and pushed is None else None
    found = pushed or counted
    series = _last_year(found) if found else None
    return render(
        request,
        "home.html",
        view=view,
        curve=_curve(view, series) if series and any(point.value is not None for point in series.points) else None,
        inputs=_inputs(view, series),
        defects=formula.defects if formula else [],
        launch_effects=effects,
        series_names=series_names,
        review=review,
        running=lines(view.running, view.metrics),
    )


@router.post("/north-stars/{key}/analyses")
async def refresh_north_star(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    async with database.write() as session:
        row, waiting = await analysis_request.of_north_star(
            session, key=key, actor=actor(browser), at=at, max_attempts=settings.max_attempts
        )
    if waiting:
        ring(request, row)
    return RedirectResponse(f"/?north_star={key}", status_code=303, headers=SECURITY_HEADERS)


def _last_year(series: NorthStarSeries) -> NorthStarSeries:
    return series.model_copy(update={"points": series.points[-SHOWN_WEEKS:]})


def _curve(view: Home, series: NorthStarSeries) -> Curve:
    assert view.spec is not None
    metric = view.metrics.get(view.spec.metric_key)
    known = [point for point in series.points if point.value is not None]
    complete = [point for point in known if point.complete]
    last = complete[-1] if complete else None
    earlier = complete[-1 - COMPARED_WEEKS] if len(complete) > COMPARED_WEEKS else None
    start, end = series.points[0].week, series.data_as_of
    shown = [launch for launch in view.launches if start <= launch.first_at <= end]
    marks = list(enumerate(shown, start=1))
    target = view.spec.target
    value = last.value if last else None
    return Curve(
        chart=north_star_curve(
            series.points,
            name=view.spec.name,
            unit=metric.unit if metric else "",
            target=(target.value, target.at) if target else None,
            launches=[LaunchMark(number, launch.name, launch.first_at) for number, launch in marks],
        ),
        points=list(series.points),
        value=value,
        week=last,
        change=_relative(value, earlier.value if earlier else None),
        gap=_relative(target.value if target else None, value),
        marks=marks,
    )


def _inputs(view: Home, series: NorthStarSeries | None) -> list[TreeInput]:
    if view.spec is None:
        return []
    complete = [point for point in series.points if point.complete] if series else []
    found: list[TreeInput] = []
    for item in view.spec.input_metrics:
        history = [point.inputs.get(item.metric_key) for point in complete]
        value = history[-1] if history else None
        earlier = history[-1 - COMPARED_WEEKS] if len(history) > COMPARED_WEEKS else None
        found.append(
            TreeInput(item, view.metrics.get(item.metric_key), value, _relative(value, earlier), history[-SPARK_WEEKS:])
        )
    return found


def _relative(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None or before == 0 else now / before - 1
