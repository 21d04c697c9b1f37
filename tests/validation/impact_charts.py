"""Pictures of the validation of the company level: which screens hold the truth, and how often."""

from __future__ import annotations

from typing import Any

import altair as alt

from tests.validation.cells import Cell

KINDS = alt.Scale(domain=["Northlift", "for comparison"], range=["#2a7f62", "#9aa0a6"])


def screens_chart(cells: list[Cell]) -> Any:
    """Coverage by screen with its tolerance, the ones for comparison in grey."""
    rows = [
        {
            "screen": cell.case["screen"],
            "coverage": cell.observed,
            "low": cell.nominal - cell.tolerance,
            "high": min(cell.nominal + cell.tolerance, 1.0),
            "kind": "for comparison" if cell.rule == "report" else "Northlift",
        }
        for cell in cells
        if cell.quantity == "coverage"
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("screen:N", title=None, sort=None, axis=alt.Axis(labelLimit=360))
    )
    allowed = base.mark_bar(color="#e6e8ea", height=9).encode(x=alt.X("low:Q", title=""), x2="high:Q")
    held = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=alt.X("coverage:Q", title="share of intervals that hold the truth", scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("kind:N", scale=KINDS, title=None),
    )
    return (allowed + held).properties(width=380, height=alt.Step(20))
