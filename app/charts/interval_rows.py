"""One number with its intervals per row: what several methods, or claim and holdout, say of the same thing."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from app.charts.theme import ROWS, Spec, Values, colour, finish, lift_axis, words_above, zero_line

ROW = 46


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """A lift with an inner (80 %) and an outer (95 %) interval, any of them missing; `leads` has the accent colour."""

    label: str
    numbers: str
    lift: float | None
    inner: tuple[float, float] | None
    outer: tuple[float, float] | None
    leads: bool


def interval_rows(rows: Sequence[IntervalRow], *, description: str, axis_title: str = "Lift") -> Spec:
    """Thick: the inner interval. Thin: the outer one. Text above each row: what it is, and its numbers."""
    values: Values = [
        {
            "y": place * ROW + 32,
            "label": row.label,
            "numbers": row.numbers,
            "lift": row.lift,
            "inner_lower": row.inner[0] if row.inner else None,
            "inner_upper": row.inner[1] if row.inner else None,
            "outer_lower": row.outer[0] if row.outer else None,
            "outer_upper": row.outer[1] if row.outer else None,
            "leads": row.leads,
        }
        for place, row in enumerate(rows)
    ]
    ends = [0.0] + [value[name] for value in values for name in _ENDS if value[name] is not None]
    padding = 0.06 * ((max(ends) - min(ends)) or 0.1)
    scale = alt.Scale(domain=[min(ends) - padding, max(ends) + padding], nice=False, zero=False)
    height = len(values) * ROW + 8
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False), axis=None)
    tint = alt.ExprRef("datum.leads ? accent : muted")

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=lift_axis(axis_title))

    def having(field: str) -> alt.Chart:
        chart: alt.Chart = alt.Chart(ROWS).transform_filter(f"isValid(datum.{field})")
        return chart

    layers = [
        zero_line(),
        having("outer_lower")
        .mark_rule(color=tint, strokeWidth=1.5)
        .encode(x=x("outer_lower"), x2=alt.X2("outer_upper:Q"), y=y),
        having("inner_lower")
        .mark_rule(color=tint, strokeWidth=7, strokeCap="round", opacity=0.45)
        .encode(x=x("inner_lower"), x2=alt.X2("inner_upper:Q"), y=y),
        having("lift")
        .mark_point(filled=True, fill=tint, stroke=colour("surface"), size=70, opacity=1)
        .encode(x=x("lift"), y=y),
        *words_above(alt.Chart(ROWS), y, "label", align="left", dy=-15, size=12.5, beside="numbers"),
        *words_above(alt.Chart(ROWS), y, "numbers", align="right", dy=-15, size=12),
    ]
    return finish(alt.layer(*layers), height=height, rows=values, description=description)


_ENDS = ("lift", "inner_lower", "inner_upper", "outer_lower", "outer_upper")
