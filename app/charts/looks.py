"""Lift over time: what was known at each look, with the band that stays valid however often one looks."""

from collections.abc import Sequence

import altair as alt

from app.charts.theme import Spec, Values, colour, data, finish, lift_axis, zero_line
from experiments.result import Look


def look_values(looks: Sequence[Look], *, metric_key: str, variant_key: str) -> Values:
    """One value per look of one comparison; looks without an estimate are left out, never drawn as zero."""
    return [
        {
            "at": look.at.isoformat(),
            "lift": look.lift,
            "lower": look.ci_lower,
            "upper": look.ci_upper,
            "av_lower": look.always_valid_lower,
            "av_upper": look.always_valid_upper,
            "n": look.n,
        }
        for look in looks
        if look.metric_key == metric_key and look.variant_key == variant_key and look.lift is not None
    ]


def vertical_domain(values: Values) -> tuple[float, float]:
    """The lift axis: the first looks' very wide bands may leave the picture, the later ones must fit."""
    settled = values[len(values) // 3 :] or values
    ends = [0.0]
    for value in settled:
        ends += [value[name] for name in ("lower", "upper", "av_lower", "av_upper", "lift") if value[name] is not None]
    low, high = min(ends), max(ends)
    padding = 0.08 * ((high - low) or 0.1)
    return (low - padding, high + padding)


def lift_over_time(looks: Sequence[Look], *, metric_key: str, variant_key: str, metric_name: str) -> Spec:
    """The cumulative lift of one metric and arm, with its fixed-horizon band and its dashed always-valid ends."""
    values = look_values(looks, metric_key=metric_key, variant_key=variant_key)
    scale = alt.Scale(domain=list(vertical_domain(values)), nice=False, zero=False)
    axis = lift_axis(None)
    x = alt.X("at:T", title=None, axis=alt.Axis(format="%-d %b", tickCount=6, labelOverlap=True))
    base = alt.Chart(data(values))

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=axis)

    tooltip = [
        alt.Tooltip("at:T", title="Look", format="%-d %b %Y"),
        alt.Tooltip("lift:Q", title="Lift", format="+.2%"),
        alt.Tooltip("av_lower:Q", title="Always valid from", format="+.2%"),
        alt.Tooltip("av_upper:Q", title="to", format="+.2%"),
        alt.Tooltip("n:Q", title="Units", format=","),
    ]
    layers = [
        base.mark_area(color=colour("accent"), opacity=0.08, clip=True).encode(
            x=x, y=y("av_lower"), y2=alt.Y2("av_upper:Q")
        ),
        *(
            base.mark_line(color=colour("accent"), strokeWidth=1.25, strokeDash=[4, 3], clip=True).encode(
                x=x, y=y(field)
            )
            for field in ("av_lower", "av_upper")
        ),
        base.mark_area(color=colour("accent"), opacity=0.22, clip=True).encode(x=x, y=y("lower"), y2=alt.Y2("upper:Q")),
        zero_line("y"),
        base.mark_line(color=colour("accent"), strokeWidth=2.25, clip=True).encode(x=x, y=y("lift")),
        base.mark_point(color=colour("accent"), filled=True, size=36, opacity=1, clip=True).encode(
            x=x, y=y("lift"), tooltip=tooltip
        ),
    ]
    return finish(alt.layer(*layers), height=260, description=f"{metric_name}: cumulative lift at {len(values)} looks")
