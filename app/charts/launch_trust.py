"""Why to believe a launch's effect: where nothing happened, before it happened, and had trends parted anyway."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import altair as alt

from app.charts.numbers import percent
from app.charts.reach import WILD, Interval, beyond, picture_range, typical_width
from app.charts.theme import ROWS, Spec, Values, colour, data, finish, lift_axis, zero_line
from experiments.result import EventPoint, Placebos, TrendSensitivity

COLUMNS: Final = 36
MOST_PLACEBOS: Final = 120
MOST_EVENT_TIMES: Final = 90


def placebo_values(placebos: Placebos) -> Values:
    """One dot per run, stacked in columns of about equal lifts; `high` is its place in the column."""
    runs = placebos.runs[:MOST_PLACEBOS]
    low, high = placebo_domain(placebos)
    width = (high - low) / COLUMNS
    stacked: Counter[int] = Counter()
    values: Values = []
    for run in runs:
        column = int((run.lift - low) / width)
        name = run.segment if run.segment is not None else f"{run.at:%-d %b %Y}" if run.at else ""
        values.append({"lift": low + (column + 0.5) * width, "exact": run.lift, "high": stacked[column], "name": name})
        stacked[column] += 1
    return values


def placebo_domain(placebos: Placebos) -> tuple[float, float]:
    """The lift axis: all placebo effects and the launch's own."""
    ends = [0.0, *(run.lift for run in placebos.runs[:MOST_PLACEBOS])]
    if placebos.own_lift is not None:
        ends.append(placebos.own_lift)
    padding = 0.12 * ((max(ends) - min(ends)) or 0.02)
    return (min(ends) - padding, max(ends) + padding)


def placebo_chart(placebos: Placebos, *, series_name: str) -> Spec:
    """A dot for what the method finds at each place where nothing happened; a line for the launch itself."""
    values = placebo_values(placebos)
    tallest = 1 + max((value["high"] for value in values), default=0)
    step = max(4.0, min(12.0, 110 / tallest))
    height = int(48 + tallest * step)
    low, high = placebo_domain(placebos)
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    x = alt.X("lift:Q", scale=scale, axis=lift_axis("Effect found", grid=False))
    rows = alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False)
    y = alt.Y("y:Q", scale=rows, axis=None)
    place = "date" if placebos.kind == "time" else "segment"
    dots = alt.Chart(ROWS).transform_calculate(y=f"{height} - {step / 2 + 1} - datum.high * {step}")
    layers = [
        zero_line(),
        dots.mark_point(
            filled=True, fill=colour("muted"), size=max(18.0, (step - 1.5) ** 2), opacity=0.75, shape="circle"
        ).encode(
            x=x,
            y=y,
            tooltip=[
                alt.Tooltip("name:N", title=place.capitalize()),
                alt.Tooltip("exact:Q", title="Effect", format="+.2%"),
            ],
        ),
    ]
    if placebos.own_lift is not None:
        right = placebos.own_lift > (low + high) / 2
        own = alt.Chart(
            data([{"lift": placebos.own_lift, "y": 10, "text": f"this launch {percent(placebos.own_lift)}"}])
        )
        layers += [
            own.mark_rule(color=colour("accent"), strokeWidth=2.5).encode(x=x),
            own.mark_text(
                align="right" if right else "left", dx=-7 if right else 7, color=colour("accent"), fontWeight=600
            ).encode(x=x, y=y, text=alt.Text("text:N")),
        ]
    return finish(
        alt.layer(*layers),
        height=height,
        rows=values,
        description=f"{series_name}: effects found at {len(values)} {place}s where nothing happened, and the launch's",
    )


def drawn_events(points: Sequence[EventPoint]) -> list[EventPoint]:
    """The times around the launch: as many before it as since, while they can be told apart."""
    since = [point for point in points if point.time >= 0][: 2 * MOST_EVENT_TIMES // 3]
    before = [point for point in points if point.time < 0]
    return [*before[-max(14, min(len(since), MOST_EVENT_TIMES - len(since))) :], *since]


@dataclass(frozen=True, slots=True)
class EventPicture:
    """What is drawn of the times around a launch, from `low` to `high`.

    `cut` times have a bar or a band that reaches beyond the picture, `bare` times one that is too wide to draw.
    """

    values: Values
    bands: Values
    """Two corners per time; each `run` is a band without gaps."""
    first: int
    last: int
    low: float
    high: float
    cut: int
    bare: int


def event_picture(points: Sequence[EventPoint]) -> EventPicture:
    """Times whose bar or band is many times wider than a typical bar have none, and do not flatten the others."""
    shown = drawn_events(points)
    known = [(point, point.lift) for point in shown if point.lift is not None]
    bars = {point.time: bar for point, lift in known if (bar := _interval(lift, point.ci_lower, point.ci_upper))}
    bands = {point.time: band for point, lift in known if (band := _interval(lift, point.band_lower, point.band_upper))}
    typical = typical_width([*bars.values()] or [*bands.values()])

    def drawable(intervals: dict[int, Interval]) -> dict[int, Interval]:
        return {time: ends for time, ends in intervals.items() if ends[2] - ends[1] <= WILD * typical}

    drawn_bars, drawn_bands = drawable(bars), drawable(bands)
    alone = [lift for point, lift in known if point.time not in bars and point.time not in bands]
    low, high = picture_range([*drawn_bars.values(), *drawn_bands.values()], inside=[0.0, *alone], width=typical) or (
        0.0,
        0.0,
    )
    padding = 0.06 * ((high - low) or 0.1)
    low, high = low - padding, high + padding
    cut = [time for time in {*drawn_bars, *drawn_bands} if _leaves(time, (drawn_bars, drawn_bands), low, high)]
    values: Values = [
        {
            "time": point.time,
            "lift": lift,
            "lower": bar[1] if (bar := drawn_bars.get(point.time)) else None,
            "upper": bar[2] if bar else None,
            "cells": point.cells,
            "before": point.time < 0,
        }
        for point, lift in known
    ]
    return EventPicture(
        values=values,
        bands=_corners(drawn_bands, low, high),
        first=shown[0].time if shown else 0,
        last=shown[-1].time if shown else 0,
        low=low,
        high=high,
        cut=len(cut),
        bare=len(({*bars} - {*drawn_bars}) | ({*bands} - {*drawn_bands})),
    )


def event_chart(picture: EventPicture, *, grain: str, series_name: str) -> Spec:
    """Effects by time since each segment's own launch: intervals of single times, and the band of all together."""
    scale = alt.Scale(domain=[picture.low, picture.high], nice=False, zero=False)
    axis = alt.Axis(
        title=f"{grain.capitalize()}s since its own launch", format="d", tickCount=8, tickMinStep=1, labelOverlap=True
    )
    times = alt.Scale(domain=[picture.first - 0.7, picture.last + 0.7], nice=False, zero=False)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=times, axis=axis)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=lift_axis(None))

    tone = alt.ExprRef("datum.before ? muted : accent")
    base = alt.Chart(ROWS)
    tooltip = [
        alt.Tooltip("time:Q", title="Since the launch"),
        alt.Tooltip("lift:Q", title="Effect", format="+.2%"),
        alt.Tooltip("lower:Q", title="from", format="+.2%"),
        alt.Tooltip("upper:Q", title="to", format="+.2%"),
        alt.Tooltip("cells:Q", title="Values", format=","),
    ]
    layers = [
        alt.Chart(data(picture.bands))
        .mark_area(color=colour("muted"), opacity=0.14, clip=True)
        .encode(x=x("edge"), y=y("lower"), y2=alt.Y2("upper:Q"), detail=alt.Detail("run:N")),
        zero_line("y"),
        alt.Chart(data([{"time": -0.5}]))
        .mark_rule(color=colour("series3"), strokeDash=[3, 3], strokeWidth=1.25)
        .encode(x=x("time")),
        base.transform_filter("isValid(datum.lower)")
        .mark_rule(color=tone, strokeWidth=1.5, opacity=0.6, clip=True)
        .encode(x=x("time"), y=y("lower"), y2=alt.Y2("upper:Q")),
        base.mark_point(filled=True, fill=tone, size=26, opacity=1, clip=True).encode(
            x=x("time"), y=y("lift"), tooltip=tooltip
        ),
    ]
    return finish(
        alt.layer(*layers),
        height=240,
        rows=picture.values,
        description=f"{series_name}: effect at {len(picture.values)} times before and since each segment's launch",
    )


def _interval(value: float, lower: float | None, upper: float | None) -> Interval | None:
    return None if lower is None or upper is None else (value, lower, upper)


def _leaves(time: int, intervals: Sequence[dict[int, Interval]], low: float, high: float) -> bool:
    return any(beyond([found[time]], low, high) for found in intervals if time in found)


def _corners(bands: dict[int, Interval], low: float, high: float) -> Values:
    """Each time's band half a time to both sides, cut at the picture; a time without a band ends the run."""
    values: Values = []
    run, previous = 0, None
    for time in sorted(bands):
        _, lower, upper = bands[time]
        run += previous is not None and (time != previous + 1 or time == 0)
        previous = time
        ends = {"lower": max(lower, low), "upper": min(upper, high), "run": run}
        values += [{"edge": time - 0.5, **ends}, {"edge": time + 0.5, **ends}]
    return values


def parting_chart(found: TrendSensitivity, *, series_name: str) -> Spec:
    """The effect's interval for trends that parted by so many times the most that they did before the launch."""
    values: Values = [
        {"m": point.m, "lower": point.ci_lower, "upper": point.ci_upper, "holds": point.ci_lower * point.ci_upper > 0}
        for point in found.points
    ]
    ends = [0.0, *(value[name] for value in values for name in ("lower", "upper"))]
    padding = 0.06 * ((max(ends) - min(ends)) or 0.1)
    scale = alt.Scale(domain=[min(ends) - padding, max(ends) + padding], nice=False, zero=False)
    most = max((point.m for point in found.points), default=1.0) or 1.0
    x = alt.X(
        "m:Q",
        scale=alt.Scale(domain=[-0.05 * most, 1.05 * most], nice=False, zero=False),
        axis=alt.Axis(
            title="Times the most that they parted before",
            values=[point.m for point in found.points],
            format="~g",
        ),
    )

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=lift_axis(None))

    base = alt.Chart(ROWS)
    tooltip = [
        alt.Tooltip("m:Q", title="Times the most before"),
        alt.Tooltip("lower:Q", title="from", format="+.2%"),
        alt.Tooltip("upper:Q", title="to", format="+.2%"),
    ]
    layers = [
        zero_line("y"),
        base.mark_rule(
            color=alt.ExprRef("datum.holds ? accent : muted"), strokeWidth=7, strokeCap="round", opacity=0.75
        ).encode(x=x, y=y("lower"), y2=alt.Y2("upper:Q"), tooltip=tooltip),
        base.mark_point(filled=True, fill=colour("surface"), size=10, opacity=0.9)
        .transform_calculate(middle="(datum.lower + datum.upper) / 2")
        .encode(x=x, y=y("middle"), tooltip=tooltip),
    ]
    if found.breakdown is not None and found.breakdown <= most:
        limit = alt.Chart(data([{"m": found.breakdown}]))
        layers.insert(1, limit.mark_rule(color=colour("warn"), strokeDash=[4, 3], strokeWidth=1.5).encode(x=x))
    return finish(
        alt.layer(*layers),
        height=220,
        rows=values,
        description=f"{series_name}: interval of the effect had trends parted, {len(values)} degrees",
    )
