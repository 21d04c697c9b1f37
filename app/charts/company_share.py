"""Share of the company's North Star that comes from people an experiment reached, week by week (METHODS E5)."""

from collections.abc import Sequence
from typing import Final

import altair as alt

from app.charts.theme import Spec, Values, colour, data, finish
from experiments.result import ReachWeek

Z80: Final = 1.2816
"""Half of an 80 % interval, in standard errors."""


def share_values(weeks: Sequence[ReachWeek]) -> Values:
    """One value per week, counted from 1 as people do, with its 80 % interval."""
    return [
        {
            "week": week.week + 1,
            "share": week.share,
            "lower": max(0.0, week.share - Z80 * week.share_standard_error),
            "upper": min(1.0, week.share + Z80 * week.share_standard_error),
        }
        for week in weeks
    ]


def share_chart(weeks: Sequence[ReachWeek], *, metric_name: str) -> Spec:
    """A bar per week from zero, with its interval; the last week is the one that the topline rests on."""
    values = share_values(weeks)
    base = alt.Chart(data(values))
    share = alt.Scale(domain=[0, 1], nice=False)
    percent = alt.Axis(title="Share of the company", format="%", tickCount=5)
    x = alt.X("week:O", title="Week of the experiment", axis=alt.Axis(labelAngle=0, labelOverlap=True))

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=share, axis=percent)

    tooltip = [
        alt.Tooltip("week:O", title="Week"),
        alt.Tooltip("share:Q", title="Share", format=".1%"),
        alt.Tooltip("lower:Q", title="from", format=".1%"),
        alt.Tooltip("upper:Q", title="to", format=".1%"),
    ]
    strength = alt.ExprRef(f"datum.week == {values[-1]['week']} ? 0.8 : 0.4")
    layers = [
        base.mark_bar(color=colour("accent"), opacity=strength, width={"band": 0.55}).encode(
            x=x, y=y("share"), tooltip=tooltip
        ),
        base.mark_rule(color=colour("ink"), strokeWidth=1.5).encode(x=x, y=y("lower"), y2=alt.Y2("upper:Q")),
    ]
    return finish(
        alt.layer(*layers),
        height=190,
        description=f"{metric_name}: share that comes from people reached, over {len(values)} weeks",
    )
