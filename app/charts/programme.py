"""What shipped so far, claimed and believed: over time, and experiment by experiment."""

from collections.abc import Sequence
from datetime import datetime
from math import expm1

import altair as alt

from app.charts.numbers import PERCENT, percent
from app.charts.pulled import in_words
from app.charts.theme import ROWS, Spec, Values, colour, data, finish, lift_axis, words_above, zero_line
from experiments.result import CumulativePoint, ShrunkEffect

MOST_ROWS = 24
ROW = 40
FARTHEST = 1.0
"""Claims farther from all that is believed than this many of its range become arrows."""
WIN_ROW = 34
MOST_WINS = 12


def cumulative_values(points: Sequence[CumulativePoint], until: datetime) -> Values:
    """Steps from nothing before the first of them to the time of the data."""
    if not points:
        return []
    rows: Values = [
        {
            "at": point.at.isoformat(),
            "experiment": point.experiment_key,
            "claimed": point.claimed_lift,
            "lift": point.lift,
            "lower": point.lower_80,
            "upper": point.upper_80,
        }
        for point in points
    ]
    nothing = {"at": points[0].at.isoformat(), "experiment": "", "claimed": 0, "lift": 0, "lower": 0, "upper": 0}
    return [nothing, *rows, rows[-1] | {"at": max(until, points[-1].at).isoformat(), "experiment": ""}]


def cumulative_chart(points: Sequence[CumulativePoint], until: datetime, *, metric_name: str) -> Spec:
    """The programme's total after each shipped experiment: claimed dashed, believed solid with its 80 % band."""
    values = cumulative_values(points, until)
    ends = [0.0, *(value[name] for value in values for name in ("claimed", "lower", "upper"))]
    padding = 0.08 * ((max(ends) - min(ends)) or 0.1)
    scale = alt.Scale(domain=[min(ends) - padding, max(ends) + padding], nice=False, zero=False)
    axis = lift_axis(None)
    x = alt.X("at:T", title=None, axis=alt.Axis(format="%b %Y", tickCount=5, labelOverlap=True))

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=axis)

    base = alt.Chart(ROWS)
    tooltip = [
        alt.Tooltip("experiment:N", title="Shipped"),
        alt.Tooltip("at:T", title="Decided", format="%-d %b %Y"),
        alt.Tooltip("claimed:Q", title="Claimed so far", format="+.1%"),
        alt.Tooltip("lift:Q", title="Believed so far", format="+.1%"),
        alt.Tooltip("lower:Q", title="80 % from", format="+.1%"),
        alt.Tooltip("upper:Q", title="to", format="+.1%"),
    ]
    end = values[-1]
    above, below = -10, 14
    claims_more = end["claimed"] >= end["lift"]
    words: Values = [
        {
            "at": end["at"],
            "place": max(end["claimed"], end["upper"]) if claims_more else min(end["claimed"], end["lower"]),
            "text": f"Claimed {percent(end['claimed'])}",
            "dy": above if claims_more else below,
        },
        {
            "at": end["at"],
            "place": end["lower"] if claims_more else end["upper"],
            "text": f"Believed {percent(end['lift'])}",
            "dy": below if claims_more else above,
        },
    ]
    layers = [
        base.mark_area(color=colour("accent"), opacity=0.18, interpolate="step-after", clip=True).encode(
            x=x, y=y("lower"), y2=alt.Y2("upper:Q")
        ),
        zero_line("y"),
        base.mark_line(
            color=colour("series2"), strokeWidth=1.75, strokeDash=[5, 4], interpolate="step-after", clip=True
        ).encode(x=x, y=y("claimed")),
        base.mark_line(color=colour("accent"), strokeWidth=2.5, interpolate="step-after", clip=True).encode(
            x=x, y=y("lift")
        ),
        base.transform_filter("datum.experiment != ''")
        .mark_point(filled=True, fill=colour("accent"), size=34, opacity=1)
        .encode(x=x, y=y("lift"), tooltip=tooltip),
        *(
            alt.Chart(data([word]))
            .mark_text(
                align="right", dx=-4, dy=word["dy"], fontWeight=600, fontSize=12, color=colour(tint),
                stroke=colour("surface") if halo else None, strokeWidth=4 if halo else 0, strokeJoin="round",
            )
            .encode(x=alt.X("at:T"), y=alt.Y("place:Q", scale=scale), text=alt.Text("text:N"))
            for word, tint in zip(words, ("series2", "accent"), strict=True)
            for halo in (True, False)
        ),
    ]  # fmt: skip
    return finish(
        alt.layer(*layers),
        height=300,
        rows=values,
        description=f"{metric_name}: total of {len(points)} shipped experiments over time, claimed and believed",
    )


def shown_effects(effects: Sequence[ShrunkEffect]) -> list[ShrunkEffect]:
    """The largest believed effect first; where they are many, those that are farthest from nothing."""
    kept = sorted(effects, key=lambda each: -abs(each.shrunk))[:MOST_ROWS]
    return sorted(kept, key=lambda each: -each.shrunk)


def effects_forest(effects: Sequence[ShrunkEffect], *, mean: float | None, description: str) -> Spec:
    """Hollow: claimed. Filled, with its 80 % interval: believed. The line between them is what was taken off.

    `mean` (log) is where all experiments lie on average, drawn dashed.
    """
    rows: Values = [
        {
            "y": place * ROW + 29,
            "label": each.name,
            "claimed": expm1(each.claimed),
            "lift": expm1(each.shrunk),
            "lower": expm1(each.shrunk_lower_80),
            "upper": expm1(each.shrunk_upper_80),
            "numbers": in_words(expm1(each.shrunk), expm1(each.shrunk_lower_80), expm1(each.shrunk_upper_80)),
        }
        for place, each in enumerate(shown_effects(effects))
    ]
    centre = None if mean is None else expm1(mean)
    ends = [0.0, *([centre] if centre is not None else [])]
    ends += [row[name] for row in rows for name in ("lower", "upper")]
    low, high = min(ends), max(ends)
    reach = FARTHEST * ((high - low) or 0.1)
    near = [row["claimed"] for row in rows if low - reach <= row["claimed"] <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    padding = 0.05 * ((high - low) or 0.1)
    low, high = low - padding, high + padding
    for row in rows:
        beyond = not low <= row["claimed"] <= high
        row["edge"] = None if not beyond else low if row["claimed"] < low else high
        row["end"] = min(max(row["claimed"], low), high)
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    height = len(rows) * ROW + 8
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False), axis=None)
    axis = lift_axis("Effect on the metric")

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=axis)

    base = alt.Chart(ROWS)
    tooltip = [
        alt.Tooltip("label:N", title="Experiment"),
        alt.Tooltip("claimed:Q", title="Claimed", format="+.2%"),
        alt.Tooltip("lift:Q", title="Believed", format="+.2%"),
        alt.Tooltip("lower:Q", title="80 % from", format="+.2%"),
        alt.Tooltip("upper:Q", title="to", format="+.2%"),
    ]
    layers = [zero_line()]
    if centre is not None:
        line = alt.Chart(data([{"centre": centre}]))
        layers.append(line.mark_rule(color=colour("accent"), strokeDash=[4, 4]).encode(x=x("centre")))
    layers += [
        base.mark_rule(color=colour("muted"), strokeWidth=1.25, opacity=0.9).encode(
            x=x("lift"), x2=alt.X2("end:Q"), y=y
        ),
        base.mark_rule(color=colour("accent"), strokeWidth=6, strokeCap="round", opacity=0.4).encode(
            x=x("lower"), x2=alt.X2("upper:Q"), y=y
        ),
        base.transform_filter("!isValid(datum.edge)")
        .mark_point(filled=True, fill=colour("surface"), stroke=colour("muted"), strokeWidth=1.5, size=44, opacity=1)
        .encode(x=x("claimed"), y=y, tooltip=tooltip),
        base.transform_filter("isValid(datum.edge)")
        .mark_text(text=alt.ExprRef(f"datum.edge > {low} ? '▸' : '◂'"), fontSize=15, color=colour("muted"))
        .encode(x=x("edge"), y=y),
        base.mark_point(filled=True, fill=colour("accent"), stroke=colour("surface"), size=60, opacity=1).encode(
            x=x("lift"), y=y, tooltip=tooltip
        ),
        *words_above(base, y, "label", align="left", dy=-14, size=12.5, beside="numbers"),
        *words_above(base, y, "numbers", align="right", dy=-14, size=12),
    ]
    return finish(alt.layer(*layers), height=height, rows=rows, description=description)


def wins_chart(effects: Sequence[ShrunkEffect], *, wins: int, metric_name: str) -> Spec:
    """Share of the total that is gone without each: the few that make 80 % of it in the accent colour."""
    shown = sorted(
        (each for each in effects if each.share_of_total is not None), key=lambda each: -(each.share_of_total or 0.0)
    )[:MOST_WINS]
    rows: Values = [
        {
            "y": place * WIN_ROW + 26,
            "label": each.name,
            "share": each.share_of_total,
            "numbers": f"{(each.share_of_total or 0.0) * 100:.0f}{PERCENT}".replace("-", "−"),
            "counts": place < wins,
        }
        for place, each in enumerate(shown)
    ]
    ends = [0.0, *(row["share"] for row in rows)]
    scale = alt.Scale(domain=[min(ends), max(ends) or 1.0], nice=False, zero=False)
    text = "replace(format(datum.value * 100, '~g'), '-', '−') + ' %'"
    axis = alt.Axis(title="Share of the total", labelExpr=text, tickCount=4, labelOverlap=True)
    height = len(rows) * WIN_ROW + 8
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False), axis=None)
    base = alt.Chart(ROWS)
    layers = [
        base.mark_rule(
            color=alt.ExprRef("datum.counts ? accent : muted"), strokeWidth=7, strokeCap="butt", opacity=0.75
        ).encode(x=alt.X("share:Q", scale=scale, axis=axis), x2=alt.datum(0), y=y),
        *words_above(base, y, "label", align="left", dy=-12, size=12.5, beside="numbers"),
        *words_above(base, y, "numbers", align="right", dy=-12, size=12),
    ]
    return finish(
        alt.layer(*layers),
        height=height,
        rows=rows,
        description=f"{metric_name}: share of the total that is gone without each of {len(rows)} shipped experiments",
    )
