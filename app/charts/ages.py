"""Effects by days since exposure: does the effect wear off, or grow."""

import altair as alt

from app.charts.theme import Spec, Values, colour, data, finish, lift_axis, zero_line
from experiments.result import AgeCurve


def relative(curve: AgeCurve) -> bool:
    """Whether the curve has lifts; else its differences are drawn."""
    return any(point.lift is not None for point in curve.points)


def age_values(curve: AgeCurve) -> Values:
    """One value per day since exposure; days without an estimate are left out."""
    rows = [
        (
            p.age_days,
            *(
                (p.lift, p.lift_ci_lower, p.lift_ci_upper)
                if relative(curve)
                else (p.difference, p.ci_lower, p.ci_upper)
            ),
        )
        for p in curve.points
    ]
    return [
        {"day": day, "effect": effect, "lower": lower, "upper": upper}
        for day, effect, lower, upper in rows
        if effect is not None
    ]


def age_chart(curve: AgeCurve, *, metric_name: str) -> Spec:
    """The effect on each day after exposure with its fixed-horizon band."""
    values = age_values(curve)
    lifts = relative(curve)
    ends = [0.0, *(v[n] for v in values for n in ("effect", "lower", "upper") if v[n] is not None)]
    padding = 0.06 * ((max(ends) - min(ends)) or 0.1)
    scale = alt.Scale(domain=[min(ends) - padding, max(ends) + padding], nice=False, zero=False)
    axis = lift_axis("Lift on that day") if lifts else alt.Axis(title="Difference on that day", tickCount=5)
    form = "+.2%" if lifts else "+,.4~g"
    x = alt.X(
        "day:Q",
        axis=alt.Axis(title="Days since exposure", tickCount=min(len(values), 10), tickMinStep=1, format="d"),
        scale=alt.Scale(nice=False, zero=False),
    )

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=axis)

    base = alt.Chart(data(values))
    tooltip = [
        alt.Tooltip("day:Q", title="Day"),
        alt.Tooltip("effect:Q", title="Lift" if lifts else "Difference", format=form),
        alt.Tooltip("lower:Q", title="from", format=form),
        alt.Tooltip("upper:Q", title="to", format=form),
    ]
    layers = [
        base.mark_area(color=colour("accent"), opacity=0.2, clip=True).encode(x=x, y=y("lower"), y2=alt.Y2("upper:Q")),
        zero_line("y"),
        base.mark_line(color=colour("accent"), strokeWidth=2.25).encode(x=x, y=y("effect")),
        base.mark_point(filled=True, fill=colour("accent"), size=40, opacity=1).encode(
            x=x, y=y("effect"), tooltip=tooltip
        ),
    ]
    return finish(
        alt.layer(*layers), height=220, description=f"{metric_name}: effect on {len(values)} days since exposure"
    )
