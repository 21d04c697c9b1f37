"""How much of an effect lasts: its fitted course since exposure (METHODS E6)."""

from collections.abc import Sequence

import altair as alt

from app.charts.theme import Spec, Values, colour, data, finish, lift_axis, zero_line
from experiments.result import Persistence, PersistencePoint


def course_values(curve: Sequence[PersistencePoint]) -> Values:
    """One value per age: the lift with its 80 % band."""
    return [{"day": point.age_days, "lift": point.lift, "lower": point.lower, "upper": point.upper} for point in curve]


def persistence_chart(found: Persistence, *, metric_name: str) -> Spec:
    """The course with its band, the long run dotted, and the half-life where the data say one."""
    values = course_values(found.curve)
    long_run = [x for x in (found.long_run,) if x is not None]
    ends = [0.0, *long_run, *(value[name] for value in values for name in ("lower", "upper"))]
    padding = 0.06 * ((max(ends) - min(ends)) or 0.1)
    scale = alt.Scale(domain=[min(ends) - padding, max(ends) + padding], nice=False, zero=False)
    x = alt.X(
        "day:Q",
        title="Days since exposure",
        scale=alt.Scale(nice=False, zero=False),
        axis=alt.Axis(tickCount=8, tickMinStep=1, format="d"),
    )

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=lift_axis("Lift at that age"))

    base = alt.Chart(data(values))
    tooltip = [
        alt.Tooltip("day:Q", title="Day", format=".0f"),
        alt.Tooltip("lift:Q", title="Lift", format="+.2%"),
        alt.Tooltip("lower:Q", title="from", format="+.2%"),
        alt.Tooltip("upper:Q", title="to", format="+.2%"),
    ]
    layers: list[alt.Chart] = [
        base.mark_area(color=colour("accent"), opacity=0.2, clip=True).encode(x=x, y=y("lower"), y2=alt.Y2("upper:Q")),
        zero_line("y"),
        base.mark_line(color=colour("accent"), strokeWidth=2.25).encode(x=x, y=y("lift"), tooltip=tooltip),
    ]
    if long_run:
        level = alt.Chart(data([{"lift": found.long_run}]))
        layers.append(level.mark_rule(color=colour("accent"), strokeDash=[2, 3], strokeWidth=1.25).encode(y=y("lift")))
    last = values[-1]["day"] if values else 0.0
    if found.identified and found.half_life_days is not None and found.half_life_days <= last:
        half = alt.Chart(data([{"day": found.half_life_days}]))
        layers.append(half.mark_rule(color=colour("muted"), strokeDash=[4, 3], strokeWidth=1.25).encode(x=x))
    return finish(
        alt.layer(*layers), height=220, description=f"{metric_name}: the course of the effect since exposure, 80 % band"
    )
