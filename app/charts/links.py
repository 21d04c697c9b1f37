"""An input against the North Star across experiments: the cloud with its leaning errors, and slopes through it."""

from collections.abc import Mapping, Sequence
from math import cos, expm1, log, pi, sin, sqrt

import altair as alt

from app.charts.theme import ROWS, Spec, Values, colour, data, finish, lift_axis, words_above, zero_line
from experiments.result import LinkEstimate, LinkPoint

INSIDE = 0.5
"""Each ellipse holds the true effects of its experiment with this chance, were all effects as likely beforehand."""
CORNERS = 33
MOST_ELLIPSES = 80
ROW = 40


def ellipse(point: LinkPoint, share: float = INSIDE) -> list[tuple[float, float]]:
    """Corners (input, North Star) of a closed contour of both errors together, as log lifts."""
    size = sqrt(-2 * log(1 - share))
    lean = point.error_correlation
    across = sqrt(max(0.0, 1 - lean**2))
    turns = [2 * pi * step / (CORNERS - 1) for step in range(CORNERS)]
    return [
        (
            point.input_log_lift + size * point.input_standard_error * cos(turn),
            point.north_star_log_lift
            + size * point.north_star_standard_error * (lean * cos(turn) + across * sin(turn)),
        )
        for turn in turns
    ]


def drawn_ellipses(points: Sequence[LinkPoint]) -> list[LinkPoint]:
    """Of many experiments those that were measured best."""
    return sorted(points, key=lambda each: each.input_standard_error * each.north_star_standard_error)[:MOST_ELLIPSES]


def link_scatter(link: LinkEstimate, *, input_name: str, north_star_name: str) -> Spec:
    """Ellipses: what an experiment measured. Dashed: the slope of the raw cloud. Solid, in a band: of true effects.

    Both go through the centre of the cloud: what experiments do on average says nothing of what a move is worth.
    """
    points = link.points
    xs = [each.input_log_lift for each in points]
    ys = [each.north_star_log_lift for each in points]
    rows: Values = [
        {
            "x": expm1(each.input_log_lift),
            "y": expm1(each.north_star_log_lift),
            "name": each.name,
            "lean": each.error_correlation,
        }
        for each in points
    ]
    rings: Values = [
        {"x": expm1(at), "y": expm1(height), "which": each.experiment_key, "corner": corner}
        for each in drawn_ellipses(points)
        for corner, (at, height) in enumerate(ellipse(each))
    ]
    left, right = _range(xs, [each.input_standard_error for each in points])
    low, high = _range(ys, [each.north_star_standard_error for each in points])
    steps = [left + (right - left) * step / 40 for step in range(41)]
    middle, level = (sum(each) / max(len(each), 1) for each in (xs, ys))

    def through_the_centre(slope: float, at: float) -> float:
        return expm1(level + slope * (at - middle))

    naive: Values = []
    if link.naive_slope is not None:
        naive = [{"x": expm1(at), "y": through_the_centre(link.naive_slope, at)} for at in steps]
    believed: Values = []
    if link.slope is not None and link.slope_lower_80 is not None and link.slope_upper_80 is not None:
        for at in steps:
            lower, upper = (through_the_centre(each, at) for each in (link.slope_lower_80, link.slope_upper_80))
            believed.append({"x": expm1(at), "y": through_the_centre(link.slope, at), "lower": lower, "upper": upper})
    x = alt.X(
        "x:Q",
        scale=alt.Scale(domain=[expm1(left), expm1(right)], nice=False, zero=False),
        axis=lift_axis(f"Effect on {input_name}", grid=False),
    )
    tall = alt.Scale(domain=[expm1(low), expm1(high)], nice=False, zero=False)
    # The name of the North Star stands above the picture: turned by its side it would not be read on a phone.
    y_axis = lift_axis(None)

    def y(field: str = "y") -> alt.Y:
        return alt.Y(f"{field}:Q", scale=tall, axis=y_axis)

    slope = "accent" if link.usable else "muted"
    tooltip = [
        alt.Tooltip("name:N", title="Experiment"),
        alt.Tooltip("x:Q", title=input_name, format="+.2%"),
        alt.Tooltip("y:Q", title=north_star_name, format="+.2%"),
        alt.Tooltip("lean:Q", title="Correlation of errors", format=".2f"),
    ]
    layers = [
        alt.Chart(alt.NamedData(name="rings"))
        .mark_line(color=colour("muted"), strokeWidth=1, opacity=0.35, clip=True)
        .encode(x=x, y=y(), detail=alt.Detail("which:N"), order=alt.Order("corner:Q")),
        zero_line("y"),
        zero_line("x"),
        alt.Chart(alt.NamedData(name="believed"))
        .mark_area(color=colour(slope), opacity=0.2, clip=True)
        .encode(x=x, y=y("lower"), y2=alt.Y2("upper:Q")),
        alt.Chart(alt.NamedData(name="naive"))
        .mark_line(color=colour("series2"), strokeWidth=1.75, strokeDash=[5, 4], clip=True)
        .encode(x=x, y=y()),
        alt.Chart(alt.NamedData(name="believed"))
        .mark_line(color=colour(slope), strokeWidth=2.5, clip=True)
        .encode(x=x, y=y()),
        alt.Chart(ROWS)
        .mark_point(filled=True, fill=colour("ink"), size=26, opacity=0.9, clip=True)
        .encode(x=x, y=y(), tooltip=tooltip),
    ]
    spec = finish(
        alt.layer(*layers),
        height=340,
        rows=rows,
        description=f"Effects of {len(points)} experiments on {input_name} and on {north_star_name}, with slopes",
    )
    # By name: Altair checks every value of inline data against its schema, which takes seconds for corners of ellipses.
    spec["datasets"] |= {"rings": rings, "believed": believed, "naive": naive}
    return spec


def team_slopes(slopes: Mapping[str, float], *, slope: float, lower: float, upper: float, input_name: str) -> Spec:
    """The slope when each team is left out, in the 80 % band of the slope with all of them."""
    rows: Values = [
        {
            "y": place * ROW + 29,
            "team": f"Without {team}",
            "slope": value,
            "numbers": f"{value:.2f}".replace("-", "−"),
            "inside": lower <= value <= upper,
        }
        for place, (team, value) in enumerate(sorted(slopes.items(), key=lambda item: -item[1]))
    ]
    ends = [0.0, lower, upper, *slopes.values()]
    padding = 0.06 * ((max(ends) - min(ends)) or 1.0)
    scale = alt.Scale(domain=[min(ends) - padding, max(ends) + padding], nice=False, zero=False)
    height = len(rows) * ROW + 8
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False), axis=None)

    def x(field: str) -> alt.X:
        axis = alt.Axis(title=f"Slope, 1 % of {input_name} in % of the North Star", tickCount=5, format="~g")
        return alt.X(f"{field}:Q", scale=scale, axis=axis)

    base = alt.Chart(ROWS)
    band = alt.Chart(data([{"lower": lower, "upper": upper, "slope": slope}]))
    layers = [
        band.mark_rect(color=colour("accent"), opacity=0.14).encode(x=x("lower"), x2=alt.X2("upper:Q")),
        zero_line(),
        band.mark_rule(color=colour("accent"), strokeDash=[4, 4]).encode(x=x("slope")),
        base.mark_point(
            filled=True, fill=alt.ExprRef("datum.inside ? accent : warn"), stroke=colour("surface"), size=70, opacity=1
        ).encode(x=x("slope"), y=y),
        *words_above(base, y, "team", align="left", dy=-14, size=12.5, beside="numbers"),
        *words_above(base, y, "numbers", align="right", dy=-14, size=12),
    ]
    return finish(
        alt.layer(*layers),
        height=height,
        rows=rows,
        description=f"Slope of {input_name} when each of {len(rows)} teams is left out",
    )


def _range(values: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """All points with their usual errors: a few that were hardly measured do not flatten the rest."""
    if not values:
        return -0.05, 0.05
    usual = sorted(errors)[len(errors) // 2]
    low, high = min([0.0, *values]) - usual, max([0.0, *values]) + usual
    padding = 0.03 * ((high - low) or 0.1)
    return low - padding, high + padding
