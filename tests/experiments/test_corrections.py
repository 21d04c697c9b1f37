"""Corrected and deciding numbers of rows, against statsmodels, scipy and the definitions (METHODS A10, A11, B1, B5)."""

from typing import Any

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps
from statsmodels.stats.multitest import multipletests

from experiments.definitions import Estimation
from experiments.evidence import Block, build
from experiments.plan import AnalysisPlan
from experiments.result import ExperimentResult, Row
from tests.experiments.evidence_cases import context, document, moment_set, plan_of, planned, spec, variants

RUNNING: dict[str, Any] = {"stopped_at": None}


def plan(arms: int = 3, *, primaries: int = 2, secondaries: int = 6, **options: Any) -> AnalysisPlan:
    metrics = [planned(spec(f"p{i}"), "primary", mde=0.05) for i in range(primaries)]
    metrics += [planned(spec(f"s{i}"), "secondary" if i % 2 else "monitor") for i in range(secondaries)]
    guard = planned(spec("g"), "guardrail", non_inferiority_margin=0.02)
    estimation = Estimation(cuped=False, engine="frequentist", **options)
    return plan_of([*metrics, guard], variants(arms), segments=["country"], planned_units=6000, estimation=estimation)


def result_of(design: AnalysisPlan, effect: float = 0.35, *, seed: int = 2, **extra: Any) -> ExperimentResult:
    """6,000 units; half of the metrics move in every treatment."""
    rng = np.random.default_rng(seed)
    n, columns = 6000, len(design.metrics)
    arm = rng.integers(0, len(design.variants), n)
    values = rng.normal(10, 3, (n, columns))
    values[:, ::2] += effect * arm[:, None]
    return document(design, moment_set(design, values, arm, segment=rng.integers(0, 3, n)), **extra)


def family(result: ExperimentResult, name: str) -> list[Row]:
    return [row for row in result.rows if row.family == name]


def column(rows: list[Row], name: str) -> list[Any]:
    return [getattr(row, name) for row in rows]


def welch_ends(row: Row, level: float) -> tuple[float, float]:
    half = sps.t.ppf(0.5 + level / 2, row.df) * row.difference_standard_error
    return row.difference - half, row.difference + half


def test_every_row_belongs_to_one_family():
    found = result_of(plan())
    sizes = {name: len(family(found, name)) for name in ("success", "guardrail", "exploratory", "segments")}
    assert sizes == {"success": 4, "guardrail": 2, "exploratory": 12, "segments": 9 * 3 * 2}
    assert sum(sizes.values()) == len(found.rows)


@pytest.mark.parametrize("method", ["holm", "bonferroni"])
def test_success_metrics_are_corrected_over_primaries_and_variants(method):
    rows = family(result_of(plan(correction=method), 0.1), "success")
    expected = multipletests(column(rows, "p_value"), method=method)[1]
    assert column(rows, "p_value_adjusted") == pytest.approx(expected.tolist())
    for row in rows:
        assert row.correction.startswith(method)
        ends = welch_ends(row, 1 - 0.05 / 4)
        assert (row.difference_ci_lower_adjusted, row.difference_ci_upper_adjusted) == pytest.approx(ends)
        z = sc.ndtri(1 - 0.05 / 8)
        log_error = row.standard_error / (1 + row.lift)
        assert np.log1p(row.ci_upper_adjusted) == pytest.approx(np.log1p(row.lift) + z * log_error)
        assert (row.decision_lower, row.decision_upper) == (row.ci_lower_adjusted, row.ci_upper_adjusted)
        assert row.significant == (row.p_value_adjusted <= 0.05)


def test_dunnett_is_that_of_scipy_with_bonferroni_over_primaries():
    design = plan(4, primaries=2, secondaries=0, correction="dunnett")
    rng = np.random.default_rng(5)
    arm = np.repeat(np.arange(4), 500)
    values = rng.normal(10, 3, (2000, 3)) + 0.15 * arm[:, None]
    found = document(design, moment_set(design, values, arm))
    rows = [row for row in family(found, "success") if row.metric_key == "p0"]
    samples = [values[arm == i, 0] for i in range(4)]
    # scipy integrates by simulation and pools variances; ours knows each arm's variance.
    expected = sps.dunnett(*samples[1:], control=samples[0], random_state=np.random.default_rng(1)).pvalue
    assert column(rows, "p_value_adjusted") == pytest.approx(np.minimum(2 * expected, 1).tolist(), rel=0.12, abs=2e-3)
    for row in rows:
        assert row.correction == "dunnett" and row.p_value <= row.p_value_adjusted <= 6 * row.p_value + 1e-12
        plain, bonferroni = welch_ends(row, 0.975), welch_ends(row, 1 - 0.05 / 6)
        assert bonferroni[0] < row.difference_ci_lower_adjusted < plain[0]


def test_no_correction_leaves_the_plain_numbers_to_decide():
    for row in family(result_of(plan(correction="none", exploratory_correction="none")), "success"):
        assert (row.correction, row.p_value_adjusted, row.ci_lower_adjusted) == (None, None, None)
        assert (row.decision_lower, row.decision_p_value) == (row.ci_lower, row.p_value)


def test_a_single_test_is_corrected_to_itself():
    (row,) = family(result_of(plan(2, primaries=1)), "success")
    assert row.p_value_adjusted == row.p_value
    assert (row.ci_lower_adjusted, row.ci_upper_adjusted) == pytest.approx((row.ci_lower, row.ci_upper))


def test_guardrails_are_never_corrected():
    for row in family(result_of(plan()), "guardrail"):
        assert (row.correction, row.p_value_adjusted) == (None, None)
        assert (row.decision_lower, row.decision_p_value) == (row.ci_lower, row.p_value)


@pytest.mark.parametrize(("method", "oracle"), [("benjamini_hochberg", "fdr_bh"), ("benjamini_yekutieli", "fdr_by")])
@pytest.mark.parametrize("name", ["exploratory", "segments"])
def test_findings_get_q_values_and_the_selected_ones_intervals_at_the_false_coverage_rate(method, oracle, name):
    rows = family(result_of(plan(exploratory_correction=method)), name)
    q = multipletests(column(rows, "p_value"), method=oracle)[1]
    assert column(rows, "p_value_adjusted") == pytest.approx(q.tolist())
    chosen = int((q <= 0.05).sum())
    assert 0 < chosen < len(rows)
    level = 1 - chosen * 0.05 / len(rows)
    for row, number in zip(rows, q, strict=True):
        shown = row.difference_ci_lower_adjusted, row.difference_ci_upper_adjusted
        assert shown == (pytest.approx(welch_ends(row, level)) if number <= 0.05 else (None, None))
        if name == "segments":
            assert (row.decision_p_value, row.significant) == (None, None)
        else:
            assert row.significant == (number <= 0.05)


def test_e_bh_rejects_the_largest_e_values():
    found = result_of(plan(exploratory_correction="e_bh"), 0.6)
    rows = family(found, "exploratory")
    order = sorted(rows, key=lambda row: -row.log_e_value)
    passed = [k for k, row in enumerate(order, 1) if row.log_e_value >= np.log(len(rows) / (0.05 * k))]
    chosen = {(row.metric_key, row.variant_key) for row in order[: max(passed)]}
    assert 0 < len(chosen) < len(rows)
    for row in rows:
        selected = (row.metric_key, row.variant_key) in chosen
        assert (row.p_value_adjusted <= 0.05) == selected == row.significant
        assert (row.ci_lower_adjusted is not None) == selected
        if selected:
            assert row.ci_lower_adjusted < row.lift < row.ci_upper_adjusted
    assert "B5" in found.methods


def test_while_running_corrected_always_valid_numbers_decide():
    design = plan(correction="bonferroni")
    found = result_of(design, 0.25, **RUNNING)
    rows = family(found, "success")
    assert found.decision_interval == "always_valid"
    assert {row.significant for row in rows} == {True, False}
    for row in rows:
        assert row.decision_p_value == pytest.approx(min(1.0, 4 * row.always_valid_p_value))
        assert row.decision_lower < row.always_valid_lower and row.always_valid_upper < row.decision_upper
        excluded = row.decision_lower > 0 or row.decision_upper < 0
        assert excluded == row.significant == (row.decision_p_value <= 0.05)


def test_tests_that_have_not_begun_count_into_their_family():
    design = plan(2, secondaries=0)
    rng = np.random.default_rng(0)
    arm = rng.integers(0, 2, 4000)
    values = rng.normal(10, 3, (4000, 3)) + 0.5 * arm[:, None]
    values[:, 1] = (rng.random(4000) < 0.001) * rng.lognormal(6, 2, 4000)
    found = document(design, moment_set(design, values, arm), **RUNNING)
    begun, waiting = family(found, "success")
    assert waiting.decision_p_value is None and waiting.always_valid_p_value is None
    assert begun.decision_p_value == pytest.approx(2 * begun.always_valid_p_value)


@pytest.mark.parametrize("running", [True, False])
def test_safety_and_its_p_values_say_the_same(running):
    seen = set()
    for seed in range(12):
        effect = -0.2 if seed % 2 else 0.02
        found = result_of(plan(2), effect, seed=seed, **(RUNNING if running else {}))
        for row in family(found, "guardrail"):
            assert row.non_inferior == (row.non_inferiority_p_value < 0.05)
            seen.add(row.non_inferior)
        for row in family(found, "success"):
            bounds = row.ci_lower, row.ci_upper
            if not running:
                z90, z95 = sc.ndtri(0.95), sc.ndtri(0.975)
                inside = [np.expm1(np.log1p(row.lift) + (np.log1p(b) - np.log1p(row.lift)) * z90 / z95) for b in bounds]
                assert row.equivalent == (inside[0] > -0.05 and inside[1] < 0.05)
    assert seen == {True, False}


def test_harm_is_a_move_in_the_bad_direction_only():
    found = result_of(plan(2), -0.5)
    row = next(row for row in family(found, "success") if row.metric_key == "p0")
    assert row.harm_p_value < 0.01
    found = result_of(plan(2), 0.5)
    row = next(row for row in family(found, "success") if row.metric_key == "p0")
    assert row.harm_p_value == 1.0


def test_metrics_without_data_take_their_place_without_numbers():
    design = plan(2, secondaries=2)
    moments = moment_set(design, np.random.default_rng(1).normal(10, 3, (40, 5)), np.arange(40) % 2)
    served = tuple(metric.metric_key for metric in design.metrics if metric.metric_key != "p1")
    found = build(design, [Block(served, moments)], context()).finish()
    missing = next(row for row in found.rows if row.metric_key == "p1")
    present = next(row for row in found.rows if row.metric_key == "p0" and row.segment is None)
    assert missing.family == "success" and missing.p_value_adjusted is None and missing.decision_lower is None
    assert present.p_value_adjusted == pytest.approx(present.p_value)


def test_the_errors_of_the_decision_are_divided_over_its_tests():
    errors = result_of(plan()).decision_errors
    assert (errors.success_tests, errors.guardrails) == (4, 1)
    assert errors.alpha_per_success_test == pytest.approx(0.0125)
    assert errors.power_per_test == pytest.approx(0.9)
