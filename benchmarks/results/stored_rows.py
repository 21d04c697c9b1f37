"""From ready moments to committed result rows, by the road a worker takes, on SQLite with its full durability."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlmodel import SQLModel

from experiments import analysis, lease
from experiments.columns import layout
from experiments.database import Database
from experiments.definitions import Estimation, Measure, MetricSpec, Role, Variant
from experiments.evidence import Block, EvidenceContext, build
from experiments.plan import AnalysisPlan, PlannedMetric
from experiments.result import ExperimentResult
from stats.moment_set import MomentSet
from stats.moments import Moments
from workers.jobs import _flat, stored

START = datetime(2026, 1, 5, tzinfo=UTC)
END = START + timedelta(days=28)
ARMS = ("control", "v1", "v2")


def seconds_per_row(metrics: int = 20, segments: int = 100, rounds: int = 3) -> dict[str, float]:
    """Best seconds per stored row of each step: CPU, but of the database wall, because it waits for the disk.

    Rows are metrics x (1 + segments) x 2 treatments.
    """
    plan, moments = _inputs(metrics, segments)
    block = Block(tuple(metric.metric_key for metric in plan.metrics), moments)
    context = EvidenceContext(
        analysis_id="benchmark",
        data_as_of=END,
        seed=7,
        code_version="benchmark",
        plan_hash="0" * 64,
        started_at=START,
        stopped_at=END,
    )
    best: dict[str, float] = {}

    def timed[Result](step: str, work: Callable[[], Result]) -> Result:
        start = time.process_time()
        result = work()
        best[step] = min(best.get(step, float("inf")), time.process_time() - start)
        return result

    rows = 0
    for _ in range(rounds):
        document: ExperimentResult = timed("evidence", lambda: build(plan, [block], context).finish())
        result = timed(
            "document",
            lambda document=document: stored(document, rows=_flat(document.experiment_key, document.rows)),
        )
        rows = len(result.rows)
        best["database"] = min(best.get("database", float("inf")), asyncio.run(_commit(result)))
    return {step: seconds / rows for step, seconds in best.items()}


async def _commit(result: lease.StoredResult) -> float:
    """Seconds of the transaction in which a worker hands in its result."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite+aiosqlite:///{Path(folder) / 'northlift.sqlite3'}")
        async with database.engine.begin() as connection:
            await connection.run_sync(SQLModel.metadata.create_all)
        async with database.write() as session:
            row, _ = await analysis.submit(
                session,
                kind="experiment",
                subject_key="checkout",
                experiment_id=None,
                plan_document={"kind": "benchmark"},
                data_as_of=END,
                seed=7,
                requested_by="benchmark",
                at=END,
            )
        async with database.write() as session:
            await lease.claim(session, analysis_id=row.id, owner="benchmark", lease_seconds=600, at=END)
        start = time.perf_counter()
        async with database.write() as session:
            assert await lease.finish(session, analysis_id=row.id, owner="benchmark", attempt=1, result=result, at=END)
        seconds = time.perf_counter() - start
        await database.dispose()
        return seconds


def _inputs(metrics: int, segments: int, units: int = 30_000) -> tuple[AnalysisPlan, MomentSet]:
    """A plan of means with a pre-period, and moments of units with effects of a few percent."""
    specs = [
        MetricSpec.model_validate(
            {
                "key": f"m{i}",
                "name": f"Metric {i}",
                "kind": "mean",
                "pre_period_days": 14,
                "measure": Measure(fact_source="facts", aggregation="sum", column=f"m{i}"),
            }
        )
        for i in range(metrics)
    ]
    planned = [
        PlannedMetric(
            metric_key=spec.key,
            version=1,
            role=Role("primary" if i == 0 else "secondary"),
            spec=spec,
            mde=None,
            non_inferiority_margin=None,
            direction=spec.direction,
        )
        for i, spec in enumerate(specs)
    ]
    plan = AnalysisPlan(
        experiment_key="checkout",
        unit_type="user",
        data="events",
        variants=[Variant(key=key, weight=1 / 3, is_control=key == "control") for key in ARMS],
        metrics=planned,
        fact_sources=[],
        north_star=None,
        segments=["country"],
        planned_units=units,
        planned_end_at=END,
        estimation=Estimation(engine="frequentist"),
    )
    names = layout(specs).names
    rng = np.random.default_rng(1)
    taste = rng.gamma(4, 0.25, (units, 1))
    values = rng.poisson(5 * taste, (units, len(names))).astype(float)
    for position, name in enumerate(names):
        if name.startswith("no_history."):
            values[:, position] = 0.0
    arm, segment = rng.integers(0, 3, units), rng.integers(0, segments, units)
    values[:, 0] *= 1 + 0.02 * arm
    overall = Moments.from_rows(values, arm, (1, 3))
    by_segment = Moments.from_rows(values, segment * 3 + arm, (segments, 3))
    moments = MomentSet(
        columns=names,
        variants=ARMS,
        looks=(END,),
        overall=overall,
        segments=tuple(("country", f"s{i}") for i in range(segments)),
        by_segment=by_segment,
        exposures=overall.count,
    )
    return plan, moments
