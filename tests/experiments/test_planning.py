"""Sample sizes are those of the textbook formula, and whatever makes them impossible has a reason."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import scipy.stats as sps
from statsmodels.stats.power import NormalIndPower

from experiments.definitions import Direction, PlanMetric, Sequential, Variant
from experiments.effect_history import PastEffect
from experiments.planning import SampleSize, sample_size
from experiments.result import BaselineResult, MetricBaseline
from experiments.types import canonical_json
from stats.cluster_design import ClusterDesign
from tests.experiments.evidence_cases import variants
from tests.stats.moment_cases import within

DAILY = [int(20_000 * (1 - np.exp(-day / 30))) for day in range(1, 57)]


ORDERS = {"mean": 2.0, "sd": 3.0}


def baselines(curve: list[int] | None = None, **metrics: dict[str, Any]) -> BaselineResult:
    known = {"orders": ORDERS} | metrics
    return BaselineResult(
        analysis_id="b",
        unit_type="user",
        data_as_of=datetime(2026, 1, 5, tzinfo=UTC),
        metrics=[
            MetricBaseline(
                **({"metric_key": key, "n": 1000, "mean": None, "sd": None, "cuped_r_squared": None} | value)
            )
            for key, value in known.items()
        ],
        cumulative_units=DAILY if curve is None else curve,
        code_version="test",
    )


def size(*metrics: PlanMetric, history: BaselineResult | None = None, **extra: Any) -> SampleSize:
    options: dict[str, Any] = {"variants": variants(), "baselines": history or baselines()} | extra
    result = sample_size(metrics=metrics or (primary(),), **options)
    canonical_json(result.model_dump(mode="json"))
    return result


def primary(key: str = "orders", mde: float | None = 0.1) -> PlanMetric:
    return PlanMetric.model_validate({"metric_key": key, "role": "primary", "mde": mde})


def guardrail(margin: float = 0.1, key: str = "orders") -> PlanMetric:
    return PlanMetric.model_validate({"metric_key": key, "role": "guardrail", "non_inferiority_margin": margin})


def test_two_equal_arms_need_what_statsmodels_says():
    found = size()
    per_arm = NormalIndPower().solve_power(effect_size=0.1 * 2 / 3, alpha=0.05, power=0.8, ratio=1)
    assert found.units == pytest.approx(2 * per_arm, abs=2)
    assert [item.units for item in found.variants] == [pytest.approx(per_arm, abs=1)] * 2
    assert found.limiting_metric == "orders"
    assert found.days is not None and np.interp(found.days, np.arange(1, 57), DAILY) == pytest.approx(
        found.units, abs=1
    )


def test_a_covariate_saves_the_variance_it_explains():
    history = baselines(orders={"mean": 2.0, "sd": 3.0, "cuped_r_squared": 0.4})
    assert size(history=history).units == pytest.approx(0.6 * (size().units or 0), rel=1e-3)
    assert size(history=history, cuped=False).units == size().units


def test_guardrails_are_planned_for_non_inferiority_and_raise_the_power_of_every_test():
    alone, guarded = size(), size(primary(), guardrail(0.2, "refunds"), history=baselines(refunds=ORDERS))
    assert alone.power_per_test == pytest.approx(0.8)
    assert guarded.power_per_test == pytest.approx(0.9)
    found = next(item for item in guarded.metrics if item.role == "guardrail")
    z = sps.norm.ppf(0.95) + sps.norm.ppf(0.9)
    assert found.units == pytest.approx(4 * (z * 1.5 / np.log(1.2)) ** 2, abs=2)
    assert guarded.units == max(item.units or 0 for item in guarded.metrics)


@pytest.mark.parametrize(
    ("direction", "distance"), [("increase", -np.log(0.8)), ("decrease", np.log(1.2)), (None, np.log(1.2))]
)
def test_a_harm_is_as_far_away_as_the_lift_s_interval_sees_it(direction, distance):
    """Losing a fifth is further than gaining one; where the good direction is unknown the harder case is planned."""
    metric = guardrail(0.2).model_copy(update={"direction": direction and Direction(direction)})
    z = sps.norm.ppf(0.95) + sps.norm.ppf(0.8)
    found = size(metric)
    assert found.units == pytest.approx(4 * (z * 1.5 / distance) ** 2, abs=2)
    assert found.metrics[0].smallest_effect == pytest.approx(0.2, rel=1e-3)
    helped = size(metric, anticipated={"orders": 0.05})
    assert (helped.units or 0) < (found.units or 0)


def test_a_guardrail_that_is_safe_clears_as_often_as_planned():
    found = size(guardrail(0.1).model_copy(update={"direction": Direction.INCREASE}))
    rng = np.random.default_rng(1)
    n = (found.units or 0) // 2
    means = rng.normal(2.0, 3.0 / np.sqrt(n), (20_000, 2))
    error = 3.0 / np.sqrt(n) * np.sqrt(1 / means[:, 0] ** 2 + 1 / means[:, 1] ** 2)
    lower = np.log(means[:, 1] / means[:, 0]) - sps.norm.ppf(0.95) * error
    assert within(float((np.exp(lower) - 1 > -0.1).mean()), 0.8, 20_000, 0.0)


def test_more_treatments_and_primaries_divide_alpha_and_the_smallest_arm_decides():
    three = size(variants=variants(3, (0.4, 0.5, 0.1)))
    assert three.comparisons == 2
    z = sps.norm.ppf(1 - 0.05 / 4) + sps.norm.ppf(0.8)
    assert three.units == pytest.approx(z**2 * 9 * (1 / 0.1 + 1 / 0.4) / 0.2**2, rel=1e-3)


def test_dunnett_asks_for_less_than_bonferroni_and_no_correction_for_least():
    arms = variants(4, (0.25, 0.25, 0.25, 0.25))
    bonferroni, holm, dunnett, none = (
        size(variants=arms, correction=kind) for kind in ("bonferroni", "holm", "dunnett", "none")
    )
    assert bonferroni.units == holm.units
    assert (none.units or 0) < (dunnett.units or 0) < (bonferroni.units or 0)
    assert (none.comparisons, dunnett.comparisons, none.alpha_per_test) == (1, 3, 0.05)
    assert dunnett.alpha_per_test == pytest.approx(2 * sps.norm.sf(2.349), abs=1e-4)  # Dunnett 1964: 2.35


def test_group_sequential_looks_follow_from_the_days_they_take():
    weekly = Sequential(method="group_sequential", look_every_days=7)
    fixed, found = size(), size(monitoring="group_sequential", sequential=weekly)
    assert found.days is not None and found.inflation > 1
    assert found.units == pytest.approx(found.inflation * (fixed.units or 0), rel=1e-3)
    before = np.arange(1, len(found.looks)) * 7
    # Concave traffic: the first week brings more than its share.
    np.testing.assert_allclose(found.looks[:-1], np.interp(before, np.arange(1, 57), DAILY) / found.units, atol=0.02)
    assert found.days - before[-1] < 11 and found.looks[-1] == 1.0
    assert fixed.looks == [1.0] and fixed.inflation == pytest.approx(1.0)
    dearer = size(monitoring="group_sequential", sequential=weekly.model_copy(update={"futility": "non_binding"}))
    assert found.units is not None and (dearer.units or 0) > found.units
    without_days = size(history=baselines(curve=[]), monitoring="group_sequential")
    assert without_days.looks == [0.25, 0.5, 0.75, 1.0]
    many = size(primary(mde=0.07), monitoring="group_sequential", sequential=Sequential(look_every_days=1))
    assert len(many.looks) <= 29


def test_metrics_may_be_planned_to_show_that_nothing_changes():
    found = size(primary(mde=0.1), equivalence=["orders"])
    z = sps.norm.ppf(0.95) + sps.norm.ppf(0.9)
    assert found.metrics[0].test == "equivalence"
    assert found.units == pytest.approx(4 * (z * 1.5 / np.log(1.1)) ** 2, abs=2)
    assert (size(equivalence=["orders"], anticipated={"orders": -0.02}).units or 0) > (found.units or 0)
    assert size(equivalence=["orders"], anticipated={"orders": 0.2}).reason == (
        "orders: anticipated_effect_exceeds_margin"
    )


def test_doing_no_harm_needs_no_win():
    history = baselines(refunds=ORDERS)
    found = size(primary(mde=0.001), guardrail(0.2, "refunds"), history=history, decision_rule="do_no_harm")
    assert found.limiting_metric == "refunds" and found.power_per_test == pytest.approx(0.8)
    orders = next(item for item in found.metrics if item.metric_key == "orders")
    assert not orders.decides and (orders.units or 0) > (found.units or 0)


def test_clusters_cost_their_design_effect_and_are_counted():
    found = size(clusters=ClusterDesign(10, 0.5, 0.05))
    effect = 1 + (1.25 * 10 - 1) * 0.05
    assert found.design_effect == pytest.approx(effect)
    assert found.units == pytest.approx(effect * (size().units or 0), rel=0.02)
    assert found.clusters == pytest.approx((found.units or 0) / 10, abs=1)
    assert [item.clusters for item in found.variants] == [pytest.approx((found.clusters or 0) / 2, abs=1)] * 2
    # A handful of clusters: t quantiles instead of normal ones.
    few = size(primary(mde=1.0), clusters=ClusterDesign(20, icc=0.3))
    assert few.clusters is not None and few.clusters >= 4
    assert (few.units or 0) > 1.05 * few.design_effect * (size(primary(mde=1.0)).units or 0)
    assert few.metrics[0].smallest_effect is not None and few.metrics[0].smallest_effect <= 1.0


def test_units_that_are_not_triggered_are_enrolled_for_nothing():
    whole, some = size(), size(triggered_share=0.5)
    assert some.units == whole.units and some.enrolled == 2 * (whole.units or 0)
    assert some.days == size(coverage=0.5).days
    assert some.metrics[0].topline_effect == pytest.approx(0.05)
    assert size(coverage=1e-9).reason == "no_history"


def test_assumptions_take_the_place_of_history():
    assumed = [MetricBaseline(metric_key="orders", n=0, mean=4.0, sd=3.0, cuped_r_squared=None)]
    assert size(assumed=assumed).units == pytest.approx((size().units or 0) / 4, rel=1e-3)
    planned = sample_size(variants=variants(), metrics=[primary()], baselines=None, assumed=assumed)
    assert (planned.units, planned.days, planned.reason) == (size(assumed=assumed).units, None, "no_history")


def test_an_effect_far_above_what_experiments_found_is_called_unusual():
    rng = np.random.default_rng(2)
    past = {"orders": [PastEffect(f"e{i}", "b", float(rng.normal(0, 0.01)), 0.005) for i in range(30)]}
    found = size(primary(mde=0.1), past=past).metrics[0]
    assert found.usual_effects is not None and found.usual_effects.tau == pytest.approx(0.01, abs=0.005)
    assert found.usual_effects.experiments == 30 and found.unusual is True
    assert size(primary(mde=0.01), past=past).metrics[0].unusual is False
    few = size(past={"orders": past["orders"][:7]}).metrics[0]
    assert few.unusual is None and few.usual_effects is not None
    assert (few.usual_effects.tau, few.usual_effects.reason) == (None, "too_few_experiments")


def test_the_curve_reaches_the_planned_effect_and_power_on_the_planned_day():
    history = baselines(refunds=ORDERS)
    for monitoring in ("fixed", "always_valid", "group_sequential"):
        found = size(primary(), guardrail(0.12, "refunds"), history=history, monitoring=monitoring)
        assert found.days is not None
        for item in found.metrics:
            assert item.days is not None
            days = [point.day for point in found.curve]
            power = [point.power[item.metric_key] or 0.0 for point in found.curve]
            assert np.interp(item.days, days, power) == pytest.approx(found.power_per_test, abs=0.01)
            shown = [(point.mde | point.margin)[item.metric_key] or 9.0 for point in found.curve]
            assert np.interp(item.days, days, shown) == pytest.approx(item.effect, rel=0.02)
            assert (np.diff(power) >= 0).all() and (np.diff(shown) <= 0).all()
        assert set(found.curve[0].mde) == {"orders"} and set(found.curve[0].margin) == {"refunds"}


def test_deciding_by_the_always_valid_interval_costs_about_twice_the_units():
    assert size(monitoring="always_valid").units == pytest.approx(1.9 * (size().units or 0), rel=0.03)


def test_half_the_coverage_takes_longer_and_detects_less_on_the_same_day():
    whole, half = size(), size(coverage=0.5)
    assert half.units == whole.units
    assert (half.days or 0) > (whole.days or 0)
    assert half.curve[27].mde["orders"] == pytest.approx(np.sqrt(2) * (whole.curve[27].mde["orders"] or 0), rel=1e-3)
    assert [point.day for point in whole.curve] == list(range(1, 85))


@pytest.mark.parametrize(
    ("metric", "history", "reason"),
    [
        (primary("unknown"), None, "unknown: no_baseline"),
        (primary(mde=None), None, "orders: no_mde"),
        (primary("zero"), baselines(zero={"mean": 0.0, "sd": 1.0}), "zero: baseline_is_zero"),
        (primary("flat"), baselines(flat={"mean": 1.0, "reason": "zero_variance"}), "flat: zero_variance"),
        (guardrail(key="unknown"), None, "unknown: no_baseline"),
    ],
)
def test_what_cannot_be_planned_says_why(metric, history, reason):
    found = size(metric, history=history)
    assert (found.units, found.days, found.variants, found.reason) == (None, None, [], reason)


def test_out_of_reach_has_units_but_no_days():
    found = size(primary(mde=0.002))
    assert found.units is not None and found.days is None
    assert found.reason in ("traffic_saturates", "longer_than_a_year")


def test_without_traffic_history_there_are_units_but_no_days_and_no_curve():
    found = size(history=baselines(curve=[]))
    assert found.units is not None
    assert (found.days, found.curve, found.reason) == (None, [], "no_history")


def test_nothing_to_plan_for_is_said():
    assert size(PlanMetric.model_validate({"metric_key": "orders", "role": "monitor"})).reason == "nothing_to_plan_for"


def test_arguments_out_of_range_are_refused():
    for wrong in ({"coverage": 0}, {"triggered_share": 1.2}):
        with pytest.raises(ValueError, match="coverage"):
            size(**wrong)
    with pytest.raises(ValueError, match="alpha"):
        size(alpha=1.5)
    with pytest.raises(ValueError, match="control"):
        size(variants=[Variant(key="a", weight=1.0)])
