"""A launch period by period: what was and what would have been, the gap between them, and how far the launch reached.

The three pictures have one axis of time, so that they can be read below each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, Literal

import altair as alt

from app.charts.reach import Interval, beyond, picture_range
from app.charts.theme import LEVELS, ROWS, Spec, Values, at_y, colour, data, finish, zero_line
from experiments.result import MeasuredLaunch, PeriodPoint

FEWEST_BEFORE: Final = 60
"""Periods before the launch that are always drawn."""
MOST_BEFORE_EACH_AFTER: Final = 3
MOST_DRAWN: Final = 1500
"""Of more periods than this, every second, third, … one is drawn."""
MOST_NUMBERED: Final = 12
"""With more events than this their lines have no numbers."""
LABELS_WIDTH: Final = 46
"""Room for the vertical axis in px, the same in all pictures."""


@dataclass(frozen=True, slots=True)
class LaunchEvent:
    """What happened around a launch: `number` is its mark on the pictures, the page says the words."""

    number: int
    at: datetime
    kind: Literal["step", "announced", "other"]
    text: str


def drawn(measured: MeasuredLaunch) -> list[PeriodPoint]:
    """The periods of the pictures: those since the launch, and as many before it as leave it visible."""
    points = measured.periods
    start = next((place for place, point in enumerate(points) if point.coverage > 0), len(points))
    before = max(FEWEST_BEFORE, MOST_BEFORE_EACH_AFTER * (len(points) - start))
    chosen = points[max(0, start - before) :]
    return chosen[:: -(-len(chosen) // MOST_DRAWN) or 1]


def path_chart(measured: MeasuredLaunch, events: Sequence[LaunchEvent]) -> Spec:
    """Actual values as a line, the counterfactual dashed within its band; excluded periods are shaded."""
    points = drawn(measured)
    values = _values(points)
    known = [value[name] for value in values for name in ("actual", "expected") if value[name] is not None]
    low, high = picture_range(_intervals(values, "expected"), inside=known) or (0.0, 1.0)
    room = (high - low) or abs(high) or 1.0
    y = _vertical([low - 0.06 * room, high + 0.16 * room], _level_axis(measured.unit))
    base = alt.Chart(ROWS)
    unit = f" ({measured.unit})" if measured.unit else ""
    tooltip = [
        _tooltip_of_time(measured),
        alt.Tooltip("actual:Q", title=f"Actual{unit}", format=",.5~g"),
        alt.Tooltip("expected:Q", title="Without the launch", format=",.5~g"),
        alt.Tooltip("lower:Q", title="from", format=",.5~g"),
        alt.Tooltip("upper:Q", title="to", format=",.5~g"),
    ]
    x = _time(points)
    without = (
        []
        if all(value["expected"] is None for value in values)
        else [
            base.transform_filter("isValid(datum.lower)")
            .mark_area(color=colour("series2"), opacity=0.18, clip=True)
            .encode(x=x, y=y("lower"), y2=alt.Y2("upper:Q"), detail=alt.Detail("expected_run:N")),
            base.transform_filter("isValid(datum.expected)")
            .mark_line(color=colour("series2"), strokeWidth=1.75, strokeDash=[5, 4], clip=True)
            .encode(x=x, y=y("expected"), detail=alt.Detail("expected_run:N")),
        ]
    )
    layers = [
        *_shaded(points, x),
        *without,
        *_event_layers(events, points, x),
        base.transform_filter("isValid(datum.actual)")
        .mark_line(color=colour("accent"), strokeWidth=2, clip=True)
        .encode(x=x, y=y("actual"), detail=alt.Detail("run:N")),
        base.mark_rule(color=colour("muted"), opacity=0, strokeWidth=8).encode(x=x, tooltip=tooltip),
    ]
    after = sum(point.coverage > 0 for point in points)
    return finish(
        alt.layer(*layers),
        height=300,
        description=f"{measured.series_name}: actual and without the launch, {len(points) - after} periods before the "
        f"launch and {after} since",
        rows=values,
    )


def gap_chart(
    measured: MeasuredLaunch, events: Sequence[LaunchEvent], which: Literal["effect", "cumulative"], *, title: str
) -> Spec:
    """The effect of each period, or its sum since the launch, with its band, in units of the series."""
    points = drawn(measured)
    values = _gaps(points, which)
    low, high = _gap_range(values, which)
    y = _vertical(
        [low, high],
        alt.Axis(title=title, labelExpr=LEVELS, tickCount=4, minExtent=LABELS_WIDTH),
    )
    base, x = alt.Chart(ROWS), _time(points)
    form = "+,.4~g"
    tooltip = [
        _tooltip_of_time(measured),
        alt.Tooltip("gap:Q", title=title, format=form),
        alt.Tooltip("lower:Q", title="from", format=form),
        alt.Tooltip("upper:Q", title="to", format=form),
    ]
    mark: dict[str, Any] = {"color": colour("accent"), "clip": True}
    known = base.transform_filter("isValid(datum.gap)")
    known = (
        known.mark_point(filled=True, fill=colour("accent"), size=18, opacity=0.9, clip=True)
        if which == "effect"
        else known.mark_line(strokeWidth=2.25, **mark)
    )
    layers = [
        *_shaded(points, x),
        base.transform_filter("isValid(datum.lower)")
        .mark_area(opacity=0.2, **mark)
        .encode(x=x, y=y("lower"), y2=alt.Y2("upper:Q"), detail=alt.Detail("run:N")),
        zero_line("y"),
        *_event_layers(events, points, x, numbered=False),
        known.encode(x=x, y=y("gap")),
        base.mark_rule(color=colour("muted"), opacity=0, strokeWidth=8).encode(x=x, tooltip=tooltip),
    ]
    known_periods = sum(value["gap"] is not None for value in values)
    name = "effect in each period" if which == "effect" else "effect added up since the launch"
    return finish(
        alt.layer(*layers),
        height=190,
        description=f"{measured.series_name}: {name}, {known_periods} periods with bands",
        rows=values,
    )


def coverage_chart(measured: MeasuredLaunch, events: Sequence[LaunchEvent]) -> Spec:
    """The share of those who were to get the launch that had it, period by period."""
    points = drawn(measured)
    x = _time(points)
    axis = alt.Axis(title="Coverage", format=".0%", values=[0, 0.5, 1], minExtent=LABELS_WIDTH)
    y = _vertical([0.0, 1.05], axis)
    rows: Values = [{"at": point.at.isoformat(), "coverage": point.coverage} for point in points]
    base = alt.Chart(ROWS)
    tooltip = [_tooltip_of_time(measured), alt.Tooltip("coverage:Q", title="Coverage", format=".0%")]
    layers = [
        *_shaded(points, x),
        *_event_layers(events, points, x, numbered=False),
        base.mark_area(color=colour("series3"), opacity=0.22, interpolate="step-after").encode(
            x=x, y=y("coverage"), y2=alt.datum(0)
        ),
        base.mark_line(color=colour("series3"), strokeWidth=1.75, interpolate="step-after").encode(
            x=x, y=y("coverage")
        ),
        base.mark_rule(color=colour("muted"), opacity=0, strokeWidth=8).encode(x=x, tooltip=tooltip),
    ]
    most = max((point.coverage for point in points), default=0.0)
    return finish(
        alt.layer(*layers),
        height=90,
        rows=rows,
        description=f"{measured.series_name}: coverage over time, up to {most:.0%}",
    )


def cut_bands(measured: MeasuredLaunch) -> int:
    """How many periods have a band of the effect that reaches beyond its picture."""
    values = _gaps(drawn(measured), "effect")
    return beyond(_intervals(values, "gap"), *_gap_range(values, "effect"))


def _gaps(points: Sequence[PeriodPoint], which: Literal["effect", "cumulative"]) -> Values:
    values: Values = [
        {
            "at": point.at.isoformat(),
            "gap": getattr(point, which),
            "lower": getattr(point, f"{which}_lower"),
            "upper": getattr(point, f"{which}_upper"),
        }
        for point in points
    ]
    run = 0
    for value in values:
        run += value["gap"] is None and which == "effect"
        value["run"] = run
    return values


def _gap_range(values: Values, which: Literal["effect", "cumulative"]) -> tuple[float, float]:
    """With zero and all effects. The band of a sum grows with time, so that all of it is shown."""
    inside = [0.0, *(value["gap"] for value in values if value["gap"] is not None)]
    intervals = _intervals(values, "gap")
    if which == "cumulative":
        inside += [end for _, lower, upper in intervals for end in (lower, upper)]
    low, high = picture_range(intervals, inside=inside) or (0.0, 0.0)
    room = 0.08 * ((high - low) or 1.0)
    return low - room, high + room


def _intervals(values: Values, middle: str) -> list[Interval]:
    return [
        (value[middle], value["lower"], value["upper"])
        for value in values
        if value[middle] is not None and value["lower"] is not None and value["upper"] is not None
    ]


def _values(points: Sequence[PeriodPoint]) -> Values:
    """A period without a value ends the `run` of its line, so that none is drawn across the gap."""
    values: Values = []
    run = expected_run = 0
    for point in points:
        run += point.actual is None
        expected_run += point.counterfactual is None
        values.append(
            {
                "at": point.at.isoformat(),
                "actual": point.actual,
                "expected": point.counterfactual,
                "lower": point.counterfactual_lower,
                "upper": point.counterfactual_upper,
                "run": run,
                "expected_run": expected_run,
            }
        )
    return values


def _time(points: Sequence[PeriodPoint]) -> alt.X:
    long = bool(points) and (points[-1].at - points[0].at).days > 400
    axis = alt.Axis(format="%b %Y" if long else "%-d %b", tickCount=6, labelOverlap=True)
    return alt.X("at:T", title=None, scale=alt.Scale(nice=False), axis=axis)


def _vertical(domain: list[float], axis: alt.Axis) -> Any:
    scale = alt.Scale(domain=domain, nice=False, zero=False)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=axis)

    return y


def _level_axis(unit: str) -> alt.Axis:
    return alt.Axis(title=unit or "Value", labelExpr=LEVELS, tickCount=5, minExtent=LABELS_WIDTH)


def _tooltip_of_time(measured: MeasuredLaunch) -> alt.Tooltip:
    form = "%-d %b %Y %H:%M" if measured.grain == "hour" else "%-d %b %Y"
    return alt.Tooltip("at:T", title={"hour": "Hour", "day": "Day", "week": "Week of"}[measured.grain], format=form)


def _shaded(points: Sequence[PeriodPoint], x: alt.X) -> list[alt.Chart]:
    """Periods that are neither before nor after the launch."""
    spans: Values = []
    for point, following in pairwise(points):
        if not point.excluded:
            continue
        if spans and spans[-1]["until"] == point.at.isoformat():
            spans[-1]["until"] = following.at.isoformat()
        else:
            spans.append({"at": point.at.isoformat(), "until": following.at.isoformat()})
    if not spans:
        return []
    shade: alt.Chart = alt.Chart(data(spans)).mark_rect(color=colour("muted"), opacity=0.14, clip=True)
    return [shade.encode(x=x, x2=alt.X2("until:T"))]


def _event_layers(
    events: Sequence[LaunchEvent], points: Sequence[PeriodPoint], x: alt.X, *, numbered: bool = True
) -> list[alt.Chart]:
    inside = [event for event in events if points and points[0].at <= event.at <= points[-1].at]
    if not inside:
        return []
    values: Values = [
        {
            "at": event.at.isoformat(),
            "number": str(event.number),
            "text": event.text,
            "kind": event.kind,
            "row": place % 2,
        }
        for place, event in enumerate(inside)
    ]
    base = alt.Chart(data(values))
    own = alt.ExprRef("datum.kind == 'step' ? series3 : datum.kind == 'announced' ? muted : warn")
    shown = [
        alt.Tooltip("text:N", title="Event"),
        alt.Tooltip("at:T", title="From", format="%-d %b %Y"),
    ]
    layers = [
        base.mark_rule(color=own, strokeWidth=1.25, strokeDash=[3, 3], opacity=0.9, clip=True).encode(
            x=x, tooltip=shown
        )
    ]
    if numbered and len(events) <= MOST_NUMBERED:
        down = alt.ExprRef("datum.row ? 28 : 10")
        layers += [
            base.mark_point(filled=True, fill=own, size=240, opacity=1, yOffset=down).encode(
                x=x, y=at_y(0), tooltip=shown
            ),
            base.mark_text(
                color=colour("surface"), fontSize=11, fontWeight=600, yOffset=down, baseline="middle", dy=0.5
            ).encode(x=x, y=at_y(0), text=alt.Text("number:N"), tooltip=shown),
        ]
    return layers
