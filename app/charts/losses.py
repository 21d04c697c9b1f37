"""Expected loss over time: what shipping, and what not shipping, is expected to cost at each look (METHODS C5)."""

from collections.abc import Sequence
from math import ceil, floor, log10

import altair as alt

from app.charts.theme import Spec, Values, colour, data, finish
from experiments.result import Look

DEEPEST = 100.0
"""The axis ends this many times below the loss that is accepted: how much smaller a loss is then decides nothing."""


def loss_values(looks: Sequence[Look]) -> Values:
    """One value per look with both losses; looks without beliefs are left out, never drawn as zero."""
    return [
        {
            "at": look.at.isoformat(),
            "ship": look.expected_loss,
            "hold": look.expected_loss_of_not_shipping,
            "chance": look.chance_to_win,
        }
        for look in looks
        if look.expected_loss is not None and look.expected_loss_of_not_shipping is not None
    ]


def _ticks(low: float, high: float) -> list[float]:
    """0.1 %, 0.3 %, 1 %, 3 % and so on between the ends."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    return [tick for power in powers for tick in (10.0**power, 3 * 10.0**power) if low <= tick <= high]


def loss_over_time(looks: Sequence[Look], *, threshold: float | None, metric_name: str) -> Spec:
    """Loss of shipping (solid), of not shipping (dashed), and the largest loss the plan accepts (dotted).

    The looks of one comparison. The axis is logarithmic: losses fall over orders of magnitude while data come in.
    """
    values = loss_values(looks)
    seen = [value[name] for value in values for name in ("ship", "hold") if value[name] > 0]
    ends = [*seen, *([threshold] if threshold else [])] or [0.001]
    least = max(min(ends), (threshold or max(ends)) / DEEPEST)
    low, high = 0.7 * least, 1.5 * max(ends)
    for value in values:  # a logarithm of nothing has no place on the axis: such a loss lies on its lower end
        value |= {"ship_drawn": max(value["ship"], low), "hold_drawn": max(value["hold"], low)}
    text = "replace(format(datum.value * 100, '~g'), '-', '−') + ' %'"
    axis = alt.Axis(title=None, labelExpr=text, values=_ticks(low, high), labelOverlap=True)
    scale = alt.Scale(type="log", nice=False, domain=[low, high])
    x = alt.X("at:T", title=None, axis=alt.Axis(format="%-d %b", tickCount=6, labelOverlap=True))
    base = alt.Chart(data(values))
    tooltip = [
        alt.Tooltip("at:T", title="Look", format="%-d %b %Y"),
        alt.Tooltip("ship:Q", title="Expected loss of shipping", format=".3%"),
        alt.Tooltip("hold:Q", title="of not shipping", format=".3%"),
        alt.Tooltip("chance:Q", title="Chance to win", format=".1%"),
    ]

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=axis)

    layers: list[alt.Chart] = []
    if threshold:
        accepted = alt.Chart(data([{"accepted": threshold}]))
        layers.append(
            accepted.mark_rule(color=colour("good"), strokeWidth=2, strokeDash=[2, 3]).encode(y=y("accepted"))
        )
    layers += [
        base.mark_line(color=colour("muted"), strokeWidth=1.75, strokeDash=[5, 4]).encode(x=x, y=y("hold_drawn")),
        base.mark_line(color=colour("accent"), strokeWidth=2.25).encode(x=x, y=y("ship_drawn")),
        base.mark_point(color=colour("accent"), filled=True, size=36, opacity=1).encode(
            x=x, y=y("ship_drawn"), tooltip=tooltip
        ),
    ]
    return finish(
        alt.layer(*layers),
        height=220,
        description=f"{metric_name}: expected loss of shipping and of not shipping at {len(values)} looks",
    )
