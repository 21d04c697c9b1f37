"""Learned links: which experiments teach them, when they are due, and what their document says (METHODS E9)."""

import asyncio
import pickle
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from experiments import analysis_request, links_plan, north_star, refresh
from experiments.database import Database
from experiments.definitions import InputMetric
from experiments.errors import NotFound, NotReady
from experiments.evidence import LinksContext, draft_links
from experiments.plan import JointEvidence, LinksPlan, MissingEffect, PlannedNorthStar, document, load
from experiments.result import JointEffects, LinksResult
from stats.bayes.models.effect_covariance import EffectCovarianceQuestion
from stats.bayes.models.fit import ModelFit
from tests.experiments.joint import KEYS, evidence, joint_effects, remember_joint, report_joint
from tests.experiments.past import ENDED
from tests.experiments.shop import AT, open_shop

WHO: dict[str, Any] = {"actor": "ada", "at": AT}
CONTEXT = LinksContext("a", ENDED, 7, "test")


def plan_of(effects: list[JointEvidence], inputs: tuple[str, ...] = KEYS[1:], missing: int = 0) -> LinksPlan:
    spec = {
        "key": "guide",
        "name": "Orders",
        "metric_key": "orders",
        "formula": " * ".join(inputs),
        "input_metrics": [InputMetric(metric_key=key) for key in inputs],
    }
    lost = [MissingEffect(experiment_key=f"lost-{i}", name="lost", reason="it has no result") for i in range(missing)]
    planned = PlannedNorthStar.model_validate({"version": 3, "spec": spec})
    return LinksPlan(north_star=planned, effects=effects, missing=lost)


def sampled(question: EffectCovarianceQuestion) -> ModelFit:
    """Draws around a known matrix stand for a sampler's."""
    matrix = 1e-4 * (0.05 * np.eye(len(question.scale)) + 0.95)
    size = np.exp(0.1 * np.random.default_rng(2).normal(size=(500, 1, 1)))
    return ModelFit("effect_covariance", 1, "ok", covariances=size * matrix)


async def plan_now(database: Database) -> LinksPlan:
    async with database.read() as session:
        return (await links_plan.links_plan(session, north_star_key="guide"))[0]


async def due(database: Database) -> list[refresh.Due]:
    async with database.read() as session:
        found = await refresh.due(session, at=AT, every=timedelta(hours=1))
    return [each for each in found if each.kind == "links"]


@pytest.mark.anyio
async def test_links_are_learned_from_every_sound_test_that_ended_and_say_what_is_missing(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember_joint(session, 9)
        await remember_joint(session, 1, name="old", version=2)
        await remember_joint(session, 1, name="elsewhere", keys=("orders", "active"))
        await remember_joint(session, 1, name="broken", verdict="unreliable")
        await remember_joint(session, 1, name="silent", measured=False)
        await remember_joint(session, 1, name="same", purpose="aa")
        await remember_joint(session, 1, name="kept-out", purpose="holdout")
        await remember_joint(session, 1, name="running", stopped=False)
        await remember_joint(session, 1, name="other", north_star_key="another")
        (lifts, *_), covariance = joint_effects(1)
        backwards = JointEffects(
            variant_key="x", metric_keys=list(KEYS[::-1]), log_lifts=lifts[::-1], covariance=covariance
        )
        await report_joint(session, "joint-8", [backwards], at=ENDED + timedelta(days=40))  # its last look counts
    async with database.read() as session:
        plan, as_of = await links_plan.links_plan(session, north_star_key="guide")
    assert [each.experiment_key for each in plan.effects] == [f"joint-{i}" for i in range(9)]
    assert {each.variant_key for each in plan.effects[:8]} == {"new"} and plan.effects[0].team == "growth"
    assert plan.effects[8].log_lifts == lifts and as_of == ENDED + timedelta(days=40)
    reasons = {each.experiment_key: each.reason for each in plan.missing}
    assert reasons.keys() == {"old-0", "elsewhere-0", "broken-0", "silent-0"}
    assert "another version" in reasons["old-0"] and "failed a check" in reasons["broken-0"]
    assert "all inputs" in reasons["elsewhere-0"] and "all inputs" in reasons["silent-0"]
    assert load(document(plan)) == plan


@pytest.mark.anyio
async def test_too_few_experiments_are_refused_with_what_is_missing(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember_joint(session, 7)
    async with database.write() as session:
        with pytest.raises(NotReady, match="7 of 8 experiments on `guide`"):
            await analysis_request.of_links(session, north_star_key="guide", **WHO)
        with pytest.raises(NotFound):
            await analysis_request.of_links(session, north_star_key="nothing", **WHO)
    assert await due(database) == []


@pytest.mark.anyio
async def test_links_are_due_when_what_they_are_learned_from_has_changed(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember_joint(session, 8)
    (wanted,) = await due(database)
    assert (wanted.subject_key, wanted.data_as_of) == ("guide", ENDED + timedelta(days=7))

    async def submit() -> bool:
        async with database.write() as session:
            return (await refresh.submit_due(session, wanted, at=AT, max_attempts=1))[1]

    assert sum(await asyncio.gather(*(submit() for _ in range(3)))) == 1
    assert await due(database) == []
    async with database.write() as session:
        row, waiting = await analysis_request.of_links(session, north_star_key="guide", **WHO)
        assert not waiting and row.subject_key == "guide"
        await remember_joint(session, 1, name="next", seed=5)
    (again,) = await due(database)
    assert len(again.plan_document["effects"]) == 9


@pytest.mark.anyio
async def test_a_new_version_of_the_tree_starts_from_nothing(database: Database) -> None:
    async with database.write() as session:
        await open_shop(session)
        await remember_joint(session, 8)
    async with database.write() as session:
        row = await north_star.get(session, key="guide", lock=True)
        changed = north_star.spec_of(row).model_copy(update={"owner": "grace"})
        await north_star.update(session, north_star=row, spec=changed, expected=1, **WHO)
    plan = await plan_now(database)
    assert plan.effects == [] and len(plan.missing) == 8
    async with database.read() as session:
        assert "0 of 8 experiments" in (await links_plan.without(session, north_star_key="guide")).detail


def test_the_document_has_every_inputs_link_and_the_proxy_that_they_make() -> None:
    draft = draft_links(plan_of(evidence(40, teams=("growth", "search")), missing=2), CONTEXT)
    (question,) = draft.questions
    found = pickle.loads(pickle.dumps(draft)).finish([sampled(question)])
    assert (found.engine, found.experiments, found.estimable, found.joint_reason) == ("nuts", 40, True, None)
    assert [link.metric_key for link in found.links] == ["active", "per_active"]
    for link in found.links:
        assert link.usable and link.chance_correlation is not None and link.chance_correlation > 0.95
        assert link.slope_lower_95 is not None and link.slope is not None and link.slope_upper_95 is not None
        assert link.slope_lower_95 < link.slope < link.slope_upper_95
        assert link.joint_slope == pytest.approx(0.487, abs=0.01)  # 0.95 / 1.95: two inputs share the work
        assert set(link.slope_by_team) == {"growth", "search"} and len(link.points) == 40
        assert link.points[0].error_correlation == pytest.approx(0.5)
    assert [each.metric_key for each in found.proxy] == ["active", "per_active"]
    assert found.proxy_correlation is not None and 0.85 < found.proxy_correlation < 1
    assert [each["experiment_key"] for each in found.missing] == ["lost-0", "lost-1"]
    assert {(check.name, check.status) for check in found.checks} >= {("links_completeness", "pass")}
    assert LinksResult.model_validate_json(found.model_dump_json()) == found


def test_a_model_that_failed_costs_only_what_it_would_have_said() -> None:
    draft = draft_links(plan_of(evidence(40)), CONTEXT)
    failed = ModelFit("effect_covariance", 1, "unreliable", "chains disagree")
    for found in (draft.finish([failed]), draft.finish()):
        assert (found.engine, found.joint_reason) == ("grid", "not_sampled")
        assert [link.usable for link in found.links] == [True, True]
        best = max(found.links, key=lambda link: link.correlation or 0)
        assert [each.metric_key for each in found.proxy] == [best.metric_key]
        assert found.links[0].slope is not None and found.links[0].joint_slope is None
    with pytest.raises(ValueError, match="zip"):
        draft.finish([])


def test_one_input_needs_no_sampling_and_has_its_proxy() -> None:
    draft = draft_links(plan_of(evidence(30, 2), ("active",)), CONTEXT)
    assert draft.questions == ()
    found = draft.finish([])
    assert (found.engine, found.joint_reason) == ("grid", "one_input")
    slope = found.links[0].slope
    assert slope is not None and 0 < found.proxy[0].weight < slope  # noise makes a prediction shyer than a slope


def test_inputs_that_are_a_formula_of_the_north_star_are_not_judged_together() -> None:
    """By definition log orders are the sum of both logs, errors included: there is nothing to learn about that."""

    def whole(each: JointEvidence) -> JointEvidence:
        sums = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        lifts, covariance = np.array(each.log_lifts)[1:], np.array(each.covariance)[1:, 1:]
        return each.model_copy(
            update={"log_lifts": (sums @ lifts).tolist(), "covariance": (sums @ covariance @ sums.T).tolist()}
        )

    draft = draft_links(plan_of([whole(each) for each in evidence(12)]), CONTEXT)
    assert draft.questions == () and draft.finish([]).joint_reason == "one_formula"
    many = tuple(f"input_{i}" for i in range(6))
    assert draft_links(plan_of(evidence(8, 7), many), CONTEXT).joint_reason == "too_many_inputs"


def test_too_few_experiments_are_a_document_without_numbers() -> None:
    for number in (0, 5):
        found = draft_links(plan_of(evidence(number)), CONTEXT).finish([])
        assert (found.estimable, found.reason, found.engine) == (False, "too_few_experiments", "none")
        assert [(link.slope, link.usable) for link in found.links] == [(None, False)] * 2
        assert len(found.links[0].points) == number


def test_a_link_that_hangs_on_one_team_is_told() -> None:
    effects = evidence(40, 2, teams=("player", "search"), link=0.97)
    alone = [
        each
        if each.team == "player"
        else each.model_copy(update={"log_lifts": [0.3 * each.log_lifts[0], each.log_lifts[1]]})
        for each in effects
    ]
    found = draft_links(plan_of(alone, ("active",), missing=20), CONTEXT).finish([])
    told = {check.name: check.status for check in found.checks}
    assert found.links[0].usable and told["link_without_each_team"] == "warn"
    assert told["links_completeness"] == "warn"
    assert found.links[0].slope_by_team["search"] > 1.5 * found.links[0].slope_by_team["player"]
