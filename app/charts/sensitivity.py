"""The same data under other priors: how much of what is believed comes from the prior (METHODS C3)."""

from collections.abc import Mapping

import altair as alt

from app.charts.pulled import in_words
from app.charts.theme import Spec, Values, colour, data, finish, lift_axis, words_above, zero_line
from experiments.result import PriorSensitivity

ROW = 44


def sensitivity_values(found: PriorSensitivity, names: Mapping[str, str]) -> Values:
    """One value per prior with its vertical position in px, the plan's first."""
    return [
        {
            "y": position * ROW + 32,
            "prior": names.get(item.prior, item.prior),
            "lift": item.posterior_lift,
            "lower": item.hdi_lower,
            "upper": item.hdi_upper,
            "planned": position == 0,
            "numbers": in_words(item.posterior_lift, item.hdi_lower, item.hdi_upper),
        }
        for position, item in enumerate(found.alternatives)
    ]


def sensitivity_forest(found: PriorSensitivity, names: Mapping[str, str], *, metric_name: str) -> Spec:
    """A posterior lift with its credible interval per prior; that of the plan is drawn stronger."""
    values = sensitivity_values(found, names)
    height = len(values) * ROW + 8
    ends = [0.0, *(value[name] for value in values for name in ("lower", "upper") if value[name] is not None)]
    padding = 0.06 * ((max(ends) - min(ends)) or 0.1)
    scale = alt.Scale(domain=[min(ends) - padding, max(ends) + padding], nice=False, zero=False)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False), axis=None)
    strength = alt.ExprRef("datum.planned ? 0.6 : 0.28")
    base = alt.Chart(data(values))

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=lift_axis("Lift against control", grid=False))

    known = base.transform_filter("isValid(datum.lower)")
    layers = [
        zero_line(),
        known.mark_rule(color=colour("accent"), strokeWidth=6, strokeCap="round", opacity=strength).encode(
            x=x("lower"), x2=alt.X2("upper:Q"), y=y
        ),
        known.mark_point(filled=True, fill=colour("accent"), stroke=colour("surface"), size=60, opacity=1).encode(
            x=x("lift"), y=y
        ),
        *words_above(base, y, "prior", align="left", dy=-16, size=12.5, width=0.5),
        *words_above(base, y, "numbers", align="right", dy=-16, size=12, width=0.56),
    ]
    return finish(
        alt.layer(*layers),
        height=height,
        description=f"{metric_name}: the posterior lift under {len(values)} priors, the plan's first",
    )
