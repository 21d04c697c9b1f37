"""From pushed values and recorded facts to the stored document of a launch, through a worker."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from experiments import analysis, analysis_request, launch
from experiments.database import Database
from experiments.result import LaunchResult
from experiments.series_table import start_of_period
from experiments.settings import Settings
from experiments.tables import Analysis, LaunchEffect, Result
from experiments.types import utc_now
from stats.bayes.models.fit import ModelFit
from tests.experiments.launches import DAY, define_metrics, define_series, record_launch
from tests.patience import LONG
from warehouse.ingest import ingest
from warehouse.series_values import ingest_values
from workers.models.messages import ModelQuestion
from workers.preparation import KINDS
from workers.run import Runner

pytestmark = pytest.mark.anyio

COUNTRIES = ("DE", "FR", "NL", "AT", "BE", "DK")
DAYS, AFTER, LIFT = 120, 28, 0.05


async def nothing(*args: Any) -> None: ...


async def unasked(question: ModelQuestion, seconds: float, progress: Callable[[float], None]) -> list[ModelFit]:
    raise AssertionError("nothing here takes a sampled model")


async def push_orders(database: Database, settings: Settings, today: datetime) -> None:
    """Daily orders of six countries that move together, with 1 % of noise; 5 % more in Germany after the launch."""
    random = np.random.default_rng(11)
    common = 0.02 * np.cumsum(random.standard_normal(DAYS)) + 0.1 * np.sin(2 * np.pi * np.arange(DAYS) / 7)
    rows = []
    for place, country in enumerate(COUNTRIES):
        values = 1000 * (place + 1) * np.exp(common + 0.01 * random.standard_normal(DAYS))
        if country == "DE":
            values[-AFTER:] *= 1 + LIFT
        for day, value in enumerate(values):
            rows.append({"segment": country, "at": (today - (DAYS - day) * DAY).isoformat(), "value": float(value)})
    report = await ingest_values(
        database,
        settings,
        key="orders",
        body=json.dumps(rows).encode(),
        content_type="application/json",
        batch_id="history",
        actor="tests",
        at=utc_now(),
    )
    assert (report.accepted, report.rejected) == (len(rows), 0)


async def push_total(database: Database, settings: Settings, today: datetime, key: str, *, seed: int) -> None:
    """A daily series without segments that moves with all others of its kind."""
    common = 0.02 * np.cumsum(np.random.default_rng(11).standard_normal(DAYS))
    values = 1000 * np.exp(common + 0.01 * np.random.default_rng(seed).standard_normal(DAYS))
    days = [(today - (DAYS - day) * DAY).isoformat() for day in range(DAYS)]
    rows = [{"segment": "", "at": day, "value": float(value)} for day, value in zip(days, values, strict=True)]
    await ingest_values(
        database,
        settings,
        key=key,
        body=json.dumps(rows).encode(),
        content_type="application/json",
        batch_id=f"history of {key}",
        actor="tests",
        at=utc_now(),
    )


async def record_orders(database: Database, settings: Settings, folder: Path, today: datetime) -> list[int]:
    """Order events of three countries, and how many there were in Germany on each of the last 60 days."""
    random = np.random.default_rng(12)
    counts = random.poisson(20, (60, 3))
    events = [
        {
            "event": "order",
            "unit_id": f"u{place}-{number}",
            "occurred_at": (today - (60 - day) * DAY + timedelta(hours=12)).isoformat(),
            "properties": {"country": COUNTRIES[place]},
        }
        for (day, place), count in np.ndenumerate(counts)
        for number in range(count)
    ]
    body = folder / "orders.ndjson"
    body.write_text("".join(json.dumps(each) + "\n" for each in events))
    report = await ingest(
        database,
        settings,
        stream="events",
        batch_id="orders",
        body=body,
        content_type="application/x-ndjson",
        actor="tests",
        at=utc_now(),
    )
    assert report.rejected == 0
    return [int(count) for count in counts[:, 0]]


async def launched(
    database: Database, today: datetime, *measurements: dict[str, Any], segments: Sequence[str] = ("DE",)
) -> Analysis:
    """A launch four weeks ago, and the analysis of it that somebody asks for."""
    step = {"at": today - AFTER * DAY, "coverage": 1, "mechanism": "ordered", "segments": list(segments)}
    async with database.write() as session:
        await record_launch(session, at=utc_now(), rollout=[step], measurements=list(measurements))
    async with database.write() as session:
        row = await launch.get(session, key="same-day")
        asked, created = await analysis_request.of_launch(session, launch=row, actor="tests", at=utc_now())
    assert created
    return asked


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_was_pushed_and_what_happened_become_an_effect_that_covers_the_truth(
    database: Database, worker_settings: Settings, tmp_path: Path
) -> None:
    today = start_of_period(utc_now(), "day")
    async with database.write() as session:
        await define_metrics(session)
        await define_series(session, "orders", dimension="country")
        await define_series(session, "orders_facts", dimension="country", source="facts", metric_key="orders")
    await push_orders(database, worker_settings, today)
    in_germany = await record_orders(database, worker_settings, tmp_path, today)
    asked = await launched(database, today, {"series_key": "orders"}, {"series_key": "orders_facts"})
    patient = worker_settings.model_copy(update={"analysis_timeout_seconds": 120.0})
    await Runner(database, patient, KINDS, unasked, nothing).run(asked.id)

    async with database.read() as session:
        done = await session.get_one(Analysis, asked.id)
        assert done.state == "succeeded", done.error
        stored = await session.get_one(Result, done.result_id)
        effects = (await session.scalars(sa.select(LaunchEffect).order_by(LaunchEffect.id))).all()
    document = LaunchResult.model_validate_json(stored.body)
    assert stored.etag == hashlib.sha256(stored.body).hexdigest() and (stored.kind, stored.verdict) == ("launch", None)
    assert (document.analysis_id, document.plan_hash) == (str(asked.id), asked.plan_hash)
    pushed, facts = document.measurements
    lead = next(each for each in pushed.estimates if each.leads)
    assert lead.ci_lower is not None and lead.ci_upper is not None and lead.lift is not None
    assert lead.ci_lower < LIFT < lead.ci_upper and abs(lead.lift - LIFT) < 0.02, lead
    assert (pushed.treated, pushed.periods_before, pushed.periods_after) == (["DE"], DAYS - AFTER, AFTER)
    assert pushed.grade.grade in "CD"
    assert next(check for check in pushed.checks if check.name == "planned_before").status != "pass"
    # The first facts came at noon: nobody knows whether there were none before.
    assert [point.actual for point in facts.periods if point.actual is not None] == in_germany[1:]
    assert [(each.series_key, each.method, each.leads, each.lift) for each in effects] == [
        (item.series_key, each.method, each.leads, each.lift)
        for item in document.measurements
        for each in item.estimates
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_launch_that_is_cancelled_while_its_models_are_sampled_leaves_nothing_behind(
    database: Database, worker_settings: Settings
) -> None:
    asking = asyncio.Event()

    async def silence(question: Any, seconds: float, progress: Callable[[float], None]) -> Any:
        asking.set()
        await asyncio.sleep(3600)

    today = start_of_period(utc_now(), "day")
    controls = ("search", "help", "returns")
    async with database.write() as session:
        for key in ("orders", *controls):
            await define_series(session, key)
    for number, key in enumerate(("orders", *controls)):
        await push_total(database, worker_settings, today, key, seed=number)
    asked = await launched(database, today, {"series_key": "orders", "controls": controls}, segments=())
    running = asyncio.ensure_future(Runner(database, worker_settings, KINDS, silence, nothing).run(asked.id))
    async with asyncio.timeout(LONG):
        await asking.wait()
    async with database.write() as session:
        await analysis.request_cancel(session, analysis_id=asked.id, at=utc_now())
    await running
    async with database.read() as session:
        assert (await session.get_one(Analysis, asked.id)).state == "cancelled"
        for table in (Result, LaunchEffect):
            assert (await session.execute(sa.select(sa.func.count()).select_from(table))).scalar_one() == 0
