"""One look for all charts. Colours are named parameters, which a page sets from its own light or dark theme."""

import json
from typing import Any, Literal

import altair as alt
from altair.utils import schemapi

# Altair checks every part as it is made, which takes a third of a page's time: left to the tests of charts.
schemapi.disable_debug_mode()

type Spec = dict[str, Any]
"""A complete Vega-Lite specification."""

type Values = list[dict[str, Any]]
"""Inline data: one dict per mark."""

PALETTE = {
    "ink": "#17212b",
    "muted": "#5a6673",
    "grid": "#e3e6e8",
    "surface": "#ffffff",
    "accent": "#1f54b5",
    "good": "#0b6e46",
    "bad": "#b3261e",
    "neutral": "#5a6673",
    "warn": "#8a5300",
    "series2": "#a34a00",
    "series3": "#6b3fa0",
    "series4": "#0a6f78",
}
"""The light theme. Pages override these by name (CSS variables `--chart-<name>`); exports use them as they are."""

SERIES = ("muted", "accent", "series2", "series3", "series4")
"""Colours of arms: the control first, then treatments (they repeat after four)."""

LEVELS = "format(datum.value, abs(datum.value) < 1 ? '.2~f' : '~s')"
"""Labels of levels: `2k`, `1.5M`; `0` and `0.2` where Vega would write `0k` and `200m`."""

LETTER_WIDTH = 0.5
"""Of a letter or digit on average, as a share of the size of its text."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def colour(name: str) -> alt.ExprRef:
    """A reference to a palette colour that is resolved when the chart is drawn."""
    if name not in PALETTE:
        raise KeyError(name)
    return alt.ExprRef(name)


def series(index: int) -> str:
    """The palette name of the arm at this position, control first."""
    return SERIES[0] if index == 0 else SERIES[1 + (index - 1) % (len(SERIES) - 1)]


def by_tone(field: str = "tone") -> alt.ExprRef:
    """The colour of a mark whose datum says `good`, `bad` or `neutral`."""
    return alt.ExprRef(f"datum.{field} == 'good' ? good : datum.{field} == 'bad' ? bad : neutral")


def data(values: Values) -> alt.Data:
    """Inline data."""
    inline: alt.Data = alt.InlineData(values=tuple(values))  # lists are copied with every layer
    return inline


def at_x(pixels: float | str) -> alt.XValue:
    """A place across: pixels or "width". (With `alt.value` Altair looks long for the class.)"""
    return alt.XValue(pixels)  # type: ignore[no-untyped-call]  # Altair leaves it untyped


def at_y(pixels: float | str) -> alt.YValue:
    """A place down: pixels or "height"."""
    return alt.YValue(pixels)  # type: ignore[no-untyped-call]  # the same


ROWS = alt.NamedData(name="rows")
"""Data that `finish` is given as `rows`: layers made from one another would copy inline data again and again."""


def finish(
    chart: alt.LayerChart | alt.FacetChart, *, height: int, description: str, rows: Values | None = None
) -> Spec:
    """The specification: as wide as its container, transparent, with the shared axes, palette and text alternative.

    `rows` are the values of layers that draw `ROWS`.
    """
    spec: Spec = chart.properties(width="container", height=height).to_dict(validate=False)
    _share_data(spec)
    if rows is not None:
        spec["datasets"] = {**spec.get("datasets", {}), "rows": rows}
    axis = {
        "labelColor": {"expr": "muted"},
        "titleColor": {"expr": "muted"},
        "gridColor": {"expr": "grid"},
        "domainColor": {"expr": "grid"},
        "tickColor": {"expr": "grid"},
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
        "labelPadding": 6,
        "domain": False,
        "ticks": False,
    }
    spec["config"] = {
        "background": None,
        "font": FONT,
        "view": {"stroke": None},
        "axis": axis,
        "axisX": {"grid": False, "labelFlush": True},
        "text": {"font": FONT, "fontSize": 12},
    }
    spec["params"] = [*spec.get("params", []), *({"name": name, "value": value} for name, value in PALETTE.items())]
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    spec["padding"] = {"left": 2, "right": 8, "top": 6, "bottom": 4}
    spec["description"] = description
    return spec


def _share_data(spec: Spec) -> None:
    """Layers that draw the same values name them once."""
    names: dict[str, str] = {}
    datasets: dict[str, Values] = {}
    for layer in spec.get("layer", []):
        values = layer.get("data", {}).get("values")
        if values is None:
            continue
        identity = json.dumps(values, sort_keys=True)
        name = names.setdefault(identity, f"data{len(names)}")
        datasets[name] = values
        layer["data"] = {"name": name}
    if datasets:
        spec["datasets"] = datasets


def lift_axis(title: str | None, *, grid: bool = True) -> alt.Axis:
    """An axis of lifts: signed percentages, plain zero."""
    text = "datum.value == 0 ? '0 %' : replace(format(datum.value * 100, '+.3~f'), '-', '−') + ' %'"
    return alt.Axis(title=title, labelExpr=text, grid=grid, tickCount=5, labelOverlap=True)


def words_above(
    base: alt.Chart,
    y: alt.Y,
    field: str,
    *,
    align: Literal["left", "right"],
    dy: float,
    size: float,
    width: float | None = None,
    beside: str = "",
) -> list[alt.Chart]:
    """Text above a row at its left or right end, on a halo, so that lines behind it stay behind it.

    It is cut at a share `width` of the picture, or where it would touch the text of the field `beside`, which is not.
    """
    at = at_x(0) if align == "left" else at_x("width")
    limit = f"width - {LETTER_WIDTH * size} * length(datum.{beside}) - 8" if beside else f"width * {width or 1}"
    shared: dict[str, Any] = {"align": align, "dy": dy, "fontSize": size, "limit": alt.ExprRef(limit)}
    halo = base.mark_text(stroke=colour("surface"), strokeWidth=4, strokeJoin="round", **shared)
    ink = base.mark_text(color=colour("ink"), **shared)
    return [mark.encode(x=at, y=y, text=alt.Text(f"{field}:N")) for mark in (halo, ink)]


def zero_line(axis: str = "x") -> alt.Chart:
    """The line of no effect."""
    encoding = {axis: alt.datum(0)}
    chart = alt.Chart(data([{}])).mark_rule(color=colour("muted"), strokeWidth=1, opacity=0.9)
    line: alt.Chart = chart.encode(**encoding)
    return line
