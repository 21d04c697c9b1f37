"""Segments, raw and shrunk: what each segment says alone, and what it says once it has heard the others."""

import altair as alt

from app.charts.numbers import bare, percent
from app.charts.theme import Spec, Values, colour, data, finish, lift_axis, zero_line
from experiments.result import SegmentModel

ROW = 58


def segment_values(model: SegmentModel) -> Values:
    """One value per segment with its vertical position in px; segments without an estimate keep their row."""
    values: Values = []
    for position, effect in enumerate(model.effects):
        shown = percent(effect.lift) if effect.lift is not None else "not estimable"
        values.append(
            {
                "y": position * ROW + 24,
                "segment": effect.segment,
                "n": effect.n,
                "raw": effect.raw_lift,
                "raw_lower": effect.raw_ci_lower,
                "raw_upper": effect.raw_ci_upper,
                "lift": effect.lift,
                "lower": effect.hdi_lower,
                "upper": effect.hdi_upper,
                "numbers": f"{shown}  ({bare(effect.hdi_lower)} to {bare(effect.hdi_upper)})"
                if effect.lift is not None
                else shown,
            }
        )
    return values


def segment_domain(values: Values, mean: float | None) -> tuple[float, float]:
    """The lift axis: all shrunken intervals and raw points; raw intervals of tiny segments may leave the picture."""
    ends = [0.0, *([mean] if mean is not None else [])]
    for value in values:
        ends += [value[name] for name in ("raw", "lower", "upper") if value[name] is not None]
    low, high = min(ends), max(ends)
    padding = 0.12 * ((high - low) or 0.1)
    return (low - padding, high + padding)


def segments(model: SegmentModel, *, metric_name: str) -> Spec:
    """Hollow point and thin line: the segment alone. Filled point and thick line: the hierarchical estimate."""
    values = segment_values(model)
    height = len(values) * ROW + 8
    scale = alt.Scale(domain=list(segment_domain(values, model.mean_lift)), nice=False, zero=False)
    axis = lift_axis("Lift against control")
    y_scale = alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=axis)

    def y() -> alt.Y:
        return alt.Y("row:Q", scale=y_scale, axis=None)

    def at(offset: int, needs: str) -> alt.Chart:
        return (
            alt.Chart(data(values))
            .transform_calculate(row=f"datum.y + {offset}")
            .transform_filter(f"isValid(datum.{needs})")
        )

    raw, shrunk, all_rows = at(5, "raw"), at(15, "lift"), at(0, "y")
    layers: list[alt.Chart] = [
        zero_line(),
        raw.mark_rule(color=colour("muted"), strokeWidth=1.25, clip=True).encode(
            x=x("raw_lower"), x2="raw_upper:Q", y=y()
        ),
        raw.mark_point(
            filled=True, fill=colour("surface"), stroke=colour("muted"), strokeWidth=1.5, size=40, opacity=1
        ).encode(x=x("raw"), y=y()),
        shrunk.mark_rule(color=colour("accent"), strokeWidth=6, strokeCap="round", opacity=0.4, clip=True).encode(
            x=x("lower"), x2="upper:Q", y=y()
        ),
        shrunk.mark_point(filled=True, fill=colour("accent"), stroke=colour("surface"), size=60, opacity=1).encode(
            x=x("lift"), y=y()
        ),
        all_rows.mark_text(
            align="left", dy=-14, fontSize=13, color=colour("ink"), limit=alt.ExprRef("width * 0.5")
        ).encode(x=alt.value(0), y=y(), text="segment:N"),
        all_rows.mark_text(align="right", dy=-14, color=colour("ink"), limit=alt.ExprRef("width * 0.5")).encode(
            x=alt.value("width"), y=y(), text="numbers:N"
        ),
    ]
    if model.mean_lift is not None:
        mean = alt.Chart(data([{"mean": model.mean_lift}]))
        layers.insert(
            1, mean.mark_rule(color=colour("accent"), strokeDash=[4, 4], strokeWidth=1.25).encode(x=x("mean"))
        )
    return finish(
        alt.layer(*layers),
        height=height,
        description=f"{metric_name} by {model.dimension}: {len(values)} segments, raw and shrunken lifts",
    )
