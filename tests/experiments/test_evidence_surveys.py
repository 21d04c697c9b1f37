"""Surveys: scores of those who answered, who that was, and what selection could do (METHODS A13)."""

import numpy as np
import pytest

from stats.moment_set import ResponseTable
from stats.survey import lee_bounds
from tests.experiments.evidence_cases import (
    cluster_set,
    columns_of,
    document,
    moment_set,
    plan_of,
    planned,
    row_of,
    spec,
)

N = 3000


def answers(shift: float = 0.0, seed: int = 1):
    """Scores 0 to 10 of those who answered; the treatment moves how many do."""
    rng = np.random.default_rng(seed)
    arm = np.arange(N) % 2
    answered = rng.random(N) < 0.4 + shift * arm
    score = np.clip(np.rint(rng.normal(7, 2, N)), 0, 10) * answered
    return arm, score, answered.astype(float)


def table(arm, score, answered, arms: int = 2) -> ResponseTable:
    scores = np.unique(score[answered > 0])
    counts = [[int(((arm == a) & (answered > 0) & (score == s)).sum()) for s in scores] for a in range(arms)]
    return ResponseTable(scores, np.array(counts))


def survey_plan(**extra):
    return plan_of([planned(spec("csat", "survey"), "primary")], **extra)


def test_a_survey_is_the_mean_answer_of_those_who_answered():
    arm, score, answered = answers()
    plan = survey_plan()
    assert columns_of(plan) == ("csat.score", "csat.answers", "csat.responded")
    values = np.column_stack([score, answered, answered])
    row = row_of(document(plan, moment_set(plan, values, arm, responses={"csat": table(arm, score, answered)})), "csat")
    said = [score[(arm == a) & (answered > 0)] for a in (0, 1)]
    assert row.method == "A4+A13+A3"
    assert row.mean_control == pytest.approx(said[0].mean(), rel=1e-12)
    assert row.difference_standard_error == pytest.approx(np.sqrt(sum(s.var(ddof=1) / len(s) for s in said)), rel=2e-3)
    assert row.ratio is None and row.survey is not None
    assert row.survey.response_rate_control == pytest.approx(answered[arm == 0].mean(), rel=1e-12)


def test_bounds_are_lees_and_widen_with_the_difference_in_response():
    widths = []
    for shift in (0.0, 0.15):
        arm, score, answered = answers(shift)
        found = table(arm, score, answered)
        plan, values = survey_plan(), np.column_stack([score, answered, answered])
        row = row_of(document(plan, moment_set(plan, values, arm, responses={"csat": found})), "csat")
        asked = np.bincount(arm)
        bounds = lee_bounds(found.scores, found.respondents, asked)
        assert row.survey is not None
        assert row.survey.bound_lower == pytest.approx(float(bounds.lower[0]), rel=1e-12)
        assert row.survey.bound_upper == pytest.approx(float(bounds.upper[0]), rel=1e-12)
        assert row.survey.response_p_value == pytest.approx(float(bounds.rate_p_value[0]), rel=1e-12)
        assert row.survey.bound_lower - 1e-9 <= row.difference <= row.survey.bound_upper + 1e-9
        widths.append(row.survey.bound_upper - row.survey.bound_lower)
    assert widths[1] > widths[0] + 0.5


def test_response_rates_of_clusters_are_compared_between_clusters():
    rng = np.random.default_rng(7)
    cluster = np.repeat(np.arange(60), 50)
    arm = np.arange(60) % 2
    ready = np.clip(rng.normal(0.5, 0.2, 60), 0.05, 0.95)
    answered = (rng.random(N) < ready[cluster]).astype(float)
    score = np.clip(np.rint(rng.normal(7, 2, N)), 0, 10) * answered
    plan = survey_plan(cluster="account")
    found = table(arm[cluster], score, answered)
    values = np.column_stack([score, answered, answered])
    row = row_of(document(plan, cluster_set(plan, values, cluster, arm, responses={"csat": found})), "csat")
    units = lee_bounds(found.scores, found.respondents, np.bincount(arm[cluster]))
    assert row.method == "A4+A5+A13+A3"
    assert row.survey is not None and row.survey.response_rate_control == pytest.approx(float(units.control_rate[0]))
    assert row.survey.response_p_value is not None
    assert row.survey.response_p_value > float(units.rate_p_value[0]), (
        "accounts answer alike: fewer independent answers"
    )


def test_a_survey_that_nobody_answered_says_so():
    plan = survey_plan()
    arm = np.arange(N) % 2
    nothing = ResponseTable(np.zeros(0), np.zeros((2, 0), dtype=np.int64))
    row = row_of(document(plan, moment_set(plan, np.zeros((N, 3)), arm, responses={"csat": nothing})), "csat")
    assert (row.mean_control, row.difference, row.p_value) == (None, None, None)
    assert row.reason == "denominator_near_zero"
    assert row.survey is not None
    assert (row.survey.response_rate_control, row.survey.bound_lower) == (0, None)


def test_one_arm_that_did_not_answer_leaves_rates_and_no_bounds():
    arm, score, answered = answers()
    score, answered = score * (arm == 0), answered * (arm == 0)
    plan, values = survey_plan(), np.column_stack([score, answered, answered])
    row = row_of(document(plan, moment_set(plan, values, arm, responses={"csat": table(arm, score, answered)})), "csat")
    assert (row.p_value, row.lift) == (None, None)
    assert row.survey is not None and row.survey.response_rate_treatment == 0
    assert row.survey.response_p_value is not None and row.survey.response_p_value < 1e-9
    assert (row.survey.bound_lower, row.survey.bound_upper) == (None, None)


def test_a_refused_column_has_no_survey_effect():
    arm, score, answered = answers()
    plan, values = survey_plan(), np.column_stack([score, answered, answered])
    bad = moment_set(
        plan, values, arm, responses={"csat": table(arm, score, answered)}, invalid={"csat.score": "invalid_answers"}
    )
    row = row_of(document(plan, bad), "csat")
    assert (row.reason, row.survey) == ("invalid_answers", None)
