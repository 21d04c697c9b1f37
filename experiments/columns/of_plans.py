"""What plans ask for besides the moments of their metrics."""

from collections import deque
from typing import NamedTuple

from experiments.columns.column import Column
from experiments.columns.placing import layout
from experiments.definitions import MetricSpec, Role
from experiments.plan import AnalysisPlan
from stats.formula import parse

MOST_AGED = 4
AGED_DAYS = (2, 28)
"""Curves by age are for the few metrics that matter, with windows of this many whole days."""


class AgedMetric(NamedTuple):
    """A metric to follow over the `days` of its window; `column` is its column in the layout."""

    metric_key: str
    column: Column
    days: int


def aged(plan: AnalysisPlan) -> tuple[AgedMetric, ...]:
    """The metrics whose effect by days since exposure is looked at (METHODS E6), at most `MOST_AGED`.

    The North Star's metric and the primary metrics, where they are means of sums or counts over a closed window of 2 to
    28 whole days. None with clustered randomisation, where a day's mean is a ratio.
    """
    if plan.cluster is not None:
        return ()
    star = plan.north_star.spec.metric_key if plan.north_star is not None else None
    wanted = sorted(
        (metric for metric in plan.metrics if metric.metric_key == star or metric.role == Role.PRIMARY),
        key=lambda metric: metric.metric_key != star,
    )
    places = layout([metric.spec for metric in plan.metrics])
    found = []
    for spec in (metric.spec for metric in wanted):
        summed = spec.kind == "mean" and spec.measure is not None and spec.measure.aggregation in ("sum", "count")
        days = spec.window_days
        if summed and days is not None and days == int(days) and AGED_DAYS[0] <= days <= AGED_DAYS[1]:
            found.append(AgedMetric(spec.key, places.columns[places.metrics[spec.key].value], int(days)))
    return tuple(found[:MOST_AGED])


def company_specs(plan: AnalysisPlan) -> dict[str, MetricSpec]:
    """The North Star's metric as the company counts it, outcomes without caps, and those its formula depends on (E5).

    Empty without a North Star, and where it depends on a metric that is no function of totals.
    """
    known = {metric.metric_key: metric.spec for metric in plan.metrics}
    found: dict[str, MetricSpec] = {}
    left = deque([] if plan.north_star is None else [plan.north_star.spec.metric_key])
    while left:
        key = left.popleft()
        spec = known.get(key)
        if spec is None or not spec.adds_up:
            return {}
        if key not in found:
            found[key] = spec.model_copy(update={"pre_period_days": 0, "cap": None})
            left += parse(spec.formula).names if spec.formula is not None else ()
    return found


class ModelledMetric(NamedTuple):
    """A metric whose likelihood is about the values of single units; `column` is its column's place in the layout."""

    metric_key: str
    likelihood: str
    column: int


def modelled(plan: AnalysisPlan) -> tuple[ModelledMetric, ...]:
    """The metrics with a likelihood of their own (METHODS C2) that the plan is about: monitors are only watched.

    None without the Bayesian engine, and none in summaries, which know no single units.
    """
    if plan.estimation.engine == "frequentist" or plan.data == "summary":
        return ()
    places = layout([metric.spec for metric in plan.metrics]).metrics
    return tuple(
        ModelledMetric(metric.metric_key, metric.spec.likelihood, places[metric.metric_key].value)
        for metric in plan.metrics
        if metric.spec.likelihood != "lift" and metric.role is not Role.MONITOR
    )
