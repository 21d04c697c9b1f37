"""From real ingest through real compaction: what is kept follows the database's word for what is new."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import col

from experiments.database import Database
from experiments.settings import Settings
from experiments.tables import Experiment
from tests.warehouse.cases import DAY
from tests.warehouse.deliveries import assert_same_moments
from tests.warehouse.recorded_world import PLAN, Recorded, rows_of
from warehouse.catalog import slice_for
from warehouse.compaction import compact
from warehouse.extract import extract_experiment
from warehouse.state.lane import FOLDER
from warehouse.state.refresh import extract_incrementally, why_in_full

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Recorded]:
    database = Database(sqlite_url, synchronous="OFF")
    made = Recorded(database, Settings(data_dir=tmp_path / "data", analysis_threads=1), tmp_path)
    await made.begin()
    yield made
    await database.dispose()


async def test_a_recorded_store_is_followed_through_compaction(world: Recorded) -> None:
    rows = rows_of(2, units=20)
    for i in range(3):
        await world.send_in_batches(rows[i * len(rows) // 3 : (i + 1) * len(rows) // 3], 2)
        at = max(one.created_at for one in await world.batches()) + timedelta(hours=1)
        if i:
            await compact(world.database, world.settings, at=at + 30 * DAY, everything=True)
        async with world.database.read() as session:
            row = (await session.scalars(sa.select(Experiment).where(col(Experiment.key) == "checkout"))).one()
            data = await slice_for(session, world.settings, PLAN, row, at)
        closed = PLAN.model_copy(update={"metrics": [one for one in PLAN.metrics if one.spec.window_days is not None]})
        assert why_in_full(closed, data) is None
        found = extract_incrementally(closed, data, threads=1, fewest_exposures=0)
        assert_same_moments(found, extract_experiment(closed, data, threads=1))
    assert list((world.settings.data_dir / FOLDER).glob("*/*/manifest.npz"))
