"""Growth reviews in a database, with results as a worker stores them."""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from experiments import analysis, growth_review, lease, ledger_lines
from experiments.definitions import ReviewSpec
from experiments.plan import plan_hash
from experiments.result import GrowthReviewResult

ACTOR = "ada"


def spec_for(document: GrowthReviewResult, **changes: Any) -> ReviewSpec:
    """The definition of the review that a document is of."""
    return ReviewSpec.model_validate(
        {
            "key": document.review_key,
            "name": document.name,
            "north_star_key": document.north_star_key,
            "begins_on": document.begins_on,
            "ends_on": document.ends_on,
            **changes,
        }
    )


async def reviewed(session: AsyncSession, document: GrowthReviewResult, *, at: datetime, **changes: Any) -> None:
    """Register the review and store its result."""
    await growth_review.create(session, spec=spec_for(document, **changes), actor=ACTOR, at=at)
    plan = {"kind": ledger_lines.KIND, "review": document.review_key}
    row, _ = await analysis.submit(
        session,
        kind=ledger_lines.KIND,
        subject_key=document.review_key,
        experiment_id=None,
        plan_document=plan,
        data_as_of=document.data_as_of,
        seed=1,
        requested_by=ACTOR,
        at=at,
    )
    await lease.claim(session, analysis_id=row.id, owner="test", lease_seconds=30, at=at)
    body = document.model_dump_json().encode()
    kept = lease.StoredResult(body, plan_hash(plan), None, ledger_lines.flat(document))
    assert await lease.finish(session, analysis_id=row.id, owner="test", attempt=1, result=kept, at=at)
