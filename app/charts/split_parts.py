"""The split within populations and segments: where units are missing, it is often in one of them."""

from math import sqrt

import altair as alt

from app.charts.split import REACH
from app.charts.theme import Spec, Values, at_x, colour, data, finish, zero_line
from experiments.result import ExperimentResult

ROW, FOOT = 40, 8
MOST = 12


def part_values(document: ExperimentResult, variant_names: dict[str, str]) -> Values:
    """One value per population or segment level and treatment, the furthest from their share first.

    A treatment's share is of its own units and the control's; segments count analysed units.
    """
    arms = document.exposures.variants
    if len(arms) < 2 or not arms[0].weight:
        return []
    weights = {arm.variant_key: arm.weight / (arm.weight + arms[0].weight) for arm in arms[1:]}
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for arm in arms[1:]:
        counts["everybody exposed", arm.variant_key] = (arms[0].exposures, arm.exposures)
        if arm.analysed != arm.exposures or arms[0].analysed != arms[0].exposures:
            counts["everybody analysed", arm.variant_key] = (arms[0].analysed, arm.analysed)
    for row in document.rows:
        if row.segment is None or row.variant_key not in weights:
            continue
        # Some metrics are about some of the units: the one about most of them tells who is there.
        key = (f"{row.segment_dimension} = {row.segment}", row.variant_key)
        control, treatment = counts.get(key, (0, 0))
        if row.n_control + row.n_treatment > control + treatment:
            counts[key] = (row.n_control, row.n_treatment)
    values: Values = []
    for (name, variant), (control, treatment) in counts.items():
        total, share = control + treatment, weights[variant]
        if total == 0:
            continue
        band = REACH * sqrt(share * (1 - share) / total)
        gap = treatment / total - share
        beyond = ", beyond chance" if abs(gap) > band else ""
        arm_name = variant_names.get(variant, variant)
        values.append(
            {
                "label": f"{name} · {arm_name}" if len(arms) > 2 else name,
                "gap": gap,
                "low": -band,
                "high": band,
                "outside": abs(gap) > band,
                "units": total,
                "share": treatment / total,
                "expected": share,
                "numbers": f"{treatment / total * 100:.1f}\u00a0% of {total:,}{beyond}",
            }
        )
    values.sort(key=lambda value: -abs(value["gap"]) / value["high"])
    for position, value in enumerate(values[:MOST]):
        value["y"] = position * ROW + 28
    return values[:MOST]


def parts_chart(values: Values) -> Spec:
    """A bar for what chance does, a point for what came; `values` from `part_values`."""
    height = len(values) * ROW + FOOT
    reach = 1.1 * max(max(abs(value["gap"]), value["high"]) for value in values)
    text = "datum.value == 0 ? '0' : replace(format(datum.value * 100, '+.2~f'), '-', '−')"
    axis = alt.Axis(title="Points off the configured share", labelExpr=text, tickCount=5, grid=True)
    x_scale = alt.Scale(domain=[-reach, reach], nice=False, zero=False)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False), axis=None)
    tone = alt.ExprRef("datum.outside ? bad : accent")
    base = alt.Chart(data(values))

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=x_scale, axis=axis)

    layers = [
        zero_line(),
        base.mark_rule(color=colour("muted"), strokeWidth=8, opacity=0.25).encode(x=x("low"), x2=alt.X2("high:Q"), y=y),
        base.mark_point(filled=True, fill=tone, stroke=colour("surface"), size=70, opacity=1).encode(
            x=x("gap"),
            y=y,
            tooltip=[
                alt.Tooltip("label:N", title="Units"),
                alt.Tooltip("share:Q", title="Share", format=".2%"),
                alt.Tooltip("expected:Q", title="Configured", format=".2%"),
            ],
        ),
        base.mark_text(align="left", dy=-16, color=colour("ink"), limit=alt.ExprRef("width * 0.55")).encode(
            x=at_x(0), y=y, text=alt.Text("label:N")
        ),
        base.mark_text(align="right", dy=-16, color=alt.ExprRef("datum.outside ? bad : muted")).encode(
            x=at_x("width"), y=y, text=alt.Text("numbers:N")
        ),
    ]
    outside = sum(value["outside"] for value in values)
    return finish(
        alt.layer(*layers),
        height=height,
        description=f"Split within {len(values)} groups of units, {outside} of them beyond chance",
    )
