"""The forest plot: every lift against control with both of its intervals, grouped by the role it has in the plan."""

from collections.abc import Sequence

import altair as alt

from app.charts.numbers import bare, digits_of, percent, tone
from app.charts.theme import Spec, Values, by_tone, colour, data, finish, lift_axis, zero_line
from experiments.result import DecisionInterval, Row

ROLES = ("primary", "guardrail", "secondary", "monitor")
TITLES = {"primary": "PRIMARY", "guardrail": "GUARDRAILS", "secondary": "SECONDARY", "monitor": "MONITORS"}
ROW, HEADER, FOOT = 46, 34, 6


def domain(rows: Sequence[Row]) -> tuple[float, float]:
    """Range of the lift axis: all intervals, but those many times wider than the usual one do not flatten the rest."""
    spans = [(r.ci_lower, r.ci_upper) for r in rows if r.ci_lower is not None and r.ci_upper is not None]
    if not spans:
        return (-0.1, 0.1)
    widths = sorted(upper - lower for lower, upper in spans)
    widest = 6 * widths[len(widths) // 2] + 1e-12
    ends = [end for span in spans if span[1] - span[0] <= widest for end in span]
    for row in rows:
        for end in (row.always_valid_lower, row.always_valid_upper):
            if end is not None and abs(end) <= widest + max(map(abs, ends)):
                ends.append(end)
        if row.non_inferiority_margin is not None and row.non_inferiority_margin <= 2 * widest:
            ends.append(row.non_inferiority_margin * (-1 if row.direction == "increase" else 1))
    low, high = min([0.0, *ends]), max([0.0, *ends])
    padding = 0.04 * ((high - low) or 0.1)
    return (low - padding, high + padding)


def forest_values(
    rows: Sequence[Row], variant_names: dict[str, str], interval: DecisionInterval = "fixed"
) -> tuple[Values, int]:
    """Marks with their vertical position in px, and the height of the chart."""
    values: Values = []
    y = 0.0
    many = len({row.variant_key for row in rows}) > 1
    for role in ROLES:
        group = [row for row in rows if row.role == role]
        if not group:
            continue
        values.append({"kind": "header", "y": y + HEADER - 12, "label": TITLES[role]})
        y += HEADER
        for row in group:
            arm = variant_names.get(row.variant_key, row.variant_key)
            digits = digits_of(row)
            margin = row.non_inferiority_margin
            effect = tone(row, interval)
            word = {"good": " better", "bad": " worse", "neutral": ""}[effect]
            ends = f"({bare(row.ci_lower, digits)} to {bare(row.ci_upper, digits)})"
            numbers = f"{percent(row.lift, digits)} {ends}{word}"
            values.append(
                {
                    "kind": "effect" if row.estimable and row.lift is not None else "missing",
                    "y": y + 28,
                    "label": f"{arm} · {row.metric_name}" if many else row.metric_name,
                    "lift": row.lift,
                    "lower": row.ci_lower,
                    "upper": row.ci_upper,
                    "av_lower": row.always_valid_lower,
                    "av_upper": row.always_valid_upper,
                    "margin": None if margin is None else (-margin if row.direction == "increase" else margin),
                    "numbers": numbers if row.estimable and row.lift is not None else "not estimable",
                    "tone": effect,
                }
            )
            y += ROW
    return values, int(y) + FOOT


def forest(rows: Sequence[Row], variant_names: dict[str, str], interval: DecisionInterval = "fixed") -> Spec:
    """Rows without a segment, any number of arms; `interval` decides the colour.

    Thick bar: fixed-horizon interval; thin line: always-valid interval; tick: a guardrail's margin.
    """
    overall = [row for row in rows if row.segment is None]
    values, height = forest_values(overall, variant_names, interval)
    low, high = domain(overall)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False), axis=None)
    x_scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    axis = lift_axis("Lift against control", grid=True)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=x_scale, axis=axis)

    base = alt.Chart(data(values))
    effects = base.transform_filter("datum.kind == 'effect'")
    always = effects.transform_filter("isValid(datum.av_lower) && isValid(datum.av_upper)")
    tooltip = [
        alt.Tooltip("label:N", title="Metric"),
        alt.Tooltip("numbers:N", title="Lift (fixed horizon)"),
        alt.Tooltip("av_lower:Q", title="Always valid from", format="+.2%"),
        alt.Tooltip("av_upper:Q", title="to", format="+.2%"),
    ]
    layers = [
        base.transform_filter("isValid(datum.margin)")
        .mark_tick(color=colour("bad"), thickness=2, size=22, orient="vertical", clip=True)
        .encode(x=x("margin"), y=y),
        zero_line(),
        always.mark_rule(clip=True, strokeWidth=1.5, color=by_tone()).encode(
            x=x("av_lower"), x2="av_upper:Q", y=y, tooltip=tooltip
        ),
        always.mark_tick(clip=True, thickness=1.5, size=9, orient="vertical", color=by_tone()).encode(
            x=x("av_lower"), y=y
        ),
        always.mark_tick(clip=True, thickness=1.5, size=9, orient="vertical", color=by_tone()).encode(
            x=x("av_upper"), y=y
        ),
        effects.mark_rule(clip=True, strokeWidth=7, strokeCap="round", opacity=0.45, color=by_tone()).encode(
            x=x("lower"), x2="upper:Q", y=y, tooltip=tooltip
        ),
        effects.mark_point(
            clip=True, filled=True, size=70, opacity=1, fill=by_tone(), stroke=colour("surface"), strokeWidth=1.5
        ).encode(x=x("lift"), y=y, tooltip=tooltip),
        base.transform_filter("datum.kind == 'header'")
        .mark_text(align="left", fontSize=11, fontWeight=600, color=colour("muted"), baseline="middle")
        .encode(x=alt.value(0), y=y, text="label:N"),
        base.transform_filter("datum.kind != 'header'")
        .mark_text(align="left", fontSize=13, color=colour("ink"), dy=-18, limit=alt.ExprRef("width * 0.42"))
        .encode(x=alt.value(0), y=y, text="label:N"),
        base.transform_filter("datum.kind != 'header'")
        .mark_text(align="right", fontSize=12, color=by_tone(), dy=-18, limit=alt.ExprRef("width * 0.58"))
        .encode(x=alt.value("width"), y=y, text="numbers:N"),
    ]
    named = [f"{value['label']} {value['numbers']}" for value in values if value["kind"] != "header"]
    return finish(alt.layer(*layers), height=height, description="Lifts with intervals: " + "; ".join(named[:12]))
