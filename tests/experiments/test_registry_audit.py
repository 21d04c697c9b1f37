"""Every change leaves a trace: who, what, before, after. A change that fails leaves none."""

from datetime import timedelta

import pytest

from experiments import amendment, api_key, audit, decision, experiment, lifecycle, metric
from experiments.database import Database
from experiments.definitions import DecisionSpec
from experiments.errors import IllegalTransition, VersionConflict
from experiments.tables import AuditEvent
from tests.experiments.shop import AT, mean, open_shop

pytestmark = pytest.mark.anyio


async def trail(database: Database, **filters: str) -> list[AuditEvent]:
    async with database.read() as session:
        return list((await audit.events(session, limit=200, **filters)).items)[::-1]


async def test_the_life_of_an_experiment_can_be_read_back(database: Database) -> None:
    at = AT + timedelta(days=30)
    async with database.write() as session:
        row = await open_shop(session)
        await lifecycle.start(session, experiment=row, actor="bob", at=at, effective_at=AT)
        await amendment.amend(session, experiment=row, reason="why", changes={"planned_units": 5}, actor="bob", at=at)
        await lifecycle.stop(session, experiment=row, actor="bob", at=at, conclusion="invalid")
        await decision.decide(
            session, experiment=row, spec=DecisionSpec(outcome="iterate", reason="r"), actor="eve", at=at
        )
    events = await trail(database, subject_type="experiment", subject_key="draft")
    assert [(event.action, event.actor) for event in events] == [
        ("experiment.created", "ada"),
        ("experiment.start", "bob"),
        ("experiment.amended", "bob"),
        ("experiment.stop", "bob"),
        ("experiment.decided", "eve"),
    ]
    created, started, amended, stopped, decided = events
    assert created.before is None and created.after is not None and created.after["key"] == "draft"
    assert started.before == {"status": "draft", "conclusion": None}
    assert started.after is not None and started.after["effective_at"] == AT.isoformat()
    assert amended.before == {"plan_hash": started.after["plan_hash"]}
    assert amended.after is not None and amended.after["reason"] == "why"
    assert stopped.after is not None and stopped.after["conclusion"] == "invalid"
    # A conclusion that was set when the experiment was stopped outlives a decision that is not to ship.
    assert decided.after is not None and decided.after["conclusion"] == "invalid"


async def test_a_change_of_a_metric_keeps_what_it_was(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        row = await metric.get(session, key="cost")
        await metric.update(session, metric=row, spec=mean("cost", owner="eve"), expected=1, actor="eve", at=AT)
    event = (await trail(database, subject_type="metric", subject_key="cost"))[-1]
    assert event.before is not None and event.after is not None
    assert (event.before["owner"], event.after["owner"]) == ("", "eve")


async def test_what_fails_leaves_no_trace(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
    before = len(await trail(database))
    with pytest.raises(IllegalTransition):
        async with database.write() as session:
            row = await experiment.get(session, key="draft", lock=True)
            await lifecycle.start(session, experiment=row, actor="bob", at=AT)
            await lifecycle.resume(session, experiment=row, actor="bob", at=AT)
    with pytest.raises(VersionConflict):
        async with database.write() as session:
            row = await experiment.get(session, key="draft")
            await experiment.patch(session, experiment=row, changes={"owner": "x"}, expected=99, actor="bob", at=AT)
    assert len(await trail(database)) == before
    async with database.read() as session:
        assert (await experiment.get(session, key="draft")).status == "draft"


async def test_keys_are_kept_as_digests_and_their_secrets_nowhere(database: Database) -> None:
    async with database.write() as session:
        row, token = await api_key.issue(session, name="ci", scopes=["ingest"], actor="ada", at=AT)
        found = await api_key.authenticate(session, token=token, at=AT)
    assert (found.key_id, found.scopes) == (row.id, frozenset({"ingest"}))
    assert row.digest == api_key.digest_of(token) and token not in str(row)
    assert row.prefix == token[:9]
    events = await trail(database, subject_type="api_key")
    assert token not in str([event.after for event in events])
