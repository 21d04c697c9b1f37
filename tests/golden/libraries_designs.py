"""Sample ratios, corrections and power of the libraries."""

from collections.abc import Iterator

import numpy as np
import scipy.special as sc

from stats.multiplicity import Correction, adjusted
from stats.power import Design, achieved_power, minimum_detectable_effect, non_inferiority_units, required_units
from stats.sample_ratio import chi_square
from tests.golden.comparing import Case, Comparison, Differs, Same
from tests.golden.libraries_source import CASES

OURS: dict[str, Correction] = {
    "bonferroni": "bonferroni",
    "holm": "holm",
    "fdr_bh": "benjamini_hochberg",
    "fdr_by": "benjamini_yekutieli",
}
FEWER = "A11: of corrections that control the same error we offer the one that holds under every dependence"


@CASES.compares("multiple_testing_adjusted_p")
def adjusted_p(case: Case) -> Iterator[Comparison]:
    p, expected = case["inputs"]["pvalues"], case["expected"]
    for theirs, method in OURS.items():
        yield Same(theirs, expected[theirs], adjusted(p, method))
    ranked = np.sort(p)
    holm = np.minimum(np.maximum.accumulate(ranked * (len(p) - np.arange(len(p)))), 1)
    for theirs, gap in (("holm-sidak", 0.4), ("simes-hochberg", 0.125), ("hommel", 0.28)):
        yield Differs(theirs, expected[theirs], adjusted(p, "holm"), holm, gap, FEWER)
    bonferroni = np.minimum(ranked * len(p), 1)
    yield Differs("sidak", expected["sidak"], adjusted(p, "bonferroni"), bonferroni, 0.3, FEWER)
    bh = np.minimum.accumulate((ranked * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    why = "BH without an estimate of the share of true nulls, which two-stage procedures add"
    for theirs, gap in (("fdr_tsbh", 0.667), ("fdr_tsbky", 0.587)):
        yield Differs(theirs, expected[theirs], adjusted(p, "benjamini_hochberg"), bh, gap, why)


@CASES.compares("multiple_testing_edge")
def adjusted_edges(case: Case) -> Iterator[Comparison]:
    p, expected = case["inputs"]["pvalues"], case["expected"]
    for theirs in ("holm", "fdr_bh", "fdr_by"):
        got = adjusted(p, OURS[theirs])
        yield Same(theirs, expected[theirs]["p_adj"], got)
        yield Same(
            f"rejections by {theirs}", [float(r) for r in expected[theirs]["reject"]], (got <= 0.05).astype(float)
        )
    hochberg = expected["simes-hochberg"]["p_adj"]
    by_hand = np.array([0.0, 0.2, 0.2, 1.0, 0.2])
    positive = slice(1, None)
    got = adjusted(p, "holm")
    yield Differs("simes-hochberg", hochberg[positive], got[positive], by_hand[positive], 1.0, FEWER)


@CASES.compares("multiple_testing_alpha_adj")
def adjusted_levels(case: Case) -> Iterator[Comparison]:
    p, expected = case["inputs"]["pvalues"], case["expected"]
    for theirs, method in (("fdr_bh", "fdr_bh"), ("fdr_by", "fdr_by"), ("holm_bonferroni", "holm")):
        got = adjusted(p, OURS[method])
        yield Same(theirs, expected[theirs]["pvalue_adj"], got)
        yield Same(f"rejections by {theirs}", expected[theirs]["null_rejected"], (got <= 0.05).astype(float))
    ranked = np.sort(p)
    holm = np.minimum(np.maximum.accumulate(ranked * (len(p) - np.arange(len(p)))), 1)
    for theirs, gap in (("hochberg_bonferroni", 0.125), ("hochberg_sidak", 0.4), ("holm_sidak", 0.4)):
        yield Differs(theirs, expected[theirs]["pvalue_adj"], adjusted(p, "holm"), holm, gap, FEWER)


@CASES.compares("srm_two_arms", "r_srm")
def sample_ratio(case: Case) -> Iterator[Comparison]:
    i, expected = case["inputs"], case["expected"]
    if case["name"] == "r_srm":
        got = chi_square(i["observed"], i["p"])
        yield Same("chi-square and p", expected["chisq_50_30_20"], [got.statistic, got.p_value], rtol=1e-12)
        return
    for size in ("big", "small"):
        got = chi_square(i[size], [1, 1])
        yield Same(f"chi-square and p, {size}", expected[f"chi2_{size}"], [got.statistic, got.p_value])
    small = chi_square(i["small"], [1, 1])
    by_hand = sc.chdtrc(1, (430 - 470) ** 2 / 470 + (510 - 470) ** 2 / 470)
    why = "A12: chi-square; the exact test takes over below the units of a chi-square"
    yield Differs("binomial test", expected["binom_exact_small"], small.p_value, by_hand, 0.0871, why)


@CASES.compares("power_proportions", "r_power")
def power(case: Case) -> Iterator[Comparison]:
    expected = case["expected"]
    both = 0.1 * 0.9 + 0.12 * 0.88
    error = np.sqrt(both / 3000)
    found = float(achieved_power(Design(), 0.02, error))
    z, zb = float(sc.ndtri(0.975)), float(sc.ndtri(0.8))
    by_hand = sc.ndtr(0.02 / error - z) + sc.ndtr(-0.02 / error - z)
    n = int(required_units(Design(), np.sqrt(0.1 * 0.9), 0.02, sd_treatment=np.sqrt(0.12 * 0.88)).treatment)
    n_by_hand = int(np.ceil((z + zb) ** 2 * both / 0.02**2))
    pooled = "A14: the arms' own variances under the null too; theirs pools them (the p-value is Welch's, not pooled)"
    if case["name"] == "power_proportions":
        yield Differs("power with 3,000 per arm", expected["power_n_3000"], found, by_hand, 0.0005, pooled)
        yield Differs("units per arm", expected["n_unpooled_pooled_null"], n, n_by_hand, 0.00048, pooled)
        arcsine = "A14: on the difference; theirs on the arcsine scale"
        yield Differs("units per arm, arcsine", expected["n_arcsine"], n, n_by_hand, 0.00115, arcsine)
        return
    yield Differs(
        "power with 3,000 per arm", expected["power.prop.test_power_n3000"][0], found, by_hand, 0.0005, pooled
    )
    yield Differs("units per arm", expected["power.prop.test_n_10_12"][0], n, n_by_hand, 0.00048, pooled)
    normal = "A14: normal quantiles; theirs uses the noncentral t"
    units = int(required_units(Design(), 1.0, 0.2).treatment)
    by_hand = int(np.ceil(2 * (z + zb) ** 2 / 0.2**2))
    yield Differs("units per arm for d = 0.2", expected["power.t.test_n_d02"][0], units, by_hand, 0.00103, normal)
    strict = float(achieved_power(Design(), 0.2, np.sqrt(2 / 100)))
    by_hand = sc.ndtr(0.2 / np.sqrt(0.02) - z) + sc.ndtr(-0.2 / np.sqrt(0.02) - z)
    yield Differs(
        "power with 100 per arm, both tails",
        expected["power.t.test_strict_power_n100"][0],
        strict,
        by_hand,
        0.0081,
        normal,
    )


@CASES.compares("power_from_aggregates_cuped")
def power_with_covariate(case: Case) -> Iterator[Comparison]:
    i, expected = case["inputs"], case["expected"]
    sd, r2 = np.sqrt(i["var_y"]), i["cov_xy"] ** 2 / i["var_x"] / i["var_y"]
    z = float(sc.ndtri(0.975) + sc.ndtri(0.8))
    normal = "A14: normal quantiles, theirs t"
    for name, r in (("plain", 0.0), ("cuped", r2)):
        got = float(minimum_detectable_effect(Design(), sd, i["n"], r))
        by_hand = z * sd * np.sqrt((1 - r) * 4 / i["n"])
        yield Differs(
            f"detectable effect, {name}", expected[f"mde_{name}"][0]["effect_size"], got, by_hand, 0.00024, normal
        )
    for name, r in (("n_rel_2pct", 0.0), ("n_rel_2pct_cuped", r2)):
        row = expected[name][0]
        got_units = int(required_units(Design(), sd, row["effect_size"], r).units)
        yield Same(f"units, {name} (t against normal quantiles)", row["n_obs"], got_units, rtol=3e-4)
    thirds = Design(treatment_share=2 / 3, control_share=1 / 3)
    error = np.sqrt(i["var_y"] * (1.5 + 3) / i["n"])
    row = expected["power_rel_5pct_ratio_2"][0]
    by_hand = sc.ndtr(row["effect_size"] / error - sc.ndtri(0.975)) + sc.ndtr(
        -row["effect_size"] / error - sc.ndtri(0.975)
    )
    got = float(achieved_power(thirds, row["effect_size"], error))
    yield Differs("power at 2:1", row["power"], got, by_hand, 0.000417, normal)


@CASES.compares("spotify_sample_size_mde_nim")
def spotify_sizes(case: Case) -> Iterator[Comparison]:
    expected = dict(case["expected"])
    for key, _, value, variance, mde, margin, _ in case["inputs"]["rows"]:
        if mde is not None:
            other = value * (1 + mde)
            spread = np.sqrt(other * (1 - other))
            got = required_units(Design(), np.sqrt(variance), mde * value, sd_treatment=spread)
            yield Same("units for a detectable lift", expected[key], int(got.units))
        else:
            design = Design(alpha=0.025, sides=1)
            got = non_inferiority_units(design, np.sqrt(variance), margin * value)
            yield Same("units for a margin (theirs: one side of a two-sided 5 %)", expected[key], int(got.units))
