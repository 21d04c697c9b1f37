"""What was measured badly is said: answers, gaps, caps, heaps, history, small segments; and A/A tests (A6, A9, A13)."""

from typing import Any

import numpy as np
import pytest

from experiments.definitions import Cap, Estimation, Sequential
from experiments.result import Check, ExperimentResult
from stats.moment_set import CappedColumn, QuantileCells, ResponseTable, UnmappedFacts
from stats.quantile import summarise
from tests.experiments.evidence_cases import columns_of, document, moment_set, plan_of, planned, spec

N = 8000
ARM = np.arange(N) % 2


def found(result: ExperimentResult, name: str) -> Check:
    return next(check for check in result.checks if check.name == name)


def test_response_rates_that_differ_are_a_warning_and_so_are_low_ones():
    plan = plan_of([planned(spec("nps", "survey", scale="nps", pre_period_days=0), "primary")])
    rng = np.random.default_rng(1)
    for rates, status, word in (
        ((0.3, 0.3), "pass", "30"),
        ((0.3, 0.4), "warn", "Lee bounds of the difference: v1 -"),
        ((0.05, 0.05), "warn", "Less than 10%"),
    ):
        answered = (rng.random(N) < np.array(rates)[ARM]).astype(float)
        score = answered * rng.integers(-1, 2, N)
        rows = {"nps.score": score, "nps.answers": answered, "nps.responded": answered}
        names = columns_of(plan)
        scores = np.array([-1.0, 0.0, 1.0])
        answers = np.array([[((v == ARM) & (answered > 0) & (score == s)).sum() for s in scores] for v in (0, 1)])
        moments = moment_set(
            plan,
            np.column_stack([rows[name] for name in names]),
            ARM,
            responses={"nps": ResponseTable(scores, answers)},
        )
        check = found(document(plan, moments), "survey_response")
        assert check.status == status and word in check.detail


def test_numbers_lost_in_one_variant_are_noticed():
    plan = plan_of([planned(spec("m"), "primary")])
    values = np.random.default_rng(2).normal(10, 3, (N, 1))
    for lost, status in (([10, 12], "pass"), ([10, 60], "warn"), ([400, 410], "warn")):
        check = found(document(plan, moment_set(plan, values, ARM, missing={"m": np.array(lost)})), "missing_values")
        assert check.status == status and f"m ({lost[0]} : {lost[1]})" in check.detail
    names = {check.name for check in document(plan, moment_set(plan, values, ARM)).checks}
    assert "missing_values" not in names


def test_facts_that_cannot_be_mapped_are_counted_and_many_are_a_warning():
    plan = plan_of([planned(spec("m"), "primary")])
    values = np.random.default_rng(2).normal(10, 3, (N, 1))
    for lost, status in ((UnmappedFacts(9000, 50, 40), "pass"), (UnmappedFacts(9000, 50, 41), "warn")):
        check = found(document(plan, moment_set(plan, values, ARM, unmapped={"opens": lost})), "unit_mapping")
        assert check.status == status and f"50 with an id that has no unit, {lost.ambiguous} with" in check.detail
        assert bool(check.remedy) == (status == "warn")
    nothing = document(plan, moment_set(plan, values, ARM, unmapped={"opens": UnmappedFacts(0, 0, 0)}))
    assert found(nothing, "unit_mapping").status == "pass"


def test_experiments_that_could_not_be_screened_are_named():
    plan = plan_of([planned(spec("m"), "primary")])
    values = np.random.default_rng(2).normal(10, 3, (N, 1))
    moments = moment_set(plan, values, ARM, unscreened={"banner": "there is no file 'x.csv'"})
    check = found(document(plan, moments), "concurrent_unread")
    assert check.status == "warn" and "banner: there is no file 'x.csv'" in check.detail


def test_caps_that_cut_much_or_unevenly_are_a_warning():
    plan = plan_of([planned(spec("m", cap=Cap(value=30)), "primary")])
    rng = np.random.default_rng(3)
    assert columns_of(plan) == ("m", "m.uncapped")

    def caps(spread: float, units: list[int]) -> Check:
        before = rng.lognormal(2, spread, N)
        capped = {"m": CappedColumn(30.0, "m.uncapped", np.array(units))}
        rows = np.column_stack([np.minimum(before, 30), before])
        return found(document(plan, moment_set(plan, rows, ARM, capped=capped)), "caps")

    assert caps(0.3, [4, 5]).status == "pass"
    much = caps(1.0, [250, 255])
    assert much.status == "warn" and "of the mean" in much.detail
    uneven = caps(0.3, [10, 60])
    assert uneven.status == "warn" and "10 : 60 units" in uneven.detail and "uncapped" in uneven.remedy


@pytest.mark.parametrize(("digits", "status"), [(6, "pass"), (0, "warn")])
def test_quantiles_on_a_heap_are_a_warning(digits, status):
    plan = plan_of([planned(spec("p90", "quantile", quantile=0.9, pre_period_days=0), "primary")])
    values = np.round(np.random.default_rng(4).gamma(2, 1, N), digits)
    overall = summarise(values, np.arange(N), ARM, (1, 2), 0.9, 0.95)
    empty = summarise(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), (0, 2), 0.9, 0.95)
    quantiles = {"p90": QuantileCells(overall, empty)}
    result = document(plan, moment_set(plan, np.zeros((N, 0)), ARM, quantiles=quantiles))
    assert found(result, "quantile_ties").status == status


def test_segments_with_a_handful_of_units_are_not_to_be_read():
    plan = plan_of([planned(spec("m"), "primary")], segments=["country"])
    values = np.random.default_rng(5).normal(10, 3, (N, 1))
    large = np.arange(N) // 2 % 3
    assert found(document(plan, moment_set(plan, values, ARM, segment=large)), "segment_sizes").status == "pass"
    small = np.where(np.arange(N) < 40, 3, large)
    check = found(document(plan, moment_set(plan, values, ARM, segment=small)), "segment_sizes")
    assert check.status == "warn" and "country = s3" in check.detail


def test_units_without_history_are_counted():
    plan = plan_of([planned(spec("m", pre_period_days=14), "primary")], estimation=Estimation())
    rng = np.random.default_rng(6)
    for share, status in ((0.2, "pass"), (0.7, "warn")):
        new = (rng.random(N) < share).astype(float)
        before = (1 - new) * rng.normal(10, 3, N)
        rows = {"m": before + rng.normal(0, 1, N), "m.pre": before, "no_history.14d": new}
        moments = moment_set(plan, np.column_stack([rows[name] for name in columns_of(plan)]), ARM)
        check = found(document(plan, moments), "pre_period_history")
        assert check.status == status and f"{share:.0%}"[0] in check.detail


def test_open_windows_warn_where_looks_decide_and_not_where_only_the_end_does():
    values = np.random.default_rng(7).normal(10, 3, (N, 2))

    def windows(method: str, window: float | None) -> str:
        metrics = [planned(spec("m", window_days=window), "primary"), planned(spec("idle", window_days=None))]
        plan = plan_of(metrics, estimation=Estimation(cuped=False, sequential=Sequential(method=method)))
        checks = {check.name: check for check in document(plan, moment_set(plan, values, ARM)).checks}
        return checks["open_windows"].status if "open_windows" in checks else "none"

    assert windows("always_valid", 7) == "pass"
    assert windows("always_valid", None) == "warn"
    assert windows("fixed", None) == "none"


def same(seed: int, effect: float = 0.0, metrics: int = 24, **extra: Any) -> ExperimentResult:
    keys = [f"m{i}" for i in range(metrics)]
    plan = plan_of([planned(spec(key)) for key in keys], purpose=extra.pop("purpose", "aa"), planned_units=N)
    values = np.random.default_rng(seed).normal(10, 3, (N, metrics))
    values[:, 0] += effect * ARM
    return document(plan, moment_set(plan, values, ARM), **extra)


def test_an_a_a_test_in_which_nothing_differs_beyond_chance_passes():
    check = found(same(1), "identical_variants")
    assert check.status == "pass" and "of 24 rows" in check.detail and "uniformity" in check.detail
    assert "identical_variants" not in {check.name for check in same(1, purpose="test").checks}


def test_one_certain_difference_fails_an_a_a_test_and_many_small_ones_are_a_warning():
    broken = same(2, effect=0.5)
    assert found(broken, "identical_variants").status == "fail" and broken.verdict == "unreliable"
    plan = plan_of([planned(spec(f"m{i}")) for i in range(24)], purpose="aa", planned_units=N)
    values = np.random.default_rng(3).normal(10, 3, (N, 24)) + 0.13 * ARM[:, None]
    check = found(document(plan, moment_set(plan, values, ARM)), "identical_variants")
    assert check.status == "warn" and "identical variants" in check.remedy


def test_a_running_a_a_test_asks_certainty_of_always_valid_p_values():
    check = found(same(4, stopped_at=None), "identical_variants")
    assert check.status == "pass"
    assert found(same(4, effect=0.6, stopped_at=None), "identical_variants").status == "fail"


@pytest.mark.simulation
def test_a_a_tests_fail_no_more_often_than_promised():
    runs = 400
    states = [found(same(seed, metrics=20), "identical_variants").status for seed in range(runs)]
    assert states.count("fail") <= 3
    assert states.count("warn") <= 0.02 * runs + 3 * (0.02 * runs) ** 0.5
