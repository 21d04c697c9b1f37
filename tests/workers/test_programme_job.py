"""A programme is computed by a worker like any other analysis, and leaves one flat row for every experiment."""

import hashlib
from typing import Any

import pytest

from experiments import analysis_request, programme_effects
from experiments.database import Database
from experiments.result import ProgrammeResult
from experiments.settings import Settings
from experiments.tables import Analysis, Result
from tests.experiments.programmes import conducted
from tests.experiments.shop import AT, open_shop
from workers.preparation import KINDS
from workers.run import Runner

pytestmark = pytest.mark.anyio


async def test_a_worker_computes_what_all_experiments_did_together(
    database: Database, worker_settings: Settings
) -> None:
    async def nothing(*args: Any) -> None: ...

    async with database.write() as session:
        await open_shop(session)
        for i, lift in enumerate((0.05, 0.03, -0.02)):
            await conducted(session, f"e{i}", lift, ship=lift > 0)
    async with database.write() as session:
        row, created = await analysis_request.of_programme(session, metric_key="revenue", actor="ada", at=AT)
    assert created
    await Runner(database, worker_settings, KINDS, nothing, nothing).run(row.id)
    async with database.read() as session:
        done = await session.get(Analysis, row.id)
        assert done is not None and done.state == "succeeded", done and done.error
        stored = await session.get(Result, done.result_id)
        assert stored is not None and stored.etag == hashlib.sha256(stored.body).hexdigest()
        document = ProgrammeResult.model_validate_json(stored.body)
        flat = (await programme_effects.page(session, metric_key="revenue")).items
        shipped = (await programme_effects.page(session, shipped=True)).items
    assert (document.analysis_id, document.experiments, document.shipped) == (str(row.id), 3, 2)
    assert {each.experiment_key: each.shrunk for each in flat} == {
        each.experiment_key: each.shrunk for each in document.effects
    }
    assert {each.experiment_key for each in shipped} == {"e0", "e1"}
