"""What several methods say of one launch, and what becomes of the effect without each comparison unit."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import altair as alt

from app.charts.numbers import Tone, percent
from app.charts.pulled import in_words
from app.charts.theme import ROWS, Spec, Values, colour, data, finish, lift_axis, words_above, zero_line
from experiments.result import DonorUse, LaunchEstimate

ROW: Final = 46
MOST_DONORS: Final = 12
FARTHEST: Final = 1.5
"""Intervals this many times wider than the leading one leave the picture instead of flattening it."""


def methods_values(estimates: Sequence[LaunchEstimate], names: Mapping[str, str]) -> Values:
    """One value per estimate that could be made, with its vertical position in px, in the order given."""
    return [
        {
            "y": place * ROW + 32,
            "method": names.get(item.method, item.method),
            "lift": item.lift,
            "lower": item.ci_lower,
            "upper": item.ci_upper,
            "own_lower": item.model_lower,
            "own_upper": item.model_upper,
            "leads": item.leads,
            "numbers": in_words(item.lift, item.ci_lower, item.ci_upper),
        }
        for place, item in enumerate(item for item in estimates if item.lift is not None)
    ]


def methods_domain(values: Values) -> tuple[float, float]:
    """The lift axis: the leading interval in full, those of others as far as they do not flatten it."""
    spans = [(value["lower"], value["upper"]) for value in values if value["lower"] is not None]
    if not spans:
        return (-0.1, 0.1)
    (low, high), width = spans[0], spans[0][1] - spans[0][0]
    reach = (low - FARTHEST * width, high + FARTHEST * width)
    ends = [0.0, low, high, *(min(max(end, reach[0]), reach[1]) for span in spans for end in span)]
    padding = 0.05 * ((max(ends) - min(ends)) or 0.1)
    return (min(ends) - padding, max(ends) + padding)


def methods_forest(
    estimates: Sequence[LaunchEstimate], names: Mapping[str, str], *, tone: Tone, series_name: str
) -> Spec:
    """Thick: the method's own interval. Thin: with the bias that its grade allows for. The leading one first.

    An arrow at an end of the picture: the interval goes on, or the effect itself is out there.
    """
    values = methods_values(estimates, names)
    height = len(values) * ROW + 8
    low, high = methods_domain(values)
    for value in values:
        value["past_left"] = low if _past(value, "lower", low) else None
        value["past_right"] = high if _past(value, "upper", high) else None
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    y = _row_axis(height)
    leading = {"good": "good", "bad": "bad"}.get(tone, "accent")
    own = alt.ExprRef(f"datum.leads ? {leading} : muted")
    base = alt.Chart(ROWS)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=lift_axis("Effect at full coverage", grid=False))

    layers = [
        zero_line(),
        base.transform_filter("isValid(datum.lower)")
        .mark_rule(color=own, strokeWidth=1.5, clip=True)
        .encode(x=x("lower"), x2=alt.X2("upper:Q"), y=y),
        base.transform_filter("isValid(datum.own_lower)")
        .mark_rule(color=own, strokeWidth=7, opacity=0.4, clip=True)
        .encode(x=x("own_lower"), x2=alt.X2("own_upper:Q"), y=y),
        base.mark_point(filled=True, fill=own, stroke=colour("surface"), size=70, opacity=1, clip=True).encode(
            x=x("lift"), y=y
        ),
        *(
            base.transform_filter(f"isValid(datum.{edge})")
            .mark_text(text=arrow, fontSize=17, color=own, baseline="middle", dx=dx)
            .encode(x=x(edge), y=y)
            for edge, arrow, dx in (("past_left", "◂", 4), ("past_right", "▸", -4))
        ),
        *words_above(base, y, "method", align="left", dy=-16, size=12.5, beside="numbers"),
        *words_above(base, y, "numbers", align="right", dy=-16, size=12),
    ]
    spoken = "; ".join(f"{value['method']} {value['numbers']}" for value in values)
    return finish(
        alt.layer(*layers), height=height, rows=values, description=f"{series_name}, effect by method: {spoken}"
    )


def goes_on(estimates: Sequence[LaunchEstimate]) -> bool:
    """Whether the picture cuts an interval."""
    values = methods_values(estimates, {})
    low, high = methods_domain(values)
    return any(_past(value, "lower", low) or _past(value, "upper", high) for value in values)


def _past(value: Mapping[str, Any], name: Literal["lower", "upper"], edge: float) -> bool:
    end = value["lift"] if value[name] is None else value[name]
    return bool(end < edge if name == "lower" else end > edge)


def drawn_donors(donors: Sequence[DonorUse]) -> list[DonorUse]:
    """Comparison units with a weight or an effect without them, the heaviest first."""
    used = [item for item in donors if not item.suspect and (item.weight or item.lift_without is not None)]
    return sorted(used, key=lambda item: -abs(item.weight or 0.0))[:MOST_DONORS]


def donors_chart(donors: Sequence[DonorUse], *, lift: float | None, series_name: str) -> Spec:
    """The effect when each comparison unit is left out, beside its weight; the dashed line is the effect with all."""
    shown = drawn_donors(donors)
    values: Values = [
        {
            "y": place * ROW + 32,
            "segment": item.segment,
            "lift": item.lift_without,
            "numbers": "  ".join(
                part
                for part in (
                    f"weight {item.weight * 100:.0f} %" if item.weight is not None else "",
                    f"without it {percent(item.lift_without)}" if item.lift_without is not None else "",
                )
                if part
            ),
        }
        for place, item in enumerate(shown)
    ]
    ends = [0.0, *([lift] if lift is not None else []), *(value["lift"] for value in values if value["lift"])]
    padding = 0.1 * ((max(ends) - min(ends)) or 0.1)
    scale = alt.Scale(domain=[min(ends) - padding, max(ends) + padding], nice=False, zero=False)
    height = len(values) * ROW + 8
    y = _row_axis(height)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=lift_axis("Effect without this one", grid=False))

    base = alt.Chart(ROWS)
    line = alt.Chart(data([{"lift": lift}] if lift is not None else []))
    layers = [
        zero_line(),
        line.mark_rule(color=colour("accent"), strokeDash=[4, 4], strokeWidth=1.25).encode(x=x("lift")),
        base.transform_filter("isValid(datum.lift)")
        .mark_point(filled=True, fill=colour("series4"), size=70, opacity=1)
        .encode(x=x("lift"), y=y),
        *words_above(base, y, "segment", align="left", dy=-14, size=12.5, beside="numbers"),
        *words_above(base, y, "numbers", align="right", dy=-14, size=12),
    ]
    return finish(
        alt.layer(*layers),
        height=height,
        rows=values,
        description=f"{series_name}: weights of {len(values)} comparison units and the effect without each",
    )


def _row_axis(height: int) -> alt.Y:
    return alt.Y("y:Q", scale=alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False), axis=None)
