"""What the data did to our beliefs: the posterior of the lift over the prior it started from."""

import altair as alt

from app.charts.theme import Spec, Values, colour, data, finish, lift_axis, zero_line
from experiments.result import Density


def density_values(density: Density, *, direction: str) -> Values:
    """One value per grid point; `good` marks the lifts in the wanted direction."""
    sign = 1 if direction == "increase" else -1
    return [
        {"lift": lift, "posterior": posterior, "prior": prior, "good": sign * lift > 0}
        for lift, posterior, prior in zip(density.lift, density.posterior, density.prior, strict=True)
    ]


def posterior(density: Density, *, direction: str, metric_name: str) -> Spec:
    """The posterior as a filled area split at no effect, the prior as a dashed line on the same grid of lifts."""
    values = density_values(density, direction=direction)
    base = alt.Chart(data(values))
    x = alt.X("lift:Q", axis=lift_axis("Lift", grid=False), scale=alt.Scale(nice=False, zero=False))
    y = alt.Y("posterior:Q", axis=None)

    def side(condition: str, name: str) -> alt.Chart:
        area: alt.Chart = base.transform_filter(condition).mark_area(color=colour(name), opacity=0.32).encode(x=x, y=y)
        return area

    layers = [
        side("datum.good", "good"),
        side("!datum.good", "bad"),
        base.mark_line(color=colour("ink"), strokeWidth=1.75).encode(x=x, y=y),
        base.mark_line(color=colour("muted"), strokeWidth=1.5, strokeDash=[5, 4]).encode(
            x=x, y=alt.Y("prior:Q", axis=None)
        ),
        zero_line(),
    ]
    return finish(
        alt.layer(*layers), height=200, description=f"{metric_name}: posterior density of the lift with its prior"
    )
