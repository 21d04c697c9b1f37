"""From what is on record to the stored document of a growth review, through a worker."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from experiments import analysis_request, growth_review
from experiments.database import Database
from experiments.result import GrowthReviewResult
from experiments.settings import Settings
from experiments.tables import Analysis, LedgerRow, Result
from tests.experiments.test_review_plan import END, company
from workers.preparation import KINDS
from workers.run import Runner

pytestmark = pytest.mark.anyio


async def unneeded(*args: Any) -> Any:
    raise AssertionError("the quick engine needs no sampled model, and nothing is tried twice")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_review_is_made_with_lines_that_add_up_and_a_second_time_it_is_the_same(
    database: Database, worker_settings: Settings
) -> None:
    async with database.write() as session:
        await company(session)
    at = END + timedelta(days=2)
    async with database.write() as session:
        review = await growth_review.get(session, key="spring")
        asked, created = await analysis_request.of_growth_review(session, review=review, actor="tests", at=at)
    assert created
    patient = worker_settings.model_copy(update={"analysis_timeout_seconds": 120.0})
    await Runner(database, patient, KINDS, unneeded, unneeded).run(asked.id)

    async with database.read() as session:
        done = await session.get_one(Analysis, asked.id)
        assert done.state == "succeeded", done.error
        stored = await session.get_one(Result, done.result_id)
        lines = (await session.scalars(sa.select(LedgerRow).order_by(LedgerRow.id))).all()
    document = GrowthReviewResult.model_validate_json(stored.body)
    assert stored.etag == hashlib.sha256(stored.body).hexdigest()
    assert (document.analysis_id, document.plan_hash, document.review_key) == (str(asked.id), asked.plan_hash, "spring")
    assert document.ledger.estimable, document.ledger.reason
    assert [(each.component, each.key, each.units) for each in lines] == [
        (each.component, each.key, each.units) for each in document.ledger.lines
    ]
    whole = {each.component: each.units for each in lines if each.key is None}
    assert whole.pop("observed") == pytest.approx(52 * 13) == pytest.approx(sum(whole.values()))
    assert [each.text for each in document.learnings] == [], "what was learned was learned before the period"

    async with database.write() as session:
        review = await growth_review.get(session, key="spring")
        again, created = await analysis_request.of_growth_review(session, review=review, actor="tests", at=at)
    assert again.id == asked.id and not created
