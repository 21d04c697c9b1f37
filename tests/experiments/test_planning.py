"""Sample sizes are those of the textbook formula, and whatever makes them impossible has a reason."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import scipy.stats as sps
from statsmodels.stats.power import NormalIndPower

from experiments.definitions import PlanMetric, Variant
from experiments.planning import SampleSize, sample_size
from experiments.result import BaselineResult, MetricBaseline
from experiments.types import canonical_json
from tests.experiments.evidence_cases import variants

DAILY = [int(20_000 * (1 - np.exp(-day / 30))) for day in range(1, 57)]


def baselines(curve: list[int] | None = None, **metrics: dict[str, Any]) -> BaselineResult:
    known = {"orders": {"mean": 2.0, "sd": 3.0}} | metrics
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
    alone, guarded = size(), size(primary(), guardrail(0.2))
    assert alone.power_per_test == pytest.approx(0.8)
    assert guarded.power_per_test == pytest.approx(0.9)
    found = next(item for item in guarded.metrics if item.role == "guardrail")
    z = sps.norm.ppf(0.95) + sps.norm.ppf(0.9)
    assert found.units == pytest.approx(4 * (z * 3 / 0.4) ** 2, abs=2)
    assert guarded.units == max(item.units or 0 for item in guarded.metrics)


def test_more_treatments_and_primaries_divide_alpha_and_the_smallest_arm_decides():
    three = size(variants=variants(3, (0.4, 0.5, 0.1)))
    assert three.comparisons == 2
    z = sps.norm.ppf(1 - 0.05 / 4) + sps.norm.ppf(0.8)
    assert three.units == pytest.approx(z**2 * 9 * (1 / 0.1 + 1 / 0.4) / 0.2**2, rel=1e-3)


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
    with pytest.raises(ValueError, match="coverage"):
        size(coverage=0)
    with pytest.raises(ValueError, match="alpha"):
        size(alpha=1.5)
    with pytest.raises(ValueError, match="control"):
        size(variants=[Variant(key="a", weight=1.0)])
