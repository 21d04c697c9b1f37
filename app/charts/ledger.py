"""The ledger: what launches, season, outside influences and the rest account for in a North Star's change."""

from collections.abc import Sequence
from datetime import datetime
from math import expm1
from typing import Final

import altair as alt

from app.charts.bars import Bar, bars
from app.charts.numbers import bare, percent
from app.charts.theme import LEVELS, ROWS, Spec, Values, colour, data, finish, lift_axis, words_above, zero_line
from app.charts.units import with_interval
from experiments.result import Ledger, LedgerLaunchEffect, LedgerLine

COLOURS: Final = {
    "launches": "accent",
    "season": "series3",
    "outside": "series2",
    "base": "series4",
    "noise": "neutral",
    "observed": "muted",
}
"""Each component has its colour in all pictures of the ledger; `COLOURS[component]` names one of the palette."""
STEP: Final = 62
"""Height of a launch in the picture from claim to ledger, in px."""


def in_units(line: LedgerLine) -> str:
    """A line in words: its mean with its 80 % interval; what was observed is known."""
    exact = line.component == "observed"
    return with_interval(line.units, None if exact else line.lower_80, None if exact else line.upper_80)


def whole(ledger: Ledger) -> list[LedgerLine]:
    """The components that add up, then what was observed."""
    return sorted((line for line in ledger.lines if line.key is None), key=lambda line: line.component == "observed")


def waterfall(ledger: Ledger) -> Spec:
    """Component after component from nothing to what was observed; the black line is the 80 % interval of each."""
    rows, reached = [], 0.0
    for line in whole(ledger):
        total = line.component == "observed"
        start = 0.0 if total else reached
        end = start + line.units
        reached = end
        rows.append(
            Bar(
                line.name,
                in_units(line),
                start,
                end,
                None if total else start + line.lower_80,
                None if total else start + line.upper_80,
                COLOURS[line.component],
                None if line.claimed_units is None else start + line.claimed_units,
            )
        )
    return bars(
        rows,
        axis_title=f"Change{f', {ledger.unit}' if ledger.unit else ''}",
        description=f"The change of the North Star in {len(rows) - 1} parts that add up, with 80 % intervals",
        connected=True,
    )


def parts(lines: Sequence[LedgerLine], *, unit: str) -> Spec:
    """Lines of one component, each from zero, with what was claimed of it."""
    rows = [
        Bar(
            line.name,
            in_units(line),
            0.0,
            line.units,
            line.lower_80,
            line.upper_80,
            COLOURS[line.component],
            line.claimed_units,
        )
        for line in lines
    ]
    return bars(
        rows,
        axis_title=f"Accounts for{f', {unit}' if unit else ''} (80 % intervals)",
        description=f"{len(rows)} lines of the ledger with 80 % intervals",
    )


def weeks_chart(ledger: Ledger, *, name: str) -> Spec:
    """The North Star as observed, and as it would have been without launches, with its 80 % band."""
    values: Values = [
        {
            "week": point.week.isoformat(),
            "observed": _short(point.observed),
            "without": _short(point.without_launches),
            "lower": _short(point.without_lower_80),
            "upper": _short(point.without_upper_80),
        }
        for point in ledger.weeks
    ]
    ends = [value[field] for value in values for field in ("observed", "lower", "upper") if value[field] is not None]
    scale = _tight(ends)
    x = alt.X("week:T", title=None, axis=alt.Axis(format="%b %Y", tickCount=6, labelOverlap=True))
    axis = alt.Axis(title=ledger.unit or None, labelExpr=LEVELS, tickCount=5)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=axis)

    tooltip = [
        alt.Tooltip("week:T", title="Week of", format="%-d %b %Y"),
        alt.Tooltip("observed:Q", title="Observed", format=",.4~g"),
        alt.Tooltip("without:Q", title="Without launches", format=",.4~g"),
        alt.Tooltip("lower:Q", title="from", format=",.4~g"),
        alt.Tooltip("upper:Q", title="to", format=",.4~g"),
    ]
    base = alt.Chart(ROWS)
    layers = [
        _period(ledger.compared_begins_at, ledger.compared_ends_at, 0.09),
        _period(ledger.begins_at, ledger.ends_at, 0.18),
        base.mark_area(color=colour("series4"), opacity=0.22).encode(x=x, y=y("lower"), y2=alt.Y2("upper:Q")),
        base.mark_line(color=colour("series4"), strokeWidth=1.75, strokeDash=[5, 3]).encode(x=x, y=y("without")),
        base.transform_filter("isValid(datum.observed)")
        .mark_line(color=colour("accent"), strokeWidth=2)
        .encode(x=x, y=y("observed")),
        base.mark_rule(color=colour("muted"), opacity=0, strokeWidth=8).encode(x=x, tooltip=tooltip),
    ]
    return finish(
        alt.layer(*layers),
        height=280,
        rows=values,
        description=f"{name} over {len(values)} weeks: observed, and without launches with an 80 % band",
    )


def claims_chart(launches: Sequence[LedgerLaunchEffect]) -> Spec:
    """Per launch: claimed (hollow), believed among all experiments, in the ledger (filled, with its 80 % interval)."""
    values: Values = [
        {
            "y": place * STEP + 38,
            "label": f"{item.name} ({item.evidence_grade})",
            "numbers": " → ".join(
                [
                    "–" if item.claimed is None else bare(expm1(item.claimed)),
                    bare(expm1(item.shrunk)),
                    percent(expm1(item.realised)),
                ]
            ),
            "claimed": None if item.claimed is None else expm1(item.claimed),
            "shrunk": expm1(item.shrunk),
            "shrunk_lower": expm1(item.shrunk_lower_80),
            "shrunk_upper": expm1(item.shrunk_upper_80),
            "realised": expm1(item.realised),
            "lower": expm1(item.realised_lower_80),
            "upper": expm1(item.realised_upper_80),
        }
        for place, item in enumerate(launches)
    ]
    fields = ("claimed", "shrunk_lower", "shrunk_upper", "lower", "upper")
    ends = [0.0, *(value[field] for value in values for field in fields if value[field] is not None)]
    room = 0.06 * ((max(ends) - min(ends)) or 0.01)
    height = len(values) * STEP + 8
    scale = alt.Scale(domain=[min(ends) - room, max(ends) + room], nice=False, zero=False)
    y_scale = alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False)
    axis = lift_axis("Lift of the North Star at full coverage (80 % intervals)")

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=axis)

    y = alt.Y("row:Q", scale=y_scale, axis=None)

    def at(offset: int) -> alt.Chart:
        return alt.Chart(data(values)).transform_calculate(row=f"datum.y + {offset}")

    claimed = at(-5).transform_filter("isValid(datum.claimed)")
    layers = [
        zero_line(),
        claimed.mark_rule(color=colour("muted"), strokeWidth=1.25, strokeDash=[2, 2]).encode(
            x=x("claimed"), x2=alt.X2("realised:Q"), y=y
        ),
        claimed.mark_point(
            shape="diamond",
            filled=True,
            fill=colour("surface"),
            stroke=colour("ink"),
            strokeWidth=1.5,
            size=60,
            opacity=1,
        ).encode(x=x("claimed"), y=y),
        at(3)
        .mark_rule(color=colour("series3"), strokeWidth=4, strokeCap="round", opacity=0.35)
        .encode(x=x("shrunk_lower"), x2=alt.X2("shrunk_upper:Q"), y=y),
        at(3).mark_point(filled=True, fill=colour("series3"), size=40, opacity=1).encode(x=x("shrunk"), y=y),
        at(11)
        .mark_rule(color=colour("accent"), strokeWidth=5, strokeCap="round", opacity=0.4)
        .encode(x=x("lower"), x2=alt.X2("upper:Q"), y=y),
        at(11).mark_point(filled=True, fill=colour("accent"), size=60, opacity=1).encode(x=x("realised"), y=y),
        *words_above(at(-10), y, "label", align="left", dy=-13, size=13, beside="numbers"),
        *words_above(at(-10), y, "numbers", align="right", dy=-13, size=12),
    ]
    return finish(
        alt.layer(*layers), height=height, description=f"{len(values)} launches: claimed, believed, in the ledger"
    )


def _period(begins: datetime, ends: datetime, opacity: float) -> alt.Chart:
    span = [{"week": begins.isoformat(), "until": ends.isoformat()}]
    shade: alt.Chart = alt.Chart(data(span)).mark_rect(color=colour("muted"), opacity=opacity, clip=True)
    return shade.encode(x=alt.X("week:T", title=None), x2=alt.X2("until:T"))


def _tight(ends: Sequence[float]) -> alt.Scale:
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = 0.08 * ((high - low) or abs(high) or 1.0)
    return alt.Scale(domain=[low - room, high + room], nice=False, zero=False)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
