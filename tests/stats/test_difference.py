"""Welch differences agree with the oracles, with real experiments, and refuse what has no inference."""

import numpy as np
import polars as pl
import pytest
import scipy.special as sc
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.difference import difference
from stats.estimate import MetricShape, estimate
from stats.moments import Moments
from stats.reasons import Reason
from stats.skewness import difference_skewness, too_skewed
from stats.tails import log10_chi_square, log10_t_two_sided, log_two_sided_t
from tests.shared_data import golden, manifest_entry, shared_path
from tests.stats.moment_cases import arms, from_summary, within

MEAN = MetricShape("m", "mean", 0)


def compare(moments: Moments, *shapes: MetricShape, level: float = 0.95, adjust: bool = True):
    return difference(estimate(moments, shapes or (MEAN,), adjust), level)


@pytest.mark.parametrize(
    "name",
    ["t_mean_absolute", "t_mean_gbstats_test_absolute", "t_proportion_absolute", "t_mean_alpha_01"],
)
def test_differences_are_those_of_gbstats(name: str):
    case = golden("gbstats", name)
    config, expected = case["inputs"]["config"], case["expected"]
    got = compare(from_summary(case["inputs"]["control"], case["inputs"]["treatment"]), level=1 - config["alpha"])
    assert got.df[0, 0] == pytest.approx(case["intermediate"]["welch_dof"], rel=1e-8)
    if config["difference_type"] == "absolute":
        assert got.value[0, 0] == pytest.approx(expected["effect"], rel=1e-8)
        assert got.standard_error[0, 0] == pytest.approx(expected["se"], rel=1e-8)
        assert got.p_value[0, 0] == pytest.approx(expected["p_value"], rel=1e-8)
        assert [got.ci_lower[0, 0], got.ci_upper[0, 0]] == pytest.approx(expected["ci"], rel=1e-8)


def test_differences_are_those_of_tea_tasting_scipy_and_r():
    case = golden("libraries", "welch_t_two_sided")
    got = compare(arms([case["inputs"]["control"]], [case["inputs"]["treatment"]]))
    expected = case["expected"]
    assert got.value[0, 0] == pytest.approx(expected["effect_size"], rel=1e-9)
    assert got.p_value[0, 0] == pytest.approx(expected["pvalue"], rel=1e-9)
    assert got.df[0, 0] == pytest.approx(expected["df"], rel=1e-9)
    assert got.ci_lower[0, 0] == pytest.approx(expected["effect_size_ci_lower"], rel=1e-9)
    assert got.ci_upper[0, 0] == pytest.approx(expected["effect_size_ci_upper"], rel=1e-9)
    _, df, p, low, high = golden("libraries", "r_t_test")["expected"]["welch"]
    assert [got.df[0, 0], got.p_value[0, 0]] == pytest.approx([df, p], rel=1e-6)
    assert [got.ci_lower[0, 0], got.ci_upper[0, 0]] == pytest.approx([low, high], rel=1e-6)
    hc2 = golden("libraries", "clustered_means_ols")["expected"]["se_HC2"]
    assert got.standard_error[0, 0] == pytest.approx(hc2, rel=1e-9)


def test_ratio_differences_are_the_delta_method_of_tea_tasting():
    case = golden("libraries", "ratio_metric_delta_z")
    i, expected = case["inputs"], case["expected"]
    moments = arms([i["numer_control"], i["denom_control"]], [i["numer_treatment"], i["denom_treatment"]])
    estimates = estimate(moments, (MetricShape("r", "ratio", 0, 1),))
    half = (expected["effect_size_ci_upper"] - expected["effect_size_ci_lower"]) / 2
    # Twelve units: the denominator is known to 13 %, which is not good enough for us to report it (A4).
    assert (estimates.reason[0] == Reason.DENOMINATOR_NEAR_ZERO).all()
    value = estimates.value[1, 0] - estimates.value[0, 0]
    error = np.sqrt(estimates.variance.sum())
    assert value == pytest.approx(expected["effect_size"], rel=1e-9)
    assert error == pytest.approx(half / 1.959963984540054, rel=1e-9)
    assert value / error == pytest.approx(expected["statistic"], rel=1e-9)


def test_one_sided_bounds_are_ends_of_a_wider_two_sided_level():
    for name, end in (("welch_t_greater", "lower"), ("welch_t_less", "upper")):
        case = golden("libraries", name)
        got = compare(arms([case["inputs"]["control"]], [case["inputs"]["treatment"]]), level=0.90)
        assert getattr(got, f"ci_{end}")[0, 0] == pytest.approx(case["expected"][f"effect_size_ci_{end}"], rel=1e-9)
        p = got.p_value[0, 0] / 2
        assert (p if end == "lower" else 1 - p) == pytest.approx(case["expected"]["pvalue"], rel=1e-9)


def test_summaries_give_spotify_s_standard_error():
    case = golden("libraries", "spotify_ztest_abs_rel")
    i = case["inputs"]
    names = ("n", "sum", "sum_squares")
    per_arm = [
        {"type": "mean", **dict(zip(names, v, strict=True))} for v in zip(i["n"], i["sum"], i["sumsq"], strict=True)
    ]
    got = compare(from_summary(*per_arm))
    low, high = case["expected"]["absolute"][1:3]
    assert got.standard_error[0, 0] == pytest.approx(case["expected"]["std_err"], rel=1e-9)
    assert got.value[0, 0] == pytest.approx((low + high) / 2, rel=1e-9)


def test_ratio_error_is_cluster_robust_regression_up_to_its_small_sample_factor():
    case = golden("libraries", "ratio_metric_cluster_robust_ols")
    i, expected = case["inputs"], case["expected"]
    moments = arms([i["numer_control"], i["denom_control"]], [i["numer_treatment"], i["denom_treatment"]])
    estimates = estimate(moments, (MetricShape("r", "ratio", 0, 1),))
    n = estimates.count
    without_factor = (estimates.variance[:, 0] * (n - 1) / n).sum()
    assert np.sqrt(without_factor) == pytest.approx(expected["se_cluster_no_correction"], rel=1e-9)


def test_hillstrom_emails_reproduce_the_reference_numbers():
    reference = manifest_entry("ab/hillstrom_email.csv")["computed_reference"]
    data = pl.read_csv(shared_path("data", "ab", "hillstrom_email.csv"), infer_schema_length=None)
    names = ["No E-Mail", "Mens E-Mail", "Womens E-Mail"]
    cell = data["segment"].replace_strict(names, [0, 1, 2]).to_numpy()
    columns = ["visit", "conversion", "spend"]
    moments = Moments.from_rows(data.select(columns).to_numpy(), cell, 3)
    got = compare(moments, *(MetricShape(c, "mean", j) for j, c in enumerate(columns)))
    for i, arm in enumerate(names[1:]):
        for j, column in enumerate(columns):
            expected = reference[arm][column]
            assert got.value[i, j] == pytest.approx(expected["diff"], rel=1e-10)
            assert got.standard_error[i, j] == pytest.approx(expected["se"], rel=1e-10)
            assert got.value[i, j] / got.standard_error[i, j] == pytest.approx(expected["t"], rel=1e-10)
            assert got.p_value[i, j] == pytest.approx(expected["p"], rel=1e-8)
            assert [got.ci_lower[i, j], got.ci_upper[i, j]] == pytest.approx(expected["ci95"], rel=1e-8)


def test_cookie_cats_reproduces_the_reference_numbers():
    reference = manifest_entry("ab/cookie_cats.csv")["computed_reference"]
    data = pl.read_csv(shared_path("data", "ab", "cookie_cats.csv"))
    columns = ["retention_1", "retention_7", "sum_gamerounds"]
    cell = (data["version" if "version" in data.columns else "test_version"] == "gate_40").to_numpy().astype(int)
    rows = data.select(pl.col(c).cast(pl.Float64) for c in columns).to_numpy()
    got = compare(Moments.from_rows(rows, cell, 2), *(MetricShape(c, "mean", j) for j, c in enumerate(columns)))
    keep = rows[:, 2] < rows[:, 2].max()
    clipped = compare(Moments.from_rows(rows[keep][:, 2:], cell[keep], 2))
    checks = [(got, j, reference[c]) for j, c in enumerate(columns)]
    for result, j, expected in [*checks, (clipped, 0, reference["sum_gamerounds_drop_outlier"])]:
        assert result.value[0, j] == pytest.approx(expected["diff"], rel=1e-9)
        assert result.standard_error[0, j] == pytest.approx(expected["se"], rel=1e-10)
        assert result.p_value[0, j] == pytest.approx(expected["p"], rel=1e-8)
        assert [result.ci_lower[0, j], result.ci_upper[0, j]] == pytest.approx(expected["ci95"], rel=1e-8)


def test_welch_finds_the_published_number_of_significant_asos_experiments():
    reference = manifest_entry("split/dev/asos_dev.parquet")["computed_reference"]["table2"]
    data = pl.read_parquet(shared_path("data", "split", "dev", "asos_dev.parquet"))
    last = data.sort("time_since_start").group_by("experiment_id", "variant_id", "metric_id").last()
    for metric, expected in reference.items():
        rows = last.filter(pl.col("metric_id") == int(metric)).drop_nulls()
        count = rows.select("count_c", "count_t").to_numpy().astype(np.int64)
        mean = rows.select("mean_c", "mean_t").to_numpy()
        variance = rows.select("variance_c", "variance_t").to_numpy()
        moments = Moments(
            count, mean[..., None], (variance * (count - 1))[..., None, None], np.zeros((*count.shape, 1))
        )
        got = compare(moments)
        assert len(rows) == sum(expected.values())
        assert int((got.p_value < 0.05).sum()) == expected["both"] + expected["only_t"]


@given(
    st.integers(0, 10_000),
    st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-3),
    st.integers(2, 40),
    st.integers(2, 40),
)
@settings(deadline=None, max_examples=60)
def test_swapping_arms_flips_the_sign_and_scaling_scales(seed: int, scale: float, n_c: int, n_t: int):
    rng = np.random.default_rng(seed)
    c, t = rng.normal(3, 1, n_c), rng.normal(3.2, 2, n_t)
    one, swapped, scaled = (compare(arms(*pair)) for pair in (([c], [t]), ([t], [c]), ([scale * c], [scale * t])))
    assert one.value[0, 0] == pytest.approx(-swapped.value[0, 0], rel=1e-12)
    assert one.ci_lower[0, 0] == pytest.approx(-swapped.ci_upper[0, 0], rel=1e-9, abs=1e-12)
    assert one.p_value[0, 0] == pytest.approx(swapped.p_value[0, 0], rel=1e-9)
    assert scaled.p_value[0, 0] == pytest.approx(one.p_value[0, 0], rel=1e-7)
    assert scaled.standard_error[0, 0] == pytest.approx(abs(scale) * one.standard_error[0, 0], rel=1e-9)
    assert one.ci_lower[0, 0] <= one.ci_upper[0, 0]


def test_two_constant_arms_have_a_difference_but_no_inference():
    for treatment, effect in ((3.0, 0.0), (4.0, 1.0)):
        got = compare(arms([np.full(50, 3.0)], [np.full(60, treatment)]))
        assert got.value[0, 0] == effect
        assert got.reason[0, 0] == Reason.ZERO_VARIANCE and not got.estimable[0, 0]
        assert np.isnan(got.p_value[0, 0]) and np.isnan(got.ci_lower[0, 0])
    # 0.1 has no exact binary form: its mean is off by rounding, which must not look like variance.
    assert compare(arms([np.full(57, 0.1)], [np.full(61, 0.3)])).reason[0, 0] == Reason.ZERO_VARIANCE


def test_one_unit_gives_an_estimate_and_no_interval():
    rng = np.random.default_rng(1)
    got = compare(arms([rng.normal(size=40)], [[2.0]]))
    assert np.isfinite(got.value[0, 0]) and got.reason[0, 0] == Reason.TOO_FEW_UNITS
    assert compare(arms([[1.0]], [[2.0]])).reason[0, 0] == Reason.TOO_FEW_UNITS


def test_an_empty_arm_has_no_value_and_says_why():
    rows = np.random.default_rng(1).normal(size=(40, 1))
    got = compare(Moments.from_rows(rows, np.zeros(40, dtype=int), 3))
    assert np.isnan(got.value).all() and (got.reason == Reason.TOO_FEW_UNITS).all()


def test_a_control_of_zeros_still_has_an_absolute_interval():
    rng = np.random.default_rng(2)
    treatment = (rng.random(500) < 0.1).astype(float)
    got = compare(arms([np.zeros(500)], [treatment]))
    assert got.estimable[0, 0] and got.df[0, 0] == pytest.approx(499)
    assert got.ci_lower[0, 0] > 0


def test_denominators_of_zero_refuse_the_ratio_and_keep_the_numerator():
    rng = np.random.default_rng(3)
    numerator, denominator = rng.poisson(3, 400).astype(float), rng.poisson(5, 400).astype(float)
    moments = arms([numerator, denominator], [numerator, np.zeros(400)])
    got = compare(moments, MetricShape("n", "mean", 0), MetricShape("r", "ratio", 0, 1))
    assert got.reason[0].tolist() == ["", Reason.DENOMINATOR_NEAR_ZERO]
    assert np.isnan(got.value[0, 1]) and got.value[0, 0] == 0


def test_a_column_with_invalid_values_refuses_only_the_metrics_on_it():
    rng = np.random.default_rng(4)
    moments = arms(rng.normal(5, 1, (2, 50)), rng.normal(5, 1, (2, 50)))
    shapes = (MetricShape("a", "mean", 0), MetricShape("b", "mean", 1))
    got = difference(estimate(moments, shapes, invalid={0: "non_finite_values"}))
    assert got.reason[0].tolist() == ["non_finite_values", ""] and np.isnan(got.value[0, 0])


def test_offsets_up_to_a_billion_leave_the_p_value():
    case = golden("libraries", "welch_t_two_sided")
    c, t = (np.array(case["inputs"][arm]) for arm in ("control", "treatment"))
    for offset in (0, 1e6, 1e7, 1e8, 1e9):
        assert compare(arms([c + offset], [t + offset])).p_value[0, 0] == pytest.approx(
            case["expected"]["pvalue"], abs=1e-4
        )


def test_an_effect_of_two_hundred_standard_errors_keeps_its_rank():
    rng = np.random.default_rng(5)
    base = rng.normal(0, 1, 5000)
    got = [compare(arms([base], [base + shift])) for shift in (4.0, 4.1)]
    assert got[0].p_value[0, 0] == 0
    assert np.isfinite(got[0].log10_p[0, 0]) and got[1].log10_p[0, 0] < got[0].log10_p[0, 0] < -300


@pytest.mark.parametrize("df", [30.0, 1e3, 1e6, 1e10])
def test_the_logarithmic_t_tail_continues_the_linear_one(df: float):
    p = 10.0 ** np.array([-200.0, -240.0, -280.0])
    t = -sc.stdtrit(df, p / 2)
    linear = np.log10(2 * sc.stdtr(df, -t))
    np.testing.assert_allclose(log_two_sided_t(t, np.full(3, df)) / np.log(10), linear, rtol=1e-10)


def test_logarithmic_tails_agree_with_closed_forms_beyond_underflow():
    # df = 2 has p = 1 - t / sqrt(t^2 + 2), which is 1 / t^2 far out; huge df is the normal.
    assert log10_t_two_sided(1e160, 2.0)[1] == pytest.approx(-320, rel=1e-12)
    p, log10 = log10_t_two_sided(200.0, 1e14)
    assert p == 0
    assert log10 * np.log(10) == pytest.approx(np.log(2) + sc.log_ndtr(-200.0), rel=1e-8)
    # Four degrees of freedom: p = exp(-x/2) (1 + x/2).
    p, log10 = log10_chi_square(np.array([1300.0, 1340.0, 1e5]), 4)
    assert (np.diff(log10) < 0).all() and p[0] > 0 and p[2] == 0
    assert log10[1] == pytest.approx((-670 + np.log(671)) / np.log(10), rel=1e-12)


def test_skewed_metrics_with_unequal_arms_are_flagged():
    rng = np.random.default_rng(6)
    small, large = rng.lognormal(0, 1.5, 200), rng.lognormal(0, 1.5, 1800)
    equal = rng.lognormal(0, 1.5, 1800)
    shapes = (MEAN,)
    assert too_skewed(difference_skewness(arms([large], [small]), shapes))[0, 0]
    assert not too_skewed(difference_skewness(arms([large], [equal]), shapes))[0, 0]
    one_arm = arms([np.full(1800, 1.0)], [equal])
    third = ((equal - equal.mean()) ** 3).mean() / (equal.var(ddof=1) ** 1.5) / np.sqrt(1800)
    assert difference_skewness(one_arm, shapes)[0, 0] == pytest.approx(third, rel=1e-9)
    ratio = (MetricShape("r", "ratio", 0, 1),)
    assert np.isnan(difference_skewness(arms([large, large], [large, large]), ratio)).all()


def coverage(draw, replications: int, n_c: int, n_t: int, seed: int) -> tuple[float, float]:
    """Share of intervals holding zero, and share of skewness warnings, over replications of a null experiment."""
    rng = np.random.default_rng(seed)
    rows = draw(rng, replications * (n_c + n_t))[:, None]
    cell = np.concatenate(
        [np.repeat(np.arange(replications) * 2, n_c), np.repeat(np.arange(replications) * 2 + 1, n_t)]
    )
    moments = Moments.from_rows(rows, cell, (replications, 2))
    got = compare(moments)
    inside = (got.ci_lower <= 0) & (got.ci_upper >= 0)
    return float(inside.mean()), float(too_skewed(difference_skewness(moments, (MEAN,))).mean())


DRAWS = {
    "normal": lambda rng, n: rng.normal(1, 2, n),
    "lognormal": lambda rng, n: rng.lognormal(0, 1, n),
    "bernoulli": lambda rng, n: (rng.random(n) < 0.5).astype(float),
    "negative_binomial": lambda rng, n: rng.negative_binomial(1, 0.3, n).astype(float),
    "zero_inflated": lambda rng, n: rng.lognormal(0, 0.5, n) * (rng.random(n) < 0.3),
}


@pytest.mark.parametrize("name", ["normal", "bernoulli"])
def test_intervals_cover_in_a_short_simulation(name: str):
    share, _ = coverage(DRAWS[name], 1000, 200, 200, 11)
    assert within(share, 0.95, 1000)


@pytest.mark.simulation
@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize(("n_c", "n_t"), [(200, 200), (1600, 400), (2000, 2000)])
def test_intervals_cover_or_warn(name: str, n_c: int, n_t: int):
    replications = 2000
    share, warned = coverage(DRAWS[name], replications, n_c, n_t, 12)
    assert warned > 0.5 or within(share, 0.95, replications)
