"""A group-sequential design and its course: the statistic at every look against the bounds that would stop it."""

import altair as alt

from app.charts.theme import Spec, Values, colour, data, finish, zero_line
from experiments.result import SequentialMonitor

WORDS = {"efficacy": "better", "harm": "worse", "futility": "futile"}


def crossing(monitor: SequentialMonitor) -> int | None:
    """The position of the look that stopped the design."""
    if monitor.stopped_at is None:
        return None
    taken = [i for i, look in enumerate(monitor.looks) if look.at == monitor.stopped_at]
    return taken[0] if taken else None


def monitor_values(monitor: SequentialMonitor) -> Values:
    """One value per look, taken and planned; bounds beyond reach are missing."""
    stop = crossing(monitor)
    return [
        {
            "fraction": look.information_fraction,
            "upper": look.upper,
            "lower": None if look.upper is None else -look.upper,
            "futility": look.futility,
            "z": look.z,
            "at": None if look.at is None else look.at.isoformat(),
            "look": i + 1,
            "stops": i == stop,
            "word": f"look {i + 1}: {WORDS.get(monitor.stopped_for or '', '')}" if i == stop else "",
        }
        for i, look in enumerate(monitor.looks)
    ]


def monitor_chart(monitor: SequentialMonitor, *, direction: str, metric_name: str) -> Spec:
    """z against information: bounds as lines, looks so far as a path, the crossing ringed."""
    values = monitor_values(monitor)
    seen = [abs(value[name]) for value in values for name in ("upper", "futility", "z") if value[name] is not None]
    # Early bounds of conservative spending lie far out: they may leave the picture, what was seen may not.
    reached = [abs(value["z"]) for value in values if value["z"] is not None]
    reach = max([3.0, *(1.15 * z for z in reached), *(min(end, 6.0) for end in seen)]) + 0.4
    last = max([1.0, *(value["fraction"] for value in values)])
    x = alt.X(
        "fraction:Q",
        axis=alt.Axis(title="Information, as a share of the planned", format=".0%", tickCount=5, grid=False),
        scale=alt.Scale(domain=[0, last * 1.03], nice=False, zero=True),
    )
    y_scale = alt.Scale(domain=[-reach, reach], nice=False, zero=False)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=y_scale, axis=alt.Axis(title="Statistic (z)", tickCount=7))

    base = alt.Chart(data(values))
    tooltip = [
        alt.Tooltip("look:Q", title="Look"),
        alt.Tooltip("at:T", title="On", format="%-d %b %Y"),
        alt.Tooltip("fraction:Q", title="Information", format=".1%"),
        alt.Tooltip("z:Q", title="z", format=".2f"),
        alt.Tooltip("upper:Q", title="Bound", format=".2f"),
    ]
    better, worse = ("upper", "lower") if direction == "increase" else ("lower", "upper")

    def bound(field: str, name: str, dash: list[int]) -> list[alt.Chart]:
        known = base.transform_filter(f"isValid(datum.{field})")
        return [
            known.mark_line(color=colour(name), strokeWidth=2, strokeDash=dash, clip=True).encode(x=x, y=y(field)),
            known.mark_point(
                shape="diamond", filled=True, fill=colour(name), size=34, opacity=1, clip=True, strokeWidth=0
            ).encode(x=x, y=y(field), tooltip=tooltip),
        ]

    looks = base.transform_filter("isValid(datum.z)")
    layers: list[alt.Chart] = [
        zero_line("y"),
        *bound(better, "good", [1, 0]),
        *bound(worse, "bad", [1, 0]),
        *bound("futility", "warn", [5, 4]),
        looks.mark_line(color=colour("accent"), strokeWidth=2.25, clip=True).encode(x=x, y=y("z")),
        looks.mark_point(filled=True, fill=colour("accent"), size=60, opacity=1, clip=True, strokeWidth=0).encode(
            x=x, y=y("z"), tooltip=tooltip
        ),
        base.transform_filter("datum.stops")
        .mark_point(filled=False, stroke=colour("ink"), strokeWidth=2, size=260, opacity=1, clip=True)
        .encode(x=x, y=y("z"), tooltip=tooltip),
        base.transform_filter("datum.stops")
        .mark_text(align="center", dy=alt.ExprRef("datum.z > 0 ? -20 : 20"), fontWeight=600, color=colour("ink"))
        .encode(x=x, y=y("z"), text=alt.Text("word:N")),
    ]
    taken = sum(look.z is not None for look in monitor.looks)
    stopped = f", stopped for {monitor.stopped_for}" if monitor.stopped_for else ""
    description = f"{metric_name}: statistic at {taken} of {len(values)} looks against its bounds{stopped}"
    return finish(alt.layer(*layers), height=300, description=description)
