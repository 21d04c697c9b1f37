"""The North Star's weekly curve with its target and what was launched when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import altair as alt

from app.charts.theme import Spec, Values, at_x, at_y, colour, data, finish
from experiments.result import SeriesPoint


@dataclass(frozen=True, slots=True)
class LaunchMark:
    """A launch on the curve: `number` is its label, the page lists the names."""

    number: int
    name: str
    at: datetime


def curve_values(points: Sequence[SeriesPoint]) -> tuple[Values, Values]:
    """Complete weeks, and the dashed stretch from the last complete week to the incomplete ones.

    An incomplete week before all complete ones is where the data begin: it would look like growth, so it is not drawn.
    """
    known = [point for point in points if point.value is not None]
    complete = [point for point in known if point.complete]
    began = complete[0].week if complete else None
    unfinished = [point for point in known if not point.complete and (began is None or point.week > began)]
    bridge = [*complete[-1:], *unfinished] if unfinished else []

    def values(chosen: Sequence[SeriesPoint]) -> Values:
        return [{"week": point.week.isoformat(), "value": point.value, "complete": point.complete} for point in chosen]

    return values(complete), values(bridge)


def north_star_curve(
    points: Sequence[SeriesPoint],
    *,
    name: str,
    unit: str,
    target: tuple[float, date] | None,
    launches: Sequence[LaunchMark],
) -> Spec:
    """Weekly values; the unfinished week is dashed, the target a labelled line, each launch a numbered rule."""
    complete, bridge = curve_values(points)
    everything = [value["value"] for value in (*complete, *bridge)]
    ends = [*everything, *([target[0]] if target else [])] or [0.0, 1.0]
    low, high = min(ends), max(ends)
    room = (high - low) or abs(high) or 1.0
    floor = 0.0 if 0 <= low < 0.8 * high else low - 0.12 * room
    scale = alt.Scale(domain=[floor, high + 0.18 * room], nice=False, zero=False)
    y = alt.Y("value:Q", scale=scale, title=None, axis=alt.Axis(format="~s", tickCount=5))
    x = alt.X("week:T", title=None, axis=alt.Axis(format="%b %Y", tickCount=6, labelOverlap=True))
    tooltip = [
        alt.Tooltip("week:T", title="Week of", format="%-d %b %Y"),
        alt.Tooltip("value:Q", title=f"{name}{f' ({unit})' if unit else ''}", format=",.4~g"),
        alt.Tooltip("complete:N", title="Complete"),
    ]
    line = alt.Chart(data(complete))
    layers: list[alt.Chart] = []
    if floor == 0:  # a filled area over a cut axis would show proportions that are not there
        layers.append(line.mark_area(color=colour("accent"), opacity=0.08, clip=True).encode(x=x, y=y, y2=alt.datum(0)))
    marks = [
        {"week": mark.at.isoformat(), "number": str(mark.number), "name": mark.name, "row": position % 2}
        for position, mark in enumerate(launches)
    ]
    if marks:
        rules = alt.Chart(data(marks))
        at = alt.X("week:T", title=None)
        shown = [alt.Tooltip("name:N", title="Launch"), alt.Tooltip("week:T", title="From", format="%-d %b %Y")]
        lift = alt.ExprRef("datum.row ? 28 : 10")
        layers += [
            rules.mark_rule(color=colour("series3"), strokeWidth=1.25, strokeDash=[3, 3], opacity=0.85).encode(
                x=at, tooltip=shown
            ),
            rules.mark_point(filled=True, fill=colour("series3"), size=260, opacity=1, yOffset=lift).encode(
                x=at, y=at_y(0), tooltip=shown
            ),
            rules.mark_text(
                color=colour("surface"), fontSize=11, fontWeight=600, yOffset=lift, baseline="middle", dy=0.5
            ).encode(x=at, y=at_y(0), text=alt.Text("number:N"), tooltip=shown),
        ]
    if target:
        goal = alt.Chart(data([{"value": target[0], "label": f"Target by {target[1]:%-d %b %Y}"}]))
        layers += [
            goal.mark_rule(color=colour("good"), strokeWidth=1.5, strokeDash=[8, 4]).encode(y=y),
            goal.mark_text(align="left", dy=-8, dx=4, color=colour("good"), fontWeight=600).encode(
                x=at_x(0), y=y, text=alt.Text("label:N")
            ),
        ]
    layers.append(line.mark_line(color=colour("accent"), strokeWidth=2.5, clip=True).encode(x=x, y=y))
    if bridge:
        layers.append(
            alt.Chart(data(bridge))
            .mark_line(color=colour("accent"), strokeWidth=2, strokeDash=[4, 4], clip=True)
            .encode(x=x, y=y)
        )
    layers.append(
        alt.Chart(data([*complete, *bridge[1:]]))
        .mark_point(filled=True, fill=colour("accent"), size=30, opacity=1)
        .encode(x=x, y=y, tooltip=tooltip)
    )
    return finish(
        alt.layer(*layers),
        height=320,
        description=f"{name} by week, {len(complete)} complete weeks, {len(marks)} launches marked",
    )
