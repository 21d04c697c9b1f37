"""What a result says about waiting, guardrails and its engines, from units to the document (METHODS C5, H3, H4)."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from experiments.definitions import Beliefs, Estimation, Sequential
from experiments.evidence.guardrail_chances import guardrail_chances
from experiments.evidence.waiting import log_lift
from experiments.plan import AnalysisPlan, PlannedPrior
from experiments.result import ExperimentResult
from stats.bayes.normal import posterior
from stats.bayes.prior import Prior
from stats.bayes.waiting import net_gain, predictive_power_with_prior, value_of_information
from tests.experiments.evidence_cases import START, document, moment_set, plan_of, planned, row_of, spec, variants

DAYS, WINDOW = 14, 1
NOW = START + timedelta(days=DAYS)
LEARNED = PlannedPrior(
    prior_id="p", version=1, experiments=30, mean=0.0, scale=0.02, components=[(0.6, 0.0, 0.008), (0.4, 0.0, 0.03)]
)
LATER = {"data_as_of": NOW, "stopped_at": None}


def plan(*, prior: PlannedPrior | None = LEARNED, arms: int = 2, **extra: Any) -> AnalysisPlan:
    beliefs, options = extra.pop("beliefs", {}), extra.pop("options", {})
    metrics = [
        planned(
            spec("spend", window_days=WINDOW, direction=extra.pop("direction", "increase")), "primary", prior=prior
        ),
        planned(spec("visits", window_days=WINDOW), "guardrail", non_inferiority_margin=0.02),
    ]
    estimation = Estimation(cuped=False, beliefs=Beliefs(**beliefs), **options)
    fields = {"planned_end_at": START + timedelta(days=28), "estimation": estimation} | extra
    return plan_of(metrics, variants(arms), **fields)


def units(lift: float, n: int = 7000, arms: int = 2, seed: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, arms and days of entry: so many units over the fourteen days so far, exactly `lift` more spent."""
    rng = np.random.default_rng(seed)
    arm = np.arange(n) % arms
    values = np.stack([10 + rng.normal(0, 5, n), 5 + rng.normal(0, 1, n)], axis=1)
    for one in range(arms):
        values[arm == one] += np.array([10.0, 5.0]) - values[arm == one].mean(axis=0)
    values[arm == 1, 0] += 10 * lift
    return values, arm, np.minimum(np.arange(n) * DAYS // n, DAYS - 1)


def result(of: AnalysisPlan, lift: float, *, n: int = 7000, **context: Any) -> ExperimentResult:
    values, arm, day = units(lift, n, len(of.variants))
    looks = tuple(START + timedelta(days=i + 1) for i in range(DAYS))
    return document(of, moment_set(of, values, arm, look=day, looks=looks), **(LATER | context))


def test_waiting_is_worth_what_the_closed_form_says_at_the_rate_units_arrive():
    of = plan(prior=None)
    found = result(of, 0.004)
    (worth,) = found.waiting
    row = row_of(found, "spend")
    estimate, error = log_lift(row)
    believed = posterior(np.array(estimate), np.array(error), Prior.default()).mixture
    measured, per_day = 13 * 500.0, 500.0  # units count when their windows are complete

    def growth(days: Any) -> np.ndarray:
        return np.asarray(days) * per_day / measured

    days = np.array([point.days for point in worth.curve])
    expected = net_gain(believed, np.array(error), growth, days, horizon=365, share=0.5, cost=0.0)
    np.testing.assert_allclose([point.net_gain for point in worth.curve], expected, rtol=1e-4, atol=1e-9)
    assert worth.net_gain >= expected.max() > 0 and worth.days_worth_waiting > 0
    new = np.array([error / np.sqrt(growth(worth.days_worth_waiting))])
    assert worth.evsi == pytest.approx(365 * float(value_of_information(believed, new)[0]), rel=1e-6)
    assert worth.evsi > worth.net_gain, "days cost what a good variant would have brought meanwhile"


def test_the_chance_of_a_win_knows_the_prior():
    (worth,) = result(plan(), 0.03).waiting
    row = row_of(result(plan(), 0.03), "spend")
    estimate, error = log_lift(row)
    prior = Prior.default()
    assert 0 < worth.predictive_power_with_prior < worth.predictive_power < 1, "the prior expects less"
    (wide,) = result(plan(prior=None), 0.03).waiting
    believed = posterior(np.array(estimate), np.array(error), prior).mixture
    part = np.array(13 * 500 / 14000)
    by_hand = predictive_power_with_prior(np.array(estimate), np.array(error), believed, part, np.array(1.959964))
    assert wide.predictive_power_with_prior == pytest.approx(float(by_hand), rel=1e-6)


def test_a_metric_that_should_fall_is_worth_as_much_by_falling():
    up = result(plan(prior=None), 0.02).waiting[0]
    down = result(plan(prior=None, direction="decrease"), 1 / 1.02 - 1).waiting[0]
    assert down.predictive_power == pytest.approx(up.predictive_power, abs=0.02)
    assert down.net_gain == pytest.approx(up.net_gain, rel=0.15)


def test_each_day_may_cost_a_share_of_the_north_star():
    free, dear = (result(plan(beliefs={"waiting_cost": cost}), 0.004).waiting[0] for cost in (0.0, 0.05))
    assert dear.days_worth_waiting < free.days_worth_waiting and dear.net_gain < free.net_gain
    assert result(plan(beliefs={"waiting_cost": 1.0}), 0.004).waiting[0].days_worth_waiting == 0


@pytest.mark.parametrize(
    ("options", "context", "reason"),
    [
        ({}, {"stopped_at": NOW, "data_as_of": NOW + timedelta(days=7)}, "exposure_ended"),
        ({"planned_end_at": None}, {}, "no_planned_end"),
        ({}, {}, None),
    ],
)
def test_where_waiting_cannot_be_judged_there_is_a_reason(options, context, reason):
    (worth,) = result(plan(**options), 0.004, **context).waiting
    assert worth.reason == reason
    assert (worth.net_gain is None) == (reason == "exposure_ended")
    if reason is not None:
        assert worth.predictive_power is None


def test_a_metric_below_zero_has_no_log_lift_to_wait_for():
    of = plan()
    values, arm, day = units(0.004)
    values[:, 0] -= 30
    looks = tuple(START + timedelta(days=i + 1) for i in range(DAYS))
    found = document(of, moment_set(of, values, arm, look=day, looks=looks), **LATER)
    assert found.waiting[0].reason == "no_log_lift" and found.waiting[0].curve == []
    decision = next(item for item in found.decisions if item.engine == "bayesian")
    assert decision.action == "keep_running" and "no posterior" in decision.reasons[0]
    assert decision.chance_to_win is None and decision.expected_loss_per_thousand is None


def test_without_new_units_waiting_brings_nothing():
    of = plan()
    values, arm, day = units(0.004)
    looks = tuple(START + timedelta(days=i + 1) for i in range(DAYS))
    late = START + timedelta(days=40)
    silent = moment_set(of, values, arm, look=day, looks=looks)
    found = document(of, silent, data_as_of=late, stopped_at=None)
    assert found.waiting[0].reason == "no_traffic"


def test_every_variant_has_its_own_value_and_share_of_traffic():
    found = result(plan(arms=3), 0.01, n=9000)
    assert [(item.metric_key, item.variant_key) for item in found.waiting] == [("spend", "v1"), ("spend", "v2")]
    assert found.waiting[0].net_gain != found.waiting[1].net_gain


def test_nothing_is_said_of_waiting_without_the_bayesian_engine():
    found = result(plan(options={"engine": "frequentist"}), 0.004)
    assert found.waiting == [] and found.agreement is None and found.monitoring is None
    assert [item.engine for item in found.decisions] == ["frequentist"]
    assert "Testing" not in " ".join(found.verdict_reasons)


def test_a_flat_prior_says_nothing_before_the_planned_end():
    of = plan(prior=None, beliefs={"prior": "flat"}, options={"sequential": Sequential(method="fixed")})
    early = result(of, 0.03)
    assert early.waiting == [] and "withheld" in early.monitoring
    ended = result(of, 0.03, stopped_at=START + timedelta(days=28), data_as_of=START + timedelta(days=35))
    assert ended.monitoring is None and len(ended.decisions) == 2


def test_a_guardrails_chance_is_that_of_its_posterior():
    of = plan()
    found = result(of, 0.05)
    row = row_of(found, "visits")
    estimate, error = log_lift(row)
    belief = posterior(np.array(estimate), np.array(error), Prior.default())
    (shown,) = guardrail_chances(of, found.rows)
    assert shown.chance == pytest.approx(float(belief.chance_within(np.array(0.02))), rel=1e-9)
    (decision,) = [item for item in found.decisions if item.engine == "bayesian"]
    assert [item.chance for item in decision.guardrails] == [shown.chance]
    told = row.model_copy(update={"chance_to_win": row.chance_to_win + 0.01})  # as a model of units would
    (modelled,) = guardrail_chances(of, [told])
    assert modelled.chance == pytest.approx(shown.chance, abs=1e-6), "the same posterior by its mean and interval"
    hidden = row.model_copy(update={"chance_to_win": None})
    assert guardrail_chances(of, [hidden])[0].chance is None


def test_a_learned_prior_ships_before_the_end_and_a_stated_one_does_not():
    learned, stated = result(plan(), 0.08), result(plan(prior=None), 0.08)
    by_prior = {
        "learned": next(item for item in learned.decisions if item.engine == "bayesian"),
        "stated": next(item for item in stated.decisions if item.engine == "bayesian"),
    }
    assert by_prior["learned"].action == "ship" and by_prior["stated"].action == "keep_running"
    assert by_prior["learned"].chance_to_win == row_of(learned, "spend").chance_to_win
    assert by_prior["learned"].loss_unit == "metric"
    loss = row_of(learned, "spend").expected_loss
    assert by_prior["learned"].expected_loss_per_thousand == pytest.approx(1000 * 10 * loss, rel=1e-6)
    assert "stated prior" in stated.monitoring and learned.monitoring is None
