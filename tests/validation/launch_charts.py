"""Pictures of simulated launches: what intervals hold by method, and which grades are given."""

from __future__ import annotations

from typing import Any

import altair as alt

from tests.validation.cells import Cell
from tests.validation.launches_before_after import NULL
from tests.validation.launches_grades import GRADES, LETTERS

GRADE_COLOURS = alt.Scale(domain=list(LETTERS), range=["#1a7f5a", "#6aa84f", "#e0a030", "#c0592b", "#9aa0a6"])


def before_after_chart(cells: list[Cell]) -> Any:
    """Coverage where nothing happened, one line of points per kind of noise."""
    rows = [
        {"noise": cell.case["noise"], "method": cell.quantity.removesuffix(": coverage"), "coverage": cell.observed}
        for cell in cells
        if cell.table == NULL and cell.quantity.endswith(": coverage")
    ]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    colours = alt.Scale(domain=methods, range=["#1a7f5a", "#6aa84f", "#e0a030", "#c0392b", "#8e44ad"])
    base = alt.Chart(alt.InlineData(values=rows))
    points = base.mark_point(filled=True, size=70).encode(
        x=alt.X("coverage:Q", title="share of 95 % intervals that hold the truth", scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("noise:N", title=None, sort=None),
        color=alt.Color("method:N", scale=colours, sort=methods, title=None),
    )
    rule = base.mark_rule(color="#888", strokeDash=[3, 3]).encode(x=alt.datum(0.95))
    return (rule + points).properties(width=380, height=alt.Step(28))


def grades_chart(cells: list[Cell]) -> Any:
    """How often each kind of launch is given each grade."""
    rows = [
        {"launch": cell.case["launch"], "grade": cell.quantity.removeprefix("grade "), "share": cell.observed}
        for cell in cells
        if cell.table == GRADES
    ]
    return (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar()
        .encode(
            x=alt.X("share:Q", title="share of launches", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("launch:N", title=None, sort=None, axis=alt.Axis(labelLimit=360)),
            color=alt.Color("grade:N", scale=GRADE_COLOURS, title="grade"),
            order=alt.Order("grade:N"),
        )
        .properties(width=340, height=alt.Step(20))
    )
