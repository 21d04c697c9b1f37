"""The forest plot: every lift against control with its intervals, grouped by the role it has in the plan.

Three intervals, told apart by shape: thick bar (fixed horizon), thin line with end ticks (corrected for the number of
comparisons), dashed line in brackets below (always valid, or repeated where looks are scheduled).
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from app.charts.numbers import bare, digits_of, finding, percent, plain, tone
from app.charts.theme import Spec, Values, at_x, by_tone, colour, data, finish, lift_axis, zero_line
from experiments.result import DecisionInterval, Row

ROLES = ("primary", "guardrail", "secondary", "monitor")
TITLES = {
    "primary": "SUCCESS (PRIMARY)",
    "guardrail": "GUARDRAILS",
    "secondary": "SECONDARY",
    "monitor": "MONITORS",
}
ROW, HEADER, FOOT = 58, 34, 6
LABEL, LANE, BELOW = 14, 36, 13
"""Within a row, in px: the line of text, the fixed-horizon bar, and how far below it the sequential interval lies."""


def sequential_bounds(row: Row) -> tuple[float, float] | None:
    """The interval that pays for looks: the repeated one of a scheduled plan, else the always-valid one."""
    for lower, upper in (
        (row.sequential_lower, row.sequential_upper),
        (row.always_valid_lower, row.always_valid_upper),
    ):
        if lower is not None and upper is not None:
            return lower, upper
    return None


def corrected_bounds(row: Row) -> tuple[float, float] | None:
    """The fixed-horizon interval corrected for the family, None where nothing is corrected."""
    lower, upper = row.ci_lower_adjusted, row.ci_upper_adjusted
    return None if lower is None or upper is None else (lower, upper)


def domain(rows: Sequence[Row]) -> tuple[float, float]:
    """Range of the lift axis: all intervals, but those many times wider than the usual one do not flatten the rest."""
    spans = [(r.ci_lower, r.ci_upper) for r in rows if r.ci_lower is not None and r.ci_upper is not None]
    if not spans:
        return (-0.1, 0.1)
    widths = sorted(upper - lower for lower, upper in spans)
    widest = 6 * widths[len(widths) // 2] + 1e-12
    ends = [end for span in spans if span[1] - span[0] <= widest for end in span]
    farthest = widest + max(map(abs, ends))
    for row in rows:
        for bounds in (sequential_bounds(row), corrected_bounds(row)):
            ends += [end for end in bounds or () if abs(end) <= farthest]
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
            label = f"{arm} · {row.metric_name}" if many else row.metric_name
            values.append({"y": y + LANE, "text_y": y + LABEL, "label": label, **_marks(row, interval)})
            y += ROW
    return values, int(y) + FOOT


def _marks(row: Row, interval: DecisionInterval) -> dict[str, Any]:
    digits = digits_of(row)
    margin = row.non_inferiority_margin
    word = finding(row, interval)
    sequential, adjusted = sequential_bounds(row) or (None, None), corrected_bounds(row) or (None, None)
    known = row.estimable and row.lift is not None
    if known:
        ends = f"({bare(row.ci_lower, digits)} to {bare(row.ci_upper, digits)})"
        numbers = f"{percent(row.lift, digits)} {ends}{' ' + word if word else ''}"
        absolute = ""
    else:
        numbers, absolute = _without_lift(row, word)
    return {
        "kind": "effect" if known else "missing",
        "lift": row.lift if known else None,
        "lower": row.ci_lower,
        "upper": row.ci_upper,
        "adj_lower": adjusted[0],
        "adj_upper": adjusted[1],
        "seq_lower": sequential[0],
        "seq_upper": sequential[1],
        "margin": None if margin is None else (-margin if row.direction == "increase" else margin),
        "harm": -1 if row.direction == "increase" else 1,
        "numbers": numbers,
        "absolute": absolute,
        "corrected": _span(adjusted, digits),
        "sequential": _span(sequential, digits),
        "tone": tone(row, interval),
    }


def _without_lift(row: Row, word: str) -> tuple[str, str]:
    """What is said at the right, and below the name, of a row that has no lift."""
    if not row.estimable or row.difference is None or row.difference_ci_lower is None:
        return "not estimable", ""
    ends = f"({plain(row.difference_ci_lower)} to {plain(row.difference_ci_upper)})"
    unit = f" {row.unit}" if row.unit else ""
    return f"no lift{', ' + word if word else ''}", f"Difference {plain(row.difference)}{unit} {ends}"


def _span(bounds: tuple[float, float] | tuple[None, None], digits: int) -> str:
    lower, upper = bounds
    return "–" if lower is None or upper is None else f"{percent(lower, digits)} to {percent(upper, digits)}"


def forest(rows: Sequence[Row], variant_names: dict[str, str], interval: DecisionInterval = "fixed") -> Spec:
    """Rows without a segment, any number of arms; colour says what is decided, after correction."""
    overall = [row for row in rows if row.segment is None]
    values, height = forest_values(overall, variant_names, interval)
    low, high = domain(overall)
    for value in values:
        # Everything beyond a margin is the harm that was not accepted.
        value["beyond"] = None if value.get("margin") is None else (low if value["harm"] < 0 else high)
    y_scale = alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False)
    x_scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    axis = lift_axis("Lift against control", grid=True)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=x_scale, axis=axis)

    def y(field: str = "y") -> alt.Y:
        return alt.Y(f"{field}:Q", scale=y_scale, axis=None)

    base = alt.Chart(data(values))
    effects = base.transform_filter("datum.kind == 'effect'")
    adjusted = effects.transform_filter("isValid(datum.adj_lower)")
    sequential = effects.transform_filter("isValid(datum.seq_lower)").transform_calculate(lane=f"datum.y + {BELOW}")
    margins = base.transform_filter("isValid(datum.margin)")
    named = base.transform_filter("datum.kind != 'header'")
    tooltip = [
        alt.Tooltip("label:N", title="Metric"),
        alt.Tooltip("numbers:N", title="Lift (fixed horizon)"),
        alt.Tooltip("corrected:N", title="Corrected"),
        alt.Tooltip("sequential:N", title="Sequential"),
    ]

    def end(marks: alt.Chart, field: str, size: float, *, lane: str = "y") -> alt.Chart:
        tick: alt.Chart = marks.mark_tick(
            clip=True, thickness=1.5, size=size, orient="vertical", color=by_tone()
        ).encode(x=x(field), y=y(lane))
        return tick

    def bracket(field: str, sign: str) -> alt.Chart:
        text: alt.Chart = sequential.mark_text(
            clip=True, text=sign, fontSize=13, fontWeight=700, baseline="middle", color=by_tone()
        ).encode(x=x(field), y=y("lane"))
        return text

    def words(field: str, **mark: Any) -> alt.Chart:
        at = at_x("width") if mark["align"] == "right" else at_x(0)
        text: alt.Chart = named.mark_text(baseline="middle", **mark).encode(
            x=at, y=y("text_y"), text=alt.Text(f"{field}:N")
        )
        return text

    layers = [
        margins.mark_rule(color=colour("bad"), strokeWidth=26, opacity=0.1, clip=True).encode(
            x=x("margin"), x2=alt.X2("beyond:Q"), y=y()
        ),
        margins.mark_tick(color=colour("bad"), thickness=2, size=26, orient="vertical", clip=True).encode(
            x=x("margin"), y=y()
        ),
        zero_line(),
        adjusted.mark_rule(clip=True, strokeWidth=1.5, color=by_tone()).encode(
            x=x("adj_lower"), x2=alt.X2("adj_upper:Q"), y=y(), tooltip=tooltip
        ),
        end(adjusted, "adj_lower", 11),
        end(adjusted, "adj_upper", 11),
        effects.mark_rule(clip=True, strokeWidth=8, strokeCap="butt", opacity=0.45, color=by_tone()).encode(
            x=x("lower"), x2=alt.X2("upper:Q"), y=y(), tooltip=tooltip
        ),
        sequential.mark_rule(clip=True, strokeWidth=1.5, strokeDash=[3, 3], color=by_tone()).encode(
            x=x("seq_lower"), x2=alt.X2("seq_upper:Q"), y=y("lane"), tooltip=tooltip
        ),
        bracket("seq_lower", "["),
        bracket("seq_upper", "]"),
        effects.mark_point(
            clip=True, filled=True, size=74, opacity=1, fill=by_tone(), stroke=colour("surface"), strokeWidth=1.5
        ).encode(x=x("lift"), y=y(), tooltip=tooltip),
        base.transform_filter("datum.kind == 'header'")
        .mark_text(align="left", fontSize=11, fontWeight=600, color=colour("muted"), baseline="middle")
        .encode(x=at_x(0), y=y(), text=alt.Text("label:N")),
        words(
            "label",
            align="left",
            fontSize=13,
            color=colour("ink"),
            limit=alt.ExprRef("datum.kind == 'missing' ? width * 0.68 : width * 0.42"),
        ),
        words("numbers", align="right", fontSize=12, color=by_tone(), limit=alt.ExprRef("width * 0.58")),
        base.transform_filter("datum.absolute")
        .mark_text(align="left", fontSize=12, color=by_tone(), baseline="middle", limit=alt.ExprRef("width"))
        .encode(x=at_x(0), y=y(), text=alt.Text("absolute:N")),
    ]
    spoken = [f"{value['label']} {value['numbers']}" for value in values if value["kind"] != "header"]
    return finish(alt.layer(*layers), height=height, description="Lifts with intervals: " + "; ".join(spoken[:12]))
