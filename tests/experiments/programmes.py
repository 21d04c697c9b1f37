"""Experiments from their draft to a decision, with results as workers store them: what programmes are made of."""

import hashlib
import uuid
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from experiments import decision, experiment, lifecycle
from experiments.definitions import DecisionSpec, Variant
from experiments.evidence import EvidenceContext, build
from experiments.plan import AnalysisPlan
from experiments.result import ExperimentResult
from experiments.tables import Experiment, Result
from tests.experiments.evidence_cases import summary_blocks
from tests.experiments.shop import AT, draft

BEGAN = AT - timedelta(days=120)
UNITS = 10_000


async def conducted(
    session: AsyncSession,
    key: str,
    lift: float,
    *,
    error: float = 0.01,
    ship: bool = False,
    began: datetime = BEGAN,
    days: float = 28,
    units: tuple[int, ...] = (UNITS, UNITS),
    analysed: bool = True,
    **spec: Any,
) -> Experiment:
    """An experiment that ran for `days`, measured `lift` with a log error of about `error`, and was decided on."""
    variants = [Variant(key="control", weight=0.5, is_control=True), Variant(key="new", weight=0.5)]
    end = began + timedelta(days=days)
    given = {"data": "summary", "variants": variants, "planned_end_at": end} | spec
    row = await experiment.create(session, spec=draft(key, **given), actor="ada", at=began)
    await lifecycle.start(session, experiment=row, actor="ada", at=began)
    await lifecycle.stop(session, experiment=row, actor="ada", at=end)
    if analysed:
        await analyse(session, row, lift, error=error, units=units, at=end + timedelta(days=1))
    if ship or analysed:
        said = {"outcome": "ship", "shipped_variant": "new"} if ship else {"outcome": "iterate"}
        words = {"reason": "as planned", "override_reason": "the test wants it like this"}
        await decision.decide(
            session,
            experiment=row,
            spec=DecisionSpec.model_validate(said | words),
            actor="ada",
            at=end + timedelta(days=2),
        )
    return row


async def analyse(
    session: AsyncSession,
    row: Experiment,
    lift: float,
    *,
    error: float = 0.01,
    units: tuple[int, ...] = (UNITS, UNITS),
    at: datetime,
    **changes: Any,
) -> ExperimentResult:
    """Store the result of summaries that show `lift` on every metric; `changes` are made to the document."""
    plan = AnalysisPlan.model_validate(row.plan)
    assert row.started_at is not None
    n = np.array([units])
    mean = np.array([[1.0] + [1.0 + lift] * (len(units) - 1)])
    variance = np.full(n.shape, error**2 * units[0] / 2)
    blocks = summary_blocks(plan, {metric.metric_key: (n, mean, variance) for metric in plan.metrics})
    context = EvidenceContext(
        analysis_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{row.key} {at}")),
        data_as_of=at,
        seed=1,
        code_version="test",
        plan_hash=row.plan_hash or "",
        started_at=row.started_at,
        stopped_at=row.stopped_at,
    )
    found = build(plan, blocks, context).finish().model_copy(update=changes)
    body = found.model_dump_json().encode()
    result = Result(
        kind="experiment",
        subject_key=row.key,
        verdict=found.verdict,
        data_as_of=at,
        body=body,
        etag=hashlib.sha256(body).hexdigest(),
        created_at=at,
    )
    session.add(result)
    await session.flush()
    return found
