"""Exposures: how many units each arm has seen, by day."""

from datetime import datetime

import altair as alt

from app.charts.theme import Spec, Values, colour, data, finish, series
from experiments.result import Exposures


def exposure_values(exposures: Exposures) -> Values:
    """One value per day and arm: cumulative exposures."""
    keys = [variant.variant_key for variant in exposures.variants]
    return [
        {"at": str(day["at"]), "variant": key, "units": day[key]}
        for day in exposures.daily
        for key in keys
        if isinstance(day.get(key), int)
    ]


def exposures_chart(exposures: Exposures, variant_names: dict[str, str]) -> Spec:
    """Cumulative exposures per arm; arms of equal weight should lie on each other."""
    values = exposure_values(exposures)
    x = alt.X("at:T", title=None, axis=alt.Axis(format="%-d %b", tickCount=6, labelOverlap=True))
    y = alt.Y("units:Q", title=None, axis=alt.Axis(format="~s", tickCount=4))
    layers = []
    for position, variant in enumerate(exposures.variants):
        own = [value for value in values if value["variant"] == variant.variant_key]
        name = variant_names.get(variant.variant_key, variant.variant_key)
        layers.append(
            alt.Chart(data(own))
            .mark_line(color=colour(series(position)), strokeWidth=2, strokeDash=[1, 0] if position % 2 else [6, 3])
            .encode(
                x=x,
                y=y,
                tooltip=[
                    alt.Tooltip("at:T", title=name, format="%-d %b %Y"),
                    alt.Tooltip("units:Q", title="Units", format=","),
                ],
            )
        )
    days = {datetime.fromisoformat(str(day["at"])).date() for day in exposures.daily}
    return finish(alt.layer(*layers), height=180, description=f"Cumulative exposures per variant over {len(days)} days")
