"""What the data did to our beliefs: the posterior of the lift over the prior it started from."""

from itertools import pairwise

import altair as alt

from app.charts.theme import Spec, Values, colour, data, finish, lift_axis, zero_line
from experiments.result import Density

PICTURE, FOOT = 200, 24
"""Heights of the densities and of the strip below them that has the interval, in px."""


def density_values(density: Density, *, direction: str) -> Values:
    """One value per grid point, and one at zero; `good` marks lifts in the wanted direction, `bad` the others.

    Zero belongs to both sides, so that they meet there.
    """
    sign = 1 if direction == "increase" else -1
    points = list(zip(density.lift, density.posterior, density.prior, strict=True))
    for position, (left, right) in enumerate(pairwise(points), start=1):
        if left[0] < 0 < right[0]:
            part = -left[0] / (right[0] - left[0])
            at_zero = (0.0, left[1] + part * (right[1] - left[1]), left[2] + part * (right[2] - left[2]))
            points.insert(position, at_zero)
            break
    return [
        {"lift": lift, "posterior": posterior, "prior": prior, "good": sign * lift >= 0, "bad": sign * lift <= 0}
        for lift, posterior, prior in points
    ]


def posterior(
    density: Density,
    *,
    direction: str,
    metric_name: str,
    interval: tuple[float, float, float] | None = None,
    rope: tuple[float, float] | None = None,
    prior: bool = True,
) -> Spec:
    """The posterior as a filled area split at no effect, the prior as a dashed line on the same grid of lifts.

    `interval` (lower, mean, upper) is marked below, `rope` as a grey band; a flat prior (`prior` false) is not drawn.
    """
    values = density_values(density, direction=direction)
    shown = ("posterior", "prior") if prior else ("posterior",)
    top = max((value[name] for value in values for name in shown), default=1.0) or 1.0
    base = alt.Chart(data(values))
    x_scale = alt.Scale(domain=[density.lift[0], density.lift[-1]], nice=False, zero=False)
    x = alt.X("lift:Q", axis=lift_axis("Lift", grid=False), scale=x_scale)
    # The strip below the densities is the part of the scale under zero.
    below = -top * FOOT / PICTURE
    y_scale = alt.Scale(domain=[below, 1.04 * top], nice=False, zero=False)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", axis=None, scale=y_scale)

    def side(condition: str, name: str) -> alt.Chart:
        area: alt.Chart = (
            base.transform_filter(condition)
            .mark_area(color=colour(name), opacity=0.32)
            .encode(x=x, y=y("posterior"), y2=alt.datum(0))
        )
        return area

    layers: list[alt.Chart] = []
    if rope is not None and rope[1] > rope[0]:
        band = alt.Chart(data([{"from": rope[0], "to": rope[1], "low": 0.0, "high": 1.04 * top}]))
        layers.append(
            band.mark_rect(color=colour("muted"), opacity=0.16, clip=True).encode(
                x=alt.X("from:Q", scale=x_scale), x2=alt.X2("to:Q"), y=y("low"), y2=alt.Y2("high:Q")
            )
        )
    layers += [
        side("datum.good", "good"),
        side("datum.bad", "bad"),
        base.mark_line(color=colour("ink"), strokeWidth=1.75).encode(x=x, y=y("posterior")),
    ]
    if prior:
        layers.append(
            base.mark_line(color=colour("muted"), strokeWidth=1.5, strokeDash=[5, 4]).encode(x=x, y=y("prior"))
        )
    layers.append(zero_line())
    if interval is not None:
        lower, mean, upper = interval
        strip = alt.Chart(data([{"lower": lower, "mean": mean, "upper": upper, "strip": below / 2}]))
        layers += [
            strip.mark_rule(color=colour("ink"), strokeWidth=3, clip=True).encode(
                x=alt.X("lower:Q", scale=x_scale), x2=alt.X2("upper:Q"), y=y("strip")
            ),
            strip.mark_point(
                filled=True, fill=colour("ink"), stroke=colour("surface"), size=70, opacity=1, clip=True
            ).encode(x=alt.X("mean:Q", scale=x_scale), y=y("strip")),
        ]
    with_prior = " with its prior" if prior else ", without a prior"
    return finish(
        alt.layer(*layers),
        height=PICTURE + FOOT,
        description=f"{metric_name}: posterior density of the lift{with_prior}",
    )
