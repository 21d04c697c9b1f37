"""Freezing: a plan is complete, pinned and canonical."""

import pytest

from experiments import experiment, freezing, metric
from experiments.database import Database
from experiments.definitions import Direction, PlanMetric, Role
from experiments.errors import InvalidDefinition, NotFound, PlanIncomplete
from experiments.plan import document, load, plan_hash
from tests.experiments.shop import AT, draft, mean, open_shop

pytestmark = pytest.mark.anyio


async def test_a_plan_holds_every_metric_it_needs_once_and_the_control_first(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        metrics = [
            PlanMetric(metric_key="profit", role=Role.PRIMARY),
            PlanMetric(
                metric_key="cost", role=Role.GUARDRAIL, non_inferiority_margin=0.1, direction=Direction.DECREASE
            ),
        ]
        row = await experiment.create(
            session, spec=draft("full", metrics=metrics, north_star_key="guide"), actor="ada", at=AT
        )
        plan = await freezing.freeze(session, row)
    roles = {item.metric_key: item.role.value for item in plan.metrics}
    assert roles == {
        "profit": "primary",
        "cost": "guardrail",
        "orders": "monitor",
        "active": "monitor",
        "per_active": "monitor",
        "revenue": "monitor",
    }
    assert [variant.key for variant in plan.variants] == ["a", "b"]
    assert [source.key for source in plan.fact_sources] == ["orders"]
    assert plan.north_star is not None and plan.north_star.version == 1
    assert {item.metric_key: item.direction for item in plan.metrics}["cost"] is Direction.DECREASE
    assert load(document(plan)) == plan
    assert len(plan_hash(document(plan))) == 64


async def test_freezing_twice_gives_the_same_hash_and_a_changed_metric_another(database: Database) -> None:
    async with database.write() as session:
        row = await open_shop(session)
        first = await freezing.freeze(session, row)
        again = await freezing.freeze(session, row)
        changed = mean("revenue", window_days=28)
        await metric.update(
            session, metric=await metric.get(session, key="revenue"), spec=changed, expected=1, actor="ada", at=AT
        )
        moved = await freezing.freeze(session, row)
        pinned = await freezing.freeze(session, row, pinned=first)
    assert plan_hash(document(first)) == plan_hash(document(again)) == plan_hash(document(pinned))
    assert plan_hash(document(first)) != plan_hash(document(moved))
    assert moved.metrics[0].version == 2


async def test_summaries_bring_the_values_of_formulas_themselves(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        spec = draft("summed", data="summary", metrics=[PlanMetric(metric_key="profit", role=Role.PRIMARY)])
        plan = await freezing.freeze(session, await experiment.create(session, spec=spec, actor="ada", at=AT))
    assert [item.metric_key for item in plan.metrics] == ["profit"]


async def test_a_metric_without_a_measure_is_for_summaries_only(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await metric.create(session, spec=mean("given", measure=None), actor="ada", at=AT)
        metrics = [PlanMetric(metric_key="given", role=Role.PRIMARY)]
        await experiment.create(session, spec=draft("summed", data="summary", metrics=metrics), actor="ada", at=AT)
        with pytest.raises(InvalidDefinition, match="only summaries"):
            await experiment.create(session, spec=draft("events", metrics=metrics), actor="ada", at=AT)


async def test_without_a_primary_metric_there_is_no_plan(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        spec = draft("empty", metrics=[PlanMetric(metric_key="revenue")])
        row = await experiment.create(session, spec=spec, actor="ada", at=AT)
        with pytest.raises(PlanIncomplete) as refused:
            await freezing.freeze(session, row)
    assert refused.value.errors[0].pointer == "/metrics"


async def test_series_and_baselines_have_plans_of_their_own(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        series = await freezing.north_star_plan(session, key="guide")
        baseline = await freezing.baseline_plan(session, unit_type="user")
        with pytest.raises(NotFound):
            await freezing.north_star_plan(session, key="nothing")
        with pytest.raises(NotFound):
            await freezing.baseline_plan(session, unit_type="account")
    assert [item.metric_key for item in series.metrics] == ["orders", "active", "per_active"]
    of_unit = ["active", "cost", "orders", "per_active", "revenue", "profit"]  # the formula comes last
    assert [item.metric_key for item in baseline.metrics] == of_unit
    assert load(document(series)) == series and load(document(baseline)) == baseline
