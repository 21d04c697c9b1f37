"""A small company with series, and a launch that is measured on them."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession

from experiments import fact_source, ingest_batch, launch, metric, series
from experiments.definitions import FactSourceSpec, LaunchSpec, MetricSpec, SeriesSpec
from experiments.tables import Launch, Series, SeriesValue
from tests.workers.shop import METRICS, SOURCES

BEGUN = datetime(2026, 9, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FORMULA: dict[str, Any] = {
    "key": "orders_formula",
    "name": "Orders",
    "kind": "formula",
    "formula": "active_users * orders_per_active",
}


async def define_metrics(session: AsyncSession, *, at: datetime = BEGUN) -> None:
    for source in SOURCES:
        spec: FactSourceSpec = TypeAdapter(FactSourceSpec).validate_python(source)
        await fact_source.create(session, spec=spec, actor="tests", at=at)
    for each in (*METRICS, FORMULA):
        await metric.create(session, spec=MetricSpec.model_validate(each), actor="tests", at=at)


async def define_series(session: AsyncSession, key: str, *, at: datetime = BEGUN, **fields: Any) -> Series:
    spec = SeriesSpec.model_validate({"key": key, "name": key, **fields})
    return await series.create(session, spec=spec, actor="tests", at=at)


async def record_launch(session: AsyncSession, *, at: datetime = BEGUN - DAY, **fields: Any) -> Launch:
    """Everything for everybody at `BEGUN`, measured on the series `orders` for 28 days, unless changed."""
    document = {
        "key": "same-day",
        "name": "Same-day delivery",
        "rollout": [{"at": BEGUN, "coverage": 1, "mechanism": "all_at_once"}],
        "measurements": [{"series_key": "orders", "measure_for_days": 28}],
        **fields,
    }
    return await launch.create(session, spec=LaunchSpec.model_validate(document), actor="tests", at=at)


async def push(
    session: AsyncSession, row: Series, days: Sequence[datetime], *, at: datetime, unchanged: Sequence[datetime] = ()
) -> None:
    """Values of a series without segments for these days, known since `at`; some were sent before as they are."""
    sent = [*days, *unchanged]
    batch = await ingest_batch.record(
        session,
        stream="series",
        batch_id=uuid.uuid4().hex,
        digest="",
        path="",
        accepted=1,
        rejected=0,
        errors=[],
        subjects=[row.key],
        first_at=min(sent),
        last_at=max(sent),
        actor="tests",
        at=at,
    )
    for day in days:
        session.add(SeriesValue(series_id=row.id, segment="", at=day, value=100.0, known_at=at, batch_id=batch.id))
    await session.flush()
