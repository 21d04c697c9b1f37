"""A series by segment: the largest segments as lines of their own, the others faint behind them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Final

import altair as alt

from app.charts.theme import LEVELS, ROWS, SERIES, Spec, Values, colour, finish

NAMED: Final = 4
"""Segments with a colour and a name of their own."""
MOST_LINES: Final = 16
MOST_PERIODS: Final = 366


def series_lines(
    periods: Sequence[datetime], values: Mapping[str, Sequence[float]], *, name: str, unit: str, grain: str
) -> Spec:
    """One line per segment, in the order given: the first ones coloured. Unknown values (nan) leave a gap."""
    start = max(0, len(periods) - MOST_PERIODS)
    times = [at.isoformat() if grain == "hour" else at.date().isoformat() for at in periods[start:]]
    rows: Values = []
    for place, (segment, line) in enumerate(list(values.items())[:MOST_LINES]):
        run = 0
        for at, value in zip(times, line[start:], strict=True):
            if isfinite(value):
                short = float(f"{value:.6g}")
                line_of = {"segment": segment, "place": place, "run": f"{place}-{run}"}
                rows.append({"at": at, "value": short, **line_of})
            else:
                run += 1
    x = alt.X("at:T", title=None, axis=alt.Axis(format=_form(grain, periods), tickCount=6, labelOverlap=True))
    y = alt.Y("value:Q", title=unit or None, axis=alt.Axis(labelExpr=LEVELS, tickCount=5), scale=alt.Scale(zero=False))
    base = alt.Chart(ROWS)
    tooltip = [
        alt.Tooltip("segment:N", title="Segment"),
        alt.Tooltip("at:T", title={"hour": "Hour", "day": "Day", "week": "Week of"}[grain], format="%-d %b %Y"),
        alt.Tooltip("value:Q", title=f"Value{f' ({unit})' if unit else ''}", format=",.5~g"),
    ]
    own = " : ".join(f"datum.place == {place} ? {tone}" for place, tone in enumerate(SERIES[1 : NAMED + 1]))
    layers = [
        base.transform_filter(f"datum.place >= {NAMED}")
        .mark_line(color=colour("muted"), strokeWidth=1, opacity=0.35)
        .encode(x=x, y=y, detail=alt.Detail("run:N")),
        *(
            base.transform_filter(f"datum.place == {place}")
            .mark_line(color=colour(tone), strokeWidth=1.75)
            .encode(x=x, y=y, detail=alt.Detail("run:N"))
            for place, tone in reversed(list(enumerate(SERIES[1 : NAMED + 1])))
        ),
        base.mark_point(filled=True, fill=alt.ExprRef(f"{own} : muted"), size=14, opacity=0.001).encode(
            x=x, y=y, tooltip=tooltip
        ),
    ]
    return finish(
        alt.layer(*layers),
        height=280,
        rows=rows,
        description=f"{name}: {len(values)} segments over {len(periods)} periods",
    )


def _form(grain: str, periods: Sequence[datetime]) -> str:
    long = bool(periods) and (periods[-1] - periods[0]).days > 400
    return "%b %Y" if long else "%-d %b %H:%M" if grain == "hour" and len(periods) < 72 else "%-d %b"
