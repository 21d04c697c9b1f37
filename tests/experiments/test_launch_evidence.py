"""From the plan of a launch and its series to the document: what it did, and how much to believe it."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.definitions import Confounder
from experiments.plan import PlannedPrior
from experiments.result import LaunchResult, MeasuredLaunch
from experiments.rollout import mean_coverage
from experiments.series_table import PERIOD
from experiments.types import canonical_json
from stats.bayes.models.fit import ModelFit, PathPosterior
from tests.experiments.launch_cases import (
    at,
    check_of,
    countries,
    draft_of,
    experiment,
    lead,
    measured,
    measurement,
    result_of,
    series,
    since,
    table,
)
from tests.experiments.launches_by_design import (
    BY_DESIGN,
    DE,
    EFFECT,
    Case,
    at_once,
    by_lot,
    concurrent,
    controlled,
    in_stages,
    staggered,
    switched,
    with_experiment,
)


@cache
def measured_by(design: str) -> MeasuredLaunch:
    return document_by(design).measurements[0]


@cache
def document_by(design: str) -> LaunchResult:
    return result_of(*BY_DESIGN[design][0]())


@pytest.mark.parametrize("design", BY_DESIGN)
def test_every_design_finds_the_effect_and_has_its_grade(design: str) -> None:
    found = measured_by(design)
    answer = lead(found)
    (chosen,) = [option for option in found.designs if option.chosen]
    assert (chosen.design, answer.method, found.grade.grade) == (design, *BY_DESIGN[design][1:])
    assert answer.log_effect is not None and answer.total_standard_error is not None
    assert abs(answer.log_effect - EFFECT) < 3 * answer.total_standard_error
    assert answer.total_standard_error < EFFECT / 3


@pytest.mark.parametrize("design", BY_DESIGN)
def test_the_total_is_the_sum_of_its_periods(design: str) -> None:
    found = measured_by(design)
    answer = lead(found)
    points = [point for point in found.periods if point.cumulative is not None]
    assert answer.cumulative is not None
    assert answer.cumulative == pytest.approx(sum(point.effect or 0.0 for point in points), rel=1e-9)
    assert points[-1].cumulative == pytest.approx(answer.cumulative)
    assert (points[-1].cumulative_lower, points[-1].cumulative_upper) == pytest.approx(
        (answer.cumulative_lower, answer.cumulative_upper)
    )
    assert answer.difference == pytest.approx(answer.cumulative / len(points))
    assert points[0].cumulative_lower == pytest.approx(points[0].effect_lower)
    for point in points:
        assert point.actual is not None and point.counterfactual is not None and point.effect is not None
        assert point.actual - point.counterfactual == pytest.approx(point.effect)


@pytest.mark.parametrize("design", BY_DESIGN)
def test_documents_are_read_back_as_they_were_stored(design: str) -> None:
    document = document_by(design)
    assert LaunchResult.model_validate_json(document.model_dump_json()) == document
    assert {"D6", "D7"} <= set(document.methods)


def test_equal_plans_series_and_seeds_give_equal_bytes() -> None:
    again = result_of(*staggered()).model_dump(mode="json")
    assert canonical_json(again) == canonical_json(document_by("staggered").model_dump(mode="json"))


@given(order=st.permutations(range(7)))
@settings(max_examples=2, deadline=None)
def test_the_order_of_segments_changes_nothing(order: list[int]) -> None:
    plan, tables, until = staggered()
    sent = tables["revenue"]
    shuffled = table(sent.values[order], [sent.segments[i] for i in order])
    assert measured(plan, {"revenue": shuffled}, until) == measured_by("staggered")


def test_other_methods_stand_beside_the_leading_one() -> None:
    rows = measured_by("concurrent").estimates
    assert [row.method for row in rows] == [
        "synthetic_did",
        "imputation",
        "group_time",
        "synthetic_control",
        "augmented_synthetic_control",
        "did",
        "bsts",
        "structural",
    ]
    assert all(row.estimable for row in rows)
    bias = {row.method: row.bias_sd for row in rows}
    assert (bias["structural"] or 0) >= (next(row.standard_error for row in rows if row.method == "structural") or 1)


def test_the_interval_holds_sampling_error_and_bias() -> None:
    answer = lead(measured_by("before_after"))
    assert answer.total_standard_error == pytest.approx(np.hypot(answer.standard_error or 0, answer.bias_sd or 0))
    assert answer.ci_lower is not None and answer.model_lower is not None and answer.model_upper is not None
    assert answer.ci_lower < answer.model_lower < answer.model_upper < (answer.ci_upper or 0)
    of_experiment = lead(measured_by("experiment"))
    assert (of_experiment.bias_sd, of_experiment.ci_lower) == (0, of_experiment.model_lower)


def test_placebos_trends_and_donors_are_part_of_the_result() -> None:
    found = measured_by("concurrent")
    in_time, in_space = found.placebos
    assert (in_time.kind, in_space.kind) == ("time", "space")
    assert all(run.at is not None and run.at < at(42) for run in in_time.runs)
    assert {run.segment for run in in_space.runs} == {"at", "be", "ch", "dk", "es", "fr"}
    assert sum(donor.weight or 0 for donor in found.donors) == pytest.approx(1)
    assert all(donor.lift_without is not None for donor in found.donors if (donor.weight or 0) > 0.01)
    assert found.donor_fit and found.donor_fit.good and found.sensitivity
    assert found.pre_trend and found.pre_trend.passed
    assert {point.time for point in found.event_study if point.time >= 0} == set(range(10))


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        ({"peeked": True}, "peeked"),
        ({"stopped_early": True}, "stopped_early"),
        ({"amended": True}, "amended"),
        ({"days": 3}, "less_than_a_week"),
        ({"clusters": 8}, "few_clusters"),
        ({"warned_checks": ["crossover"]}, "exposure_leak"),
    ],
)
def test_what_weakens_an_experiment_weakens_the_launch_behind_it(fact: dict[str, Any], reason: str) -> None:
    plan, tables, until = with_experiment()
    asked = measurement(series(dimension=""), experiment=experiment(**fact))
    found = measured(plan.model_copy(update={"measurements": [asked]}), tables, until)
    assert (found.grade.grade, found.grade.reasons) == ("B", [reason])
    assert found.grade.bias_sd == pytest.approx(0.25 * 0.01)


def unmeasured(found: MeasuredLaunch, reason: str) -> None:
    """Grade U: the prior, with its reason, and no other number."""
    answer = lead(found)
    assert found.grade.grade == "U"
    assert (answer.method, answer.reason) == ("prior", reason)
    assert all(row.lift is None for row in found.estimates if row is not answer)
    assert answer.cumulative is None
    assert found.designs[-1].chosen


def test_too_little_history_is_no_measurement() -> None:
    plan, tables, until = at_once()
    sent = tables["revenue"]
    short = replace(
        sent,
        periods=sent.periods[50:],
        values=sent.values[:, 50:],
        n=sent.n[:, 50:],
        variance=sent.variance[:, 50:],
    )
    found = measured(plan, {"revenue": short}, until)
    unmeasured(found, "too_little_history")
    assert check_of(found, "history").status == "fail"


def test_without_a_period_since_the_launch_nothing_is_measured() -> None:
    plan, tables, _ = at_once()
    found = measured(plan, tables, 60)
    unmeasured(found, "no_period_after_launch")
    assert check_of(found, "post_period").status == "fail"
    assert len(found.periods) == 60
    assert all(point.actual is not None for point in found.periods)


def test_units_that_were_lost_on_one_side_are_no_measurement() -> None:
    found = measured(*in_stages(on_first=1300))
    unmeasured(found, "sample_ratio_mismatch")
    assert found.grade.reasons == ["not_usable"]
    assert check_of(found, "sample_ratio").status == "fail"


def test_what_such_launches_usually_do_is_said_where_nothing_was_measured() -> None:
    learned = PlannedPrior(
        prior_id="p", version=2, experiments=30, mean=0.004, scale=0.02, components=[(1.0, 0.004, 0.02)]
    )
    plan, tables, _ = at_once()
    asked = plan.measurements[0].model_copy(update={"prior": learned})
    answer = lead(measured(plan.model_copy(update={"measurements": [asked]}), tables, 60))
    assert (answer.log_effect, answer.standard_error, answer.notes) == (0.004, 0.02, ["learned_prior"])


def test_gaps_lower_the_grade_and_are_never_filled() -> None:
    plan, tables, until = concurrent()
    tables["revenue"].values[DE, 20:28] = np.nan
    found = measured(plan, tables, until)
    assert check_of(found, "gaps").status == "fail"
    assert (found.grade.grade, found.grade.reasons) == ("D", ["too_many_gaps"])
    assert all(found.periods[t].actual is None and found.periods[t].effect is None for t in range(20, 28))


def test_zeros_are_no_logarithms() -> None:
    plan, tables, until = concurrent()
    tables["revenue"].values[DE, 7] = 0
    found = measured(plan, tables, until)
    answer = lead(found)
    assert (found.scale, check_of(found, "scale").status) == ("level", "warn")
    assert answer.lift is not None and answer.log_effect == pytest.approx(np.log1p(answer.lift))
    before = np.mean(tables["revenue"].values[DE, :42])
    assert answer.difference == pytest.approx(answer.lift * before)


def test_a_regressor_that_the_launch_moved_is_left_out_and_lowers_the_grade() -> None:
    plan, tables, until = controlled(regressors=[series("ads", "", role="regressor")])
    rng = np.random.default_rng(5)
    spend = rng.normal(100, 2, 80)
    untouched = measured(plan, {**tables, "ads": table(spend[None], [""])}, until)
    moved = measured(plan, {**tables, "ads": table((spend + 30 * (np.arange(80) >= 60))[None], [""])}, until)
    assert (check_of(untouched, "regressors_untouched").status, untouched.grade.grade) == ("pass", "C")
    assert (check_of(moved, "regressors_untouched").status, moved.grade.grade) == ("fail", "D")
    assert "ads" in check_of(moved, "regressors_untouched").detail
    assert moved.grade.reasons == ["regressor_moved"]
    assert lead(moved).log_effect == pytest.approx(lead(measured_by("donors")).log_effect, abs=1e-12)


def test_a_donor_that_is_the_outcome_itself_is_named_and_left_out() -> None:
    plan, tables, until = controlled()
    copied = {**tables, "other": table(2 * tables["revenue"].values, [""])}
    found = measured(plan, copied, until)
    assert check_of(found, "donors_untouched").status == "fail"
    assert [donor.segment for donor in found.donors if donor.suspect] == ["other"]
    assert abs((lead(found).log_effect or 0) - EFFECT) < 3 * (lead(found).total_standard_error or 0)


def test_donors_that_moved_at_the_launch_are_named_and_left_out() -> None:
    values = countries(52, effect=lambda i, t: since(42, EFFECT, DE, 0)(i, t), segments=7)
    found = measured(*concurrent(values=values))
    assert check_of(found, "donors_untouched").status == "warn"
    assert [donor.segment for donor in found.donors if donor.suspect] == ["at"]
    assert abs((lead(found).log_effect or 0) - EFFECT) < 3 * (lead(found).total_standard_error or 0)


def test_a_shock_that_hits_everybody_is_no_suspicion_against_donors() -> None:
    shaken = countries(52, effect=lambda i, t: 0.2 * (t >= 42) + since(42, EFFECT, DE)(i, t), segments=7)
    found = measured(*concurrent(values=shaken))
    assert check_of(found, "donors_untouched").status == "pass"
    assert abs((lead(found).log_effect or 0) - EFFECT) < 3 * (lead(found).total_standard_error or 0)


def test_what_people_did_after_the_announcement_is_not_before_the_launch() -> None:
    early = countries(52, effect=since(38, EFFECT, DE), segments=7)
    known = measured(*concurrent(values=early, announced_at=at(38)))
    assert sum(point.excluded for point in known.periods) == 4
    assert abs((lead(known).log_effect or 0) - EFFECT) < 3 * (lead(known).total_standard_error or 0)
    unknown = measured(*concurrent(values=early))
    assert check_of(unknown, "anticipation").status == "warn"


def test_something_else_at_the_time_lowers_the_grade() -> None:
    found = measured(*concurrent(confounders=[Confounder(name="World Cup", began_at=at(40), ended_at=at(70))]))
    assert (found.grade.grade, found.grade.reasons) == ("D", ["confounded"])
    assert "World Cup" in check_of(found, "confounders").detail


def test_trends_that_parted_before_lower_the_grade_and_change_no_method() -> None:
    parted = countries(52, effect=lambda i, t: (i == DE) * 0.004 * t, segments=7)
    found = measured(*concurrent(values=parted))
    assert lead(found).method == "synthetic_did"
    assert found.grade.grade == "D"
    assert "pre_trend_failed" in found.grade.reasons
    assert check_of(found, "pre_trend").status == "fail"


def test_measurements_written_down_afterwards_are_said_so() -> None:
    plan, tables, until = at_once()
    found = measured(plan.model_copy(update={"measured_since": at(62)}), tables, until)
    assert check_of(found, "planned_before").status == "warn"


def fitted(measured_effect: float, periods: int) -> ModelFit:
    after = np.arange(60, 60 + periods)
    path = PathPosterior(
        mean=np.full(periods, measured_effect),
        covariance=np.full((periods, periods), 0.01**2),
        periods=after,
        fitted=np.full(60 + periods, np.nan),
        effect=measured_effect,
        standard_error=0.01,
        lower=measured_effect - 0.02,
        upper=measured_effect + 0.02,
        p_value=0.01,
    )
    return ModelFit("launch_series", 1, "ok", hyper={"donor[2]": (0.3, 0.1, 0.5)}, path=path)


def three_controls() -> Case:
    plan, tables, until = controlled()
    third = series("fourth", "")
    asked = plan.measurements[0].model_copy(update={"controls": [*plan.measurements[0].controls, third]})
    more = {**tables, "fourth": table(countries(80)[2:3], [""])}
    return plan.model_copy(update={"measurements": [asked]}), more, until


def test_the_sampled_model_answers_in_the_place_of_the_grid_where_it_can() -> None:
    draft = draft_of(*three_controls())
    assert len(draft.questions) == 1
    (sampled,) = draft.finish([fitted(0.07, 20)]).measurements
    assert (lead(sampled).log_effect, lead(sampled).method) == (0.07, "bsts")
    assert "sampled" in lead(sampled).notes
    assert [item.name for item in sampled.parameters] == ["donor[third]"]
    assert [donor.segment for donor in sampled.donors] == ["fourth", "other", "third"]
    grid = lead(draft.finish().measurements[0])
    failed = lead(draft.finish([ModelFit("launch_series", 1, "unreliable", "R-hat")]).measurements[0])
    assert failed == grid
    assert "grid_stands" in grid.notes
    assert draft_of(*controlled()).questions == ()


@pytest.mark.simulation
@pytest.mark.parametrize("case", [concurrent, at_once, controlled])
def test_intervals_hold_the_truth(case: Callable[..., Case]) -> None:
    """Coverage of the leading interval, bias included, over 150 launches of no effect: 3 Monte Carlo errors at most."""
    runs, held = 150, 0
    for seed in range(runs):
        answer = lead(measured(*case(0.0, seed=seed)))
        assert answer.ci_lower is not None and answer.ci_upper is not None
        held += answer.ci_lower <= 0 <= answer.ci_upper
    assert held / runs >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)


def test_what_the_former_state_still_does_is_no_effect_of_the_present_one_for_any_method() -> None:
    """The change takes a day to wear in and out: without that day both methods find it, with it neither would."""
    plan, tables, until = switched()
    (whole_series,) = tables.values()
    asked = plan.measurements[0]
    path = np.array(
        [mean_coverage(plan.rollout, day, day + PERIOD["day"], segment=None) for day in whole_series.periods]
    )
    acting = np.append(path[:1], path[:-1])
    values = whole_series.values * np.exp(EFFECT * (acting - path))
    worn = {"revenue": replace(whole_series, values=values)}
    patient = asked.model_copy(update={"options": asked.options.model_copy(update={"carry_over_periods": 1})})
    document = measured(plan.model_copy(update={"measurements": [patient]}), worn, until)
    found = {row.method: row.log_effect for row in document.estimates}
    assert found["switchback"] == pytest.approx(EFFECT, abs=0.01)
    assert found["structural"] == pytest.approx(EFFECT, abs=0.015)
    hasty = {row.method: row.log_effect for row in measured(plan, worn, until).estimates}
    assert hasty["switchback"] is not None and hasty["switchback"] < 0.7 * EFFECT


def test_times_with_next_to_no_comparison_have_an_effect_and_no_interval() -> None:
    """Two segments wait: what is left of them for the last times is one degree of freedom."""
    plan, tables, until = by_lot()
    document = measured(plan, tables, until)
    widths = [
        point.ci_upper - point.ci_lower
        for point in document.event_study
        if point.ci_lower is not None and point.ci_upper is not None
    ]
    assert widths and max(widths) < 100
    assert all(point.lift is not None for point in document.event_study)
    assert all((point.ci_lower is None) == (point.ci_upper is None) for point in document.event_study)
