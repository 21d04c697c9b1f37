"""Learned priors: what goes in, when one is due, what a plan takes from it, and that it keeps it."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from experiments import amendment, analysis_request, experiment, freezing, learned_prior, lifecycle, refresh
from experiments.database import Database
from experiments.definitions import PlanMetric, Role
from experiments.errors import NotFound, NotReady
from experiments.evidence import learned_prior_result
from experiments.plan import AnalysisPlan, PriorPlan, document, load
from experiments.result import LearnedPriorResult
from experiments.tables import Analysis, Experiment, Result
from experiments.version import code_version
from stats.bayes.population import population
from stats.bayes.prior import Family, Prior
from tests.experiments.past import ENDED, lifts, remember, report
from tests.experiments.shop import AT, draft, open_shop

pytestmark = pytest.mark.anyio

WHO: dict[str, Any] = {"actor": "ada", "at": AT}


async def plan_now(database: Database) -> PriorPlan:
    async with database.read() as session:
        return (await learned_prior.prior_plan(session, metric_key="revenue"))[0]


async def ask(database: Database) -> tuple[Analysis, bool]:
    async with database.write() as session:
        return await analysis_request.of_prior(session, metric_key="revenue", **WHO)


async def learn(database: Database) -> LearnedPriorResult:
    """What a worker does: the analysis that was asked for ends with its result."""
    row, _ = await ask(database)
    async with database.write() as session:
        analysis = await session.get(Analysis, row.id)
        assert analysis is not None
        plan = load(analysis.plan)
        assert isinstance(plan, PriorPlan)
        found = learned_prior_result(
            plan, analysis_id=str(row.id), data_as_of=row.data_as_of, code_version=code_version()
        )
        body = found.model_dump_json().encode()
        result = Result(
            kind="prior",
            subject_key="revenue",
            data_as_of=row.data_as_of,
            body=body,
            etag=hashlib.sha256(body).hexdigest(),
            created_at=AT,
        )
        session.add(result)
        await session.flush()
        analysis.state, analysis.result_id = "succeeded", result.id
    return found


async def frozen(database: Database, key: str, **changes: Any) -> AnalysisPlan:
    async with database.write() as session:
        row = await experiment.create(session, spec=draft(key, **changes), **WHO)
        return await freezing.freeze(session, row)


async def test_a_prior_is_learned_from_every_sound_experiment_that_ended_winner_or_not(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember(session, [*lifts(8), -0.3], team="growth")
        await report(session, "past-0", 0.02, at=ENDED + timedelta(days=40))  # its last look replaces the earlier one
        await remember(session, [0.5], name="broken", verdict="unreliable")
        await remember(session, [0.5], name="same", purpose="aa")
        await remember(session, [0.5], name="everything", purpose="holdout")
        await remember(session, [0.5], name="running", stopped=False)
        await remember(session, [0.5], name="elsewhere", metric_key="orders")
    async with database.read() as session:
        plan, as_of = await learned_prior.prior_plan(session, metric_key="revenue")
    assert [effect.experiment_key for effect in plan.effects] == [f"past-{i}" for i in range(9)]
    assert {(effect.variant_key, effect.stratum) for effect in plan.effects} == {("new", "growth")}
    assert plan.effects[0].log_lift == pytest.approx(np.log(1.02))
    assert plan.effects[8].log_lift == pytest.approx(np.log(0.7))
    assert all(effect.standard_error == pytest.approx(0.01) for effect in plan.effects)
    assert (plan.version, as_of) == (1, ENDED + timedelta(days=40))
    assert load(document(plan)) == plan


async def test_too_few_experiments_teach_nothing_and_say_what_is_missing(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember(session, lifts(7))
    with pytest.raises(NotReady, match="7 of 8 experiments") as refused:
        await ask(database)
    assert refused.value.remedy and "8 experiments are needed" in refused.value.remedy
    with pytest.raises(NotFound):
        async with database.write() as session:
            await analysis_request.of_prior(session, metric_key="nothing", **WHO)
    async with database.read() as session:
        assert await learned_prior.due(session) == []
        assert "7 of 8" in (await learned_prior.without(session, metric_key="revenue")).detail
    assert (await frozen(database, "now")).metrics[0].prior is None


async def test_the_same_past_is_one_analysis_and_another_past_is_the_next_version(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember(session, lifts(8))
    rows = await asyncio.gather(*(ask(database) for _ in range(4)))
    assert len({row.id for row, _ in rows}) == 1 and sum(created for _, created in rows) == 1
    assert (await learn(database)).version == 1
    assert not (await ask(database))[1]
    async with database.write() as session:
        await remember(session, lifts(1, seed=5), name="more")
    assert (await plan_now(database)).version == 2
    assert (await learn(database)).version == 2
    async with database.read() as session:
        kinds = (await session.execute(sa.select(Analysis.kind, Analysis.subject_key))).all()
    assert [tuple(kind) for kind in kinds] == [("prior", "revenue")] * 2


async def test_a_prior_is_due_when_an_experiment_more_has_ended_or_was_analysed_again(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember(session, lifts(8))

    async def due() -> list[refresh.Due]:
        async with database.read() as session:
            found = await refresh.due(session, at=AT, every=timedelta(hours=1))
        return [each for each in found if each.kind == "prior"]

    first = await due()
    assert [(each.subject_key, each.data_as_of) for each in first] == [("revenue", ENDED + timedelta(days=7))]
    for _ in range(2):
        async with database.write() as session:
            await refresh.submit_due(session, first[0], at=AT, max_attempts=5)
    assert await due() == []  # asked for is not due, whatever becomes of it
    async with database.write() as session:
        await report(session, "past-3", 0.01, at=ENDED + timedelta(days=3, hours=1))
    assert [each.subject_key for each in await due()] == ["revenue"]
    await learn(database)
    assert await due() == []


async def test_a_plan_takes_the_prior_that_stands_when_it_is_frozen_and_keeps_it(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember(session, lifts(20))
    found = await learn(database)
    everything = [PlanMetric(metric_key="revenue", role=Role.PRIMARY), PlanMetric(metric_key="orders")]
    plan = await frozen(database, "now", metrics=everything)
    prior = {metric.metric_key: metric.prior for metric in plan.metrics}["revenue"]
    assert prior is not None and plan.metrics[1].prior is None
    assert (prior.prior_id, prior.version, prior.experiments, prior.stratum) == (found.analysis_id, 1, 20, None)
    # It is a prior, and a narrower one than the default.
    stated = Prior(Family.LEARNED, prior.mean, prior.scale, "x", tuple(prior.components))
    assert stated.scale < Prior.default().scale
    assert prior.components == found.strata[0].components
    for beliefs in ({"prior": "stated"}, {"prior": "flat"}):
        key = f"with-{beliefs['prior']}"
        sequential = {"method": "fixed"} if beliefs["prior"] == "flat" else {}
        options = {"beliefs": beliefs} | ({"sequential": sequential} if sequential else {})
        assert (await frozen(database, key, estimation=options)).metrics[0].prior is None
    assert (await frozen(database, "aa", purpose="aa")).metrics[0].prior == prior
    assert (await frozen(database, "summed", data="summary")).metrics[0].prior == prior


async def test_an_amended_plan_keeps_the_priors_it_had_and_new_metrics_get_theirs(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember(session, lifts(12))
    await learn(database)
    async with database.write() as session:
        row = await experiment.create(session, spec=draft("long"), **WHO)
        await lifecycle.start(session, experiment=row, **WHO)
        first = AnalysisPlan.model_validate(row.plan).metrics[0].prior
    assert first is not None
    async with database.write() as session:
        await remember(session, lifts(4, seed=9), name="later")
    assert (await learn(database)).version == 2
    async with database.write() as session:
        found = await session.get(Experiment, row.id)
        assert found is not None
        await amendment.amend(session, experiment=found, reason="more", changes={"planned_units": 10_000}, **WHO)
        kept = AnalysisPlan.model_validate(found.plan).metrics[0].prior
        await amendment.amend(
            session, experiment=found, reason="new", changes={"planned_units": 9_000}, refresh_definitions=True, **WHO
        )
        renewed = AnalysisPlan.model_validate(found.plan).metrics[0].prior
    assert kept == first
    assert renewed is not None and (renewed.version, renewed.experiments) == (2, 16)


async def test_an_experiment_never_learns_from_itself(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember(session, [*lifts(9), 0.4])
    found = await learn(database)
    async with database.read() as session:
        own = await learned_prior.pinned(session, metric_keys=["revenue"], experiment_key="past-9", team="")
        other = await learned_prior.pinned(session, metric_keys=["revenue"], experiment_key="somebody", team="")
    expected = population(
        [each.log_lift for each in found.effects[:9]], [each.standard_error for each in found.effects[:9]]
    ).prior("revenue")
    assert own["revenue"].experiments == 9 and other["revenue"].experiments == 10
    assert own["revenue"].components == list(expected.components)
    assert own["revenue"].scale < other["revenue"].scale
    # The big effect stands out less under the prior of the others than under one that has seen it.
    assert found.effects[9].shrunk_log_lift is not None and found.effects[9].shrunk_log_lift < np.log(1.4)


async def test_a_prior_of_eight_leaves_nothing_for_its_own_experiments(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember(session, lifts(8))
    await learn(database)
    async with database.read() as session:
        assert await learned_prior.pinned(session, metric_keys=["revenue"], experiment_key="past-2", team="") == {}


async def test_where_teams_differ_an_experiment_takes_the_prior_of_its_team(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember(session, [x + 0.08 for x in lifts(12, tau=0.003)], name="bold", team="growth")
        await remember(session, [x - 0.06 for x in lifts(12, seed=2, tau=0.003)], name="meek", team="billing")
        await remember(session, lifts(3, seed=3), name="few", team="design")
    found = await learn(database)
    assert found.stratified and found.chance_strata_differ is not None and found.chance_strata_differ > 0.9
    assert [each.stratum for each in found.strata] == [None, "billing", "growth"]
    assert [each.experiments for each in found.strata] == [27, 12, 12]
    priors = {
        team: (await frozen(database, f"of-{team or 'nobody'}", team=team)).metrics[0].prior
        for team in ("growth", "billing", "design", "")
    }
    assert {team: prior and (prior.stratum, prior.experiments) for team, prior in priors.items()} == {
        "growth": ("growth", 12), "billing": ("billing", 12), "design": (None, 27), "": (None, 27),
    }  # fmt: skip
    async with database.read() as session:
        own = await learned_prior.pinned(session, metric_keys=["revenue"], experiment_key="bold-0", team="growth")
    assert (own["revenue"].stratum, own["revenue"].experiments) == ("growth", 11)


def test_a_result_without_enough_experiments_says_so_and_has_no_numbers() -> None:
    plan = PriorPlan(metric_key="revenue", version=1, effects=[])
    found = learned_prior_result(plan, analysis_id="a", data_as_of=AT, code_version="test")
    only = found.strata[0]
    assert (only.reason, only.components, only.prior_mean, only.mean) == ("too_few_experiments", [], None, None)
    assert (found.stratified, found.chance_strata_differ, found.effects) == (False, None, [])
