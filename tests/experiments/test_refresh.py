"""What is due: one analysis per period and subject, however many workers ask."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

import experiments.experiment
from experiments import lifecycle, metric, refresh
from experiments.database import Database
from experiments.definitions import ExperimentSpec, MetricSpec, PlanMetric, Variant
from experiments.settings import Settings
from experiments.tables import Analysis, Experiment
from experiments.types import utc_now
from tests.workers.shop import open_shop

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, synchronous="OFF")
    yield database
    await database.dispose()


@pytest.fixture
async def experiment(database: Database, tmp_path: Path) -> Experiment:
    settings = Settings(data_dir=tmp_path / "data")
    return (await open_shop(database, settings, tmp_path, utc_now(), units=10)).experiment


async def due(database: Database, at: datetime) -> set[tuple[str, str]]:
    async with database.read() as session:
        return {(each.kind, each.subject_key) for each in await refresh.due(session, at=at, every=HOUR)}


async def submit_all(database: Database, at: datetime) -> int:
    async with database.read() as session:
        wanted = await refresh.due(session, at=at, every=HOUR)
    created = 0
    for each in wanted:
        async with database.write() as session:
            created += (await refresh.submit_due(session, each, at=at, max_attempts=5))[1]
    return created


EVERYTHING = {("experiment", "checkout"), ("north_star", "orders"), ("baseline", "user")}


def test_a_period_starts_at_a_multiple_of_its_length() -> None:
    at = datetime(2026, 3, 2, 12, 34, 56, tzinfo=UTC)
    assert refresh.period_start(at, HOUR) == datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert refresh.period_start(at, timedelta(minutes=20)) == datetime(2026, 3, 2, 12, 20, tzinfo=UTC)


async def test_running_experiments_north_stars_and_baselines_are_due_once_per_period(
    database: Database, experiment: Experiment
) -> None:
    at = utc_now()
    assert await due(database, at) == EVERYTHING
    assert await submit_all(database, at) == 3
    assert await due(database, at) == set()
    assert await due(database, at + HOUR) == EVERYTHING


async def test_several_workers_that_ask_at_once_submit_each_analysis_once(
    database: Database, experiment: Experiment
) -> None:
    at = utc_now()
    assert sum(await asyncio.gather(*(submit_all(database, at) for _ in range(4)))) == 3
    async with database.read() as session:
        assert (await session.execute(sa.select(sa.func.count()).select_from(Analysis))).scalar_one() == 3


async def test_a_stopped_experiment_is_analysed_once_more_when_its_last_window_has_closed(
    database: Database, experiment: Experiment
) -> None:
    at = utc_now()
    await submit_all(database, at)
    async with database.write() as session:
        row = await session.get(Experiment, experiment.id)
        assert row is not None
        await lifecycle.stop(session, experiment=row, actor="tests", at=at)
    assert ("experiment", "checkout") not in await due(database, at + timedelta(days=6))
    later = at + timedelta(days=8)  # the longest window is seven days
    assert ("experiment", "checkout") in await due(database, later)
    await submit_all(database, later)
    assert ("experiment", "checkout") not in await due(database, later + timedelta(days=30))


async def test_a_stopped_experiment_of_summaries_is_analysed_once_more_and_stops_nobody(database: Database) -> None:
    at = utc_now()
    arms = [Variant(key="a", weight=0.5, is_control=True), Variant(key="b", weight=0.5)]
    async with database.write() as session:
        await metric.create(session, spec=MetricSpec(key="sent", name="Sent", kind="mean"), actor="tests", at=at)
        spec = ExperimentSpec(
            key="elsewhere", name="Elsewhere", data="summary", variants=arms,
            metrics=[PlanMetric(metric_key="sent", role="primary")],
        )  # fmt: skip
        row = await experiments.experiment.create(session, spec=spec, actor="tests", at=at)
        row = await lifecycle.start(session, experiment=row, actor="tests", at=at, effective_at=at - 30 * HOUR)
        await lifecycle.stop(session, experiment=row, actor="tests", at=at)
    assert ("experiment", "elsewhere") in await due(database, at + HOUR)
    await submit_all(database, at + HOUR)
    assert ("experiment", "elsewhere") not in await due(database, at + 3 * HOUR)


async def test_an_experiment_that_started_within_the_period_waits_for_the_next(
    database: Database, experiment: Experiment
) -> None:
    at = utc_now()
    async with database.write() as session:
        row = await session.get(Experiment, experiment.id)
        assert row is not None
        row.started_at = at
    assert ("experiment", "checkout") not in await due(database, at)
    assert ("experiment", "checkout") in await due(database, at + HOUR)
