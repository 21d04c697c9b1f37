"""Every population is held against what the allocation in force should have brought it (METHODS A12)."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from experiments.definitions import Trigger
from experiments.result import Check, ExperimentResult
from stats.moments import Moments
from tests.experiments.evidence_cases import END, START, document, moment_set, plan_of, planned, spec, variants

N = 8000


def found(result: ExperimentResult, name: str) -> Check:
    return next(check for check in result.checks if check.name == name)


def names(result: ExperimentResult) -> set[str]:
    return {check.name for check in result.checks}


def split(shares: list[list[float]], a_day: int = 400, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Arm and look of units that come day by day, split by the day's shares."""
    rng = np.random.default_rng(seed)
    arm = np.concatenate([rng.choice(len(share), a_day, p=share) for share in shares])
    return arm, np.repeat(np.arange(len(shares)), a_day)


def experiment(arm: np.ndarray, look: np.ndarray | None = None, context: Any = None, plan: Any = None, **moments: Any):
    plan = plan or plan_of([planned(spec("m"), "primary")], planned_units=len(arm))
    values = np.random.default_rng(9).normal(10, 3, (len(arm), 1))
    return document(plan, moment_set(plan, values, arm, look=look, **moments), **(context or {}))


def ramp(days_before: float = 0.0) -> tuple[Any, ...]:
    """5 % until the fifth look of twenty, then a half each. Looks are the last days before the end."""
    change = END - timedelta(days=15) + timedelta(days=days_before)
    return ((START, (0.95, 0.05)), (change, (0.5, 0.5)))


def test_a_healthy_ramp_passes_where_one_global_ratio_would_fail():
    arm, look = split([[0.95, 0.05]] * 5 + [[0.5, 0.5]] * 15)
    result = experiment(arm, look, {"allocation": ramp()})
    for name in ("sample_ratio", "sample_ratio_sequential", "sample_ratio_by_day"):
        assert found(result, name).status == "pass"
    assert "stages of the allocation" in found(result, "sample_ratio").detail
    assert found(experiment(arm, look), "sample_ratio").status == "fail"


def test_a_single_unit_in_a_small_arm_is_no_mismatch():
    values = np.random.default_rng(2).normal(10, 3, (3, 1))
    plan = plan_of([planned(spec("m"), "primary")], variants(2, (0.95, 0.05)))
    few = document(plan, moment_set(plan, values, np.array([0, 1, 1])))
    assert found(few, "sample_ratio").status == "pass"
    arm, look = split([[0.95, 0.05]] * 5 + [[0.5, 0.5]] * 15, a_day=2)
    assert "too few" in found(experiment(arm, look, {"allocation": ramp()}), "sample_ratio").detail


def test_a_mismatch_inside_a_ramp_is_found_and_dated():
    arm, look = split([[0.95, 0.05]] * 5 + [[0.5, 0.5]] * 7 + [[0.6, 0.4]] * 8)
    result = experiment(arm, look, {"allocation": ramp()})
    for name in ("sample_ratio", "sample_ratio_sequential", "sample_ratio_by_day"):
        assert found(result, name).status == "fail"
    began = END - timedelta(days=19 - 11)
    assert f"{began:%Y-%m-%d}" in found(result, "sample_ratio_by_day").detail


def test_units_of_the_day_of_the_change_belong_to_no_stage():
    arm, look = split([[0.95, 0.05]] * 5 + [[0.2, 0.8]] + [[0.5, 0.5]] * 14)
    result = experiment(arm, look, {"allocation": ramp(days_before=0.5)})
    assert found(result, "sample_ratio").status == "pass"
    arm, _ = split([[0.5, 0.5]])
    hidden = experiment(arm, None, {"allocation": ramp()})
    assert found(hidden, "sample_ratio").status == "warn" and "sample_ratio_sequential" not in names(hidden)


def test_a_day_on_which_the_split_changed_is_named():
    arm, look = split([[0.5, 0.5]] * 10 + [[0.6, 0.4]] * 10)
    day = found(experiment(arm, look), "sample_ratio_by_day")
    assert day.status == "fail" and day.remedy and f"{END - timedelta(days=10):%Y-%m-%d}" in day.detail
    arm, look = split([[0.6, 0.4]] * 20)
    steady = experiment(arm, look)
    assert (found(steady, "sample_ratio").status, found(steady, "sample_ratio_by_day").status) == ("fail", "pass")


def test_the_worst_segment_is_named_and_chance_among_many_levels_is_not():
    arm = np.arange(N) % 2
    segment = np.random.default_rng(2).integers(0, 20, N)
    even = np.stack([np.bincount(arm[segment == s], minlength=2) for s in range(20)])
    assert found(experiment(arm, segment=segment, segment_exposures=even), "sample_ratio_segments").status == "pass"
    even[7] = [260, 140]
    worst = found(experiment(arm, segment=segment, segment_exposures=even), "sample_ratio_segments")
    assert worst.status == "fail" and "country = s7" in worst.detail and "260 : 140" in worst.detail


def test_a_trigger_that_the_treatment_moves_is_a_finding_about_the_trigger():
    plan = plan_of([planned(spec("m"), "primary")], planned_units=N, trigger=Trigger(fact_source="facts"))
    arm = (np.random.default_rng(3).random(N) < 0.55).astype(int)
    result = experiment(arm, plan=plan, populations={"assigned": np.array([10_010, 9_990])})
    assert found(result, "sample_ratio").status == "pass" and "Assignments" in found(result, "sample_ratio").detail
    triggered = found(result, "sample_ratio_triggered")
    assert triggered.status == "fail" and "who triggers" in triggered.detail and "assigned" in triggered.remedy
    even = experiment(np.arange(N) % 2, plan=plan, populations={"assigned": np.array([10_800, 9_200])})
    assert found(even, "sample_ratio").status == "fail"
    assert found(even, "sample_ratio_triggered").status == "pass"


def test_a_treatment_may_change_who_has_an_outcome_but_not_take_an_arm_away():
    arm = np.arange(N) % 2
    for counts, status in (([1000, 1010], "pass"), ([1000, 1300], "warn"), ([1000, 60], "fail")):
        with_outcome = {"analysed": np.array([4000, 4000]), "with_outcome": np.array(counts)}
        check = found(experiment(arm, populations=with_outcome), "sample_ratio_with_outcome")
        assert check.status == status
        assert ("treatment itself" in check.detail) == (status == "warn")


def test_analysed_units_are_checked_where_windows_are_still_open():
    arm = np.arange(N) % 2
    assert "sample_ratio_analysed" not in names(experiment(arm))
    assert found(experiment(arm, exposures=np.array([[5000, 5000]])), "sample_ratio_analysed").status == "pass"
    late = (np.arange(N) % 20 < 8).astype(int)
    assert found(experiment(late, exposures=np.array([[5000, 5000]])), "sample_ratio_analysed").status == "warn"
    gone = (np.arange(N) % 20 < 5).astype(int)
    assert found(experiment(gone, exposures=np.array([[5000, 5000]])), "sample_ratio_analysed").status == "fail"


def test_strata_of_a_ramp_tell_exactly_who_was_analysed_in_which_stage():
    arm = np.concatenate([np.repeat([0, 1], [1900, 100]), np.repeat([0, 1], [3000, 3000])])
    stage = np.repeat([0, 1], [2000, 6000])
    values = np.random.default_rng(4).normal(10, 3, (N, 1))
    strata = Moments.from_rows(values, stage * 2 + arm, (1, 2, 2))
    exposures = np.array([[5200, 3300]])
    result = experiment(
        arm,
        context={"allocation": ramp()},
        exposures=exposures,
        strata=("stage 1", "stage 2"),
        by_stratum=strata,
    )
    assert found(result, "sample_ratio_analysed").status == "pass"
    plain = experiment(arm, exposures=exposures)
    assert found(plain, "sample_ratio_analysed").status == "warn"


def test_clusters_are_counted_where_clusters_were_randomised():
    """Units of 200 accounts of very different size: their split says nothing, that of the accounts does."""
    plan = plan_of([planned(spec("m"), "primary")], planned_units=N, cluster="account")
    rng = np.random.default_rng(5)
    size = rng.lognormal(3, 1, 200)
    rows = np.column_stack([size * rng.normal(10, 1, 200), size])
    arm = np.arange(200) % 2
    lopsided = np.array([[6000, 4000]])
    moments = moment_set(plan, rows, arm, exposures=lopsided)
    result = document(plan, moments)
    assert found(result, "sample_ratio").status == "pass" and "Clusters" in found(result, "sample_ratio").detail
    lost = {"without_cluster": np.array([300, 200])}
    broken = document(plan, moment_set(plan, rows, np.arange(200) % 10 // 7, exposures=lopsided, populations=lost))
    assert found(broken, "sample_ratio").status == "fail"
    assert found(broken, "exposure_loss").status == "fail"


@pytest.mark.simulation
def test_healthy_ramps_raise_false_alarms_no_more_often_than_promised():
    runs = 150
    failed = [
        check.name
        for seed in range(runs)
        for arm, look in [split([[0.95, 0.05]] * 5 + [[0.5, 0.5]] * 25, a_day=200, seed=seed)]
        for check in experiment(
            arm, look, {"allocation": ((START, (0.95, 0.05)), (END - timedelta(days=25), (0.5, 0.5)))}
        ).checks
        if check.status == "fail"
    ]
    assert len(failed) <= 2
