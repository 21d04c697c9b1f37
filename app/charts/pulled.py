"""Estimates and what a model makes of them: each alone, and each once it has heard the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from app.charts.numbers import bare, digits_for, percent
from app.charts.theme import Spec, Values, colour, data, finish, lift_axis, words_above, zero_line

FARTHEST = 1.5
"""Raw points farther from the believed intervals than this many of their range become arrows."""
ROW, BAND = 58, 96
"""Height of a row and of the band above all rows that a density may have, in px."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """One effect: the estimate alone (`raw`, hollow), and what is believed of it (`lift`, filled). Any may be missing.

    `numbers` replaces the believed lift and its interval at the right of the row.
    """

    label: str
    raw: float | None
    raw_lower: float | None
    raw_upper: float | None
    lift: float | None
    lower: float | None
    upper: float | None
    numbers: str = ""


def pulled_values(effects: Sequence[Pulled], *, above: int = 0) -> Values:
    """One value per effect with its vertical position in px; effects without an estimate keep their row."""
    values: Values = [
        {
            "y": above + position * ROW + 24,
            "label": effect.label,
            "raw": effect.raw,
            "raw_lower": effect.raw_lower,
            "raw_upper": effect.raw_upper,
            "lift": effect.lift,
            "lower": effect.lower,
            "upper": effect.upper,
            "numbers": effect.numbers or in_words(effect.lift, effect.lower, effect.upper),
        }
        for position, effect in enumerate(effects)
    ]
    return values


def in_words(lift: float | None, lower: float | None, upper: float | None) -> str:
    """A lift with its interval beside its row: `+3.1 %  (+1.1 to +5.0)`."""
    if lift is None:
        return "not estimable"
    if lower is None or upper is None:
        return percent(lift)
    digits = digits_for(upper - lower)
    return f"{percent(lift, digits)}  ({bare(lower, digits)} to {bare(upper, digits)})"


def pulled_domain(values: Values, mean: float | None) -> tuple[float, float]:
    """The lift axis: all believed intervals, and raw points that are not many times farther out.

    Raw intervals of tiny groups may leave the picture.
    """
    ends = [0.0, *([mean] if mean is not None else [])]
    ends += [value[name] for value in values for name in ("lower", "upper") if value[name] is not None]
    raw = [value["raw"] for value in values if value["raw"] is not None]
    low, high = min(ends), max(ends)
    reach = FARTHEST * (high - low) if high > low else max((abs(value) for value in raw), default=0.1)
    near = [value for value in raw if low - reach <= value <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    padding = 0.12 * ((high - low) or 0.1)
    return (low - padding, high + padding)


def pulled_forest(
    effects: Sequence[Pulled],
    *,
    description: str,
    mean: float | None = None,
    crowd: Sequence[tuple[float, float]] = (),
    axis_title: str = "Lift against control",
) -> Spec:
    """Hollow point and thin line: the estimate alone. Filled point and thick line: what is believed of it.

    `mean` is drawn as a dashed line. `crowd` (lift, density) is where a further effect would lie: a density above all.
    """
    above = BAND if crowd else 0
    values = pulled_values(effects, above=above)
    height = above + len(values) * ROW + 8
    low, high = pulled_domain(values, mean)
    for value in values:  # a point beyond the axis is an arrow at its end
        beyond = value["raw"] is not None and not low <= value["raw"] <= high
        value["edge"] = None if not beyond else low if value["raw"] < low else high
        value["raw_drawn"] = None if beyond else value["raw"]
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    y_scale = alt.Scale(domain=[0, height], range=[0, height], nice=False, zero=False)
    axis = lift_axis(axis_title)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=axis)

    def y(field: str = "row") -> alt.Y:
        return alt.Y(f"{field}:Q", scale=y_scale, axis=None)

    def at(offset: int, needs: str) -> alt.Chart:
        return (
            alt.Chart(data(values))
            .transform_calculate(row=f"datum.y + {offset}")
            .transform_filter(f"isValid(datum.{needs})")
        )

    raw, believed, all_rows = at(5, "raw_drawn"), at(15, "lift"), at(0, "y")
    layers: list[alt.Chart] = []
    if crowd:
        top = max(density for _, density in crowd) or 1.0
        curve = [
            {"lift": lift, "high": above - 14 - (above - 24) * density / top, "foot": above - 14}
            for lift, density in crowd
            if low <= lift <= high
        ]
        layers.append(
            alt.Chart(data(curve))
            .mark_area(color=colour("accent"), opacity=0.25, clip=True)
            .encode(x=x("lift"), y=y("high"), y2=alt.Y2("foot:Q"))
        )
    layers.append(zero_line())
    if mean is not None:
        line = alt.Chart(data([{"mean": mean}]))
        layers.append(line.mark_rule(color=colour("accent"), strokeDash=[4, 4], strokeWidth=1.25).encode(x=x("mean")))
    layers += [
        at(5, "raw_lower")
        .mark_rule(color=colour("muted"), strokeWidth=1.25, clip=True)
        .encode(x=x("raw_lower"), x2=alt.X2("raw_upper:Q"), y=y()),
        raw.mark_point(
            filled=True, fill=colour("surface"), stroke=colour("muted"), strokeWidth=1.5, size=40, opacity=1
        ).encode(x=x("raw_drawn"), y=y()),
        at(5, "edge")
        .mark_text(text=alt.ExprRef(f"datum.edge > {low} ? '▸' : '◂'"), fontSize=15, color=colour("muted"))
        .encode(x=x("edge"), y=y()),
        believed.mark_rule(color=colour("accent"), strokeWidth=6, strokeCap="round", opacity=0.4, clip=True).encode(
            x=x("lower"), x2=alt.X2("upper:Q"), y=y()
        ),
        believed.mark_point(filled=True, fill=colour("accent"), stroke=colour("surface"), size=60, opacity=1).encode(
            x=x("lift"), y=y()
        ),
        *words_above(all_rows, y(), "label", align="left", dy=-14, size=13, width=0.5),
        *words_above(all_rows, y(), "numbers", align="right", dy=-14, size=12, width=0.5),
    ]
    return finish(alt.layer(*layers), height=height, description=description)
