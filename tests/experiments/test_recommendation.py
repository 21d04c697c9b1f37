"""METHODS H2: what to do, in the order of its rules; the verdict and the recommendation are one judgement."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.definitions import Estimation, Variant
from experiments.evidence.corrections import correct
from experiments.evidence.recommendation import predictive_power
from experiments.evidence.rows import validated
from experiments.plan import AnalysisPlan
from experiments.result import Check, Row
from experiments.verdict import Forecast, Judgement, Situation, judge
from tests.experiments.evidence_cases import north_star, plan_of, planned, spec
from tests.experiments.test_verdict import BAD, FAIL, FLAT, GOOD, PASS, OwnIntervals, guard, row

PLAN = plan_of([planned(spec("m"), "primary")])
RUNNING = Situation("always_valid", complete=False, running=True, early=False, full_weeks=2)
ENDED = Situation("fixed", complete=True, running=False, early=False, full_weeks=4)
FUTILE = Forecast(predictive_power=0.02, fraction=0.5)
HOPEFUL = Forecast(predictive_power=0.4, fraction=0.5, days=9.4)
HARMED = {"harm_p_value": 0.001}


def advise(
    *rows: Row,
    at: Situation = RUNNING,
    forecast: Forecast = HOPEFUL,
    plan: AnalysisPlan = PLAN,
    checks: list[Check] | None = None,
) -> Judgement:
    drafts = [dict(item) for item in rows]
    correct(plan, drafts, OwnIntervals(rows), at)
    return judge(plan, validated(drafts), [PASS] if checks is None else checks, at, forecast)


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        ([row(GOOD)], {"checks": [FAIL]}, ("unreliable", "investigate", 1)),
        ([row(BAD | HARMED)], {"checks": [FAIL]}, ("unreliable", "investigate", 1)),
        ([row(BAD | HARMED)], {}, ("worse", "roll_back", 2)),
        ([row(BAD | HARMED)], {"at": replace(RUNNING, full_weeks=0)}, ("worse", "roll_back", 2)),
        ([row(GOOD), guard(BAD | HARMED, False)], {}, ("worse", "roll_back", 2)),
        ([row(GOOD), guard(BAD | HARMED, True)], {}, ("better", "ship", 3)),
        ([row(GOOD)], {}, ("better", "ship", 3)),
        ([row(GOOD)], {"at": ENDED}, ("better", "ship", 3)),
        ([row(GOOD)], {"at": replace(RUNNING, full_weeks=0)}, ("inconclusive", "keep_running", 5)),
        ([row(FLAT)], {"forecast": FUTILE}, ("inconclusive", "iterate", 4)),
        ([row(FLAT)], {"forecast": replace(FUTILE, fraction=0.1)}, ("inconclusive", "keep_running", 5)),
        ([row(GOOD), guard(FLAT, False)], {"forecast": FUTILE}, ("inconclusive", "keep_running", 5)),
        ([row(FLAT, mde=0.02)], {}, ("equivalent", "archive", 4)),
        ([row(FLAT)], {}, ("inconclusive", "keep_running", 5)),
        ([row(GOOD), guard(FLAT, False)], {"at": ENDED}, ("inconclusive", "iterate", 6)),
        (
            [row(GOOD), guard(FLAT, False)],
            {"at": replace(ENDED, running=True)},
            ("inconclusive", "extend", 6),
        ),
        ([row(FLAT)], {"at": ENDED}, ("inconclusive", "iterate", 6)),
        ([row(FLAT, mde=0.02)], {"at": ENDED}, ("equivalent", "archive", 6)),
        ([row(BAD)], {"at": ENDED}, ("worse", "roll_back", 2)),
        ([], {"at": ENDED}, ("inconclusive", "iterate", 6)),
    ],
)
def test_the_first_rule_that_matches_decides(rows, options, expected):
    found = advise(*rows, **options)
    advice = found.recommendation
    assert (found.verdict.outcome, advice.action, advice.rule) == expected
    assert advice.reasons and all(reason.endswith(".") for reason in advice.reasons)
    assert list(found.verdict.reasons) == advice.reasons


def test_a_plan_that_looks_once_decides_nothing_before_its_end_but_harm():
    before = Situation("fixed", complete=False, running=True, early=False, full_weeks=3)
    found = advise(row(GOOD), at=before)
    assert (found.verdict.outcome, found.recommendation.action) == ("inconclusive", "keep_running")
    assert "not judged before the planned end" in found.verdict.reasons[0]
    assert advise(row(BAD | HARMED), at=before).recommendation.action == "roll_back"
    stopped = advise(row(GOOD), at=replace(before, running=False, early=True))
    assert stopped.recommendation.action == "iterate"
    assert "Exposure ended before its planned end." in stopped.verdict.reasons


def test_monitoring_harm_is_corrected_over_everything_that_is_watched():
    slight = row(FLAT | {"harm_p_value": 0.02})
    assert advise(slight).recommendation.action == "roll_back"
    assert advise(slight, guard(FLAT, False)).recommendation.action == "keep_running"


def test_keeping_on_says_how_long():
    advice = advise(row(FLAT)).recommendation
    assert advice.expected_days == 9.4 and advice.predictive_power == 0.4
    assert advice.reasons[-1] == "The planned sample is complete in about 9 days."
    full = advise(row(FLAT), forecast=replace(HOPEFUL, fraction=1.0, days=0.0)).recommendation
    assert "stop exposure" in full.reasons[-1]


def test_doing_no_harm_is_enough_where_the_plan_says_so():
    careful = plan_of([planned(spec("m"), "primary")], estimation=Estimation(decision_rule="do_no_harm"))
    found = advise(row(FLAT), guard(FLAT, True), at=ENDED, plan=careful)
    assert (found.recommendation.action, found.recommendation.variant_key) == ("neutral", "v1")
    assert found.verdict.outcome == "inconclusive" and found.verdict.variant is None
    assert advise(row(FLAT), guard(FLAT, False), at=ENDED, plan=careful).recommendation.action == "iterate"
    assert advise(row(FLAT), at=ENDED, plan=careful).recommendation.action == "iterate"
    assert advise(row(GOOD), guard(FLAT, True), at=ENDED, plan=careful).recommendation.action == "ship"


def with_star(role: str = "monitor", edge: str = "driver", **use: Any) -> AnalysisPlan:
    metrics = [planned(spec("primary_metric"), "primary"), planned(spec("star"), role, **use)]
    return plan_of(metrics, north_star=north_star("star", "primary_metric", ["primary_metric"], edge))


def star_row(numbers: dict[str, Any], **extra: Any) -> Row:
    return row(numbers, "monitor", metric_key="star", **extra)


def test_harm_to_the_north_star_rolls_back_with_or_without_a_margin():
    assert advise(row(GOOD), star_row(BAD | HARMED), plan=with_star()).recommendation.action == "roll_back"


def test_a_north_star_without_a_margin_is_reported_and_does_not_block():
    advice = advise(row(GOOD), star_row(FLAT), plan=with_star(edge="definitional")).recommendation
    assert (advice.action, advice.tags) == ("ship", ["north_star_without_margin"])


def test_a_north_star_with_a_margin_must_be_shown_safe():
    margin = {"non_inferiority_margin": 0.02}
    plan = with_star(**margin)
    unsafe = advise(row(GOOD), star_row(FLAT, non_inferior=False, **margin), plan=plan, at=ENDED)
    assert unsafe.recommendation.action == "iterate"
    assert "North Star monitor metric is not shown to stay within its margin of 2 %" in unsafe.verdict.reasons[-1]
    assert advise(row(GOOD), star_row(FLAT, non_inferior=True, **margin), plan=plan).recommendation.action == "ship"


def test_a_driver_that_wins_is_an_unproven_link_to_the_north_star():
    def tags(edge: str) -> list[str]:
        return advise(row(GOOD), star_row(FLAT), plan=with_star(edge=edge)).recommendation.tags

    assert "unproven_link" in tags("driver") and "unproven_link" not in tags("definitional")


def test_variants_that_are_the_same_on_purpose_are_never_shipped():
    same = plan_of([planned(spec("m"), "primary")], purpose="aa")
    for numbers in (GOOD, BAD):
        found = advise(row(numbers), plan=same, at=ENDED)
        assert (found.verdict.outcome, found.recommendation.action) == ("unreliable", "investigate")
    assert advise(row(FLAT), plan=same, at=ENDED).recommendation.action == "archive"
    assert advise(row(FLAT), plan=same).recommendation.action == "keep_running"


def test_a_holdout_says_what_everything_together_did_and_has_nothing_to_ship():
    held = plan_of([planned(spec("m"), "primary")], purpose="holdout")
    for numbers, outcome in ((GOOD, "better"), (BAD, "worse"), (FLAT, "inconclusive")):
        found = advise(row(numbers), plan=held, at=ENDED)
        assert (found.verdict.outcome, found.recommendation.action) == (outcome, "archive")
        assert "nothing to ship" in found.verdict.reasons[-1]
    assert advise(row(GOOD), plan=held).recommendation.action == "keep_running"


def test_sentences_call_variants_by_their_names():
    arms = [
        Variant(key="control", weight=0.4, is_control=True),
        Variant(key="v1", name="Short form", weight=0.3),
        Variant(key="v2", weight=0.3),
    ]
    plan = plan_of([planned(spec("m"), "primary")], arms)
    reasons = advise(row(GOOD), row(FLAT, variant_key="v2"), plan=plan).verdict.reasons
    assert reasons[0].startswith("primary metric of Short form is better than control")


AGREE = {
    "better": {"ship"},
    "worse": {"roll_back"},
    "unreliable": {"investigate"},
    "equivalent": {"archive", "neutral", "keep_running", "iterate"},
    "inconclusive": {"iterate", "extend", "keep_running", "neutral", "archive"},
}
NUMBERS = st.builds(
    lambda base, harm: base | {"harm_p_value": harm},
    st.sampled_from([GOOD, BAD, FLAT]),
    st.sampled_from([None, 0.0001, 0.02, 0.9]),
)


@given(
    primaries=st.lists(st.tuples(NUMBERS, st.sampled_from([None, 0.02])), min_size=1, max_size=3),
    guards=st.lists(st.tuples(NUMBERS, st.sampled_from([None, True, False])), max_size=2),
    at=st.builds(
        Situation,
        st.sampled_from(["fixed", "always_valid"]),
        complete=st.booleans(),
        running=st.booleans(),
        early=st.booleans(),
        full_weeks=st.integers(0, 2),
    ),
    rule=st.sampled_from(["superiority", "do_no_harm"]),
    purpose=st.sampled_from(["test", "aa", "holdout"]),
    checks=st.sampled_from([[PASS], [FAIL]]),
    power=st.sampled_from([None, 0.01, 0.5]),
)
def test_verdict_and_recommendation_never_contradict(primaries, guards, at, rule, purpose, checks, power):
    rows = [row(numbers, metric_key=f"p{i}", mde=mde) for i, (numbers, mde) in enumerate(primaries)]
    rows += [guard(numbers, safe) for numbers, safe in guards]
    plan = plan_of([planned(spec("m"), "primary")], purpose=purpose, estimation=Estimation(decision_rule=rule))
    found = advise(*rows, at=at, plan=plan, checks=checks, forecast=Forecast(power, 0.5))
    advice = found.recommendation
    assert advice.action in AGREE[found.verdict.outcome] or purpose == "holdout"
    if found.verdict.outcome in ("better", "worse"):
        assert advice.variant_key == found.verdict.variant is not None
    if purpose == "aa":
        assert found.verdict.outcome not in ("better", "worse") and advice.action not in ("ship", "roll_back")
    if purpose == "holdout":
        assert advice.action in ("investigate", "keep_running", "archive")


def test_predictive_power_is_the_share_of_continuations_that_win():
    rng = np.random.default_rng(3)
    t, z, critical = 0.4, 1.1, 1.96
    score = z * np.sqrt(t)
    drift = rng.normal(score / t, 1 / np.sqrt(t), 200_000)  # flat prior
    final = score + drift * (1 - t) + rng.normal(0, np.sqrt(1 - t), drift.size)
    share = float((final > critical).mean())
    assert predictive_power(z, t, critical) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / drift.size))
    assert predictive_power(z, 1.0, critical) is None and predictive_power(z, 0.0, critical) is None
