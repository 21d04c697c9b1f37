"""A small shop with an experiment, recorded through the service's own functions, and its numbers computed by hand."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from experiments import experiment, fact_source, lifecycle, metric, north_star
from experiments.database import Database
from experiments.definitions import ExperimentSpec, FactSourceSpec, MetricSpec, NorthStarSpec
from experiments.settings import Settings
from experiments.tables import Experiment
from warehouse.ingest import ingest

SOURCES: list[dict[str, Any]] = [
    {"kind": "events", "key": "sessions", "event": "session"},
    {"kind": "events", "key": "orders", "event": "order"},
]
METRICS: list[dict[str, Any]] = [
    {
        "key": "active_users",
        "name": "Active users",
        "kind": "proportion",
        "measure": {"fact_source": "sessions", "aggregation": "any"},
        "pre_period_days": 0,
    },
    {
        "key": "orders_per_active",
        "name": "Orders per active user",
        "kind": "ratio",
        "numerator": {"fact_source": "orders", "aggregation": "count"},
        "denominator": {"fact_source": "sessions", "aggregation": "any"},
        "pre_period_days": 0,
    },
    {
        "key": "orders",
        "name": "Orders",
        "kind": "mean",
        "measure": {"fact_source": "orders", "aggregation": "count"},
        "pre_period_days": 0,
    },
]
NORTH_STAR: dict[str, Any] = {
    "key": "orders",
    "name": "Orders",
    "metric_key": "orders",
    "formula": "active_users * orders_per_active",
    "input_metrics": [{"metric_key": "active_users"}, {"metric_key": "orders_per_active"}],
}
EXPERIMENT: dict[str, Any] = {
    "key": "checkout",
    "name": "One-page checkout",
    "variants": [
        {"key": "control", "weight": 0.5, "is_control": True},
        {"key": "treatment", "weight": 0.5},
    ],
    "metrics": [{"metric_key": "orders", "role": "primary"}],
    "north_star_key": "orders",
    "segments": ["country"],
}


@dataclass(frozen=True, slots=True)
class Shop:
    """The experiment and the mean orders of (control, treatment) in the window."""

    experiment: Experiment
    mean_orders: tuple[float, float]
    units: tuple[int, int]


async def open_shop(
    database: Database, settings: Settings, folder: Path, now: datetime, *, units: int = 600, **changes: Any
) -> Shop:
    """Register everything, start the experiment 20 days ago, ingest exposures, sessions and orders.

    `changes` are those of the experiment.
    """
    async with database.write() as session:
        for source in SOURCES:
            spec: FactSourceSpec = TypeAdapter(FactSourceSpec).validate_python(source)
            await fact_source.create(session, spec=spec, actor="tests", at=now)
        for each in METRICS:
            await metric.create(session, spec=MetricSpec.model_validate(each), actor="tests", at=now)
        await north_star.create(session, spec=NorthStarSpec.model_validate(NORTH_STAR), actor="tests", at=now)
        row = await experiment.create(
            session, spec=ExperimentSpec.model_validate(EXPERIMENT | changes), actor="tests", at=now
        )
        begun = now - timedelta(days=20)
        await lifecycle.start(session, experiment=row, actor="tests", at=now, effective_at=begun)

    random = np.random.default_rng(3)
    exposures, events = [], []
    orders: dict[str, list[int]] = {"control": [], "treatment": []}
    for i in range(units):
        arm = ("control", "treatment")[i % 2]
        exposed = begun + timedelta(hours=float(random.uniform(1, 24 * 10)))
        exposures.append(
            {
                "experiment_key": "checkout",
                "unit_id": f"u{i}",
                "variant_key": arm,
                "exposed_at": exposed.isoformat(),
                "segments": {"country": ("de", "fr", "nl")[i % 3]},
            }
        )
        count = 0
        if random.random() < 0.8:
            events.append({"event": "session", "unit_id": f"u{i}", "occurred_at": exposed.isoformat()})
            count = int(random.poisson(1.0 if arm == "control" else 1.4))
            for _ in range(count):
                at = exposed + timedelta(hours=float(random.uniform(0, 24 * 6)))
                events.append({"event": "order", "unit_id": f"u{i}", "occurred_at": at.isoformat(), "value": 10.0})
        orders[arm].append(count)
    for stream, rows in (("exposures", exposures), ("events", events)):
        body = folder / f"{stream}.ndjson"
        body.write_text("".join(json.dumps(each) + "\n" for each in rows))
        report = await ingest(
            database,
            settings,
            stream=stream,  # type: ignore[arg-type]
            batch_id="one",
            body=body,
            content_type="application/x-ndjson",
            actor="tests",
            at=now,
        )
        assert report.rejected == 0
    return Shop(
        row,
        (float(np.mean(orders["control"])), float(np.mean(orders["treatment"]))),
        (len(orders["control"]), len(orders["treatment"])),
    )
