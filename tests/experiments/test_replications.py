"""Which experiments speak when a hypothesis is tested again, and with which of their numbers (METHODS H5)."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from experiments.database import Database
from experiments.evidence import PastReplication
from experiments.replications import replications_of
from experiments.tables import Experiment, Result, ResultRow

pytestmark = pytest.mark.anyio

AT = datetime(2026, 5, 4, tzinfo=UTC)
DAY = timedelta(days=1)


async def put(session: AsyncSession, key: str, parent: Experiment | None = None, **fields: Any) -> Experiment:
    row = Experiment(
        key=key,
        name=key,
        spec=fields.pop("spec", {}),
        parent_id=parent.id if parent else None,
        relation=fields.pop("relation", "replicates" if parent else None),
        stopped_at=fields.pop("stopped_at", AT - 30 * DAY),
        created_at=AT - 90 * DAY,
        updated_at=AT,
        **fields,
    )
    session.add(row)
    await session.flush()
    return row


async def result(
    session: AsyncSession, key: str, lift: float | None, *, at: datetime = AT - 10 * DAY, verdict: str = "better"
) -> None:
    """A result of three rows: everybody, a segment, and another metric."""
    found = Result(
        kind="experiment", subject_key=key, verdict=verdict, data_as_of=at, body=b"{}", etag="e", created_at=at
    )
    session.add(found)
    await session.flush()
    known = {
        "result_id": found.id,
        "experiment_key": key,
        "metric_version": 1,
        "variant_key": "treatment",
        "role": "primary",
        "method": "A1+A3",
        "interval_kind": "log_delta",
        "n_control": 10,
        "n_treatment": 10,
        "ci_level": 0.95,
        "estimable": lift is not None,
        "lift": lift,
        "standard_error": None if lift is None else 0.02,
    }
    blank = dict.fromkeys(set(ResultRow.model_fields) - {"id"})
    places = ({"metric_key": "orders"}, {"metric_key": "orders", "segment_dimension": "country"}, {"metric_key": "x"})
    session.add_all([ResultRow(**blank | known | place) for place in places])
    await session.flush()


async def keys(session: AsyncSession, of: Experiment, known_at: datetime = AT) -> list[str]:
    found = await replications_of(session, experiment=of, metric_keys=["orders"], known_at=known_at)
    return [item.experiment_key for item in found]


async def test_all_experiments_linked_by_replication_speak_with_their_latest_effect_on_everybody(
    database: Database,
) -> None:
    async with database.write() as session:
        first = await put(session, "first")
        again = await put(session, "again", first)
        third = await put(session, "third", again)
        await put(session, "sibling", first)
        await put(session, "successor", again, relation="iterates")
        for key in ("first", "again", "third", "sibling", "successor"):
            await result(session, key, 0.5, at=AT - 20 * DAY)
        await result(session, "first", 0.1)
        assert await keys(session, again) == ["first", "sibling", "third"]
        assert await keys(session, third) == ["again", "first", "sibling"]
        found = await replications_of(session, experiment=third, metric_keys=["orders"], known_at=AT)
        assert found[1] == PastReplication("first", "orders", "treatment", math.log1p(0.1), 0.02 / 1.1)
        assert await replications_of(session, experiment=third, metric_keys=[], known_at=AT) == ()


async def test_what_was_not_known_yet_or_is_not_to_be_believed_does_not_speak(database: Database) -> None:
    async with database.write() as session:
        ours = await put(session, "ours")
        await put(session, "running", ours, stopped_at=None)
        await put(session, "aa", ours, spec={"purpose": "aa"})
        await put(session, "holdout", ours, spec={"purpose": "holdout"})
        for key in ("late", "faulty", "silent", "repaired"):
            await put(session, key, ours)
        await result(session, "running", 0.1)
        await result(session, "aa", 0.0)
        await result(session, "holdout", 0.1)
        await result(session, "late", 0.1, at=AT + DAY)
        await result(session, "faulty", 0.1)
        await result(session, "faulty", 0.2, at=AT - DAY, verdict="unreliable")
        await result(session, "silent", None)
        await result(session, "repaired", 0.3, verdict="unreliable")
        await result(session, "repaired", 0.2, at=AT - DAY)
        assert await keys(session, ours) == ["repaired"]
        assert await keys(session, ours, AT + 2 * DAY) == ["late", "repaired"]


async def test_an_experiment_that_replicates_nothing_is_alone(database: Database) -> None:
    async with database.write() as session:
        alone = await put(session, "alone")
        await put(session, "other")
        await result(session, "other", 0.1)
        assert await keys(session, alone) == []
