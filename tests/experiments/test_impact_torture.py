"""Growth reviews of companies that nobody would wish for: each gets a document with reasons, and no number too many."""

import json
from typing import Any

import numpy as np
import pytest

from experiments.definitions import Direction
from experiments.evidence.programme import programme_result
from experiments.evidence.review.data import compared, told
from experiments.evidence.review.draft import draft_review
from experiments.evidence.review.forecast import target_forecast
from experiments.evidence.review.ledger import ledger
from experiments.plan import ReviewPlan
from experiments.result import GrowthReviewResult
from stats.ledger import collapsed
from stats.ledger.contract import LedgerFit
from stats.ledger.lines import logarithmic_mean
from tests.experiments.review_cases import FIRST, WEEK, WEEKS, at_week, context, effect, review_plan


@pytest.fixture(scope="module")
def plan() -> ReviewPlan:
    return review_plan()


def made(plan: ReviewPlan) -> GrowthReviewResult:
    result = draft_review(plan, context(plan)).finish()
    assert_is_plain(json.loads(result.model_dump_json()))
    return result


def assert_is_plain(found: Any) -> None:
    """Every number is one: JSON has no infinity, and what pydantic writes for it is a number that went missing."""
    if isinstance(found, dict):
        for each in found.values():
            assert_is_plain(each)
    elif isinstance(found, list):
        for each in found:
            assert_is_plain(each)
    elif isinstance(found, float):
        assert np.isfinite(found)


def changed(plan: ReviewPlan, *, effects: list[Any] | None = None, **fields: Any) -> ReviewPlan:
    if effects is not None:
        fields["programme"] = plan.programme.model_copy(update={"effects": effects, "started": len(effects)})
    return plan.model_copy(update=fields)


def quick(plan: ReviewPlan) -> LedgerFit:
    """A fit of few draws: enough to see what is said of it."""
    given = told(plan)
    return collapsed.fit(given.data, given.priors, seed=1, draws=200)


def blind(plan: ReviewPlan) -> list[Any]:
    nothing = {"experiment_key": None, "evidence_grade": "U", "analysis_id": None, "persistence": None}
    return [each.model_copy(update=nothing) for each in plan.launches]


def test_what_nobody_claimed_is_not_said_to_have_been_realised(plan: ReviewPlan) -> None:
    """The share that was realised would be its prior: 95 %, of nothing."""
    nothing = changed(plan, effects=[], launches=[], decisions=[], influences=[], running=[], previous=None)
    assert made(nothing).headline["kappa"] is None
    unmeasured = changed(plan, launches=blind(plan))
    given = told(unmeasured)
    found = ledger(unmeasured, given, compared(unmeasured), quick(unmeasured), seed=1)
    assert found.estimable and found.lines and found.kappa is None
    assert found.kappa_contraction is None and found.chance_kappa_below_half is None
    assert not any("claimed" in sentence for sentence in found.story)


def test_a_week_of_zero_is_an_unknown_one_and_a_company_of_them_has_reasons_only(plan: ReviewPlan) -> None:
    values = [0.0 if week in (50, 91) else value for week, value in enumerate(plan.values)]
    some = told(changed(plan, values=values)).data.log_values
    assert np.flatnonzero(~np.isfinite(some)).tolist() == [50, 91]
    for nothing in ([0.0] * WEEKS, [-100.0] * WEEKS, [None] * WEEKS):
        found = made(changed(plan, values=nothing))
        assert (found.ledger.reason, found.ledger.lines, found.forecast.chance_to_hit) == ("series_too_short", [], None)
        length = next(check for check in found.checks if check.name == "series_length")
        assert length.status == "fail" and length.detail.startswith("0 weeks")
        assert found.stagnation.reason == "no_recent_weeks" and not found.stagnation.alarm
        assert all(each.units_per_week is None for each in found.decisions)


def test_a_review_of_the_past_knows_of_later_experiments_but_not_of_their_pace(plan: ReviewPlan) -> None:
    """Experiments that ended after the period teach how large effects are; how many there were is another matter."""
    later = [each.model_copy(update={"stopped_at": at_week(WEEKS + 30)}) for each in plan.programme.effects]
    fit = quick(plan)
    found = target_forecast(changed(plan, effects=later), fit, seed=1)
    assert found.reason == "no_history" and found.chance_to_hit is not None and found.chance_with_programme is None
    mixed = target_forecast(changed(plan, effects=[*later, plan.programme.effects[0]]), fit, seed=1)
    assert mixed.reason is None and mixed.experiments_per_quarter is not None and mixed.experiments_per_quarter < 1


def test_errors_of_nothing_and_beyond_measure_still_make_a_document(plan: ReviewPlan) -> None:
    for error in (1e-17, 1e4):
        either = {"standard_error": error, "topline_standard_error": error}
        company = changed(plan, effects=[each.model_copy(update=either) for each in plan.programme.effects])
        assert np.isfinite(quick(company).theta).all()
        found = programme_result(company.programme, analysis_id="a", data_as_of=at_week(WEEKS), code_version="test")
        assert_is_plain(json.loads(found.model_dump_json()))
        assert found.estimable
    held = review_plan(holdout=True)
    certain = held.programme.holdouts[0].model_copy(update={"standard_error": 1e-17})
    fit = quick(changed(held, programme=held.programme.model_copy(update={"holdouts": [certain]})))
    assert certain.log_lift is not None
    reached = (fit.path[:, -1] * fit.theta).sum(axis=1)
    np.testing.assert_allclose(reached, certain.log_lift, atol=1e-4)


def test_a_share_of_the_company_takes_as_much_from_the_bias_as_from_the_effect(plan: ReviewPlan) -> None:
    """The ledger would not believe a triggered experiment of grade B that the programme believes."""
    part = effect(1, shipped=True, log_lift=0.02, week=60, evidence_grade="B", bias_sd=0.0015, topline_log_lift=0.002,
                  topline_standard_error=0.0006)  # fmt: skip
    given = told(changed(plan, effects=[part])).data
    assert given.bias_sd.tolist() == pytest.approx([0.00015])


def test_periods_that_are_to_come_or_began_before_the_series(plan: ReviewPlan) -> None:
    def about(begin: int, end: int, **fields: Any) -> ReviewPlan:
        days = {"begins_on": at_week(begin).date(), "ends_on": at_week(end).date()}
        return changed(plan, review=plan.review.model_copy(update=days | fields))

    partly = about(WEEKS - 4, WEEKS + 9)
    pairs = compared(partly)
    assert pairs.after.tolist() == list(range(WEEKS - 4, WEEKS)) and pairs.ends_at == FIRST + WEEKS * WEEK
    given, fit = told(plan), quick(plan)
    for company in (about(WEEKS + 4, WEEKS + 17), about(-100, WEEKS, compare_with="previous_period")):
        found = ledger(company, given, compared(company), fit, seed=1)
        assert (found.estimable, found.reason, found.observed_units) == (False, "no_weeks_to_compare", None)
        assert found.launches and found.claimed_units is None


def test_a_north_star_that_should_fall_is_the_mirror_image(plan: ReviewPlan) -> None:
    down = [
        each.model_copy(update={"log_lift": -each.log_lift, "topline_log_lift": -(each.topline_log_lift or 0)})
        for each in plan.programme.effects
    ]
    programme = plan.programme.model_copy(update={"effects": down, "direction": Direction.DECREASE})
    values = [1e8 / value for value in plan.values if value is not None]
    fallen = made(changed(plan, programme=programme, direction=Direction.DECREASE, values=values))
    line = next(each for each in fallen.ledger.lines if each.component == "launches" and each.key is None)
    assert line.upper_80 < 0 and fallen.ledger.kappa is not None and fallen.ledger.kappa > 0.5
    assert fallen.forecast.chance_to_hit == 1.0 and fallen.forecast.binding_lever is None, "it is below the target"
    shipped = next(each for each in fallen.decisions if each.outcome == "ship")
    assert shipped.believed is not None and shipped.believed < 0
    assert shipped.chance_wrong_sign is not None and shipped.chance_wrong_sign < 0.1
    assert not any(each.avoided for each in fallen.decisions if each.outcome == "ship")


def test_a_holdout_of_other_launches_says_nothing_of_these() -> None:
    """A review of the past: the holdout went on, and measured what was launched since."""
    plan = review_plan(holdout=True)
    here = [each.launch_key for each in plan.launches]

    def given(**fields: Any) -> Any:
        held = plan.programme.holdouts[0].model_copy(update=fields)
        return told(changed(plan, programme=plan.programme.model_copy(update={"holdouts": [held]})))

    assert len(given(launch_keys=here).holdouts) == 1
    assert len(given(launch_keys=[*here, "yesterday"], live={"yesterday": 0.01}).holdouts) == 1
    for keys, live in (([*here, "since"], {"since": 0.5}), ([*here, "since"], {}), (["since"], {"since": 0.0})):
        other = given(launch_keys=keys, live=live)
        assert other.unused_holdouts == ("nobody",) and not other.data.held_out.size
    stale = given(launch_keys=here, live=dict.fromkeys(here, 0.5) | {here[-1]: 0.0}, measured_at=at_week(90))
    assert stale.data.held_out.tolist() == [[1.0] * (len(here) - 1) + [0.0]], "the last one came after it was measured"
    assert stale.data.holdout_week.tolist() == [89]
    assert given(failed_checks=["sample_ratio"]).unused_holdouts == ("nobody",)


def test_a_week_is_split_alike_in_the_smallest_and_the_largest_units() -> None:
    for unit in (1e-200, 1.0, 1e200):
        a, b = np.array([1.0, 2.0]) * unit, np.array([1.0, 1.0]) * unit
        np.testing.assert_allclose(logarithmic_mean(a, b) / unit, [1.0, 1 / np.log(2)], rtol=1e-12)
