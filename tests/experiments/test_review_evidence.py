"""A growth review is a pure function of its plan: what it says, and what it refuses to say."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from experiments.definitions import Direction
from experiments.evidence.review.data import compared, told
from experiments.evidence.review.draft import draft_review
from experiments.evidence.review.follow_ups import worth_of_knowing
from experiments.evidence.review.ledger import ledger
from experiments.evidence.review.stagnation import stagnation
from experiments.plan import ReviewPlan, document, load
from experiments.result import GrowthReviewResult
from stats.bayes.models.fit import ModelFit
from tests.experiments.review_cases import QUARTER, WEEKS, context, review_plan

TOO_SHORT = 70
"""The first launch is ten weeks old."""


def made(plan: ReviewPlan) -> GrowthReviewResult:
    return draft_review(plan, context(plan)).finish()


@pytest.fixture(scope="module")
def plan() -> ReviewPlan:
    return review_plan(holdout=True)


@pytest.fixture(scope="module")
def result(plan: ReviewPlan) -> GrowthReviewResult:
    return made(plan)


@pytest.fixture(scope="module")
def without_holdout() -> GrowthReviewResult:
    """Of the same company, which asked the sampled engine in vain."""
    plan = review_plan(engine="sampled")
    return draft_review(plan, context(plan)).finish([ModelFit("ledger", 1, "unreliable", reason="chains disagree")])


def test_lines_add_up_to_what_the_north_star_did(plan: ReviewPlan, result: GrowthReviewResult) -> None:
    ledger = result.ledger
    values = np.array(plan.values, dtype=float)
    observed = float((values[-QUARTER:] - values[-QUARTER - 52 : -52]).sum())
    whole = {line.component: line for line in ledger.lines if line.key is None}
    launches = whole["launches"].units
    assert ledger.observed_units == pytest.approx(observed, rel=1e-12)
    assert sum(line.units for key, line in whole.items() if key != "observed") == pytest.approx(observed, rel=1e-9)
    for part in ("grade:", "launch:"):
        of_launches = [line.units for line in ledger.lines if line.key is not None and line.key.startswith(part)]
        assert sum(of_launches) == pytest.approx(launches, rel=1e-9)
    for line in ledger.lines:
        if line.component != "observed":
            assert line.lower_95 < line.lower_80 < line.units < line.upper_80 < line.upper_95, line.key


def test_a_holdout_makes_the_launch_line_shorter_and_cover_the_truth(
    result: GrowthReviewResult, without_holdout: GrowthReviewResult
) -> None:
    line, before = (
        next(line for line in each.ledger.lines if line.component == "launches" and line.key is None)
        for each in (result, without_holdout)
    )
    assert line.upper_80 - line.lower_80 < 0.75 * (before.upper_80 - before.lower_80)
    # Four launches of 1.2 % for the whole quarter and one for nine weeks of it; claims are half as much again.
    truth = 0.012 * 10_700 * (4 * QUARTER + 9)
    assert line.lower_80 < truth < line.upper_80
    assert line.claimed_units is not None and line.claimed_units > truth
    assert "There is no holdout" in without_holdout.holdout_advice


def test_a_sampled_engine_that_fails_costs_only_itself(without_holdout: GrowthReviewResult) -> None:
    assert without_holdout.ledger.engine == "collapsed" and without_holdout.ledger.estimable
    short = review_plan(weeks=TOO_SHORT, engine="sampled")
    draft = draft_review(short, context(short))
    assert draft.questions == (), "a series that is too short has nothing to say to any engine"
    with pytest.raises(ValueError, match="0 questions have 1 answers"):
        draft.finish([ModelFit("ledger", 1, "unreliable")])


def test_the_same_plan_gives_the_same_bytes_wherever_it_has_been() -> None:
    plan = review_plan(weeks=TOO_SHORT)
    stored = load(json.loads(json.dumps(document(plan))))
    assert isinstance(stored, ReviewPlan)
    draft = pickle.loads(pickle.dumps(draft_review(stored, context(stored))))
    assert draft.finish().model_dump_json() == made(plan).model_dump_json()


def test_below_a_year_or_half_a_year_of_launches_claims_are_shrunk_and_nothing_is_reconciled() -> None:
    found = made(review_plan(weeks=TOO_SHORT)).ledger
    assert not found.estimable and found.reason == "series_too_short"
    assert found.lines == [] and found.weeks == [] and found.kappa is None and found.backtest is None
    assert next(check for check in found.checks if check.name == "series_length").status == "fail"
    first = next(each for each in found.launches if each.launch_key == "launch-1")
    assert first.units is None and first.claimed == 0.018 and 0 < first.shrunk < first.claimed


def test_launches_of_one_week_are_told_apart_by_their_experiments_only_and_said_to_be(
    result: GrowthReviewResult,
) -> None:
    shared = {each.launch_key for each in result.ledger.launches if not each.alone_in_its_week}
    assert shared == {"launch-2", "launch-3"}
    check = next(check for check in result.checks if check.name == "launches_in_the_same_week")
    assert check.status == "warn" and "launch-2, launch-3" in check.remedy
    assert {line.evidence_grade for line in result.ledger.lines if (line.key or "").startswith("launch:")} == {"A", "U"}


def test_a_review_says_what_was_decided_what_runs_and_what_changed(result: GrowthReviewResult) -> None:
    ship, rolled_back = result.decisions
    assert (ship.outcome, rolled_back.outcome) == ("ship", "roll_back")
    assert ship.believed is not None and ship.claimed is not None and 0 < ship.believed < ship.claimed
    assert result.decisions_believed == ship.believed and result.false_sign_rate == ship.chance_wrong_sign
    assert [each.text for each in result.learnings] == ["Fewer steps help."]
    assert [(each.experiment_key, each.alarms) for each in result.running] == [("exp-10", ["sample_ratio"])]
    before = {each.name: each.before for each in result.changes}
    assert before["kappa"] == 0.8 and before["level"] == 10_900 and result.previous_review_key == "2026-q1"
    assert {"retests"} <= {each.kind for each in result.follow_ups}
    assert result.ledger.persistence_source.startswith("experiments: 1 of 5")


def test_numbers_that_importance_sampling_cannot_vouch_for_are_not_shown(plan: ReviewPlan) -> None:
    draft = draft_review(plan, context(plan))
    doubtful = replace(draft.collapsed, reason="unreliable_sampling")
    found = ledger(plan, draft.told, draft.pairs, doubtful, seed=1)
    assert not found.estimable and found.launches == [] and found.parameters == [] and found.kappa is None
    assert next(check for check in found.checks if check.name == "sampling").status == "fail"


def test_the_target_is_forecast_with_what_the_programme_usually_adds(result: GrowthReviewResult) -> None:
    forecast = result.forecast
    assert forecast.chance_to_hit is not None and forecast.chance_with_programme is not None
    assert forecast.chance_with_programme > forecast.chance_to_hit
    assert forecast.weeks[-1].observed is None and forecast.weeks[-1].median == forecast.median_at_target
    assert {lever.lever for lever in forecast.levers} == {"velocity", "win_rate", "effect_size", "sensitivity"}
    assert result.headline["chance_to_hit"] == forecast.chance_to_hit


def test_a_company_that_launched_nothing_has_a_ledger_without_launches(plan: ReviewPlan) -> None:
    nothing = plan.programme.model_copy(update={"effects": [], "holdouts": []})
    bare = plan.model_copy(update={"launches": [], "programme": nothing, "influences": []})
    draft = draft_review(bare, context(bare))
    found = ledger(bare, draft.told, draft.pairs, draft.collapsed, seed=1)
    assert [line.component for line in found.lines] == ["season", "base", "noise", "observed"], "never 0 +- 0"
    assert sum(line.units for line in found.lines[:3]) == pytest.approx(found.lines[3].units, rel=1e-9)
    assert found.claimed_units is None and not any("Launches" in sentence for sentence in found.story)


@pytest.mark.simulation
def test_a_base_that_turns_the_wrong_way_raises_the_alarm_and_names_what_goes_with_it(plan: ReviewPlan) -> None:
    """Something that should fall, say complaints, rises by 3 % a week for the last eight weeks."""
    factor = np.exp(0.03 * np.clip(np.arange(WEEKS) - (WEEKS - 9), 0, None))
    values = [float(value) for value in np.array(plan.values, dtype=float) * factor]
    inputs = {**plan.inputs, "buyers": [float(b) for b in np.array(plan.inputs["buyers"], dtype=float) * factor]}
    changes = {"values": values, "inputs": inputs, "direction": Direction.DECREASE}
    complaints = plan.model_copy(update=changes)
    running = plan.running[0].model_copy(update={"metric_keys": ["buyers"]})
    complaints = complaints.model_copy(update={"running": [running]})
    found = stagnation(complaints, told(complaints), seed=3)
    assert found.alarm and found.chances[-1] > 0.9
    assert found.slope is not None and found.slope_lower_80 is not None and found.slope_upper_80 is not None
    assert 0 < found.slope_lower_80 < found.slope < found.slope_upper_80
    assert (found.falling_inputs[0]["metric_key"], found.falling_inputs[0]["experiment_keys"]) == ("buyers", "exp-10")


def test_weeks_are_held_against_those_of_a_year_before_or_just_before() -> None:
    year, quarter = review_plan(), review_plan(compare_with="previous_period")
    assert (compared(year).after - compared(year).before).tolist() == [52] * QUARTER
    assert (compared(quarter).after - compared(quarter).before).tolist() == [QUARTER] * QUARTER
    gap = year.model_copy(update={"values": [*year.values[:-1], None]})
    assert compared(gap).known.tolist() == [True] * (QUARTER - 1) + [False]
    short = review_plan(weeks=40)
    assert not compared(short).known.size and made(short).attribution.reason == "no_weeks_to_compare"


def test_the_ledger_is_told_what_is_on_record() -> None:
    plan = review_plan(holdout=True)
    given = told(plan)
    assert given.data.source.tolist() == [0, 1, 2, 3, -1] and given.data.estimate.size == 8
    assert given.data.remaining[0] == 0.7 and np.isnan(given.data.remaining[1:]).all()
    assert given.data.time_constant[0] == pytest.approx(14 / 7 / np.log(2))
    assert given.data.held_out.tolist() == [[1.0] * 5] and given.data.holdout_week.tolist() == [103]
    assert given.data.influences.std() == pytest.approx(1) and given.unused == ()
    rare = plan.influences[0].model_copy(update={"values": [None] * 50 + plan.influences[0].values[50:]})
    assert told(plan.model_copy(update={"influences": [rare]})).unused == ("weather",)
    on_series = plan.launches[4].model_copy(
        update={"log_effect": 0.02, "standard_error": 0.01, "bias_sd": 0.03, "evidence_grade": "C"}
    )
    measured = told(plan.model_copy(update={"launches": [*plan.launches[:4], on_series]})).data
    assert measured.source.tolist() == [0, 1, 2, 3, 8] and (measured.estimate[8], measured.bias_sd[8]) == (0.02, 0.03)


def test_knowing_an_effect_is_worth_the_loss_that_its_doubt_risks() -> None:
    draws = np.random.default_rng(1).normal(0.01, 0.02, 400_000)
    simulated = float(np.maximum(draws, 0).mean() - max(0.0, 0.01))
    assert worth_of_knowing(0.01, 0.02) == pytest.approx(simulated, abs=4 * float(draws.std()) / 400_000**0.5)
    assert worth_of_knowing(-0.01, 0.02) == worth_of_knowing(0.01, 0.02)
    assert worth_of_knowing(0.01, 0.0) == 0.0
