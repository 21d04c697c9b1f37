"""METHODS H3: shipping on posteriors, by the same rules as intervals, and never against failed checks or harm."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.definitions import Beliefs, Estimation, Sequential
from experiments.evidence.corrections import correct
from experiments.evidence.rows import validated
from experiments.plan import AnalysisPlan, PlannedPrior
from experiments.result import Check, GuardrailChance, InputEffect, NorthStarEffect, Row, TreeEstimate, WaitingValue
from experiments.verdict import Decided, Forecast, Situation, decide, judge, monitoring, withheld
from tests.experiments.evidence_cases import north_star, plan_of, planned, spec, variants
from tests.experiments.test_verdict import BAD, FAIL, FLAT, GOOD, PASS, OwnIntervals, row

RUNNING = Situation("always_valid", complete=False, running=True, early=False, full_weeks=2)
ENDED = Situation("fixed", complete=True, running=False, early=False, full_weeks=4)
LOOKS_ONCE = Situation("fixed", complete=False, running=True, early=False, full_weeks=2)
HOPEFUL = Forecast(predictive_power=0.4, fraction=0.5, days=9.4)
SURE = {
    "posterior_lift": 0.05,
    "hdi_lower": 0.01,
    "hdi_upper": 0.09,
    "chance_to_win": 0.99,
    "expected_loss": 0.0001,
    "prior_source": "learned from 20 experiments (version 1)",
}
UNSURE = {"posterior_lift": 0.004, "hdi_lower": -0.01, "hdi_upper": 0.02, "chance_to_win": 0.7, "expected_loss": 0.004}
HARMED = {"harm_p_value": 0.001}


LEARNED = PlannedPrior(
    prior_id="p", version=1, experiments=20, mean=0, scale=0.02, components=[(0.5, 0.0, 0.01), (0.5, 0.0, 0.026)]
)


def plan(
    *, prior: bool = True, engine: str = "bayesian", arms: int = 2, margin: float = 0.02, **extra: Any
) -> AnalysisPlan:
    beliefs = extra.pop("beliefs", {})
    options = extra.pop("options", {})
    metrics = [
        planned(spec("primary_metric"), "primary", prior=LEARNED if prior else None),
        planned(spec("guardrail_metric"), "guardrail", non_inferiority_margin=margin),
    ]
    estimation = Estimation(engine=engine, beliefs=Beliefs(**beliefs), **options)
    return plan_of(metrics, variants(arms), estimation=estimation, **extra)


def guard(chance: float | None, numbers: dict[str, Any] = FLAT, *, safe: bool = True, **extra: Any) -> tuple[Row, Any]:
    found = row(numbers, "guardrail", non_inferiority_margin=0.02, non_inferior=safe, **extra)
    return found, GuardrailChance(
        metric_key=found.metric_key, variant_key=found.variant_key, non_inferiority_margin=0.02, chance=chance
    )


def decided(
    *rows: Row,
    of: AnalysisPlan | None = None,
    at: Situation = ENDED,
    forecast: Forecast = HOPEFUL,
    checks: list[Check] | None = None,
    chances: list[GuardrailChance] | None = None,
    **extra: Any,
) -> Decided:
    the_plan = of or plan()
    drafts = [dict(item) for item in rows]
    correct(the_plan, drafts, OwnIntervals(rows), at)
    passed = [PASS] if checks is None else checks
    return decide(the_plan, validated(drafts), passed, at, forecast, guardrail_chances=chances or [], **extra)


def bayesian(found: Decided) -> Any:
    return next(item for item in found.decisions if item.engine == "bayesian")


def frequentist(found: Decided) -> Any:
    return next(item for item in found.decisions if item.engine == "frequentist")


@pytest.mark.parametrize(
    ("numbers", "options", "expected"),
    [
        (GOOD | SURE, {}, ("better", "ship", 3)),
        (GOOD | SURE, {"at": RUNNING}, ("better", "ship", 3)),
        (FLAT | SURE, {}, ("better", "ship", 3)),
        (GOOD | SURE | {"chance_to_win": 0.94}, {}, ("inconclusive", "iterate", 6)),
        (GOOD | SURE | {"chance_to_win": 0.94}, {"at": RUNNING}, ("inconclusive", "keep_running", 5)),
        (GOOD | SURE | {"expected_loss": 0.0011}, {}, ("inconclusive", "iterate", 6)),
        (GOOD | SURE | {"chance_to_win": None}, {}, ("inconclusive", "iterate", 6)),
        (GOOD | SURE, {"at": replace(RUNNING, full_weeks=0)}, ("inconclusive", "keep_running", 5)),
        (GOOD | SURE, {"at": LOOKS_ONCE}, ("inconclusive", "keep_running", 5)),
        (GOOD | SURE, {"checks": [FAIL]}, ("unreliable", "investigate", 1)),
        (BAD | UNSURE | HARMED, {"at": RUNNING}, ("worse", "roll_back", 2)),
        (BAD | SURE | HARMED, {"at": LOOKS_ONCE}, ("worse", "roll_back", 2)),
    ],
)
def test_a_win_takes_a_chance_a_loss_and_a_week(numbers, options, expected):
    found = decided(row(numbers), **options)
    assert (found.verdict.outcome, found.recommendation.action, found.recommendation.rule) == expected
    assert found.recommendation.reasons and all(reason.endswith(".") for reason in found.recommendation.reasons)
    assert list(found.verdict.reasons) == found.recommendation.reasons


@pytest.mark.parametrize(("chance", "action"), [(0.96, "ship"), (0.94, "iterate"), (None, "iterate")])
def test_every_guardrail_must_stay_within_its_margin_with_the_plans_chance(chance, action):
    safe, stays = guard(chance)
    found = decided(row(GOOD | SURE), safe, chances=[stays])
    assert found.recommendation.action == action
    assert any("margin" in reason or "no posterior" in reason for reason in found.recommendation.reasons)
    assert [item.chance for item in bayesian(found).guardrails] == [chance]


def test_a_stated_prior_waits_for_the_planned_end_and_says_why():
    stated = plan(prior=False)
    waits = decided(row(GOOD | SURE), of=stated, at=RUNNING)
    assert waits.recommendation.action == "keep_running"
    assert "would ship, but waits for the planned end" in waits.recommendation.reasons[0]
    assert decided(row(GOOD | SURE), of=stated, at=ENDED).recommendation.action == "ship"
    stopped = decided(row(GOOD | SURE), of=stated, at=replace(RUNNING, running=False, early=True))
    assert stopped.recommendation.action == "iterate", "stopping early on a stated prior decides nothing"
    assert "stated prior" in monitoring(stated, RUNNING) and monitoring(stated, ENDED) is None
    assert monitoring(plan(), RUNNING) is None


def test_a_learned_prior_is_no_use_to_a_plan_that_asks_for_its_own():
    stated = plan(beliefs={"prior": "stated"})
    assert decided(row(GOOD | SURE), of=stated, at=RUNNING).recommendation.action == "keep_running"


def test_without_a_prior_numbers_are_withheld_until_the_planned_end():
    flat = plan(prior=False, beliefs={"prior": "flat"}, options={"sequential": Sequential(method="fixed")})
    assert "withheld" in withheld(flat, LOOKS_ONCE) and monitoring(flat, LOOKS_ONCE) == withheld(flat, LOOKS_ONCE)
    assert withheld(flat, ENDED) is None
    wide = plan(prior=False, beliefs={"prior": "stated"}, options={"prior_scale": 0.6})
    assert withheld(wide, LOOKS_ONCE) is not None
    assert withheld(plan(), RUNNING) is None
    assert withheld(plan(engine="frequentist", prior=False, beliefs={"prior": "flat"}), RUNNING) is None
    assert monitoring(plan(), LOOKS_ONCE) == "Chances to win may be read, but only the planned end decides."


def tree(elasticity: float | None, edge: str = "definitional", key: str = "primary_metric") -> NorthStarEffect:
    nothing = TreeEstimate(
        lift=None, standard_error=None, ci_lower=None, ci_upper=None, chance_to_win=None, estimable=False
    )
    part = InputEffect.model_validate(
        dict.fromkeys(InputEffect.model_fields) | {"metric_key": key, "edge": edge, "elasticity": elasticity}
    )
    return NorthStarEffect(
        north_star_key="star",
        north_star_version=1,
        metric_key="star",
        variant_key="v1",
        direct=nothing,
        tree=nothing,
        coherence=PASS,
        inputs=[part],
    )


@pytest.mark.parametrize(
    ("effect", "loss", "unit", "action"),
    [
        (tree(0.25), 0.0005, "north_star", "ship"),
        (tree(-0.25), 0.0005, "north_star", "ship"),
        (tree(1.0), 0.002, "north_star", "iterate"),
        (tree(None), 0.002, "metric", "iterate"),
        (tree(0.25, edge="driver"), 0.002, "metric", "iterate"),
        (tree(0.25, key="other"), 0.002, "metric", "iterate"),
    ],
)
def test_the_loss_is_a_share_of_the_north_star_where_the_link_is_known(effect, loss, unit, action):
    metrics = [planned(spec("primary_metric"), "primary", prior=LEARNED), planned(spec("star"), "monitor")]
    star = north_star("star", "primary_metric", ["primary_metric"])
    of = plan_of(metrics, north_star=star, estimation=Estimation(engine="bayesian"))
    beside = row(FLAT | {"mean_control": 7.0}, "monitor", metric_key="star")
    found = decided(row(GOOD | SURE | {"expected_loss": 0.002, "mean_control": 3.0}), beside, of=of, impact=[effect])
    decision = bayesian(found)
    assert decision.expected_loss == pytest.approx(loss) and decision.loss_unit == unit
    assert (decision.loss_threshold, found.recommendation.action) == (0.001, action)
    mean = 7.0 if unit == "north_star" else 3.0
    assert decision.expected_loss_per_thousand == pytest.approx(1000 * loss * mean)


def test_a_driver_ships_as_an_unproven_link_judged_by_its_own_loss():
    metrics = [planned(spec("primary_metric"), "primary", prior=LEARNED)]
    star = north_star("star", "primary_metric", ["primary_metric"], "driver")
    of = plan_of(metrics, north_star=star, estimation=Estimation(engine="bayesian"))
    found = decided(row(GOOD | SURE), of=of, impact=[tree(0.5, edge="driver")])
    assert found.recommendation.action == "ship" and "unproven_link" in found.recommendation.tags
    assert bayesian(found).loss_unit == "metric"


def test_the_engine_of_the_plan_leads_and_the_other_stands_beside_it():
    numbers = GOOD | UNSURE
    both = decided(row(numbers), of=plan(engine="both"))
    assert [(item.engine, item.leads) for item in both.decisions] == [("frequentist", True), ("bayesian", False)]
    assert (both.recommendation.action, bayesian(both).action) == ("ship", "iterate")
    leading = decided(row(numbers), of=plan(engine="bayesian"))
    assert [(item.engine, item.leads) for item in leading.decisions] == [("bayesian", True), ("frequentist", False)]
    assert (leading.recommendation.action, frequentist(leading).action) == ("iterate", "ship")
    alone = decided(row(numbers), of=plan(engine="frequentist"))
    assert [item.engine for item in alone.decisions] == ["frequentist"] and alone.agreement is None


def worth(gain: float, power: float | None = 0.3) -> WaitingValue:
    return WaitingValue(
        metric_key="primary_metric",
        variant_key="v1",
        predictive_power=power,
        predictive_power_with_prior=power,
        evsi=max(gain, 0.0),
        net_gain=gain,
        days_worth_waiting=12 if gain > 0 else 0,
        horizon_days=365,
        curve=[],
    )


@pytest.mark.parametrize("engine", ["both", "bayesian"])
def test_nothing_is_given_up_while_waiting_is_worth_its_days(engine):
    futile = Forecast(predictive_power=0.02, fraction=0.6)
    open_ = row(FLAT | UNSURE)
    for gain, action in ((0.83, "keep_running"), (0.0, "iterate")):
        found = decided(open_, of=plan(engine=engine), at=RUNNING, forecast=futile, waiting=[worth(gain, power=0.02)])
        assert {item.action for item in found.decisions} == {action}
    kept = decided(open_, of=plan(engine=engine), at=RUNNING, forecast=futile, waiting=[worth(0.83, power=0.02)])
    assert kept.recommendation.reasons[-1] == (
        "Testing 12 more days is expected to bring 0.83 days' worth of primary_metric more than deciding now."
    )
    early = decided(open_, of=plan(engine=engine), at=RUNNING, forecast=replace(futile, fraction=0.2))
    assert early.recommendation.action == "keep_running"


def test_the_prior_may_know_that_nothing_will_come():
    hopeful = Forecast(predictive_power=0.2, fraction=0.6)
    found = decided(
        row(FLAT | UNSURE), of=plan(engine="both"), at=RUNNING, forecast=hopeful, waiting=[worth(0.0, power=0.05)]
    )
    assert (frequentist(found).action, bayesian(found).action) == ("keep_running", "iterate")
    assert "20% if the effect is as measured, and 5% given the prior" in found.agreement.reasons[0]


def test_an_effect_whose_posterior_lies_within_the_mde_is_equivalent():
    small = {"posterior_lift": 0.001, "hdi_lower": -0.004, "hdi_upper": 0.006, "chance_to_win": 0.6}
    found = decided(row(FLAT | small, mde=0.01, expected_loss=0.001))
    assert (found.verdict.outcome, found.recommendation.action) == ("equivalent", "archive")
    wider = decided(row(FLAT | small | {"hdi_upper": 0.012}, mde=0.01, expected_loss=0.001))
    assert wider.verdict.outcome == "inconclusive"


def test_a_prior_of_small_effects_does_not_give_up_what_more_data_are_worth():
    small = {"posterior_lift": 0.001, "hdi_lower": -0.004, "hdi_upper": 0.006, "chance_to_win": 0.6}
    tight = row(FLAT | small, mde=0.01, expected_loss=0.001)
    for gain, action in ((0.4, "keep_running"), (0.0, "archive")):
        found = decided(tight, of=plan(engine="both"), at=RUNNING, waiting=[worth(gain)])
        assert bayesian(found).action == action
    shown = row(FLAT | small | {"ci_lower": -0.005, "ci_upper": 0.005}, mde=0.01, expected_loss=0.001)
    apart = decided(shown, of=plan(engine="both"), at=RUNNING, waiting=[worth(0.4)])
    assert (frequentist(apart).action, bayesian(apart).action) == ("archive", "keep_running")
    assert "0.4 days' worth more than deciding now" in " ".join(apart.agreement.reasons)


def test_doing_no_harm_is_enough_where_the_plan_says_so():
    careful = plan(options={"decision_rule": "do_no_harm"})
    for chance, action in ((0.99, "neutral"), (0.5, "iterate")):
        safe, stays = guard(chance)
        found = decided(row(FLAT | UNSURE), safe, of=careful, chances=[stays])
        assert found.recommendation.action == action


def test_variants_that_are_the_same_on_purpose_are_never_shipped():
    same = plan(purpose="aa")
    found = decided(row(GOOD | SURE), of=same)
    assert {item.action for item in found.decisions} == {"investigate"}
    assert decided(row(FLAT | SURE), of=same).recommendation.action == "archive"


def test_the_largest_posterior_lift_is_shipped_not_the_largest_measured_one():
    lucky = row(GOOD | SURE | {"lift": 0.3, "difference": 3.0, "posterior_lift": 0.03}, variant_key="v1")
    solid = row(GOOD | SURE | {"lift": 0.1, "posterior_lift": 0.08}, variant_key="v2")
    found = decided(lucky, solid, of=plan(engine="both", arms=3))
    assert (frequentist(found).variant_key, bayesian(found).variant_key) == ("v1", "v2")
    assert not found.agreement.agrees
    assert "+30.00 %" in found.agreement.reasons[0] and "+8.00 %" in found.agreement.reasons[1]


def reasons(*rows: Row, **options: Any) -> str:
    found = decided(*rows, **({"of": plan(engine="both")} | options))
    assert found.agreement is not None and not found.agreement.agrees
    assert all(reason.endswith(".") for reason in found.agreement.reasons)
    return " ".join(found.agreement.reasons)


def test_engines_that_recommend_the_same_agree_without_a_word():
    found = decided(row(GOOD | SURE), of=plan(engine="both"))
    assert found.agreement.agrees and found.agreement.reasons == []


def test_disagreement_names_what_the_prior_did():
    said = reasons(row(GOOD | UNSURE | {"prior_source": "learned from 20 experiments"}))
    assert "learned from 20 experiments" in said and "+10.00 %" in said and "+0.40 %" in said
    assert "70.0 % where 95 % are asked" in said


def test_disagreement_names_a_loss_that_is_too_large():
    said = reasons(row(GOOD | SURE | {"expected_loss": 0.0015}))
    assert "expected loss of 0.15 % of primary metric, more than the 0.1 % that may be lost" in said


def test_disagreement_names_what_looks_cost():
    wide = {"always_valid_lower": -0.01, "always_valid_upper": 0.2, "always_valid_p_value": 0.2}
    said = reasons(row(GOOD | SURE, **wide), at=RUNNING)
    assert "pays for every look" in said and "-1.00 % to +20.00 %" in said and "+5.00 % to +15.00 %" in said


def test_disagreement_names_what_correction_cost():
    weak = GOOD | SURE | {"p_value": 0.03}
    said = reasons(row(weak), row(FLAT | UNSURE, variant_key="v2"), of=plan(engine="both", arms=3))
    assert "from 0.03 to 0.06" in said


def test_disagreement_names_that_the_questions_differ():
    said = reasons(row(FLAT | SURE | {"p_value": 0.08}))
    assert "different questions" in said and "p = 0.08" in said and "99.0 %" in said and "0.01 %" in said


@pytest.mark.parametrize(("chance", "safe"), [(0.99, False), (0.5, True)])
def test_disagreement_names_the_guardrail(chance, safe):
    other, stays = guard(chance, safe=safe)
    said = reasons(row(GOOD | SURE), other, chances=[stays])
    assert "guardrail metric" in said and f"{chance * 100:.1f} %" in said and "95 % are asked" in said


def test_disagreement_names_a_prior_that_may_not_stop_an_experiment():
    said = reasons(row(GOOD | SURE), of=plan(engine="both", prior=False), at=RUNNING)
    assert "may decide at any look" in said and "not learned" in said


POSTERIORS = st.fixed_dictionaries(
    {
        "posterior_lift": st.floats(-0.1, 0.1),
        "chance_to_win": st.floats(0, 1),
        "expected_loss": st.floats(0, 0.01),
        "hdi_lower": st.floats(-0.2, 0),
        "hdi_upper": st.floats(0, 0.2),
    }
)
SITUATIONS = st.builds(
    Situation,
    st.sampled_from(["fixed", "always_valid"]),
    complete=st.booleans(),
    running=st.booleans(),
    early=st.booleans(),
    full_weeks=st.integers(0, 2),
)


@given(
    beliefs=POSTERIORS,
    base=st.sampled_from([GOOD, BAD, FLAT]),
    chance=st.sampled_from([None, 0.5, 0.95, 1.0]),
    at=SITUATIONS,
    prior=st.booleans(),
    harm=st.sampled_from([None, 0.001]),
)
def test_more_loss_less_chance_or_less_safety_never_ships_what_did_not(beliefs, base, chance, at, prior, harm):
    other, stays = guard(chance)

    def ships(**changes: Any) -> bool:
        numbers = base | beliefs | {"harm_p_value": harm} | changes
        found = decided(row(numbers), other, of=plan(engine="both", prior=prior), at=at, chances=[stays])
        return bool(bayesian(found).action == "ship")

    if ships():
        assert prior or at.complete
        assert at.deciding and at.full_weeks >= 1 and harm is None and chance is not None
    else:
        assert not ships(expected_loss=beliefs["expected_loss"] + 0.001)
        assert not ships(chance_to_win=beliefs["chance_to_win"] * 0.9)
    found = decided(row(base | beliefs), other, of=plan(engine="both", prior=prior), at=at, chances=[stays])
    agree = {(item.action, item.variant_key) for item in found.decisions}
    assert found.agreement.agrees == (len(agree) == 1)
    assert found.agreement.agrees == (not found.agreement.reasons)


@given(
    beliefs=POSTERIORS,
    base=st.sampled_from([GOOD, BAD, FLAT]),
    at=SITUATIONS,
    engine=st.sampled_from(["both", "frequentist"]),
)
def test_posteriors_never_change_what_intervals_say(beliefs, base, at, engine):
    """Without a value of waiting, the frequentist judgement is what it is without any posterior."""
    of = plan(engine=engine)
    other, stays = guard(0.99)
    rows = [row(base | beliefs), other]
    drafts = [dict(item) for item in rows]
    correct(of, drafts, OwnIntervals(rows), at)
    alone = judge(of, validated(drafts), [PASS], at, HOPEFUL)
    found = decided(*rows, of=of, at=at, chances=[stays])
    assert found.verdict == alone.verdict and found.recommendation == alone.recommendation
