"""Proportions, quantiles, segments and equivalence of the libraries."""

from collections.abc import Iterator

import numpy as np
import scipy.special as sc

from stats.boschloo import boschloo_exact
from stats.difference import difference
from stats.equivalence import equivalence, non_inferiority
from stats.estimate import estimate
from stats.heterogeneity import segment_contrast
from stats.lift import lift
from stats.proportion import miettinen_nurminen, newcombe, score_p, wilson
from stats.quantile import QuantileSummary, quantile_estimates, summarise
from tests.golden.comparing import Case, Comparison, Differs, Same, log_delta, normal_quantile
from tests.golden.libraries_source import CASES, MEAN, SHARE, first, pair, shares
from tests.stats.moment_cases import arms

SMALL = "A2: Welch on zeros and ones for large samples, Newcombe below 10 successes or failures"


@CASES.compares("prop_ztest")
def z_test(case: Case) -> Iterator[Comparison]:
    _, moments = shares(case)
    got, expected = difference(estimate(moments, (SHARE,))), case["expected"]
    z = first(got.value / got.standard_error)
    yield Same("z, unpooled", expected["wald_unpooled"][0], z)
    yield Same("p by the normal", expected["wald_unpooled"][1], 2 * sc.ndtr(-z))
    v, n = moments.comoment[:, 0, 0] / (moments.count - 1) / moments.count, moments.count
    df = v.sum() ** 2 / (v**2 / (n - 1)).sum()
    why = "A2: the t distribution and the arms' own variances; theirs pools them under the null"
    yield Differs("p, pooled", expected["pooled"][1], first(got.p_value), 2 * sc.stdtr(df, -z), 0.00358, why)
    error = first(got.standard_error)
    below = non_inferiority(first(got.value), error, np.inf, 0.02)
    why = "A10: margins are tested with the unpooled error; theirs pools the arms"
    by_hand = sc.ndtr(-(first(got.value) + 0.02) / error)
    yield Differs("p of -0.02 or worse", expected["noninf_value_-0.02_larger"][1], below, by_hand, 0.0158, why)


@CASES.compares("prop_diff_ci_methods", "prop_diff_ci_newcombe_1998", "prop_zero_cell_ci")
def interval_of_difference(case: Case) -> Iterator[Comparison]:
    table, moments = shares(case)
    expected = case["expected"]
    hybrid = next(expected[key] for key in ("newcomb", "newcombe_hybrid", "newcomb_diff") if key in expected)
    score = expected.get("score_MN", expected.get("score_MN_diff"))
    yield Same("Newcombe", hybrid, [float(end) for end in newcombe(*table)])
    yield Same("Miettinen-Nurminen", score, [float(end) for end in miettinen_nurminen(*table)])
    if "wald" in expected:
        got = difference(estimate(moments, (SHARE,)))
        normal = first(got.value) + np.array([-1, 1]) * normal_quantile() * first(got.standard_error)
        yield Same("Wald", expected["wald"], normal)
    if "KNOWN_WRONG_statsmodels_score_MN" in expected:
        ours = [float(end) for end in miettinen_nurminen(*table)]
        why = "ours is the constrained likelihood's; theirs does not maximise it (statsmodels issue 10269)"
        yield Differs(
            "statsmodels' score interval", expected["KNOWN_WRONG_statsmodels_score_MN"], ours, score, 0.00216, why
        )


@CASES.compares("prop_ratio_ci_methods")
def interval_of_ratio(case: Case) -> Iterator[Comparison]:
    _, moments = shares(case)
    got = 1 + np.array(pair(lift(estimate(moments, (SHARE,)))))
    (c, t), v = moments.mean[:, 0], moments.comoment[:, 0, 0] / (moments.count - 1) / moments.count
    by_hand = 1 + np.array(log_delta(t, c, v[1], v[0]))
    yield Same("log", case["expected"]["log"], got)
    yield Same("log of scipy", case["expected"]["log_scipy_contingency"], got)
    for name, gap in (("log-adjusted", 0.00369), ("score_MN", 0.00113), ("score_Koopman", 0.00123)):
        yield Differs(
            name, case["expected"][name], got, by_hand, gap, "A3: the log-delta interval, as for every metric"
        )


@CASES.compares("prop_one_sample_ci")
def one_share(case: Case) -> Iterator[Comparison]:
    x, n, z = case["inputs"]["count"], case["inputs"]["n"], normal_quantile()
    got = [float(end) for end in wilson(x, n)]
    yield Same("Wilson", case["expected"]["wilson"], got)
    centre, half = x + z**2 / 2, z * np.sqrt(x * (n - x) / n + z**2 / 4)
    by_hand = [(centre - half) / (n + z**2), (centre + half) / (n + z**2)]
    why = "only Wilson's interval is used, as a part of Newcombe's"
    for name, gap in (
        ("normal", 0.0955),
        ("agresti_coull", 0.00822),
        ("beta", 0.0423),
        ("jeffreys", 0.0254),
        ("binom_test", 0.0268),
    ):
        yield Differs(name, case["expected"][name], got, by_hand, gap, why)


@CASES.compares("prop_exact_and_chi2")
def exact(case: Case) -> Iterator[Comparison]:
    (a, b), (c, d) = case["inputs"]["table"]
    expected = case["expected"]
    p = float(boschloo_exact(a, a + c, b, b + d)[0])
    yield Same("Boschloo", expected["boschloo"], p)
    score = float(score_p(a, a + c, b, b + d)[0])
    n = a + b + c + d
    yield Same("chi-square, times (n - 1) / n", expected["chi2_plain"][0] * (n - 1) / n, sc.chdtri(1, score))
    why = "A2: Boschloo's test, which has more power at the same guarantee"
    for name, gap in (("fisher", 0.485), ("barnard_pooled", 0.147)):
        theirs = expected[name][1] if name == "fisher" else expected[name]
        yield Differs(name, theirs, p, expected["boschloo"], gap, why)


@CASES.compares("r_prop_test")
def r_shares(case: Case) -> Iterator[Comparison]:
    (x_t, x_c), (n_t, n_c) = case["inputs"]["counts"], case["inputs"]["n"]
    expected = case["expected"]
    got = float(score_p(x_t, n_t, x_c, n_c)[0])
    n = n_t + n_c
    yield Same("chi-square, times (n - 1) / n", expected["uncorrected"][0] * (n - 1) / n, sc.chdtri(1, got))
    by_hand = 2 * sc.ndtr(-np.sqrt(expected["uncorrected"][0] * (n - 1) / n))
    yield Differs(
        "p with Yates' correction", expected["yates"][1], got, by_hand, 0.138, "no continuity correction: " + SMALL
    )
    fisher = float(boschloo_exact(9, 20, 3, 20)[0])
    yield Differs("Fisher's p", expected["fisher_9_3_11_17"][0], fisher, 0.04243141686779506, 0.485, SMALL, 1e-6)


@CASES.compares("prop_tea_tasting_norm")
def tea_tasting_shares(case: Case) -> Iterator[Comparison]:
    _, moments = shares(case)
    found = estimate(moments, (SHARE,))
    got, relative = difference(found), lift(found)
    expected = case["expected"]["unpooled_uncorrected"]
    normal = first(got.value) + np.array([-1, 1]) * normal_quantile() * first(got.standard_error)
    yield Same("difference", expected["effect_size"], first(got.value))
    yield Same("interval by z", [expected[f"effect_size_ci_{end}"] for end in ("lower", "upper")], normal)
    yield Same("lift", expected["rel_effect_size"], first(relative.value))
    yield Same(
        "interval of the lift", [expected[f"rel_effect_size_ci_{end}"] for end in ("lower", "upper")], pair(relative)
    )
    corrected = case["expected"]["default_pooled_corrected"]
    theirs = [corrected[f"effect_size_ci_{end}"] for end in ("lower", "upper")]
    error = np.sqrt((moments.comoment[:, 0, 0] / (moments.count - 1) / moments.count).sum())
    df = first(got.df)
    by_hand = first(got.value) + np.array([-1, 1]) * sc.stdtrit(df, 0.975) * error
    yield Differs(
        "their default interval", theirs, pair(got), by_hand, 0.0166, "no pooling, no continuity correction: " + SMALL
    )


@CASES.compares("tost_proportions")
def same_shares(case: Case) -> Iterator[Comparison]:
    _, moments = shares(case)
    got = difference(estimate(moments, (SHARE,)))
    p = equivalence(first(got.value), first(got.standard_error), np.inf, 0.02, 0.06)
    yield Same("p", case["expected"]["pvalue"], p)


@CASES.compares("heterogeneity_interaction")
def interaction(case: Case) -> Iterator[Comparison]:
    i, expected, effects = case["inputs"], case["expected"], []
    for segment in (0, 1):
        values = [np.array(i[arm])[np.array(i[f"segment_{arm}"]) == segment] for arm in ("control", "treatment")]
        got = difference(estimate(arms(*([v] for v in values)), (MEAN,)))
        effects += [first(got.value), first(got.standard_error)]
    yield Same("effect in the first segment", expected["effect_segment0"], effects[0])
    found = segment_contrast(*effects)
    ours = [float(found.value), float(found.standard_error), float(found.p_value)]
    yield Same("interaction, error, p", [expected[k] for k in ("interaction", "se_interaction", "p")], ours)


def one(values: list[float], probability: float) -> QuantileSummary:
    x = np.asarray(values, dtype=float)
    return summarise(x, np.arange(len(x)), np.zeros(len(x), int), 1, probability, 0.95)


@CASES.compares("quantile_definitions")
def definitions(case: Case) -> Iterator[Comparison]:
    x, q = case["inputs"]["x"], case["inputs"]["q"]
    got = float(one(x, q).value[0])
    yield Same("inverse of the distribution function", case["expected"]["inverted_cdf"], got)
    ranked = sorted(x)[int(np.ceil(q * len(x) - 1e-9)) - 1]
    why = "A6: an observed value, which order statistics bound; interpolation differs by a gap between neighbours"
    for name, gap in (("linear", 0.00884), ("hazen", 0.0108), ("weibull", 0.0249), ("median_unbiased", 0.0156)):
        yield Differs(name, case["expected"][name], got, ranked, gap, why)


@CASES.compares("quantile_order_stat_ci")
def order_statistics(case: Case) -> Iterator[Comparison]:
    x, z = sorted(case["inputs"]["x"]), normal_quantile()
    for q, key in ((0.5, "ci95"), (0.75, "p75_ci95")):
        got = one(x, q)
        ours = [float(got.lower[0]), float(got.upper[0])]
        sd = np.sqrt(q * (1 - q) / (len(x) - 1))
        ranks = int(len(x) * (q - z * sd)), int(np.ceil(len(x) * (q + z * sd)))
        by_hand = [x[max(ranks[0], 1) - 1], x[min(ranks[1], len(x)) - 1]]
        if key == "p75_ci95":
            yield Same("interval of the third quartile", case["expected"][key], ours)
            continue
        why = "A6: ranks from the normal share, rounded outwards; theirs inverts the exact binomial"
        yield Differs("interval of the median", case["expected"][key], ours, by_hand, 0.0323, why)


@CASES.compares("quantile_bootstrap_two_sample")
def bootstrap(case: Case) -> Iterator[Comparison]:
    i = case["inputs"]
    values = [
        np.array([((7919 * j) % 1009) ** 1.3 / 50 for j in range(i["n0"])]),
        np.array([((6271 * j) % 1013) ** 1.3 / 48 for j in range(i["n1"])]),
    ]
    cell = np.repeat([0, 1], [i["n0"], i["n1"]])
    for name, q in (("p50", 0.5), ("p90", 0.9)):
        expected = case["expected"][name]
        got = summarise(np.concatenate(values), np.arange(len(cell)), cell, 2, q, 0.95)
        value, variance, _ = quantile_estimates(got)
        ranked = [sorted(x)[int(np.ceil(q * len(x) - 1e-9)) - 1] for x in values]
        width = expected["effect_size_ci_upper"] - expected["effect_size_ci_lower"]
        yield Same(
            f"{name}: width of the interval (theirs by resampling)",
            width,
            2 * normal_quantile() * np.sqrt(variance.sum()),
            0.15,
        )
        why = "A6: observed values, no interpolation"
        theirs = [expected["control"], expected["treatment"]]
        gaps = {"p50": (0.00384, 0.00132), "p90": (0.00043, 0.000147)}[name]
        for arm in (0, 1):
            yield Differs(f"{name} of arm {arm}", theirs[arm], value[arm], ranked[arm], gaps[arm], why)
