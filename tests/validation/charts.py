"""Pictures of the validation tables, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt

from tests.validation.calibration_charts import calibration_chart, ranks_chart
from tests.validation.cells import Cell
from tests.validation.impact_charts import screens_chart
from tests.validation.launch_charts import before_after_chart, grades_chart

COLOURS = alt.Scale(domain=["pass", "warn", "FAIL", "shown"], range=["#2a7f62", "#e0a030", "#c0392b", "#9aa0a6"])
SPLITS = ["5%", "20%", "50%"]
SIZES = ["200", "2,000", "20,000"]


def draw(folder: Path, report: str, cells: dict[str, list[Cell]]) -> dict[str, str]:
    """Draw all charts of a report; returns the file name by study."""
    names: dict[str, str] = {}
    _save(_overview([c for found in cells.values() for c in found]), folder / f"{report}_overview.png")
    makers = {
        "size_and_coverage": _sizes,
        "clusters": _clusters,
        "quantiles": _quantiles,
        "sequential": _looks,
        "decisions": _decisions,
        "ranks": ranks_chart,
        "optional_stopping": calibration_chart,
        "launches_before_after": before_after_chart,
        "launches_grades": grades_chart,
        "impact_screens": screens_chart,
    }
    for study, maker in makers.items():
        if cells.get(study):
            names[study] = f"{report}_{study.removeprefix(report + '_')}.svg"
            _save(maker(cells[study]), folder / names[study])
    return names


def _save(chart: Any, path: Path) -> None:
    chart.configure_view(stroke=None).configure_axis(grid=False).save(str(path), ppi=110)


def _data(rows: list[dict[str, Any]]) -> Any:
    return alt.InlineData(values=rows)


def _status() -> Any:
    return alt.Color("status:N", scale=COLOURS, title=None)


def _overview(cells: list[Cell]) -> Any:
    """Distance from the target in tolerances; better than a bound is drawn at most one tolerance away."""
    rows = []
    for number, c in enumerate(cells):
        if c.rule == "report" or c.tolerance <= 0:
            continue
        gap = (c.observed - c.nominal) / c.tolerance * (-1 if c.rule == "at_least" else 1)
        low = -1.0 if c.rule in ("at_most", "at_least") else -4.0
        rows.append({"table": c.table, "gap": min(max(gap, low), 4.0), "status": c.status, "y": (number * 7919) % 97})
    base = alt.Chart(_data(rows))
    points = base.mark_circle(size=14, opacity=0.7).encode(
        x=alt.X("gap:Q", title="distance from the target, in tolerances (cut at ±4)", scale=alt.Scale(domain=[-4, 4])),
        y=alt.Y("table:N", title=None),
        yOffset=alt.YOffset("y:Q"),
        color=_status(),
    )
    edges = [base.mark_rule(strokeDash=[4, 3], color="#888").encode(x=alt.datum(edge)) for edge in (-1, 1)]
    return alt.layer(*edges, points).properties(width=480, height=alt.Step(34))


def _sizes(cells: list[Cell]) -> Any:
    rows = [
        {**c.case, "table": c.table, "size": c.observed, "status": c.status, "half": c.tolerance}
        for c in cells
        if c.quantity == "size"
    ]
    base = alt.Chart(_data(rows))
    points = base.mark_point(filled=True, size=36).encode(
        x=alt.X("size:Q", title="share of true nulls rejected", scale=alt.Scale(domain=[0, 0.2], clamp=True)),
        y=alt.Y("population:N", title=None),
        color=_status(),
        shape=alt.Shape("treated:N", sort=SPLITS, title="treated"),
    )
    rule = base.mark_rule(color="#888", strokeDash=[3, 3]).encode(x=alt.datum(0.05))
    return (
        (points + rule)
        .properties(width=190, height=110)
        .facet(column=alt.Column("units:N", sort=SIZES, title="units"), row=alt.Row("table:N", title=None))
    )


def _clusters(cells: list[Cell]) -> Any:
    rows = [
        {**c.case, "method": c.quantity.split(":")[0], "size": c.observed, "status": c.status}
        for c in cells
        if c.quantity.endswith("size")
    ]
    return _by_x(rows, "clusters per arm", ["8", "12", "20", "40"], "ICC", "size")


def _quantiles(cells: list[Cell]) -> Any:
    rows = [
        {
            "split": c.case["treated"],
            "panel": f"{c.case['quantile']}, {c.case['events']}, {c.case['units']} users",
            "method": c.quantity.split(":")[0].replace("size", "by users"),
            "size": c.observed,
        }
        for c in cells
        if c.quantity.endswith("size") and c.case["units"] != "20,000"
    ]
    return _by_x(rows, "split", SPLITS, "panel", "size", columns=4)


def _looks(cells: list[Cell]) -> Any:
    rows = [
        {**c.case, "method": c.quantity, "size": c.observed}
        for c in cells
        if c.case["looks"] in ("1", "7", "28", "100")
    ]
    return _by_x(rows, "looks", ["1", "7", "28", "100"], "metric", "size", columns=4)


def _decisions(cells: list[Cell]) -> Any:
    rows = [
        {
            "guardrails": c.case["guardrails"],
            "panel": f"{c.case['success']} success, rho {c.case['rho']}",
            "method": c.quantity,
            "share": c.observed,
        }
        for c in cells
    ]
    return _by_x(rows, "guardrails", ["0", "3", "5"], "panel", "share", target=0.8, columns=4)


def _by_x(
    rows: list[dict[str, Any]], x: str, order: list[str], panel: str, y: str, target: float = 0.05, columns: int = 3
) -> Any:
    base = alt.Chart(_data(rows))
    shared = base.encode(
        x=alt.X(f"{x}:N", sort=order, title=x, axis=alt.Axis(labelAngle=0)),
        y=alt.Y(f"{y}:Q", title="share"),
        color=alt.Color("method:N", title=None, legend=alt.Legend(orient="bottom", columns=2, labelLimit=400)),
    )
    lines = shared.mark_line(point=True)
    rule = base.mark_rule(color="#888", strokeDash=[3, 3]).encode(y=alt.datum(target))
    return (lines + rule).properties(width=150, height=130).facet(alt.Facet(f"{panel}:N", title=None), columns=columns)
