"""A prior is learned by a worker like any other analysis, and the experiment that starts next has it in its plan."""

import hashlib
from typing import Any

import pytest

from experiments import analysis_request, experiment, freezing, metric
from experiments.database import Database
from experiments.definitions import ExperimentSpec, MetricSpec
from experiments.result import LearnedPriorResult
from experiments.settings import Settings
from experiments.tables import Analysis, Result
from experiments.types import utc_now
from tests.experiments.past import lifts, remember
from tests.workers.shop import EXPERIMENT
from workers.preparation import KINDS
from workers.run import Runner

pytestmark = pytest.mark.anyio


async def test_what_a_worker_learned_is_in_the_next_plan(database: Database, worker_settings: Settings) -> None:
    async def nothing(*args: Any) -> None: ...

    summed = MetricSpec.model_validate({"key": "orders", "name": "Orders", "kind": "mean"})
    async with database.write() as session:
        await metric.create(session, spec=summed, actor="tests", at=utc_now())
        await remember(session, lifts(12), metric_key="orders")
    async with database.write() as session:
        row, created = await analysis_request.of_prior(session, metric_key="orders", actor="tests", at=utc_now())
    assert created
    await Runner(database, worker_settings, KINDS, nothing, nothing).run(row.id)
    async with database.read() as session:
        done = await session.get(Analysis, row.id)
        assert done is not None and done.state == "succeeded", done and done.error
        stored = await session.get(Result, done.result_id)
        assert stored is not None and stored.etag == hashlib.sha256(stored.body).hexdigest()
        document = LearnedPriorResult.model_validate_json(stored.body)
    assert (document.analysis_id, document.metric_key, document.version) == (str(row.id), "orders", 1)
    assert document.strata[0].experiments == 12 and len(document.strata[0].components) <= 64
    assert all(each.shrunk_sd is not None and each.shrunk_sd < 0.012 for each in document.effects)
    spec = ExperimentSpec.model_validate(EXPERIMENT | {"data": "summary", "north_star_key": None, "segments": []})
    async with database.write() as session:
        draft = await experiment.create(session, spec=spec, actor="tests", at=utc_now())
        planned = (await freezing.freeze(session, draft)).metrics[0].prior
    assert planned is not None and planned.prior_id == str(row.id)
    assert planned.components == document.strata[0].components
