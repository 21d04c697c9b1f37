"""Which of many arms is best: the chance of each, and what choosing it would lose (METHODS C2, C5)."""

from collections.abc import Mapping, Sequence

import altair as alt

from app.charts.theme import Spec, Values, at_x, by_tone, colour, data, finish
from experiments.result import BestVariant

ROW = 44


def chance_values(arms: Sequence[BestVariant], names: Mapping[str, str]) -> Values:
    """One value per arm in the order given, with its vertical position in px; the likeliest one is `good`."""
    best = max(arms, key=lambda arm: arm.chance_to_be_best)
    return [
        {
            "y": position * ROW + 26,
            "arm": names.get(arm.variant_key, arm.variant_key),
            "none": 0.0,
            "chance": arm.chance_to_be_best,
            "numbers": f"{arm.chance_to_be_best * 100:.0f} %, loses {_lost(arm.expected_loss)}",
            "tone": "good" if arm is best else "neutral",
        }
        for position, arm in enumerate(arms)
    ]


def _lost(share: float) -> str:
    """A loss in percent: nobody tells a ten-thousandth of a percent from nothing."""
    return "< 0.001 %" if share < 1e-5 else f"{share * 100:.2g} %"


def best_of_many(arms: Sequence[BestVariant], names: Mapping[str, str], *, metric_name: str) -> Spec:
    """A bar per arm of one metric, control included: the chance to be best; beside it what choosing it would lose."""
    values = chance_values(arms, names)
    height = len(values) * ROW + 8
    base = alt.Chart(data(values))
    y_scale = alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False)
    x_scale = alt.Scale(domain=[0, 1], nice=False)
    y = alt.Y("y:Q", scale=y_scale, axis=None)
    text = "format(datum.value * 100, '.0f') + ' %'"
    axis = alt.Axis(title="Chance to be the best", labelExpr=text, tickCount=5, labelOverlap=True)
    x = alt.X("chance:Q", scale=x_scale, axis=axis)
    layers = [
        base.mark_rule(strokeWidth=8, opacity=0.75, color=by_tone()).encode(
            x=alt.X("none:Q", scale=x_scale, axis=axis), x2=alt.X2("chance:Q"), y=y
        ),
        base.mark_text(align="left", dy=-14, fontSize=13, color=colour("ink"), limit=alt.ExprRef("width * 0.5")).encode(
            x=at_x(0), y=y, text=alt.Text("arm:N")
        ),
        base.mark_text(align="right", dy=-14, color=colour("ink"), limit=alt.ExprRef("width * 0.5")).encode(
            x=at_x("width"), y=y, text=alt.Text("numbers:N")
        ),
        base.mark_point(filled=True, size=1, opacity=0, color=colour("ink")).encode(x=x, y=y),
    ]
    return finish(
        alt.layer(*layers), height=height, description=f"{metric_name}: chance to be the best of {len(values)} arms"
    )
