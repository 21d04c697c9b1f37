"""Pictures of calibration: ranks within their envelope, and claimed chances against what held."""

from __future__ import annotations

from functools import cache
from typing import Any

import altair as alt
import numpy as np

from tests.validation.cells import Cell
from tests.validation.optional_stopping import CURVES
from tests.validation.ranks import BINS, envelope


def ranks_chart(cells: list[Cell]) -> Any:
    """ECDF of ranks minus that of uniform ones, one line per quantity, in the envelope of 95 % of all such courses."""
    lines, bands = [], []
    for cell in cells:
        if not cell.extra:
            continue
        model = cell.case["model"]
        wide = _envelope(cell.replications)
        for i in range(1, BINS):
            x = i / BINS
            half = wide * float(np.sqrt(x * (1 - x) / cell.replications))
            gap = cell.extra[f"ecdf {x:g}"] - x
            lines.append({"model": model, "quantity": cell.case["quantity"], "x": x, "gap": gap})
            bands.append({"model": model, "x": x, "low": -half, "high": half})
    distinct = list({(band["model"], band["x"]): band for band in bands}.values())
    shared = alt.Chart(alt.InlineData(values=[*({"kind": "band", **b} for b in distinct), *lines]))
    x = alt.X("x:Q", title="rank", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(values=[0, 0.5, 1]))
    band = (
        shared.transform_filter("datum.kind == 'band'")
        .mark_area(color="#d5dbe1")
        .encode(x=x, y=alt.Y("low:Q", title="ECDF minus uniform"), y2="high:Q")
    )
    courses = (
        shared.transform_filter("datum.kind != 'band'")
        .mark_line(strokeWidth=1.1, opacity=0.8)
        .encode(x=x, y="gap:Q", detail="quantity:N", color=alt.value("#1f54b5"))
    )
    return (band + courses).properties(width=170, height=110).facet(alt.Facet("model:N", title=None), columns=4)


@cache
def _envelope(replications: int) -> float:
    return envelope(replications)


def calibration_chart(cells: list[Cell]) -> Any:
    """What a chance to win claimed, and how often it held; on the line both are equal."""
    rows = [
        {**cell.case, "claimed": cell.nominal, "held": cell.observed, "error": cell.tolerance}
        for cell in cells
        if cell.table == CURVES
    ]
    base = alt.Chart(alt.InlineData(values=rows))
    x = alt.X("claimed:Q", title="claimed chance to win", scale=alt.Scale(domain=[0, 1]))
    colours = alt.Scale(domain=["learned", "default"], range=["#2a7f62", "#c0392b"])
    points = base.mark_line(point=True).encode(
        x=x, y=alt.Y("held:Q", title="share that was better"), color=alt.Color("prior:N", scale=colours)
    )
    equal = base.mark_line(color="#888", strokeDash=[3, 3]).encode(x=x, y="claimed:Q")
    return (equal + points).properties(width=230, height=230).facet(alt.Facet("read:N", title=None))
