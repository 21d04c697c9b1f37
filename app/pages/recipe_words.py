"""A metric's recipe in words: which facts, of whom, when."""

from typing import assert_never

from app.pages.formats import plural
from experiments.definitions import Measure, MetricSpec


def recipe(spec: MetricSpec) -> str:
    """One sentence without its full stop; empty where nothing is read from facts (formulas, summaries)."""
    match spec.kind:
        case "retention":
            return _retention(spec)
        case "funnel":
            return _funnel(spec)
        case "participation":
            return f"share of {_span(spec)} with {_facts(spec.measure)}"
        case "proportion":
            return "" if spec.measure is None else f"units with {_facts(spec.measure)}, {_span(spec)}"
        case "ratio":
            return f"{_measured(spec.numerator)} over {_measured(spec.denominator)}, {_span(spec)}"
        case "mean" | "quantile" | "survey":
            return "" if spec.measure is None else f"{_measured(spec.measure)}, {_span(spec)}"
        case "formula":
            return ""
        case _:
            assert_never(spec.kind)


def _retention(spec: MetricSpec) -> str:
    if spec.start is None:
        return f"units with {_facts(spec.measure)}, {_span(spec)}"
    start = f"of units with {_facts(spec.start)} within {_days(spec.start_within_days)}"
    return f"{start}, those with {_facts(spec.measure)} in {_span(spec).replace('exposure', 'the first of these')}"


def _funnel(spec: MetricSpec) -> str:
    steps = [
        (step.name or _facts(step.measure))
        + (f" within {_days(step.within_days)}" if step.within_days is not None else "")
        for step in spec.steps
    ]
    whom = "units" if spec.funnel_of == "units" else "those who take the first step"
    return f"{', then '.join(steps)}: share of {whom}, {_span(spec)}"


def _measured(measure: Measure | None) -> str:
    assert measure is not None
    what = {
        "sum": f"sum of {measure.column} of",
        "count": "number of",
        "max": f"largest {measure.column} of",
        "last": f"last {measure.column} of",
        "distinct_days": "days with",
        "any": "units with",
    }[measure.aggregation]
    return f"{what} {_facts(measure)}"


def _facts(measure: Measure | None) -> str:
    """The fact source with its filters."""
    assert measure is not None
    tests = [f"{item.column} {item.op} {item.value}" for item in measure.filters]
    return measure.fact_source + (f" with {' and '.join(tests)}" if tests else "")


def _span(spec: MetricSpec) -> str:
    if spec.window_days is None:
        return "until the look"
    if spec.delay_days == 0:
        return f"{_days(spec.window_days)} from exposure on"
    return f"days {spec.delay_days:g} to {spec.delay_days + spec.window_days:g} after exposure"


def _days(days: float) -> str:
    return plural(int(days), "day") if days == int(days) else f"{days:g} days"
