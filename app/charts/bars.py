"""Amounts that add up, as bars with intervals, one below the other: readable on a phone as on a wall."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from app.charts.theme import LEVELS, Spec, Values, colour, data, finish, words_above, zero_line

ROW = 50
"""Height of a row, in px."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from `start` to `end` in units; its interval lies around `end`. `colour` is a name of the palette.

    `claimed` is a hollow mark where somebody had claimed it to end.
    """

    label: str
    numbers: str
    start: float
    end: float
    lower: float | None
    upper: float | None
    colour: str = "accent"
    claimed: float | None = None


def bars(rows: Sequence[Bar], *, description: str, axis_title: str, connected: bool = False) -> Spec:
    """Bars below one another. `connected` draws a waterfall: where one ends, the next begins."""
    height = len(rows) * ROW + 8
    values: Values = [
        {
            "y": place * ROW + 34,
            "label": row.label,
            "numbers": row.numbers,
            "start": row.start,
            "end": row.end,
            "lower": row.lower,
            "upper": row.upper,
            "claimed": row.claimed,
            "colour": row.colour,
        }
        for place, row in enumerate(rows)
    ]
    ends = [0.0, *(v[n] for v in values for n in ("start", "end", "lower", "upper", "claimed") if v[n] is not None)]
    room = 0.06 * ((max(ends) - min(ends)) or 1.0)
    scale = alt.Scale(domain=[min(ends) - room, max(ends) + room], nice=False, zero=False)
    y_scale = alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False)
    axis = alt.Axis(title=axis_title, labelExpr=f"replace({LEVELS}, '-', '−')", tickCount=5, grid=True)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=axis)

    y = alt.Y("y:Q", scale=y_scale, axis=None)
    base = alt.Chart(data(values))
    names = sorted({row.colour for row in rows})
    own = alt.ExprRef("".join(f"datum.colour == '{name}' ? {name} : " for name in names) + "muted")
    layers: list[alt.Chart] = [zero_line()]
    if connected and len(values) > 1:
        steps = [{"x": one["end"], "y": one["y"], "y2": one["y"] + ROW} for one in values[:-1]]
        layers.append(
            alt.Chart(data(steps))
            .mark_rule(color=colour("muted"), strokeWidth=1, strokeDash=[2, 2])
            .encode(x=x("x"), y=y, y2=alt.Y2("y2:Q"))
        )
    layers += [
        base.mark_bar(size=13, color=own, opacity=0.75).encode(x=x("start"), x2=alt.X2("end:Q"), y=y),
        base.transform_filter("isValid(datum.lower) && datum.lower != datum.upper")
        .mark_rule(color=colour("ink"), strokeWidth=1.75)
        .encode(x=x("lower"), x2=alt.X2("upper:Q"), y=y),
        base.transform_filter("isValid(datum.lower) && datum.lower != datum.upper")
        .mark_point(filled=True, fill=colour("ink"), size=22, opacity=1)
        .encode(x=x("end"), y=y),
        base.transform_filter("isValid(datum.claimed)")
        .mark_point(shape="diamond", fill=colour("surface"), stroke=colour("ink"), strokeWidth=1.5, size=60, opacity=1)
        .encode(x=x("claimed"), y=y),
        *words_above(base, y, "label", align="left", dy=-17, size=13, beside="numbers"),
        *words_above(base, y, "numbers", align="right", dy=-17, size=12),
    ]
    return finish(alt.layer(*layers), height=height, description=description)
