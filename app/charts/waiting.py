"""What more data are worth: the expected net gain of testing on, by days (METHODS H4)."""

import altair as alt

from app.charts.theme import Spec, Values, colour, data, finish, zero_line
from experiments.result import WaitingValue


def waiting_values(waiting: WaitingValue) -> Values:
    """One value per number of days."""
    return [{"days": point.days, "gain": point.net_gain} for point in waiting.curve]


def waiting_chart(waiting: WaitingValue, *, metric_name: str) -> Spec:
    """The net gain in days of the metric; the best number of days is marked where waiting pays."""
    base = alt.Chart(data(waiting_values(waiting)))
    x = alt.X(
        "days:Q",
        title="Days more of testing",
        scale=alt.Scale(nice=False),
        axis=alt.Axis(tickCount=6, labelOverlap=True),
    )

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title="Net gain, in days of the metric", axis=alt.Axis(tickCount=4, format="~g"))

    layers = [
        zero_line("y"),
        base.mark_line(color=colour("accent"), strokeWidth=2.25).encode(
            x=x,
            y=y("gain"),
            tooltip=[
                alt.Tooltip("days:Q", title="Days more", format=",.0f"),
                alt.Tooltip("gain:Q", title="Net gain in days of the metric", format=".3~f"),
            ],
        ),
    ]
    if waiting.days_worth_waiting and waiting.net_gain is not None:
        best = alt.Chart(data([{"days": waiting.days_worth_waiting, "gain": waiting.net_gain}]))
        layers.append(
            best.mark_rule(color=colour("good"), strokeDash=[4, 3], strokeWidth=1.25).encode(x=x)  # where it is best
        )
        layers.append(best.mark_point(color=colour("good"), filled=True, size=90, opacity=1).encode(x=x, y=y("gain")))
    return finish(
        alt.layer(*layers), height=220, description=f"{metric_name}: expected net gain of testing on, by days"
    )
