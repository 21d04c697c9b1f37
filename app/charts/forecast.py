"""Where a North Star is heading without further launches, beside its target (METHODS F8)."""

import altair as alt

from app.charts.theme import LEVELS, ROWS, Spec, Values, at_x, colour, data, finish
from experiments.result import TargetForecast


def forecast_chart(found: TargetForecast, *, name: str, unit: str) -> Spec:
    """Observed weeks, the median to come with its 80 % band, and the target on its day."""
    values: Values = [
        {
            "week": point.week.isoformat(),
            "observed": _short(point.observed),
            "median": _short(point.median),
            "lower": _short(point.lower_80),
            "upper": _short(point.upper_80),
        }
        for point in found.weeks
    ]
    known = [value for value in values if value["observed"] is not None]
    coming = [value for value in values if value["median"] is not None]
    if known and coming:  # the band begins where what is known ends
        last = known[-1]["observed"]
        joint = {"week": known[-1]["week"], "observed": None, "median": last, "lower": last, "upper": last}
        values.insert(values.index(coming[0]), joint)
    fields = ("observed", "lower", "upper")
    ends = [value[field] for value in values for field in fields if value[field] is not None]
    ends += [found.target] if found.target is not None else []
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = 0.1 * ((high - low) or abs(high) or 1.0)
    scale = alt.Scale(domain=[low - room, high + room], nice=False, zero=False)
    x = alt.X("week:T", title=None, axis=alt.Axis(format="%b %Y", tickCount=6, labelOverlap=True))
    axis = alt.Axis(title=unit or None, labelExpr=LEVELS, tickCount=5)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=axis)

    tooltip = [
        alt.Tooltip("week:T", title="Week of", format="%-d %b %Y"),
        alt.Tooltip("observed:Q", title="Observed", format=",.4~g"),
        alt.Tooltip("median:Q", title="Forecast", format=",.4~g"),
        alt.Tooltip("lower:Q", title="from", format=",.4~g"),
        alt.Tooltip("upper:Q", title="to", format=",.4~g"),
    ]
    base = alt.Chart(ROWS)
    ahead = base.transform_filter("isValid(datum.median)")
    layers: list[alt.Chart] = []
    if coming:
        layers = [
            ahead.mark_area(color=colour("accent"), opacity=0.18).encode(x=x, y=y("lower"), y2=alt.Y2("upper:Q")),
            ahead.mark_line(color=colour("accent"), strokeWidth=2, strokeDash=[5, 3]).encode(x=x, y=y("median")),
        ]
    layers.append(
        base.transform_filter("isValid(datum.observed)")
        .mark_line(color=colour("accent"), strokeWidth=2.25)
        .encode(x=x, y=y("observed"))
    )
    if found.target is not None and found.target_at is not None:
        row = {"week": found.target_at.isoformat(), "value": found.target, "label": "Target"}
        goal = alt.Chart(data([row]))
        layers += [
            goal.mark_rule(color=colour("good"), strokeWidth=1.5, strokeDash=[8, 4]).encode(y=y("value")),
            goal.mark_text(align="left", dy=-8, dx=4, color=colour("good"), fontWeight=600).encode(
                x=at_x(0), y=y("value"), text=alt.Text("label:N")
            ),
        ]
        if found.weeks and found.weeks[-1].week.date() >= found.target_at:
            layers.append(
                goal.mark_point(filled=True, fill=colour("good"), stroke=colour("surface"), size=90, opacity=1).encode(
                    x=x, y=y("value")
                )
            )
    layers.append(base.mark_rule(color=colour("muted"), opacity=0, strokeWidth=8).encode(x=x, tooltip=tooltip))
    return finish(
        alt.layer(*layers),
        height=280,
        rows=values,
        description=f"{name}: {len(known)} weeks observed, {len(coming)} weeks forecast with an 80 % band",
    )


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
