"""What an analysis is given stays the same, whatever happens after it was asked for."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from experiments import amendment, analysis_request
from experiments.database import Database
from experiments.settings import Settings
from experiments.tables import Analysis, Experiment
from experiments.types import utc_now
from tests.experiments.test_replications import put, result
from tests.workers.shop import open_shop
from workers.jobs import ExperimentJob
from workers.preparation import prepare_experiment

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)


def shares(control: float) -> dict[str, Any]:
    return {
        "coverage": control,
        "variants": [
            {"key": "control", "weight": control, "is_control": True},
            {"key": "treatment", "weight": 1 - control},
        ],
    }


async def prepared(database: Database, settings: Settings, row: Analysis) -> ExperimentJob:
    async with database.read() as session:
        return await prepare_experiment(session, settings, row)


async def test_a_ramp_reaches_the_slice_and_the_evidence_and_later_stages_change_nothing(
    database: Database, worker_settings: Settings, tmp_path: Path
) -> None:
    now = utc_now()
    shop = await open_shop(database, worker_settings, tmp_path, now - 5 * HOUR, units=20)

    async def ramp(control: float, hours_ago: int) -> None:
        async with database.write() as session:
            row = await session.get(Experiment, shop.experiment.id)
            assert row is not None
            at = now - hours_ago * HOUR
            await amendment.amend(session, experiment=row, reason="ramp", changes=shares(control), actor="tests", at=at)

    await ramp(0.25, 4)
    async with database.write() as session:
        row = await session.get(Experiment, shop.experiment.id)
        assert row is not None
        asked, _ = await analysis_request.of_experiment(session, experiment=row, actor="tests", at=now - 2 * HOUR)
    job = await prepared(database, worker_settings, asked)
    started = shop.experiment.started_at
    assert job.context.allocation == ((started, (0.5, 0.5)), (now - 4 * HOUR, (0.25, 0.75)))
    assert job.data is not None and job.data.allocation == job.context.allocation
    assert job.context.coverage == ((started, 1.0), (now - 4 * HOUR, 0.25))
    await ramp(0.75, 1)
    assert await prepared(database, worker_settings, asked) == job


async def test_replications_reach_the_evidence_and_what_they_find_later_changes_nothing(
    database: Database, worker_settings: Settings, tmp_path: Path
) -> None:
    now = utc_now()
    shop = await open_shop(database, worker_settings, tmp_path, now - 5 * HOUR, units=20)
    async with database.write() as session:
        row = await session.get(Experiment, shop.experiment.id)
        assert row is not None
        row.parent_id, row.relation = (await put(session, "first")).id, "replicates"
        await result(session, "first", 0.1, at=now - 3 * HOUR)
        asked, _ = await analysis_request.of_experiment(session, experiment=row, actor="tests", at=now - 2 * HOUR)
    job = await prepared(database, worker_settings, asked)
    assert [(r.experiment_key, r.metric_key) for r in job.context.replications] == [("first", "orders")]
    async with database.write() as session:
        await result(session, "first", 0.9, at=now - HOUR)
    assert await prepared(database, worker_settings, asked) == job
