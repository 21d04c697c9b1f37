"""Metrics by where their facts are: with Northlift (what was sent, files, DuckDB databases), or in a connection."""

from collections.abc import Mapping, Set

from experiments.definitions import Place, place_of
from experiments.metric import measures_of
from experiments.plan import BaselinePlan, PlannedMetric
from stats.formula import parse


def by_place(plan: BaselinePlan) -> dict[Place, BaselinePlan]:
    """The plan of each place, with the metrics that are measured there alone.

    One whose parts are in several places is in none of them: no unit's value can be made anywhere.
    """
    places = {source.key: place_of(source) for source in plan.fact_sources}
    found: dict[Place, BaselinePlan] = {}
    for place in sorted(set(places.values()), key=lambda one: one or ""):
        there = {key for key, of in places.items() if of == place}
        if metrics := _measured_by(plan.metrics, there):
            sources = [source for source in plan.fact_sources if source.key in there]
            found[place] = plan.model_copy(update={"metrics": metrics, "fact_sources": sources})
    return found


def _measured_by(metrics: list[PlannedMetric], sources: Set[str]) -> list[PlannedMetric]:
    """The metrics that need no other sources; formulas where all that they name are among them."""
    here: Mapping[str, PlannedMetric] = {
        item.metric_key: item
        for item in metrics
        if item.spec.formula is None and {each.fact_source for each in measures_of(item.spec).values()} <= sources
    }
    return [
        item
        for item in metrics
        if item.metric_key in here
        or (item.spec.formula is not None and set(parse(item.spec.formula).names) <= set(here))
    ]
