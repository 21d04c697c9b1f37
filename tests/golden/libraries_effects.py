"""Means, ratios, clusters and covariates of the libraries."""

from collections.abc import Iterator

import numpy as np
import scipy.special as sc
import scipy.stats as sps
from numpy.typing import NDArray

from stats.clusters import few_clusters
from stats.difference import difference
from stats.estimate import estimate
from stats.lift import lift
from stats.moment_set import ClusterTable
from stats.moments import Moments
from stats.reasons import Reason
from tests.golden.comparing import Behaves, Case, Comparison, Differs, Same, fieller, log_delta, normal_quantile
from tests.golden.libraries_source import CASES, CUPED, MEAN, RATIO, columns, copies, first, pair

Matrix = NDArray[np.float64]


@CASES.compares("welch_t_two_sided")
def welch_means(case: Case) -> Iterator[Comparison]:
    expected, found = case["expected"], estimate(columns(case, ""), (MEAN,))
    got, relative = difference(found), lift(found)
    yield Same("means", [expected["control"], expected["treatment"]], found.value[:, 0])
    yield Same("difference", expected["effect_size"], first(got.value))
    yield Same("95 % interval", [expected[f"effect_size_ci_{end}"] for end in ("lower", "upper")], pair(got))
    yield Same("p", expected["pvalue"], first(got.p_value))
    yield Same(
        "t and degrees of freedom",
        [expected["statistic"], expected["df"]],
        [first(got.value / got.standard_error), first(got.df)],
    )
    yield Same("lift", expected["rel_effect_size"], first(relative.value))
    (c, t), (v_c, v_t) = found.value[:, 0], found.variance[:, 0]
    theirs = [expected[f"rel_effect_size_ci_{end}"] for end in ("lower", "upper")]
    why = "A3: both log-delta, ours with the normal quantile (large samples), theirs with Welch's t on the logs"
    yield Differs("95 % interval of the lift", theirs, pair(relative), log_delta(t, c, v_t, v_c), 0.0282, why)


@CASES.compares("welch_t_greater", "welch_t_less")
def one_sided_means(case: Case) -> Iterator[Comparison]:
    got = difference(estimate(columns(case, ""), (MEAN,)), 0.9)
    end = "lower" if case["name"] == "welch_t_greater" else "upper"
    yield Same(
        "95 % bound (an end of our 90 % interval)",
        case["expected"][f"effect_size_ci_{end}"],
        first(getattr(got, f"ci_{end}")),
    )
    p = first(got.p_value) / 2
    yield Same("one-sided p", case["expected"]["pvalue"], p if end == "lower" else 1 - p)


@CASES.compares("student_t_pooled")
def student(case: Case) -> Iterator[Comparison]:
    expected, i = case["expected"], case["inputs"]
    got = difference(estimate(columns(case, ""), (MEAN,)))
    yield Same("difference", expected["effect_size"], first(got.value))
    welch = sps.ttest_ind(i["treatment"], i["control"], equal_var=False).pvalue
    why = "A1: arms have variances of their own (Welch); theirs supposes one for both"
    yield Differs("p", expected["pvalue"], first(got.p_value), welch, 0.0388, why)


@CASES.compares("welch_compare_means_statsmodels")
def compare_means(case: Case) -> Iterator[Comparison]:
    got = difference(estimate(columns(case, ""), (MEAN,)))
    yield Same("95 % interval", case["expected"]["tconfint_diff"], pair(got))
    found = [first(got.value / got.standard_error), first(got.p_value), first(got.df)]
    yield Same("t, p and degrees of freedom", case["expected"]["ttest_ind"], found)
    normal = first(got.value) + np.array([-1, 1]) * normal_quantile() * first(got.standard_error)
    yield Same("interval by z", case["expected"]["zconfint_diff"], normal)


@CASES.compares("r_t_test")
def r_means(case: Case) -> Iterator[Comparison]:
    got = difference(estimate(columns(case, ""), (MEAN,)))
    found = [first(got.value / got.standard_error), first(got.df), first(got.p_value), *pair(got)]
    yield Same("t, df, p and interval (Welch)", case["expected"]["welch"], found, rtol=1e-11)


@CASES.compares("relative_effect_fieller_by_inversion")
def fieller_interval(case: Case) -> Iterator[Comparison]:
    moments = columns(case, "")
    # Mirrored at zero the arms have the same ratio but no logarithm, which is where we use Fieller.
    mirrored = Moments(moments.count, -moments.mean, moments.comoment, -moments.third)
    got = lift(estimate(mirrored, (MEAN,)))
    yield Behaves(
        "kind of interval", "inverted test", str(got.interval_kind[0, 0]), "fieller", "A3: no log of a negative mean"
    )
    low, high = pair(got)
    yield Same("relative effect", case["expected"]["rel_effect"], -first(got.value))
    yield Same("normal interval", case["expected"]["normal_inverted"], [-high, -low])
    (c, t), v = moments.mean[:, 0], moments.comoment[:, 0, 0] / (moments.count - 1) / moments.count
    why = "A3: Fieller with the normal quantile, theirs with Welch's t"
    yield Differs(
        "interval by t", case["expected"]["welch_inverted"], [-high, -low], fieller(t, c, v[1], v[0]), 0.0304, why
    )


@CASES.compares("ratio_metric_delta_z")
def delta_ratio(case: Case) -> Iterator[Comparison]:
    expected, moments = case["expected"], columns(case, "numer", "denom")
    found = estimate(moments, (RATIO,))
    why = "A4: the mean of the denominator is known to 13 % only; a jackknife over hash buckets takes over"
    yield Behaves("outcome", "an interval", str(found.reason[0, 0]), Reason.DENOMINATOR_NEAR_ZERO, why)
    value, error = found.value[1, 0] - found.value[0, 0], np.sqrt(found.variance.sum())
    yield Same("ratios", [expected["control"], expected["treatment"]], found.value[:, 0])
    yield Same("difference", expected["effect_size"], value)
    yield Same("z", expected["statistic"], value / error)
    ends = [expected[f"effect_size_ci_{end}"] for end in ("lower", "upper")]
    yield Same("95 % interval", ends, value + np.array([-1, 1]) * normal_quantile() * error)
    yield Same("p", expected["pvalue"], 2 * sc.ndtr(-value / error))


@CASES.compares("ratio_metric_cluster_robust_ols")
def ratio_as_regression(case: Case) -> Iterator[Comparison]:
    found, expected = estimate(columns(case, "numer", "denom"), (RATIO,)), case["expected"]
    n = found.count
    yield Same("difference", expected["effect"], found.value[1, 0] - found.value[0, 0])
    without = np.sqrt((found.variance[:, 0] * (n - 1) / n).sum())
    yield Same("error without n / (n - 1)", expected["se_cluster_no_correction"], without)
    i = case["inputs"]
    by_hand = 0.0
    for arm in ("control", "treatment"):
        x, d = np.array(i[f"numer_{arm}"], float), np.array(i[f"denom_{arm}"], float)
        rest = (x - x.sum() / d.sum() * d) / d.mean()
        by_hand += rest.var(ddof=1) / len(x)
    ours = np.sqrt(found.variance.sum())
    why = "n / (n - 1) in each arm; theirs has one factor for all clusters"
    yield Differs("standard error", expected["se_cluster_default"], ours, np.sqrt(by_hand), 0.0195, why)
    why = "events of one user are not independent (their number, too, is called wrong)"
    yield Differs("error of independent events", expected["se_naive_iid_WRONG"], ours, np.sqrt(by_hand), 0.218, why)


@CASES.compares("clustered_means_ols")
def clustered(case: Case) -> Iterator[Comparison]:
    i, expected = case["inputs"], case["expected"]
    totals, arm_of, by_hand = [], [], 0.0
    for arm, name in enumerate(("control", "treatment")):
        y, cluster = np.array(i[name]), np.array(i[f"cluster_{name}"])
        for g in np.unique(cluster):
            rest = y[cluster == g] - y.mean()
            by_hand += rest.sum() ** 2 / (1 - len(rest) / len(y)) / len(y) ** 2
            totals.append([y[cluster == g].sum(), len(rest)])
            arm_of.append(arm)
    got = few_clusters(ClusterTable(np.array(totals), np.array(arm_of)), (MEAN,), 2)
    yield Same("difference", expected["effect"], first(got.difference))
    plain = difference(estimate(columns(case, ""), (MEAN,)))
    yield Same("HC2 (no clusters) is Welch's error", expected["se_HC2"], first(plain.standard_error))
    why = "A5: CR2 with few clusters; CR1 takes one factor for all of them"
    yield Differs("standard error", expected["se_CRV1"], first(got.standard_error), np.sqrt(by_hand), 0.0329, why)


def with_slope(moments: Moments, theta: float) -> tuple[float, float]:
    """Difference and standard error of y - theta x for a given theta."""
    row = np.array([1.0, -theta])
    variance = np.einsum("k,akl,l->a", row, moments.covariance, row) / moments.count
    return float((moments.mean[1] - moments.mean[0]) @ row), float(np.sqrt(variance.sum()))


def slope_a7(moments: Moments) -> float:
    """A7 by hand: the slope that minimises the variance of the difference."""
    weighted = (moments.covariance / moments.count[:, None, None]).sum(axis=0)
    return float(weighted[0, 1] / weighted[1, 1])


PER_PAIR = "A7: the slope that minimises the variance of the difference; theirs regresses both arms as one sample"


@CASES.compares("cuped_mean_pooled_theta_z", "spotify_ztest_linreg_cuped", "ancova_and_lin")
def cuped_means(case: Case) -> Iterator[Comparison]:
    moments, expected = columns(case, "", "covariate"), case["expected"]
    many = copies(moments, 20)
    found = estimate(many, (CUPED,))
    value, defined = first(found.value[1] - found.value[0]), with_slope(many, slope_a7(many))
    error = np.sqrt(found.variance.sum())
    whole = moments.merge_axis(0)
    at_theirs = with_slope(moments, whole.comoment[0, 1] / whole.comoment[1, 1])
    twenty = " (every unit twenty times: A7 wants 50 per arm)"
    if case["name"] == "ancova_and_lin":
        why = "A7 is Lin's regression but for terms of order 1 / n"
        yield Differs("Lin's estimate", expected["lin_effect"], value, defined[0], 0.000253, why + twenty)
        why = "ANCOVA has one slope within arms; A7 weighs the arms by 1 / n"
        yield Differs("ANCOVA's estimate", expected["ancova_effect"], value, defined[0], 0.0021, why + twenty)
        return
    if case["name"] == "spotify_ztest_linreg_cuped":
        yield Same("difference at their slope", expected["difference"], at_theirs[0])
        theta = whole.comoment[0, 1] / whole.comoment[1, 1]
        by_n = moments.comoment / moments.count[:, None, None]
        unit = moments.covariance[:, 0, 0] + theta**2 * by_n[:, 1, 1] - 2 * theta * by_n[:, 0, 1]
        yield Same("their error, with their divisors", expected["std_err"], np.sqrt((unit / moments.count).sum()))
        rest = np.array([1.0, -theta])
        one = np.einsum("k,akl,l->a", rest, moments.comoment, rest) / (moments.count - 1) / moments.count
        why = (
            "n - 1 throughout; theirs divides the covariate's part by n and the outcome's by n - 1: 53 % too wide here"
        )
        yield Differs("error at their slope", expected["std_err"], at_theirs[1], np.sqrt(one.sum()), 0.348, why)
    else:
        yield Same("difference at their slope", expected["effect_size"], at_theirs[0])
        yield Same("z at their slope", expected["statistic"], at_theirs[0] / at_theirs[1])
    theirs = expected.get("effect_size", expected.get("difference"))
    yield Differs("difference", theirs, value, defined[0], 0.00494, PER_PAIR + twenty)
    yield Same("standard error by A7", defined[1], error)


def linearised(mean: Matrix, top: int, bottom: int) -> Matrix:
    rows = np.zeros_like(mean)
    rows[..., top] = 1 / mean[..., bottom]
    rows[..., bottom] = -mean[..., top] / mean[..., bottom] ** 2
    return rows


@CASES.compares("cuped_ratio", "cuped_ratio_mean_covariate")
def cuped_ratios(case: Case) -> Iterator[Comparison]:
    two = case["name"] == "cuped_ratio"
    moments, expected = columns(case, "numer", "denom", "pre_numer", *(["pre_denom"] if two else [])), case["expected"]
    whole = moments.merge_axis(0)

    def before(mean: Matrix) -> Matrix:
        if two:
            return linearised(mean, 2, 3)
        rows = np.zeros_like(mean)
        rows[..., 2] = 1.0
        return rows

    outcome, covariate = linearised(whole.mean, 0, 1), before(whole.mean)
    theta = (outcome @ whole.covariance @ covariate) / (covariate @ whole.covariance @ covariate)
    ratio = moments.mean[:, 0] / moments.mean[:, 1]
    adjusted = ratio - theta * (moments.mean[:, 2] / (moments.mean[:, 3] if two else 1.0))
    rest = linearised(moments.mean, 0, 1) - theta * before(moments.mean)
    variance = np.einsum("ak,akl,al->a", rest, moments.covariance, rest) / moments.count
    yield Same("difference at their slope", expected["effect_size"], adjusted[1] - adjusted[0])
    yield Same("z at their slope", expected["statistic"], (adjusted[1] - adjusted[0]) / np.sqrt(variance.sum()))
    many = copies(moments, 20)
    shape = type(RATIO)("r", "ratio", 0, 1, covariates=(2, 3) if two else (2,))
    found = estimate(many, (shape,))
    gradient, extra = linearised(many.mean, 0, 1), list(range(2, many.mean.shape[1]))
    per_arm = many.covariance / many.count[:, None, None]
    pooled = per_arm.sum(axis=0)[np.ix_(extra, extra)]
    slopes = np.linalg.solve(pooled, np.einsum("akl,al->k", per_arm[:, extra], gradient))
    ours = (ratio[1] - ratio[0]) - slopes @ (many.mean[1] - many.mean[0])[extra]
    why = PER_PAIR + (", on the ratio before; ours on its numerator and denominator" if two else "")
    value = first(found.value[1] - found.value[0])
    yield Differs("difference", expected["effect_size"], value, ours, 0.207 if two else 0.00219, why)


@CASES.compares("trimmed_and_winsorised")
def winsorised(case: Case) -> Iterator[Comparison]:
    treatment = np.array(case["inputs"]["treatment"])
    capped = np.minimum(treatment, np.sort(treatment)[-2])
    theirs = np.array(case["expected"]["winsor10_treatment"])
    got = estimate(Moments.from_rows(capped[:, None], np.zeros(len(capped), int), (1,)), (MEAN,)).value[0, 0]
    why = "A9: a cap from above only, and the same for every arm; no trimmed test (another estimand)"
    yield Differs("mean after 10 % from both ends", theirs.mean(), got, np.minimum(treatment, 15.1).mean(), 0.0022, why)


@CASES.compares("variance_cancellation")
def cancellation(case: Case) -> Iterator[Comparison]:
    control = np.array([12.1, 9.8, 11.4, 10.2, 13.7, 8.9, 10.8, 12.5, 11.9, 9.4, 14.2, 10.1])
    found = Moments.from_rows((control + 1e9)[:, None], np.zeros(12, int), (1,))
    yield Same("variance at 1e9", case["expected"]["two_pass"], found.covariance[0, 0, 0], rtol=1e-6)
    yield Same("variance", case["expected"]["true_unshifted"], found.covariance[0, 0, 0], rtol=1e-6)


@CASES.compares("spotify_ztest_abs_rel")
def spotify_means(case: Case) -> Iterator[Comparison]:
    i, expected = case["inputs"], case["expected"]
    n, total, squares = (np.array(i[key], float) for key in ("n", "sum", "sumsq"))
    moments = Moments(np.array(i["n"]), (total / n)[:, None], (squares - total**2 / n)[:, None, None], np.zeros((2, 1)))
    found = estimate(moments, (MEAN,))
    got, relative = difference(found), lift(found)
    normal = first(got.value) + np.array([-1, 1]) * normal_quantile() * first(got.standard_error)
    yield Same("difference", expected["absolute"][0], first(got.value))
    yield Same("standard error", expected["std_err"], first(got.standard_error))
    yield Same("interval by z", expected["absolute"][1:3], normal)
    yield Same("lift", expected["relative"][0], first(relative.value))
    (c, t), (v_c, v_t) = found.value[:, 0], found.variance[:, 0]
    why = "A3: the control's error belongs to a lift; theirs divides the interval by a control taken as known"
    yield Differs(
        "interval of the lift", expected["relative"][1:3], pair(relative), log_delta(t, c, v_t, v_c), 0.03, why
    )
