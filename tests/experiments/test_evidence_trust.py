"""Each trust check says pass, warn or fail for the right reason, with a remedy when it does not pass."""

from datetime import timedelta

import numpy as np
import pytest

from experiments.definitions import Estimation
from experiments.result import AmendmentNote, ExperimentResult
from tests.experiments.evidence_cases import (
    END,
    START,
    check_of,
    document,
    moment_set,
    plan_of,
    planned,
    row_of,
    spec,
)

N = 4000


def result(seed: int = 1, *, arm: np.ndarray | None = None, planned_units: int | None = N, **extra) -> ExperimentResult:
    rng = np.random.default_rng(seed)
    plan = plan_of([planned(spec("m"), "primary")], planned_units=planned_units)
    where = np.arange(N) % 2 if arm is None else arm
    moments_extra = {key: extra.pop(key) for key in ("crossover", "exposures", "look") if key in extra}
    return document(plan, moment_set(plan, rng.normal(10, 3, (N, 1)), where, **moments_extra), **extra)


def test_a_healthy_experiment_passes_every_check():
    found = result()
    assert {check.status for check in found.checks} == {"pass"}
    assert all(check.remedy == "" and check.detail.endswith(".") for check in found.checks)


def test_every_check_that_does_not_pass_has_a_remedy():
    note = AmendmentNote(at=END, actor="ana", reason="typo", changed=["/metrics"])
    found = result(
        arm=(np.arange(N) % 3 > 0).astype(int),
        planned_units=None,
        crossover=500,
        amendments=(note,),
        started_at=END - timedelta(days=2),
    )
    open_checks = [check for check in found.checks if check.status != "pass"]
    assert {check.name for check in open_checks} >= {
        "sample_ratio",
        "sample_ratio_sequential",
        "crossover",
        "planned_sample",
        "full_week",
        "amendments",
    }
    assert all(check.remedy.endswith(".") for check in open_checks)


def test_a_sample_ratio_mismatch_makes_the_verdict_unreliable():
    found = result(arm=(np.arange(N) % 20 > 8).astype(int))
    assert check_of(found, "sample_ratio") == "fail"
    assert found.verdict == "unreliable"


def test_a_design_of_unequal_weights_is_held_against_its_own_weights():
    plan = plan_of([planned(spec("m"), "primary")])
    uneven = plan.variants[0].model_copy(update={"weight": 0.75}), plan.variants[1].model_copy(update={"weight": 0.25})
    plan = plan.model_copy(update={"variants": list(uneven), "planned_units": N})
    arm = (np.arange(N) % 4 == 0).astype(int)
    found = document(plan, moment_set(plan, np.random.default_rng(1).normal(5, 1, (N, 1)), arm))
    assert check_of(found, "sample_ratio") == "pass"


@pytest.mark.parametrize(("crossover", "status"), [(0, "pass"), (20, "warn"), (200, "fail")])
def test_crossovers_warn_when_few_and_fail_when_many(crossover, status):
    found = result(crossover=crossover)
    assert check_of(found, "crossover") == status
    assert found.exposures.crossover == crossover


def test_exposures_that_stopped_arriving_are_noticed_while_running():
    look = np.minimum(np.arange(N) // 500, 3)
    flat = np.array([[500, 500], [2000, 2000], [2000, 2000], [2000, 2000]])
    assert check_of(result(look=look, exposures=flat, stopped_at=None), "data_freshness") == "warn"
    assert check_of(result(look=look, exposures=flat), "data_freshness") == "pass"
    assert check_of(result(look=look, stopped_at=None), "data_freshness") == "pass"


def test_units_still_in_their_window_count_as_exposed_but_not_as_analysed():
    found = result(exposures=np.array([[3000, 3000]]))
    assert [(item.exposures, item.analysed) for item in found.exposures.variants] == [(3000, 2000)] * 2


def test_an_unplanned_stop_and_an_unplanned_size_are_said():
    plan = plan_of([planned(spec("m"), "primary")], planned_end_at=None)
    found = document(plan, moment_set(plan, np.random.default_rng(1).normal(5, 1, (N, 1)), np.arange(N) % 2))
    assert check_of(found, "planned_end") == "warn"
    size = next(check for check in found.checks if check.name == "planned_sample")
    assert size.status == "warn" and "4,000 units observed" in size.detail
    assert found.decision_interval == "fixed"


def test_a_covariate_that_differs_between_arms_fails_the_integrity_test_of_cuped():
    rng = np.random.default_rng(2)
    plan = plan_of([planned(spec("m", pre_period_days=14), "primary")], estimation=Estimation())
    arm, before = np.arange(N) % 2, rng.normal(5, 1, N)
    values = np.column_stack([before + rng.normal(0, 1, N), before])
    assert check_of(document(plan, moment_set(plan, values, arm)), "pre_period_balance") == "pass"
    values[:, 1] += 0.3 * arm
    assert check_of(document(plan, moment_set(plan, values, arm)), "pre_period_balance") == "warn"


def test_a_ramp_whose_stages_attract_different_units_is_balanced_within_each_of_them():
    rng = np.random.default_rng(3)
    plan = plan_of([planned(spec("m", pre_period_days=14), "primary")], estimation=Estimation())
    stage = np.arange(N) * 2 // N
    arm = (rng.random(N) < np.where(stage == 0, 0.1, 0.5)).astype(int)
    before = rng.normal(5, 1, N) - stage
    values = np.column_stack([before + rng.normal(0, 1, N), before])
    assert check_of(document(plan, moment_set(plan, values, arm)), "pre_period_balance") == "warn"
    assert check_of(document(plan, moment_set(plan, values, arm, stratum=stage)), "pre_period_balance") == "pass"
    values[:, 1] += 0.3 * arm
    assert check_of(document(plan, moment_set(plan, values, arm, stratum=stage)), "pre_period_balance") == "warn"


def test_monitoring_waits_for_enough_conversions():
    plan = plan_of([planned(spec("bought", "proportion"), "primary")], planned_units=N)
    rare = (np.arange(N) < 40).astype(float)[:, None]
    found = document(plan, moment_set(plan, rare, np.arange(N) % 2), stopped_at=None)
    assert check_of(found, "monitoring_started") == "warn"
    row = row_of(found, "bought")
    assert (row.always_valid_p_value, row.always_valid_lower) == (None, None)
    assert found.verdict == "inconclusive"


def test_skewed_metrics_with_unequal_arms_are_warned_about():
    rng = np.random.default_rng(3)
    arm = (np.arange(N) % 10 == 0).astype(int)
    plan = plan_of([planned(spec("revenue"), "primary")])
    spend = np.where(rng.random(N) < 0.02, rng.lognormal(3, 1.5, N), 0.0)[:, None]
    found = document(plan, moment_set(plan, spend, arm))
    assert check_of(found, "skewness") == "warn"


def test_a_guardrail_is_non_inferior_exactly_when_its_one_sided_bound_clears_the_margin():
    rng = np.random.default_rng(4)
    values, arm = rng.normal(10, 3, (N, 1)), np.arange(N) % 2
    probe = plan_of([planned(spec("m"), "primary")], planned_units=N, estimation=Estimation(ci_level=0.9, cuped=False))
    bound = row_of(document(probe, moment_set(probe, values, arm)), "m").ci_lower
    assert bound is not None and bound < 0
    for margin, safe in ((-bound * 1.001, True), (-bound * 0.999, False)):
        plan = plan_of([planned(spec("m"), "guardrail", non_inferiority_margin=margin)], planned_units=N)
        moments = moment_set(plan, values, arm)
        assert row_of(document(plan, moments), "m").non_inferior is safe
        # Looking on while it runs costs certainty: the always-valid bound is lower.
        assert row_of(document(plan, moments, stopped_at=None), "m").non_inferior is False


def test_exposure_ends_with_the_stop_and_full_weeks_count_from_the_start():
    found = result(started_at=START, stopped_at=START + timedelta(days=6, hours=23))
    assert check_of(found, "full_week") == "warn"


def test_without_erasures_nothing_is_said_of_them():
    assert "erased_units" not in {check.name for check in result().checks}


@pytest.mark.parametrize(
    ("erased", "status", "p"),
    [
        ((("control", 1), ("v1", 2)), "pass", 1.0),  # 0.10 % of 2,002
        ((("control", 3), ("v1", 0)), "warn", 0.25),  # 0.15 %
        ((("control", 0), ("v1", 20)), "warn", 2e-6),
        ((("", 4),), "pass", 1.0),
    ],
)
def test_erased_units_warn_when_they_are_many_or_of_one_arm(erased, status, p):
    found = next(check for check in result(erased=erased).checks if check.name == "erased_units")
    assert found.status == status
    assert found.p_value == pytest.approx(p, rel=0.3)
    assert ("unknown 4" in found.detail) == (erased[0][0] == "")
