"""A small registry for tests of the services: facts, metrics, a North Star and a draft."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from experiments import experiment, fact_source, metric, north_star
from experiments.definitions import (
    EventSource,
    ExperimentSpec,
    InputMetric,
    Measure,
    MetricSpec,
    NorthStarSpec,
    PlanMetric,
    Role,
    Variant,
)
from experiments.tables import Experiment

AT = datetime(2026, 9, 1, tzinfo=UTC)
ORDERS = Measure(fact_source="orders")
ACTIVE = Measure(fact_source="orders", aggregation="any")


def mean(key: str, **changes: Any) -> MetricSpec:
    """Orders per user, under some key."""
    return MetricSpec(**{"key": key, "name": key, "kind": "mean", "measure": ORDERS} | changes)


def formula(key: str, text: str) -> MetricSpec:
    """A formula metric."""
    return MetricSpec(key=key, name=key, kind="formula", formula=text)


def draft(key: str = "draft", **changes: Any) -> ExperimentSpec:
    """An experiment that may start."""
    values: dict[str, Any] = {
        "key": key,
        "name": key,
        "variants": [Variant(key="b", weight=0.5), Variant(key="a", weight=0.5, is_control=True)],
        "metrics": [PlanMetric(metric_key="revenue", role=Role.PRIMARY)],
    }
    return ExperimentSpec(**values | changes)


async def open_shop(session: AsyncSession) -> Experiment:
    """Fill the registry; returns the draft."""
    who: dict[str, Any] = {"actor": "ada", "at": AT}
    await fact_source.create(session, spec=EventSource(key="orders", event="order"), **who)
    for key in ("orders", "revenue", "cost"):
        await metric.create(session, spec=mean(key), **who)
    await metric.create(session, spec=mean("active", kind="proportion", measure=ACTIVE, always_positive=True), **who)
    per_active = MetricSpec(key="per_active", name="x", kind="ratio", numerator=ORDERS, denominator=ACTIVE)
    await metric.create(session, spec=per_active, **who)
    await metric.create(session, spec=formula("profit", "(revenue - cost) / active"), **who)
    tree = NorthStarSpec(
        key="guide",
        name="Orders",
        metric_key="orders",
        formula="active * per_active",
        input_metrics=[InputMetric(metric_key="active"), InputMetric(metric_key="per_active")],
    )
    await north_star.create(session, spec=tree, **who)
    return await experiment.create(session, spec=draft(), **who)
