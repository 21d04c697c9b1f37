"""What every day of a planned experiment would show: the smallest effect against the target, and the power."""

from collections.abc import Mapping, Sequence

import altair as alt

from app.charts.theme import Spec, Values, at_y, colour, data, finish, series
from experiments.planned_size import SampleSize

DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
HIGHEST = 4.0
"""Smallest effects beyond this many times the target of a metric are of the first days, and leave the picture."""


def planned_keys(answer: SampleSize) -> list[str]:
    """Metrics that are tested, in the plan's order."""
    return [size.metric_key for size in answer.metrics]


def smallest_values(answer: SampleSize) -> Values:
    """One value per metric and day: the smallest lift (primary) or margin (guardrail) that day would show."""
    return [
        {"day": point.day, "units": point.units, "metric": key, "value": value}
        for key in planned_keys(answer)
        for point in answer.curve
        for value in [point.mde.get(key, point.margin.get(key))]
        if value is not None
    ]


def power_values(answer: SampleSize) -> Values:
    """One value per metric and day: the power of its test for what it is planned for."""
    return [
        {"day": point.day, "units": point.units, "metric": key, "value": point.power[key]}
        for key in planned_keys(answer)
        for point in answer.curve
        if point.power.get(key) is not None
    ]


def targets(answer: SampleSize) -> dict[str, float]:
    """What each metric is planned for."""
    return {size.metric_key: size.effect for size in answer.metrics if size.effect is not None}


def smallest_chart(answer: SampleSize, names: Mapping[str, str]) -> Spec:
    """Smallest detectable effects by day; dashed lines across are the targets."""
    values, goals = smallest_values(answer), targets(answer)
    known = [value["value"] for value in values if value["value"] <= HIGHEST * goals.get(value["metric"], float("inf"))]
    top = 1.05 * max([*known, *goals.values(), 1e-6])
    text = "format(datum.value * 100, '.3~f') + ' %'"
    axis = alt.Axis(title="Smallest effect shown", labelExpr=text, tickCount=5)
    scale = alt.Scale(domain=[0, top], nice=False, zero=True)
    drawn = _lines(answer, values, names, scale, axis, "Smallest effect")
    for position, key in enumerate(planned_keys(answer)):
        if key not in goals:
            continue
        goal = alt.Chart(data([{"value": goals[key]}]))
        drawn.append(
            goal.mark_rule(color=colour(series(position + 1)), strokeWidth=1.25, strokeDash=[3, 4], clip=True).encode(
                y=alt.Y("value:Q", scale=scale, axis=axis)
            )
        )
    drawn += _end(answer, below=False)
    return finish(
        alt.layer(*drawn), height=240, description=f"Smallest effect shown on each of {len(answer.curve)} days"
    )


def power_chart(answer: SampleSize, names: Mapping[str, str]) -> Spec:
    """Power by day; the line across is the power that each test needs."""
    axis = alt.Axis(title="Power", format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    scale = alt.Scale(domain=[0, 1], nice=False, zero=True)
    drawn = _lines(answer, power_values(answer), names, scale, axis, "Power")
    wanted = alt.Chart(data([{"value": answer.power_per_test}]))
    drawn.append(
        wanted.mark_rule(color=colour("ink"), strokeWidth=1.25, strokeDash=[3, 4]).encode(
            y=alt.Y("value:Q", scale=scale, axis=axis)
        )
    )
    drawn += _end(answer, below=True)
    return finish(alt.layer(*drawn), height=200, description=f"Power on each of {len(answer.curve)} days")


def _x() -> alt.X:
    return alt.X(
        "day:Q",
        axis=alt.Axis(title="Days", tickCount=8, tickMinStep=1, grid=False),
        scale=alt.Scale(nice=False, zero=True),
    )


def _lines(
    answer: SampleSize, values: Values, names: Mapping[str, str], scale: alt.Scale, axis: alt.Axis, title: str
) -> list[alt.Chart]:
    layers: list[alt.Chart] = []
    for position, key in enumerate(planned_keys(answer)):
        own = [value for value in values if value["metric"] == key]
        if not own:
            continue
        mark = alt.Chart(data(own)).mark_line(
            color=colour(series(position + 1)), strokeWidth=2.25, strokeDash=DASHES[position % len(DASHES)], clip=True
        )
        tooltip: Sequence[alt.Tooltip] = [
            alt.Tooltip("day:Q", title=names.get(key, key) + ", day"),
            alt.Tooltip("value:Q", title=title, format=".2%"),
            alt.Tooltip("units:Q", title="Units", format=","),
        ]
        layers.append(mark.encode(x=_x(), y=alt.Y("value:Q", scale=scale, axis=axis), tooltip=list(tooltip)))
    return layers


def _end(answer: SampleSize, *, below: bool) -> list[alt.Chart]:
    """The planned end as a rule with its name, at the foot of the picture or at its top."""
    if answer.days is None or not answer.curve or answer.days > answer.curve[-1].day:
        return []
    early = answer.days < answer.curve[-1].day / 2
    end = alt.Chart(data([{"day": answer.days, "name": "planned end"}]))
    return [
        end.mark_rule(color=colour("ink"), strokeWidth=1.25).encode(x=_x()),
        end.mark_text(
            align="left" if early else "right",
            dx=5 if early else -5,
            dy=-4 if below else 0,
            baseline="bottom" if below else "top",
            color=colour("ink"),
        ).encode(x=_x(), y=at_y("height" if below else 0), text=alt.Text("name:N")),
    ]
