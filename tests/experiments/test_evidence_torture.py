"""Whatever data do wrong ends in the document as a null with a reason or as a check; never as a bare NaN."""

import json

import numpy as np
import pytest
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.definitions import Direction, Estimation
from experiments.evidence import Block, build
from experiments.result import ExperimentResult
from experiments.types import canonical_json
from tests.experiments.evidence_cases import (
    check_of,
    context,
    document,
    draft,
    moment_set,
    north_star,
    plan_of,
    planned,
    row_of,
    spec,
    summary_blocks,
    variants,
)


def two(control: list[float], treatment: list[float], kind: str = "mean", **use: object) -> ExperimentResult:
    plan = plan_of([planned(spec("m", kind), "primary", **use)])
    values = np.array([*control, *treatment], dtype=float)[:, None]
    arm = np.repeat([0, 1], [len(control), len(treatment)])
    return document(plan, moment_set(plan, values, arm))


def test_two_equal_constants_are_no_effect_without_inference():
    result = two([3.0] * 50, [3.0] * 50)
    row = row_of(result, "m")
    assert (row.difference, row.p_value, row.estimable, row.reason) == (0, None, False, "zero_variance")
    assert check_of(result, "zero_variance") == "warn"
    assert result.verdict == "inconclusive"


def test_two_different_constants_are_a_difference_without_inference():
    row = row_of(two([3.0] * 50, [4.0] * 50), "m")
    assert (row.difference, row.p_value, row.ci_lower, row.reason) == (1, None, None, "zero_variance")


@pytest.mark.parametrize("control", [[1.0], [1.0, 2.0, 4.0]])
def test_one_unit_in_an_arm_gives_an_estimate_without_an_interval(control):
    row = row_of(two(control, [5.0]), "m")
    assert row.mean_treatment == 5
    assert row.difference is not None
    assert (row.difference_ci_lower, row.p_value, row.reason) == (None, None, "too_few_units")


def test_an_empty_arm_makes_the_result_unreliable_and_names_the_arm():
    plan = plan_of([planned(spec("m"), "primary")], variants(3))
    values, arm = np.arange(40.0)[:, None], np.repeat([0, 1], 20)
    result = document(plan, moment_set(plan, values, arm))
    assert result.verdict == "unreliable"
    assert "v2" in result.verdict_reasons[0]
    row = row_of(result, "m", "v2")
    assert (row.n_treatment, row.mean_treatment, row.difference, row.reason) == (0, None, None, "too_few_units")


def test_no_units_at_all_is_a_document_too():
    plan = plan_of([planned(spec("m"), "primary")])
    result = document(plan, moment_set(plan, np.zeros((0, 1)), np.zeros(0, dtype=int)))
    assert result.verdict == "unreliable"
    assert row_of(result, "m").reason == "too_few_units"


def test_a_control_of_zeros_has_a_difference_but_no_lift():
    row = row_of(two([0.0] * 200, [0.0, 1.0] * 100), "m")
    assert row.difference_ci_lower is not None
    assert (row.lift, row.ci_lower, row.interval_kind) == (None, None, "none")
    assert row.reason == "baseline_not_distinguishable_from_zero"
    assert row.estimable


def test_a_control_of_zeros_can_still_be_decided_while_running():
    rng = np.random.default_rng(2)
    plan = plan_of([planned(spec("m"), "primary")], planned_units=4000)
    values, arm = rng.gamma(4, 1, (4000, 1)), np.arange(4000) % 2
    values[arm == 0] = 0
    result = document(plan, moment_set(plan, values, arm), stopped_at=None)
    row = row_of(result, "m")
    assert (row.always_valid_lower, row.always_valid_upper) == (None, None)
    assert row.always_valid_p_value is not None and row.always_valid_p_value < 1e-6
    assert result.verdict == "better" and "difference +" in result.verdict_reasons[0]


def test_a_negative_baseline_keeps_the_order_of_bounds_and_the_sign_of_the_difference():
    rng = np.random.default_rng(3)
    row = row_of(two(list(rng.normal(-10.09, 1, 500)), list(rng.normal(-9.5, 1, 500))), "m")
    assert row.lift is not None and row.difference is not None
    assert row.lift > 0 and row.difference > 0
    assert row.ci_lower < row.lift < row.ci_upper
    assert row.always_valid_lower < row.ci_lower and row.ci_upper < row.always_valid_upper
    assert row.interval_kind == "fieller"


def test_means_of_opposite_sign_have_ordered_bounds():
    rng = np.random.default_rng(4)
    row = row_of(two(list(rng.normal(-1, 1, 500)), list(rng.normal(1, 1, 500))), "m")
    assert row.ci_lower < row.lift < row.ci_upper


def test_a_column_with_infinities_is_refused_and_the_others_are_not():
    rng = np.random.default_rng(5)
    plan = plan_of([planned(spec("good"), "primary"), planned(spec("bad"))])
    values, arm = rng.normal(5, 1, (400, 2)), np.arange(400) % 2
    values[:, 1] = 0
    result = document(plan, moment_set(plan, values, arm, invalid={"bad": "non_finite_values"}))
    bad, good = row_of(result, "bad"), row_of(result, "good")
    assert (bad.difference, bad.mean_control, bad.reason) == (None, None, "non_finite_values")
    assert good.estimable and good.reason is None
    assert check_of(result, "metrics_estimable") == "warn"


@pytest.mark.parametrize("scale", [1e200, 1e-200, 5e-324])
def test_numbers_beyond_reason_are_refused_and_leave_the_others_alone(scale):
    rng = np.random.default_rng(5)
    plan = plan_of([planned(spec("good"), "primary"), planned(spec("rate", "ratio"))])
    values, arm = rng.normal(5, 1, (400, 3)), np.arange(400) % 2
    values[:, 2] = scale * (1 + arm)
    with np.errstate(over="ignore", invalid="ignore"):
        moments = moment_set(plan, values, arm)
    result = document(plan, moments)
    assert row_of(result, "rate").reason == "values_out_of_range"
    assert row_of(result, "good").estimable


def test_a_ratio_without_denominator_is_refused_and_its_numerator_is_kept():
    rng = np.random.default_rng(6)
    plan = plan_of([planned(spec("rate", "ratio"), "primary"), planned(spec("clicks"))])
    clicks, views, arm = rng.poisson(3, 400), rng.poisson(5, 400), np.arange(400) % 2
    views[arm == 1] = 0
    result = document(plan, moment_set(plan, np.column_stack([clicks, views, clicks]), arm))
    rate = row_of(result, "rate")
    assert (rate.lift, rate.difference, rate.p_value) == (None, None, None)
    assert rate.reason == "denominator_near_zero"
    assert row_of(result, "clicks").estimable


@pytest.mark.parametrize(
    ("covariate", "note"),
    [("constant", "constant_covariate"), ("itself", "covariate_explains_everything")],
)
def test_a_useless_covariate_leaves_the_metric_unadjusted_with_a_note(covariate, note):
    rng = np.random.default_rng(7)
    plan = plan_of([planned(spec("m", pre_period_days=7), "primary")], estimation=Estimation(cuped=True))
    value, arm = rng.normal(5, 1, 400), np.arange(400) % 2
    before = np.full(400, 2.0) if covariate == "constant" else value
    result = document(plan, moment_set(plan, np.column_stack([value, before]), arm))
    row = row_of(result, "m")
    assert (row.method, row.variance_reduction) == ("A1+A3", None)
    found = next(check for check in result.checks if check.name == "covariate_adjustment")
    assert found.status == "warn" and note in found.detail


def test_an_effect_of_200_standard_errors_keeps_its_log_p_value():
    rng = np.random.default_rng(8)
    row = row_of(two(list(rng.normal(10, 1, 20_000)), list(rng.normal(13, 1, 20_000))), "m")
    assert row.p_value == 0
    assert row.log10_p_value is not None and -50_000 < row.log10_p_value < -1000


def test_a_metric_with_a_billion_added_keeps_its_p_value():
    rng = np.random.default_rng(9)
    control, treatment = rng.normal(0, 1.7, 1000), rng.normal(0.1, 1.7, 1000)
    plain = row_of(two(list(control), list(treatment)), "m")
    shifted = row_of(two(list(control + 1e9), list(treatment + 1e9)), "m")
    assert shifted.p_value == pytest.approx(plain.p_value, abs=1e-4)


@pytest.mark.parametrize(
    ("control", "treatment", "interval"),
    [((0, 40), (3, 42), (-0.0279, 0.1901)), ((0, 40), (0, 42), None), ((42, 42), (40, 40), None)],
)
def test_few_successes_or_failures_have_newcombes_interval_and_an_exact_p_value(control, treatment, interval):
    rows = [[1.0] * yes + [0.0] * (n - yes) for yes, n in (control, treatment)]
    row = row_of(two(*rows, "proportion"), "m")
    assert row.method.split("+")[0] == "A2" and row.estimable
    assert row.difference_ci_lower <= row.difference <= row.difference_ci_upper
    if interval:
        assert [row.difference_ci_lower, row.difference_ci_upper] == pytest.approx(interval, abs=5e-5)
        exact = sps.boschloo_exact([[treatment[0], control[0]], [42 - 3, 40]]).pvalue
        assert row.p_value == pytest.approx(exact, abs=0.01)
        assert (row.lift, row.reason) == (None, "baseline_not_distinguishable_from_zero")
    else:
        assert row.p_value == 1 and row.difference_ci_upper - row.difference_ci_lower > 0.05


def test_small_counts_leave_a_proportion_unadjusted_and_say_so():
    rng = np.random.default_rng(12)
    plan = plan_of([planned(spec("m", "proportion", pre_period_days=7), "primary")], estimation=Estimation(cuped=True))
    bought, arm = (rng.random(600) < 0.01).astype(float), np.arange(600) % 2
    before = np.where(rng.random(600) < 0.8, bought, rng.random(600) < 0.1)
    result = document(plan, moment_set(plan, np.column_stack([bought, before]), arm))
    row = row_of(result, "m")
    assert row.method.startswith("A2") and "A7" not in row.method and row.variance_reduction is None
    assert row.difference == pytest.approx(bought[arm == 1].mean() - bought[arm == 0].mean(), abs=1e-15)
    assert any("small_counts" in check.detail for check in result.checks)


def test_a_planned_metric_without_data_says_so():
    plan = plan_of([planned(spec("a"), "primary"), planned(spec("b"))], data="summary")
    count = np.array([[100, 100]])
    blocks = summary_blocks(plan, {"a": (count, np.array([[5.0, 5.1]]), np.ones((1, 2)))})
    result = build(plan, blocks, context()).finish()
    canonical_json(result.model_dump(mode="json"))
    assert row_of(result, "b").reason == "no_data"
    assert not row_of(result, "b").estimable


def test_summaries_cannot_feed_formulas_or_trees_and_the_document_says_why():
    metrics = [
        planned(spec("a"), "primary"),
        planned(spec("b")),
        planned(spec("c", "formula", formula="a * b")),
    ]
    plan = plan_of(metrics, data="summary", north_star=north_star("a", "b * b", ["b"]))
    one = (np.array([[500, 500]]), np.array([[5.0, 5.1]]), np.ones((1, 2)))
    result = build(plan, summary_blocks(plan, {"a": one, "b": one}), context()).finish()
    assert row_of(result, "c").reason == "no_joint_moments"
    assert result.north_star[0].tree.lift == pytest.approx((5.1 / 5.0) ** 2 - 1), "one input: its block is joint enough"
    joint = plan_of(metrics, data="summary", north_star=north_star("c", "a * b", ["a", "b"]))
    effect = build(joint, summary_blocks(joint, {"a": one, "b": one}), context()).finish().north_star[0]
    assert (effect.tree.estimable, effect.tree.reason) == (False, "no_joint_moments")
    assert effect.coherence.status == "warn"


def test_an_experiment_without_any_summaries_yet_is_a_document():
    plan = plan_of([planned(spec("a"), "primary")], data="summary")
    result = build(plan, [], context()).finish()
    assert result.verdict == "unreliable"
    assert row_of(result, "a").reason == "no_data"


def test_moments_of_other_variants_are_the_callers_fault():
    plan = plan_of([planned(spec("a"), "primary")])
    moments = moment_set(plan, np.ones((4, 1)), [0, 1, 0, 1], variants=("v1", "control"))
    with pytest.raises(ValueError, match="control"):
        build(plan, [Block(("a",), moments)], context())


def test_a_frequentist_plan_has_no_bayesian_numbers():
    rng = np.random.default_rng(1)
    plan = plan_of([planned(spec("m"), "primary")], estimation=Estimation(engine="frequentist", cuped=False))
    result = document(plan, moment_set(plan, rng.normal(5, 1, (200, 1)), np.arange(200) % 2))
    row = row_of(result, "m")
    assert (row.chance_to_win, row.hdi_lower, row.prior_source) == (None, None, None)
    assert not result.densities and "C1" not in result.methods


values_of_all_kinds = st.one_of(
    st.just(0.0), st.just(1.0), st.floats(-1e3, 1e3), st.floats(-1e12, 1e12), st.floats(0, 1e-9)
)


@given(st.data())
@settings(max_examples=60)
def test_no_data_put_nan_into_the_document_or_bounds_in_the_wrong_order(data):
    metrics = [
        planned(spec("m", pre_period_days=7), "primary", mde=0.02),
        planned(spec("g"), "guardrail", non_inferiority_margin=0.05, direction=Direction.DECREASE),
        planned(spec("rate", "ratio")),
        planned(spec("f", "formula", formula="log(m) / g")),
    ]
    star = north_star("m", "g * rate", ["g", "rate"])
    plan = plan_of(metrics, variants(3), north_star=star, segments=["country"], estimation=Estimation())
    n = data.draw(st.integers(0, 24))
    k = 5
    rows = data.draw(st.lists(st.lists(values_of_all_kinds, min_size=k, max_size=k), min_size=n, max_size=n))
    arm = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    made = draft(
        plan,
        moment_set(
            plan,
            np.array(rows, dtype=float).reshape(n, k),
            np.array(arm, dtype=int),
            segment=(np.arange(n) % 2) if n else None,
        ),
        stopped_at=data.draw(st.sampled_from([None, context().stopped_at])),
    )
    text = canonical_json(made.finish().model_dump(mode="json"))
    assert json.loads(text)["verdict"]
    for row in made.document.rows:
        for low, high in (
            (row.ci_lower, row.ci_upper),
            (row.difference_ci_lower, row.difference_ci_upper),
            (row.always_valid_lower, row.always_valid_upper),
            (row.hdi_lower, row.hdi_upper),
        ):
            assert (low is None) == (high is None)
            assert low is None or high is None or low <= high
        assert row.reason or (row.lift is not None and row.p_value is not None)
        if row.lift is not None:
            assert np.sign(row.lift) == np.sign(row.difference or 0)


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 60))
@settings(max_examples=40)
def test_swapping_the_arms_flips_the_sign_and_nothing_else(seed, n_c, n_t):
    rng = np.random.default_rng(seed)
    control, treatment = list(rng.normal(50, 1, n_c)), list(rng.normal(51, 2, n_t))
    one, other = row_of(two(control, treatment), "m"), row_of(two(treatment, control), "m")
    assert one.difference == pytest.approx(-(other.difference or 0), rel=1e-9)
    assert np.log1p(one.lift) == pytest.approx(-np.log1p(other.lift), rel=1e-9)
    assert one.p_value == pytest.approx(other.p_value, rel=1e-9)
    assert np.log1p(one.ci_lower) == pytest.approx(-np.log1p(other.ci_upper), rel=1e-8)
    assert one.chance_to_win == pytest.approx(1 - (other.chance_to_win or 0), abs=1e-9)
