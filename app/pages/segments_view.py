"""Who differs: effects by segment, by two of them together, next to other experiments, and by days since exposure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from app.charts.ages import age_chart, relative
from app.charts.numbers import PERCENT, digits_for, percent
from app.charts.segments import segments
from app.charts.theme import Spec
from app.pages import formats
from app.pages.naming import Names
from app.pages.words import reason
from experiments.result import (
    AgeCurve,
    ExperimentResult,
    Heterogeneity,
    Interaction,
    SegmentEffect,
    SegmentModel,
)

CROSS: Final = " × "
STEPS: Final = 3
FEW_DAYS: Final = 2


@dataclass(frozen=True, slots=True)
class SegmentView:
    """One hierarchical model with the test of whether its segments differ; `chart` is None when it has no numbers."""

    name: str
    model: SegmentModel
    chart: Spec | None
    sentence: str
    reversed: bool


@dataclass(frozen=True, slots=True)
class HeatCell:
    """`shade` is a class of the style sheet: good or bad, in three steps; empty where nothing is known."""

    effect: SegmentEffect | None
    shade: str

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        bounds = (self.effect.hdi_lower, self.effect.hdi_upper) if self.effect else (None, None)
        return bounds[0] is not None and bounds[1] is not None and not bounds[0] <= 0 <= bounds[1]


@dataclass(frozen=True, slots=True)
class TwoWay:
    """A breakdown by two attributes; `others` are groups that belong to no cell."""

    name: str
    sentence: str
    reversed: bool
    first: str
    second: str
    columns: Sequence[str]
    lines: Sequence[tuple[str, Sequence[HeatCell]]]
    others: Sequence[SegmentEffect]
    effects: Sequence[SegmentEffect]


@dataclass(frozen=True, slots=True)
class AgeView:
    name: str
    curve: AgeCurve
    chart: Spec | None
    sentence: str
    lifts: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """One test of whether segments differ, for the table of all."""

    name: str
    found: Heterogeneity
    differs: bool


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Everything about who differs."""

    models: Sequence[SegmentView]
    two_way: Sequence[TwoWay]
    tests: Sequence[Difference]
    warnings: Sequence[str]
    interactions: Sequence[Interaction]
    interfering: int
    ages: Sequence[AgeView]

    @property
    def empty(self) -> bool:
        return not (self.models or self.two_way or self.tests or self.interactions or self.ages)


def breakdown(
    document: ExperimentResult, names: Names, first: Callable[[str, str], bool], level: float | None
) -> Breakdown:
    """`first` says which metric and variant come first; `level` is that of the intervals (0.95 without any)."""
    alpha = 1 - (level or 0.95)
    tests = {(h.metric_key, h.variant_key, h.dimension): h for h in document.heterogeneity}

    def ordered[Item: (SegmentModel, Heterogeneity, AgeCurve)](items: Sequence[Item]) -> list[Item]:
        return sorted(items, key=lambda item: not first(item.metric_key, item.variant_key))

    found = ordered(document.heterogeneity)
    return Breakdown(
        models=[
            _model(model, tests.get((model.metric_key, model.variant_key, model.dimension)), names, alpha)
            for model in ordered(document.segment_models)
        ],
        two_way=[_two_way(item, names, alpha) for item in found if item.effects],
        tests=[Difference(_of(item, names), item, _differs(item, alpha)) for item in found],
        warnings=[
            f"The overall effect on {names.comparison(item.metric_key, item.variant_key)} points against every segment "
            f"of {item.dimension}: the variants differ in who they hold (Simpson's paradox). Read the segments, not "
            "the total."
            for item in found
            if item.reversed
        ],
        interactions=sorted(document.interactions, key=_most_telling),
        interfering=sum(item.reported for item in document.interactions),
        ages=[_age(curve, names, alpha) for curve in ordered(document.age_curves)],
    )


def heterogeneity_sentence(found: Heterogeneity | None, alpha: float) -> str:
    """Whether segments differ, with the test; empty where there was none."""
    if found is None:
        return ""
    if found.q is None or found.p_value is None:
        return f"Whether segments of {found.dimension} differ cannot be tested. {reason(found.reason)}"
    differs = _differs(found, alpha)
    opening = (
        f"The effect differs between segments of {found.dimension}"
        if differs
        else f"No proof that the effect differs between segments of {found.dimension}"
    )
    corrected = (
        f", {formats.p_value(found.p_value_adjusted)} corrected for all such tests"
        if found.p_value_adjusted is not None
        else ""
    )
    spread = f", I² {formats.share(found.i_squared)}" if found.i_squared is not None else ""
    said = (
        f"{opening}: Q = {formats.number(found.q)} on {found.levels - 1} degrees of freedom, "
        f"{formats.p_equals(found.p_value)}{corrected}{spread}."
    )
    if found.reason:
        said += f" {reason(found.reason)}"
    if found.trend is not None:
        said += (
            f" From one level to the next the lift changes by {formats.change(found.trend)} "
            f"(log scale, {formats.p_equals(found.trend_p_value)})."
        )
    return said


def age_sentence(curve: AgeCurve, alpha: float) -> str:
    """Whether the effect moves with the days since exposure."""
    if curve.slope is None:
        return f"Its course cannot be estimated. {reason(curve.reason)}"
    digits = digits_for(4 * curve.slope_standard_error if curve.slope_standard_error else None)
    error = ""
    if curve.slope_standard_error is not None:
        error = f" ± {curve.slope_standard_error * 100:.{digits}f}{PERCENT}"
    moves = curve.p_value is not None and curve.p_value <= alpha
    opening = "The effect is not the same on all days" if moves else "No proof that the effect changes over the days"
    p = formats.p_equals(curve.p_value) if curve.p_value is not None else "no test"
    return f"{opening} ({p} that all are equal); the lift changes by {percent(curve.slope, digits)}{error} a day."


def _of(item: Heterogeneity | SegmentModel, names: Names) -> str:
    return f"{names.comparison(item.metric_key, item.variant_key)} by {item.dimension}"


def _differs(found: Heterogeneity, alpha: float) -> bool:
    """After correction, as everything that is called found."""
    p = found.p_value_adjusted if found.p_value_adjusted is not None else found.p_value
    return p is not None and p <= alpha


def _model(model: SegmentModel, test: Heterogeneity | None, names: Names, alpha: float) -> SegmentView:
    drawable = model.status == "ok" and bool(model.effects)
    return SegmentView(
        name=_of(model, names),
        model=model,
        chart=segments(model, metric_name=names.metric(model.metric_key)) if drawable else None,
        sentence=heterogeneity_sentence(test, alpha),
        reversed=test is not None and test.reversed,
    )


def _two_way(found: Heterogeneity, names: Names, alpha: float) -> TwoWay:
    first, _, second = found.dimension.partition(CROSS)
    cells: dict[tuple[str, str], SegmentEffect] = {}
    others: list[SegmentEffect] = []
    for effect in found.effects:
        parts = effect.segment.split(CROSS)
        if len(parts) == 2:
            cells[parts[0], parts[1]] = effect
        else:
            others.append(effect)
    down, across = list(dict.fromkeys(a for a, _ in cells)), list(dict.fromkeys(b for _, b in cells))
    reach = max((abs(_shown(effect) or 0.0) for effect in cells.values()), default=0.0)
    wanted = 1 if names.directions.get(found.metric_key, "increase") == "increase" else -1

    def cell(a: str, b: str) -> HeatCell:
        effect = cells.get((a, b))
        value = _shown(effect) if effect else None
        if value is None or reach == 0:
            return HeatCell(effect, "")
        step = max(1, min(STEPS, round(STEPS * abs(value) / reach + 0.49)))
        return HeatCell(effect, f"heat-{'good' if value * wanted > 0 else 'bad'}-{step}" if value else "")

    return TwoWay(
        name=_of(found, names),
        sentence=heterogeneity_sentence(found, alpha),
        reversed=found.reversed,
        first=first,
        second=second or "segment",
        columns=across,
        lines=[(a, [cell(a, b) for b in across]) for a in down],
        others=others,
        effects=found.effects,
    )


def _shown(effect: SegmentEffect) -> float | None:
    return effect.lift if effect.lift is not None else effect.raw_lift


def _age(curve: AgeCurve, names: Names, alpha: float) -> AgeView:
    lifts = relative(curve)
    known = sum((point.lift if lifts else point.difference) is not None for point in curve.points)
    metric = names.metric(curve.metric_key)
    return AgeView(
        name=names.comparison(curve.metric_key, curve.variant_key),
        curve=curve,
        chart=age_chart(curve, metric_name=metric) if known >= FEW_DAYS else None,
        sentence=age_sentence(curve, alpha),
        lifts=lifts,
    )


def _most_telling(item: Interaction) -> tuple[bool, float]:
    return (not item.reported, item.p_value if item.p_value is not None else 2.0)
