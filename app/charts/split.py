"""How far the split of units lies from the configured one, day by day: the picture behind the sample-ratio checks."""

from math import sqrt

import altair as alt

from app.charts.theme import Spec, Values, colour, data, finish, series, zero_line
from experiments.result import Exposures

REACH = 3.48
"""Normal quantile of two-sided p = 0.0005, the usual threshold of the check."""


def split_values(exposures: Exposures) -> Values:
    """One value per day and arm: actual less configured share of all units so far, and what chance alone does."""
    arms = exposures.variants
    total_weight = sum(arm.weight for arm in arms) or 1.0
    values: Values = []
    for day in exposures.daily:
        counts = [day.get(arm.variant_key) for arm in arms]
        units = [count for count in counts if isinstance(count, int)]
        total = sum(units)
        if len(units) != len(arms) or total == 0:
            continue
        for position, (arm, count) in enumerate(zip(arms, units, strict=True)):
            share = arm.weight / total_weight
            band = REACH * sqrt(share * (1 - share) / total)
            values.append(
                {
                    "at": str(day["at"]),
                    "arm": position,
                    "variant": arm.variant_key,
                    "gap": count / total - share,
                    "low": -band,
                    "high": band,
                    "units": total,
                }
            )
    return values


def split_chart(exposures: Exposures, variant_names: dict[str, str]) -> Spec:
    """Departures of every arm's share; inside the band is what chance does."""
    values = split_values(exposures)
    settled = values[len(values) // 4 :] or values
    reach = 1.1 * max([1e-4, *(max(abs(v["gap"]), v["high"]) for v in settled)])
    text = "datum.value == 0 ? '0' : replace(format(datum.value * 100, '+.2~f'), '-', '−')"
    scale = alt.Scale(domain=[-reach, reach], nice=False, zero=False)
    axis = alt.Axis(title="Points off", labelExpr=text, tickCount=5)
    x = alt.X("at:T", title=None, axis=alt.Axis(format="%-d %b", tickCount=6, labelOverlap=True, grid=False))

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=axis)

    # Arms of two variants mirror each other: one line tells everything.
    shown = [1] if len(exposures.variants) == 2 else list(range(len(exposures.variants)))
    widest = max(shown, key=lambda position: next((v["high"] for v in values if v["arm"] == position), 0.0))
    layers: list[alt.Chart] = [
        alt.Chart(data([v for v in values if v["arm"] == widest]))
        .mark_area(color=colour("muted"), opacity=0.16, clip=True)
        .encode(x=x, y=y("low"), y2=alt.Y2("high:Q")),
        zero_line("y"),
    ]
    for position in shown:
        key = exposures.variants[position].variant_key
        own = alt.Chart(data([v for v in values if v["arm"] == position]))
        tooltip = [
            alt.Tooltip("at:T", title=variant_names.get(key, key), format="%-d %b %Y"),
            alt.Tooltip("gap:Q", title="From configured", format="+.2%"),
            alt.Tooltip("units:Q", title="Units so far", format=","),
        ]
        layers += [
            own.mark_line(
                color=colour(series(position)), strokeWidth=2, clip=True, strokeDash=[1, 0] if position % 2 else [6, 3]
            ).encode(x=x, y=y("gap")),
            own.mark_point(filled=True, fill=colour(series(position)), size=22, opacity=1, clip=True).encode(
                x=x, y=y("gap"), tooltip=tooltip
            ),
        ]
    days = len({value["at"] for value in values})
    return finish(alt.layer(*layers), height=170, description=f"Departure from the configured split over {days} days")
