"""Links are learned by a worker like any other analysis; several inputs are a question to its compiled models."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from experiments import analysis_request
from experiments.database import Database
from experiments.result import LinksResult
from experiments.settings import Settings
from experiments.tables import Analysis, Result
from experiments.types import utc_now
from stats.bayes.models.effect_covariance import EffectCovarianceQuestion
from stats.bayes.models.fit import ModelFit
from tests.experiments.joint import remember_joint
from tests.experiments.shop import open_shop
from workers.models.messages import ModelQuestion
from workers.preparation import KINDS
from workers.run import Runner

pytestmark = pytest.mark.anyio


async def test_a_worker_learns_links_and_keeps_those_of_single_inputs_without_a_model(
    database: Database, worker_settings: Settings
) -> None:
    asked: list[ModelQuestion] = []

    async def no_models(question: Any, seconds: float, progress: Callable[[float], None]) -> list[ModelFit]:
        asked.append(question)
        return [ModelFit("effect_covariance", 1, "unreliable", "nobody samples here") for _ in question.questions]

    async def nothing(*args: Any) -> None: ...

    async with database.write() as session:
        await open_shop(session)
        await remember_joint(session, 10)
    async with database.write() as session:
        row, created = await analysis_request.of_links(session, north_star_key="guide", actor="tests", at=utc_now())
    assert created
    await Runner(database, worker_settings, KINDS, no_models, nothing).run(row.id)
    async with database.read() as session:
        done = await session.get(Analysis, row.id)
        assert done is not None and done.state == "succeeded", done and done.error
        stored = await session.get(Result, done.result_id)
        assert stored is not None and stored.etag == hashlib.sha256(stored.body).hexdigest()
        document = LinksResult.model_validate_json(stored.body)
    (question,) = asked[0].questions
    assert isinstance(question, EffectCovarianceQuestion) and question.estimate.shape == (10, 3)
    assert (document.analysis_id, document.north_star_key, document.experiments) == (str(row.id), "guide", 10)
    assert (document.engine, document.joint_reason) == ("grid", "not_sampled")
    assert all(link.slope is not None for link in document.links)
