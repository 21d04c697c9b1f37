"""The compiled road and the embedded road say the same: every number of a pass, on random worlds with everything on."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.columns import layout
from experiments.definitions import Measure, MetricSpec, Role, Trigger
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from stats.moments import Moments
from stats.quantile import QuantileSummary
from tests.warehouse.cases import DAY, START
from tests.warehouse.plain import CLOSED, OPEN, plan_with, random_world
from warehouse.data_slice import DataSlice
from warehouse.engines.embedded import DuckDBEngine
from warehouse.extract import extract_experiment
from warehouse.relational_moments import extract_relational


def orders(aggregation: str = "sum", **fields: Any) -> Measure:
    return Measure.model_validate({"fact_source": "orders", "aggregation": aggregation, **fields})


def visits(aggregation: str = "count", **fields: Any) -> Measure:
    return Measure.model_validate({"fact_source": "visits", "aggregation": aggregation, **fields})


def metric(key: str, kind: str = "mean", **fields: Any) -> MetricSpec:
    given = {"key": key, "name": key, "kind": kind, "window_days": 3, "pre_period_days": 4}
    return MetricSpec.model_validate({**given, **fields})


LARGE = {"column": "value", "op": ">", "value": 4}
EVERY_KIND = (
    *CLOSED,
    metric("largest", measure=orders("max")),
    metric("last", measure=orders("last")),
    metric("days", measure=visits("distinct_days")),
    metric("buyers", "proportion", measure=orders("any", filters=[LARGE]), window_days=2),
    metric("capped", measure=orders(), cap={"value": 7}),
    metric("winsorised", measure=orders(), cap={"quantile": 0.9}),
    metric("winsorised_before", measure=orders(), cap={"quantile": 0.95, "basis": "pre_period"}),
    metric("answers", "survey", measure=orders("count"), pre_period_days=0),
    metric("back", "retention", measure=visits(), delay_days=1, pre_period_days=3),
    metric("back_after_order", "retention", measure=visits(), start=orders("count"), start_within_days=2),
    metric(
        "funnel",
        "funnel",
        steps=[{"measure": visits()}, {"measure": orders("count"), "within_days": 1}, {"measure": visits()}],
    ),
    metric("began", "funnel", funnel_of="first_step", steps=[{"measure": orders("any")}, {"measure": visits()}]),
    metric("active", "participation", measure=visits()),
    metric("covered", measure=orders(), covariates=[visits(), orders("max")]),
    metric("visits", measure=visits(), likelihood="negative_binomial"),
    metric("spend", measure=orders("max"), likelihood="hurdle_lognormal", cap={"value": 8}),
    metric("median", "quantile", measure=orders(), quantile=0.5, pre_period_days=0),
)


def both(plan: AnalysisPlan, data: DataSlice) -> tuple[MomentSet, MomentSet]:
    engine = DuckDBEngine()
    try:
        return extract_relational(plan, data, engine), extract_experiment(plan, data)
    finally:
        engine.close()


def assert_equal(found: MomentSet, wanted: MomentSet, *, without: Sequence[str] = ("reach",)) -> None:
    """Everything but `without` and the hash buckets, which are other buckets."""
    for item in fields(MomentSet):
        if item.name in without or item.name in ("buckets", "clusters"):
            continue
        _same(getattr(found, item.name), getattr(wanted, item.name), item.name)
    if wanted.buckets is not None:
        assert found.buckets is not None
        np.testing.assert_array_equal(found.buckets.count.sum(axis=0), wanted.buckets.count.sum(axis=0))
        totals = [(one.count[..., None] * one.mean).sum(axis=0) for one in (found.buckets, wanted.buckets)]
        np.testing.assert_allclose(*totals, rtol=1e-9, atol=1e-9)
    assert (found.clusters is None) == (wanted.clusters is None)
    if found.clusters is not None and wanted.clusters is not None:
        rows = [
            sorted([arm, *np.round(values, 9)] for arm, values in zip(one.variant, one.values, strict=True))
            for one in (found.clusters, wanted.clusters)
        ]
        np.testing.assert_allclose(*rows, rtol=1e-9, atol=1e-8)


def assert_same_moments(found: Moments, wanted: Moments) -> None:
    """Equal to 1e-9 of the spread of all units: sums are taken about one centre for all cells."""
    np.testing.assert_array_equal(found.count, wanted.count)
    n = np.maximum(wanted.count, 1)[..., None]
    mean_squares = np.diagonal(wanted.comoment, axis1=-2, axis2=-1) / n + wanted.mean**2
    size = np.sqrt(mean_squares.max(axis=tuple(range(n.ndim - 1)), initial=0.0))
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-9, atol=1e-12)
    close = 1e-9 * n * size**2
    assert (np.abs(found.comoment - wanted.comoment) <= 1e-9 * n[..., None] * np.outer(size, size) + 1e-12).all()
    assert (np.abs(found.third - wanted.third) <= close * size + 1e-12).all()


def _same(found: Any, wanted: Any, name: str) -> None:
    if isinstance(wanted, Moments):
        assert_same_moments(found, wanted)
    elif isinstance(wanted, np.ndarray):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, err_msg=name)
    elif isinstance(wanted, dict):
        assert set(found) == set(wanted), name
        for key, value in wanted.items():
            _same(found[key], value, f"{name} of {key}")
    elif hasattr(wanted, "__dataclass_fields__"):
        for item in fields(wanted):
            if isinstance(wanted, QuantileSummary) and item.name == "tied":
                continue
            _same(getattr(found, item.name), getattr(wanted, item.name), f"{name}.{item.name}")
    else:
        assert found == wanted, name


def test_both_roads_agree_on_every_kind_of_metric(tmp_path: Path) -> None:
    world = random_world(tmp_path, 1, units=150)
    plan = plan_with(
        EVERY_KIND,
        segments=["country", "platform"],
        two_way_segments=[("country", "platform")],
        stratify_by=["platform"],
    )
    assert layout([one.spec for one in plan.metrics]).columns
    assert_equal(*both(plan, world.data))


@pytest.mark.parametrize("options", [{}, {"stratify_by": ["platform"]}])
def test_both_roads_agree_on_clusters(tmp_path: Path, options: dict[str, Any]) -> None:
    world = random_world(tmp_path, 2, clustered=True, units=120)
    plan = plan_with((*CLOSED, EVERY_KIND[7]), segments=["country"], cluster="account", **options)
    assert_equal(*both(plan, world.data))


@pytest.mark.parametrize("options", [{}, {"cluster": "account"}, {"stratify_by": ["platform"]}])
def test_both_roads_agree_when_values_change_with_the_look(tmp_path: Path, options: dict[str, Any]) -> None:
    world = random_world(tmp_path, 3, units=60, clustered="cluster" in options, data_as_of=START + 8 * DAY)
    assert_equal(*both(plan_with((CLOSED[0], OPEN), segments=["country"], **options), world.data))


def test_both_roads_agree_on_triggers(tmp_path: Path) -> None:
    world = random_world(tmp_path, 4, units=100)
    trigger = Trigger.model_validate({"fact_source": "visits", "filters": [LARGE]})
    assert_equal(*both(plan_with((*CLOSED, EVERY_KIND[13]), segments=["country"], trigger=trigger), world.data))


def test_both_roads_agree_on_effects_by_day(tmp_path: Path) -> None:
    world = random_world(tmp_path, 9, units=60)
    plan = plan_with([metric("revenue", measure=orders(), delay_days=0.5), metric("seen", measure=visits())])
    primary = [one.model_copy(update={"role": Role.PRIMARY}) for one in plan.metrics]
    found, wanted = both(plan.model_copy(update={"metrics": primary}), world.data)
    assert set(wanted.by_age) == {"revenue", "seen"}
    assert_equal(found, wanted)
