"""Covariate adjustment lowers the variance, never the honesty of the interval."""

import numpy as np
import polars as pl
import pytest
import scipy.special as sc

from stats.always_valid import two_sided
from stats.covariate import covariate_balance
from stats.difference import difference
from stats.estimate import Estimates, MetricShape, covariance_from_gradients, estimate
from stats.lift import lift
from stats.moments import Moments
from stats.reasons import CovariateNote
from stats.sample_ratio import chi_square
from tests.shared_data import golden, manifest_entry, shared_path
from tests.stats.moment_cases import arms, from_joint_summary, within

CUPED = MetricShape("m", "mean", 0, covariates=(1,))


def with_slope(moments: Moments, theta: float) -> tuple[float, float]:
    """Difference and standard error of y - theta x, for a theta chosen by somebody else's definition."""
    row = np.array([1.0, -theta])
    rows = np.stack([-row, row])[None]
    mean_covariance = moments.covariance / moments.count[:, None, None]
    variance = covariance_from_gradients(rows, mean_covariance)[0, 0]
    return float((moments.mean[1] - moments.mean[0]) @ row), float(np.sqrt(variance))


def library_case(name: str) -> tuple[Moments, dict[str, float]]:
    case = golden("libraries", name)
    i = case["inputs"]
    moments = arms([i["control"], i["covariate_control"]], [i["treatment"], i["covariate_treatment"]])
    return moments, case["expected"]


def our_slope(moments: Moments) -> float:
    """The oracles' examples have too few units for a covariate (A7: 50 each), so each unit counts 20 times."""
    copies = (np.stack([getattr(moments, f)] * 20) for f in ("count", "mean", "comoment", "third"))
    assert moments.count.min() < 50
    return float(estimate(Moments(*copies).merge_axis(0), (CUPED,)).slope[0, 1])


def test_the_algebra_reproduces_tea_tasting_with_its_pooled_slope():
    """They regress over both arms as one sample (the difference in means included); we minimise the variance."""
    moments, expected = library_case("cuped_mean_pooled_theta_z")
    whole = moments.merge_axis(0)
    effect, error = with_slope(moments, whole.comoment[0, 1] / whole.comoment[1, 1])
    assert effect == pytest.approx(expected["effect_size"], rel=1e-9)
    assert effect / error == pytest.approx(expected["statistic"], rel=1e-9)
    ours = with_slope(moments, our_slope(moments))
    assert ours[1] <= error
    assert ours[0] == pytest.approx(effect, rel=0.01)


def test_our_slope_is_asymptotically_lin_s_interacted_regression():
    moments, expected = library_case("ancova_and_lin")
    effect, error = with_slope(moments, our_slope(moments))
    assert effect == pytest.approx(expected["lin_effect"], rel=0.01)
    assert error == pytest.approx(expected["lin_se_HC2"], rel=0.03)


def test_hillstrom_history_adjusts_as_the_reference_says():
    reference = manifest_entry("ab/hillstrom_email.csv")["computed_reference"]
    data = pl.read_csv(shared_path("data", "ab", "hillstrom_email.csv"), infer_schema_length=None)
    names = ["No E-Mail", "Mens E-Mail", "Womens E-Mail"]
    cell = data["segment"].replace_strict(names, [0, 1, 2]).to_numpy()
    moments = Moments.from_rows(data.select("spend", "history").to_numpy(), cell, 3)
    ours = estimate(moments, (CUPED,))
    for i, name in enumerate(names[1:], start=1):
        expected = reference[name]["spend_cuped_history"]
        pair = moments[np.array([0, i])]
        effect, error = with_slope(pair, expected["theta"])
        assert effect == pytest.approx(expected["diff"], rel=1e-9)
        assert error == pytest.approx(expected["se"], rel=1e-9)
        p = 2 * sc.stdtr(expected_df(pair, expected["theta"]), -abs(effect / error))
        assert p == pytest.approx(expected["p"], rel=1e-8)
        # One slope for all arms instead of one per pair: the same conclusion, the same control in both comparisons.
        got = difference(ours)
        assert got.value[i - 1, 0] == pytest.approx(expected["diff"], rel=2e-3)
        assert got.standard_error[i - 1, 0] == pytest.approx(expected["se"], rel=1e-4)
    assert 0 <= ours.variance_reduction[0] < 0.001


def expected_df(moments: Moments, theta: float) -> float:
    row = np.array([1.0, -theta])
    v = (row @ moments.covariance @ row) / moments.count
    return float(v.sum() ** 2 / (v**2 / (moments.count - 1)).sum())


def test_gbstats_proportions_and_ratios_follow_from_the_same_algebra():
    case = golden("gbstats", "t_cuped_ratio_relative")
    names = ("m_post", "d_post", "m_pre", "d_pre")
    moments = from_joint_summary(names, case["inputs"]["control"], case["inputs"]["treatment"])
    theta = case["intermediate"]["control"]["theta"]

    residual = linearised(moments.mean, 0, 1) - theta * linearised(moments.mean, 2, 3)
    unit = np.einsum("ak,akl,al->a", residual, moments.covariance, residual)
    for arm, name in enumerate(("control", "treatment")):
        assert unit[arm] == pytest.approx(case["intermediate"][name]["unit_variance"], rel=1e-8)
    ours = estimate(moments, (MetricShape("r", "ratio", 0, 1, covariates=(2, 3)),))
    assert ours.unadjusted[0, 0] == pytest.approx(case["intermediate"]["control"]["unadjusted_mean"], rel=1e-10)
    # Numerator and denominator before, as two covariates, leave no more variance than their ratio linearised once for
    # both arms. (gbstats linearises in each arm, which fits a little of the noise: 0.1 % here.)
    pooled = linearised(moments.merge_axis(0).mean, 2, 3)
    for slope in np.linspace(0.8, 1.3, 11):
        rest = linearised(moments.mean, 0, 1) - slope * pooled
        variance = np.einsum("ak,akl,al->a", rest, moments.covariance, rest) / moments.count
        assert ours.variance.sum() <= variance.sum()
    assert ours.variance.sum() == pytest.approx((unit / moments.count).sum(), rel=0.005)
    effect = lift(ours)
    assert effect.value[0, 0] == pytest.approx(case["expected"]["effect"], abs=3e-3)
    assert effect.standard_error[0, 0] == pytest.approx(case["expected"]["se"], rel=0.02)


def test_gbstats_adjusted_proportions_follow_with_their_slope_and_variance():
    """Their proportions divide by n, not n - 1, and their slope takes both arms as one sample."""
    case = golden("gbstats", "t_cuped_proportion_absolute")
    per_arm = [case["inputs"][arm] for arm in ("control", "treatment")]
    moments = from_joint_summary(("post", "pre"), *per_arm)
    row = np.array([1.0, -case["intermediate"]["control"]["theta"]])
    unit = row @ moments.comoment @ row / moments.count
    error = np.sqrt((unit / moments.count).sum())
    assert (moments.mean[1] - moments.mean[0]) @ row == pytest.approx(case["expected"]["effect"], rel=1e-9)
    assert error == pytest.approx(case["expected"]["se"], rel=1e-9)
    ours = difference(estimate(moments, (MetricShape("p", "proportion", 0, covariates=(1,)),)))
    assert ours.standard_error[0, 0] == pytest.approx(error, rel=1e-3)
    assert ours.value[0, 0] == pytest.approx(case["expected"]["effect"], rel=0.01)


def test_the_whole_road_of_gbstats_ends_at_nearly_our_lift():
    """Another slope and a control mean whose error they treat a little differently: agreement to a few percent."""
    case = golden("gbstats", "e2e_process_experiment_results_frequentist_cuped")
    rows = case["inputs"]["data"]["query_results"][0]["rows"]
    sums = np.array([[r["m0_main_sum"], r["m0_covariate_sum"]] for r in rows])
    squares = [[r["m0_main_sum_squares"], r["m0_main_covariate_sum_product"]] for r in rows]
    others = [[r["m0_main_covariate_sum_product"], r["m0_covariate_sum_squares"]] for r in rows]
    products = np.stack([squares, others], axis=1)
    count = np.array([r["users"] for r in rows])
    moments = Moments.from_shifted_sums(count, np.zeros(2), sums, products, np.zeros((2, 2)))
    got, expected = lift(estimate(moments, (CUPED,))), case["expected"]
    assert got.value[0, 0] == pytest.approx(expected["treatment"]["expected"], rel=0.02)
    path = two_sided(got.value[0, 0], got.standard_error[0, 0] ** 2, count.sum(), 5000)
    assert [float(path.ci_lower), float(path.ci_upper)] == pytest.approx(expected["treatment"]["ci"], abs=2e-3)
    assert float(chi_square(count, [1, 1]).p_value) == pytest.approx(expected["srm_p"], rel=1e-9)
    plain = lift(estimate(moments, (CUPED,), adjust=False))
    assert plain.value[0, 0] == pytest.approx(expected["supplemental"]["cupedUnadjusted"]["expected"], rel=1e-9)


def linearised(mean: np.ndarray, top: int, bottom: int) -> np.ndarray:
    """Gradient rows of a ratio of two columns."""
    rows = np.zeros_like(mean)
    rows[..., top] = 1 / mean[..., bottom]
    rows[..., bottom] = -mean[..., top] / mean[..., bottom] ** 2
    return rows


@pytest.mark.parametrize(
    ("name", "covariates"),
    [("cuped_ratio", ("pre_numer", "pre_denom")), ("cuped_ratio_mean_covariate", ("pre_numer",))],
)
def test_the_algebra_reproduces_tea_tasting_for_ratios(name: str, covariates: tuple[str, ...]):
    """One slope from both arms as one sample, on the covariate ratio linearised there; Welch per arm."""
    case = golden("libraries", name)
    i, expected = case["inputs"], case["expected"]
    names = ("numer", "denom", *covariates)
    moments = arms(*([i[f"{n}_{arm}"] for n in names] for arm in ("control", "treatment")))
    whole = moments.merge_axis(0)

    def rows(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before = linearised(mean, 2, 3) if len(covariates) == 2 else np.zeros_like(mean)
        if len(covariates) == 1:
            before[..., 2] = 1.0
        return linearised(mean, 0, 1), before

    outcome, before = rows(whole.mean)
    theta = (outcome @ whole.covariance @ before) / (before @ whole.covariance @ before)
    ratio = moments.mean[:, 0] / moments.mean[:, 1]
    covariate = moments.mean[:, 2] / (moments.mean[:, 3] if len(covariates) == 2 else 1.0)
    adjusted = ratio - theta * covariate
    assert adjusted[1] - adjusted[0] == pytest.approx(expected["effect_size"], rel=1e-9)
    outcome, before = rows(moments.mean)
    residual = (outcome - theta * before) * np.array([[-1.0], [1.0]])
    mean_covariance = moments.covariance / moments.count[:, None, None]
    variance = covariance_from_gradients(residual[None], mean_covariance)[0, 0]
    assert (adjusted[1] - adjusted[0]) / np.sqrt(variance) == pytest.approx(expected["statistic"], rel=1e-9)


def test_a_covariate_of_zeros_gives_the_unadjusted_result():
    case = golden("gbstats", "t_cuped_zero_pre_variance_fallback")
    per_arm = [case["inputs"][arm] for arm in ("control", "treatment")]
    moments = from_joint_summary(("post", "pre"), *({**a, "post_pre": a["post_pre_sum_of_products"]} for a in per_arm))
    estimates = estimate(moments, (CUPED,))
    assert estimates.note[0] == CovariateNote.CONSTANT and not estimates.adjusted[0]
    got = lift(estimates)
    assert got.value[0, 0] == pytest.approx(case["expected"]["effect"], rel=1e-9)
    assert got.standard_error[0, 0] == pytest.approx(case["expected"]["se"], rel=1e-9)


def drawn(rng: np.random.Generator, n: int, correlation: float = 0.7, gap: float = 0.0) -> list[np.ndarray]:
    x = rng.normal(10, 2, n)
    return [5 + gap + correlation * (x - 10) + rng.normal(0, 2 * np.sqrt(1 - correlation**2), n), x]


def test_degenerate_covariates_are_named_and_do_no_harm():
    rng = np.random.default_rng(1)
    (y_c, x_c), (y_t, x_t) = drawn(rng, 300), drawn(rng, 400)
    plain = difference(estimate(arms([y_c], [y_t]), (MetricShape("m", "mean", 0),)))

    itself = estimate(arms([y_c, y_c], [y_t, y_t]), (CUPED,))
    assert itself.note[0] == CovariateNote.EXPLAINS_EVERYTHING
    np.testing.assert_allclose(difference(itself).p_value, plain.p_value, rtol=1e-12)

    constant = estimate(arms([y_c, np.full(300, 0.1)], [y_t, np.full(400, 0.1)]), (CUPED,))
    assert constant.note[0] == CovariateNote.CONSTANT
    np.testing.assert_array_equal(difference(constant).p_value, plain.p_value)

    twice = MetricShape("m", "mean", 0, covariates=(1, 2))
    collinear = estimate(arms([y_c, x_c, 3 * x_c + 1], [y_t, x_t, 3 * x_t + 1]), (twice,))
    alone = estimate(arms([y_c, x_c], [y_t, x_t]), (CUPED,))
    assert collinear.note[0] == CovariateNote.COLLINEAR and collinear.adjusted[0]
    np.testing.assert_allclose(collinear.value, alone.value, rtol=1e-9)
    np.testing.assert_allclose(collinear.variance, alone.variance, rtol=1e-9)

    invalid = estimate(arms([y_c, x_c], [y_t, x_t]), (CUPED,), invalid={1: "non_finite_values"})
    assert invalid.note[0] == CovariateNote.INVALID
    np.testing.assert_allclose(difference(invalid).p_value, plain.p_value, rtol=1e-12)

    both = arms([y_c, x_c, np.full(300, 0.1)], [y_t, x_t, np.full(400, 0.1)])
    partly_constant = estimate(both, (twice,))
    assert partly_constant.note[0] == CovariateNote.PARTLY_CONSTANT and partly_constant.adjusted[0]
    np.testing.assert_allclose(partly_constant.variance, alone.variance, rtol=1e-12)
    partly_invalid = estimate(both, (twice,), invalid={2: "non_finite_values"})
    assert partly_invalid.note[0] == CovariateNote.PARTLY_INVALID and partly_invalid.adjusted[0]
    np.testing.assert_allclose(partly_invalid.variance, alone.variance, rtol=1e-12)


def test_a_covariate_needs_fifty_units_in_every_arm_and_later_ones_give_way():
    rng = np.random.default_rng(6)
    two = MetricShape("m", "mean", 0, covariates=(1, 2))

    def blocks(*sizes: int) -> Moments:
        return arms(*([*drawn(rng, n), rng.normal(0, 1, n)] for n in sizes))

    enough, some, none = (estimate(blocks(300, n), (two,)) for n in (100, 99, 49))
    assert (enough.note[0], enough.adjusted[0]) == ("", True)
    assert (some.note[0], some.adjusted[0]) == (CovariateNote.TOO_FEW_UNITS, True)
    assert some.slope[0, 1] != 0 and some.slope[0, 2] == 0
    assert (none.note[0], none.adjusted[0]) == (CovariateNote.TOO_FEW_UNITS, False)
    np.testing.assert_array_equal(none.value, none.unadjusted)


def test_two_units_that_a_covariate_explains_are_no_certainty():
    """Two points lie on a line: over-fitting must not turn them into arms without variance."""
    rng = np.random.default_rng(178)
    x = rng.normal(0, 1, (3, 2))
    moments = arms(*([2 * x[i] + (i == 2) * rng.normal(0, 1, 2), x[i]] for i in range(3)))
    for got in (difference(estimate(moments, (CUPED,))), lift(estimate(moments, (CUPED,)))):
        assert ((got.reason == "") == got.estimable).all()


def test_one_comparison_that_a_covariate_explains_leaves_the_metric_unadjusted():
    rng = np.random.default_rng(8)
    x = rng.normal(0, 1, (3, 200))
    moments = arms([x[0], x[0]], [x[1], x[1]], [x[2] + rng.normal(0, 1e-9, 200), x[2]])
    got = estimate(moments, (CUPED,))
    assert (got.note[0], got.adjusted[0]) == (CovariateNote.EXPLAINS_EVERYTHING, False)
    assert difference(got).estimable.all()


def test_an_indicator_that_says_nothing_new_is_no_news():
    rng = np.random.default_rng(9)
    flagged = MetricShape("m", "mean", 0, covariates=(1,), indicators=(2,))
    (y_c, x_c), (y_t, x_t) = drawn(rng, 300), drawn(rng, 400)
    alone = estimate(arms([y_c, x_c], [y_t, x_t]), (CUPED,))
    plain = difference(estimate(arms([y_c], [y_t]), (MetricShape("m", "mean", 0),)))

    nobody_new = estimate(arms([y_c, x_c, np.zeros(300)], [y_t, x_t, np.zeros(400)]), (flagged,))
    assert (nobody_new.note[0], nobody_new.adjusted[0]) == ("", True)
    np.testing.assert_allclose(nobody_new.variance, alone.variance, rtol=1e-12)

    # Everybody with history bought once: the indicator is 1 - x.
    ones = [rng.random(n) < 0.7 for n in (300, 400)]
    mirrored = estimate(arms([y_c, ones[0], ~ones[0]], [y_t, ones[1], ~ones[1]]), (flagged,))
    by_one = estimate(arms([y_c, ones[0]], [y_t, ones[1]]), (CUPED,))
    assert (mirrored.note[0], mirrored.adjusted[0]) == ("", True)
    np.testing.assert_allclose(mirrored.variance, by_one.variance, rtol=1e-9)

    constant = estimate(arms([y_c, np.zeros(300), ones[0]], [y_t, np.zeros(400), ones[1]]), (flagged,))
    assert (constant.note[0], constant.adjusted[0]) == (CovariateNote.CONSTANT, False)
    np.testing.assert_allclose(difference(constant).p_value, plain.p_value, rtol=1e-12)
    itself = estimate(arms([y_c, y_c, ones[0]], [y_t, y_t, ones[1]]), (flagged,))
    assert itself.note[0] == CovariateNote.EXPLAINS_EVERYTHING
    np.testing.assert_allclose(difference(itself).p_value, plain.p_value, rtol=1e-12)

    ratio = MetricShape("m", "mean", 0, covariates=(1, 3), indicators=(2,))
    twice = estimate(arms([y_c, x_c, ones[0], 2 * x_c], [y_t, x_t, ones[1], 2 * x_t]), (ratio,))
    three = estimate(arms([y_c, x_c, ones[0], ~ones[0]], [y_t, x_t, ones[1], ~ones[1]]), (ratio,))
    assert (twice.note[0], three.note[0]) == (CovariateNote.COLLINEAR, "")
    gone = estimate(arms([y_c, x_c, ones[0]], [y_t, x_t, ones[1]]), (flagged,), invalid={1: "non_finite_values"})
    assert (gone.note[0], gone.adjusted[0]) == (CovariateNote.INVALID, False)


def test_covariates_adjust_as_least_squares_on_the_pooled_within_arm_deviations_would():
    """Arms of equal size: theta* is the pooled within-arm regression, for any number of covariates."""
    rng = np.random.default_rng(10)
    for r in (1, 2, 3, 4):
        blocks = []
        for _ in range(2):
            x = rng.normal(0, 1, (r, 250)) + rng.normal(0, 1, 250)
            blocks.append([x.sum(axis=0) + rng.normal(0, 1, 250), *x])
        got = estimate(arms(*blocks), (MetricShape("m", "mean", 0, covariates=tuple(range(1, r + 1))),))
        y = np.concatenate([b[0] - b[0].mean() for b in blocks])
        x = np.concatenate([np.array(b[1:]) - np.mean(b[1:], axis=1, keepdims=True) for b in blocks], axis=1)
        slopes = np.linalg.lstsq(x.T, y)[0]
        np.testing.assert_allclose(got.slope[0, 1:], slopes, rtol=1e-9)
        rest = (y - slopes @ x).reshape(2, -1)
        np.testing.assert_allclose(got.variance[:, 0], (rest**2).sum(axis=1) / 249 / 250, rtol=1e-9)


def test_the_control_estimate_does_not_depend_on_who_it_is_compared_with():
    rng = np.random.default_rng(2)
    moments = arms(drawn(rng, 300), drawn(rng, 400), drawn(rng, 200))
    together = estimate(moments, (CUPED,))
    reordered = estimate(moments[np.array([0, 2, 1])], (CUPED,))
    np.testing.assert_allclose(together.value[[0, 2, 1]], reordered.value, rtol=1e-12)
    np.testing.assert_allclose(together.slope, reordered.slope, rtol=1e-12)


def test_centring_the_covariate_changes_no_difference_and_no_lift():
    rng = np.random.default_rng(3)
    (y_c, x_c), (y_t, x_t) = drawn(rng, 300), drawn(rng, 400, gap=0.5)
    near, far = (estimate(arms([y_c, x_c + s], [y_t, x_t + s]), (CUPED,)) for s in (0.0, 1e5))
    np.testing.assert_allclose(near.value, far.value, rtol=1e-8)
    for a, b in ((lift(near), lift(far)),):
        np.testing.assert_allclose(a.value, b.value, rtol=1e-7)
        np.testing.assert_allclose(a.ci_lower, b.ci_lower, rtol=1e-7)


def test_new_users_stay_in_with_zero_history_and_an_indicator():
    """A third of the units have no history: keep them, with x = 0 and a flag; nobody is dropped."""
    rng = np.random.default_rng(4)
    blocks = []
    for _ in range(2):
        y, x = drawn(rng, 1500)
        new = rng.random(1500) < 1 / 3
        blocks.append([y + 3 * new, np.where(new, 0.0, x), new])
    flagged = MetricShape("m", "mean", 0, covariates=(1,), indicators=(2,))
    adjusted = estimate(arms(*blocks), (flagged,))
    only_value = estimate(arms(*blocks), (CUPED,))
    assert adjusted.count.tolist() == [1500, 1500] and adjusted.note[0] == ""
    assert adjusted.variance_reduction[0] > only_value.variance_reduction[0] > 0
    # The same as least squares on the arm, the value and the flag, up to what the arm's own column takes.
    y, x, new = (np.concatenate([b[i] for b in blocks]) for i in range(3))
    arm = np.repeat([0.0, 1.0], 1500)
    design = np.column_stack([np.ones(3000), arm, x, new])
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ y
    rest = y - design @ beta
    error = np.sqrt((inverse @ (design.T * rest**2) @ design @ inverse)[1, 1])
    got = difference(adjusted)
    assert got.value[0, 0] == pytest.approx(beta[1], abs=0.01 * error)
    assert got.standard_error[0, 0] == pytest.approx(error, rel=2e-3)
    with_history = estimate(arms(*([y[~n], x[~n]] for y, x, n in blocks)), (CUPED,))
    assert got.value[0, 0] != pytest.approx(difference(with_history).value[0, 0], rel=1e-3), "another population"


def test_balance_is_null_under_randomisation_and_not_after_carry_over():
    rng = np.random.default_rng(5)
    x = rng.normal(10, 2, (2000 * 300, 2))
    moments = Moments.from_rows(x, np.arange(2000 * 300) % 6000, (2000, 3))
    p = covariate_balance(moments, (0, 1)).p_value
    assert within(float((p < 0.05).mean()), 0.05, 2000)
    shifted = arms([rng.normal(10, 2, 5000)], [rng.normal(10.3, 2, 5000)])
    assert covariate_balance(shifted, (0,)).p_value < 0.001
    assert covariate_balance(arms([np.ones(50)], [np.ones(50)]), (0,)).p_value == 1.0


def replicate(replications: int, n: tuple[int, int], seed: int, ratio: bool, gap: float) -> tuple[Estimates, float]:
    """Estimates of many experiments with a known true lift; slopes differ between the arms."""
    rng = np.random.default_rng(seed)
    size = replications * sum(n)
    arm = np.tile(np.repeat([0, 1], n), replications)
    cell = np.repeat(np.arange(replications), sum(n)) * 2 + arm
    taste = rng.gamma(4.0, 0.25, size)
    before = rng.poisson(4 * taste)
    sessions = rng.poisson(4 * taste) + 1
    orders = rng.binomial(sessions, np.minimum(0.3 * (1 + gap * arm), 1))
    rows = np.column_stack([orders, sessions, rng.binomial(before, 0.3), before])
    moments = Moments.from_rows(rows, cell, (replications, 2))
    shape = (
        MetricShape("r", "ratio", 0, 1, covariates=(2, 3)) if ratio else MetricShape("m", "mean", 0, covariates=(2, 3))
    )
    return estimate(moments, (shape,)), gap


@pytest.mark.parametrize("ratio", [False, True])
def test_adjusted_intervals_cover_and_the_variance_is_what_it_claims(ratio: bool):
    check_adjustment(1000, (150, 450), ratio)


@pytest.mark.simulation
@pytest.mark.parametrize("ratio", [False, True])
@pytest.mark.parametrize("n", [(200, 200), (300, 1700), (2000, 2000)])
def test_adjusted_intervals_cover_across_splits(n: tuple[int, int], ratio: bool):
    check_adjustment(2000, n, ratio)


def check_adjustment(replications: int, n: tuple[int, int], ratio: bool) -> None:
    estimates, gap = replicate(replications, n, 21, ratio, 0.2)
    got, relative = difference(estimates), lift(estimates)
    claimed = np.mean(got.standard_error**2)
    assert np.var(got.value, ddof=1) / claimed == pytest.approx(1, abs=4 * np.sqrt(2 / replications) + 0.01)
    truth = (0.3 if ratio else 1.5) * gap
    assert within(float(((got.ci_lower <= truth) & (truth <= got.ci_upper)).mean()), 0.95, replications)
    assert within(float(((relative.ci_lower <= gap) & (gap <= relative.ci_upper)).mean()), 0.95, replications)
    if not ratio:
        assert float(estimates.variance_reduction.mean()) > 0.1
