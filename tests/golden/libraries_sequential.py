"""Confidence sequences of confseq and ville, and group-sequential designs of rpact and gsdesign."""

from collections.abc import Iterator

import numpy as np
import scipy.special as sc
import scipy.stats as sps

from stats.always_valid import log_e_value, one_sided, ready, tuned_rho2, two_sided
from stats.crossing import crossing
from stats.group_sequential import (
    SpendingDesign,
    boundaries,
    detectable_drift,
    expected_information,
    inflation,
    repeated_interval,
    repeated_p_value,
)
from stats.stagewise import stagewise
from tests.golden.comparing import Behaves, Case, Comparison, Differs, Same
from tests.golden.libraries_source import CASES
from tests.shared_data import golden


@CASES.compares("confseq_normal_mixture_bound")
def normal_mixture(case: Case) -> Iterator[Comparison]:
    i, expected = case["inputs"], case["expected"]
    v, zero = np.array(i["v"]), np.zeros(len(i["v"]))
    got = two_sided(zero, 1 / v, v, i["v_opt"], i["alpha"])
    yield Same("two-sided boundary", expected["two_sided"], got.ci_upper * v)
    log_e = log_e_value(60 / v, 1 / v, v, tuned_rho2(i["v_opt"], i["alpha"]))
    yield Same("log of the mixture at 60", expected["log_mixture_two_sided_s60"], log_e)
    one = -one_sided(zero, 1 / v, v, i["v_opt"], i["alpha"]).ci_lower * v
    yield Differs("one-sided boundary", expected["one_sided"], one, closed_one_sided(v), 0.0158, CLOSED)


def closed_one_sided(v: np.ndarray) -> np.ndarray:
    """B1 by hand, tuned at 500 for alpha = 0.05."""
    r = v * (-2 * np.log(0.1) + np.log1p(-2 * np.log(0.1))) / 500
    return np.asarray(np.sqrt(v) * np.sqrt(2 * (r + 1) / r * np.log1p(np.sqrt(r + 1) / 0.1)))


CLOSED = "B1: the closed upper bound of the half-normal mixture, up to 1.6 % wider than its numerical root"
ONE_FAMILY = "B1: one boundary (normal mixture), asymptotic; bounds for bounded or sub-exponential data are not offered"


@CASES.compares("confseq_gamma_exponential_bound", "confseq_poly_stitching_bound")
def other_boundaries(case: Case) -> Iterator[Comparison]:
    v = np.array(case["inputs"]["v"])
    ours = -one_sided(np.zeros(len(v)), 1 / v, v, 500, 0.05).ci_lower * v
    gap = 1.27 if "poly" in case["name"] else 0.0646
    yield Differs("one-sided boundary", case["expected"], ours, closed_one_sided(v), gap, ONE_FAMILY)


def sequence(values: np.ndarray, variance: float, planned: float) -> list[float]:
    """The always-valid interval of a mean."""
    got = two_sided(values.mean(), variance / len(values), len(values), planned)
    return [float(got.ci_lower), float(got.ci_upper)]


def by_formula(mean: float, variance: float, n: int, planned: float) -> list[float]:
    r = n * (-2 * np.log(0.05) + np.log1p(-2 * np.log(0.05))) / planned
    half = np.sqrt(variance / n * (r + 1) / r * (np.log1p(r) - 2 * np.log(0.05)))
    return [float(mean - half), float(mean + half)]


@CASES.compares("confseq_bernoulli_interval")
def bernoulli_sequence(case: Case) -> Iterator[Comparison]:
    for (x, n), theirs, gap in zip(
        case["inputs"]["pairs"][:3], case["expected"], (0.163, 0.0511, 0.0283), strict=False
    ):
        values = np.repeat([1.0, 0.0], [x, n - x])
        variance = x / n * (1 - x / n)
        ours, defined = sequence(values, variance, case["inputs"]["t_opt"]), by_formula(x / n, variance, n, 1000)
        yield Differs(f"interval for {x} of {n}", theirs, ours, defined, gap, ONE_FAMILY)
    x, n = case["inputs"]["pairs"][3]
    begun = str(bool(ready([n, n], 0.0, [x, x])))
    why = "B1: a normal mixture says nothing before 100 units and 25 conversions per arm"
    yield Behaves(f"interval for {x} of {n}", "0 to 0.285", begun, "False", why)


@CASES.compares("confseq_bounded_mean")
def bounded_sequence(case: Case) -> Iterator[Comparison]:
    x = np.array([37 * i % 101 / 100 for i in range(case["inputs"]["n"])])
    n = case["inputs"]["n"]
    ours, defined = sequence(x, x.var(), 100), by_formula(x.mean(), float(x.var()), n, 100)
    gaps = {
        "conjmix_hoeffding": 0.208,
        "predmix_hoeffding": 0.252,
        "predmix_empbern": 0.0714,
        "conjmix_empbern": 0.152,
        "betting": 0.0247,
    }
    for name, gap in gaps.items():
        theirs = [case["expected"][name][end][-1] for end in ("lower", "upper")]
        yield Differs(f"interval at 200, {name}", theirs, ours, defined, gap, ONE_FAMILY)


@CASES.compares("asymptotic_cs_mean")
def asymptotic_sequence(case: Case) -> Iterator[Comparison]:
    x = np.array([37 * i % 101 / 10 for i in range(case["inputs"]["n"])])
    for t, low, high, mean in zip(
        (50, 100, 300), *(case["expected"][k] for k in ("lower", "upper", "estimate")), strict=True
    ):
        seen = x[:t]
        yield Same(f"mean at {t}", mean, seen.mean())
        why = "B1: rho in closed form, theirs by a numerical search (60.9 for 63.0 at 500)"
        ours, defined = sequence(seen, seen.var(), 100), by_formula(seen.mean(), float(seen.var()), t, 100)
        yield Differs(f"interval at {t}", [low, high], ours, defined, {50: 0.00424, 100: 0.00249, 300: 0.00138}[t], why)


@CASES.compares("group_sequential_crossing_probabilities")
def crossings(case: Case) -> Iterator[Comparison]:
    i, expected = case["inputs"], case["expected"]
    got = crossing(i["t"], i["bounds"], drifts=(0.0, 3.0))
    yield Same("under no effect, later looks", expected["H0"][1:], got.above()[1:], rtol=1e-4)
    why = "the first look is a plain normal tail, which ours is to 13 digits; their grid is coarser"
    yield Differs("first look", expected["H0"][0], got.above()[0], sps.norm.sf(i["bounds"][0]), 7.14e-5, why)
    yield Same("with drift 3", expected["drift3"], got.above(3.0), rtol=2e-6)


KINDS = {
    "asOF": ("obrien_fleming", None),
    "asP": ("pocock", None),
    "asHSD": ("hwang_shih_de_cani", -4.0),
    "asKD": ("power", 2.0),
}
QUARTERS, UNEQUAL = (0.25, 0.5, 0.75, 1.0), (0.1, 0.35, 0.6, 1.0)
ONE_SIDED = SpendingDesign(alpha=0.025, sides=1)
CLASSICAL = "B2: bounds by spending, which any looks can follow; classical bounds need the looks in advance"


@CASES.compares("rpact_bounds", "rpact_alpha_spent")
def bounds(case: Case) -> Iterator[Comparison]:
    expected, which = case["expected"], "upper" if case["name"] == "rpact_bounds" else "alpha_spent"
    for kind, (spending, parameter) in KINDS.items():
        for sides in (1, 2):
            design = SpendingDesign(alpha=0.025 * sides, spending=spending, parameter=parameter, sides=sides)
            got = getattr(boundaries(design, QUARTERS), which)
            yield Same(f"{kind}, {sides}-sided", expected[f"{kind}_k4_sided{sides}"], got, rtol=1e-5)
    for kind, name in (("OF", "obrien_fleming"), ("P", "pocock")):
        for sides in (1, 2):
            theirs = expected[f"{kind}_k4_sided{sides}"]
            if which == "alpha_spent":
                upper = golden("libraries", "rpact_bounds")["expected"][f"{kind}_k4_sided1"]
                ours = sides * crossing(QUARTERS, upper).above().cumsum()
                yield Same(f"{kind}, {sides}-sided: what their bounds spend", theirs, ours, rtol=1e-5)
                continue
            design = SpendingDesign(alpha=0.025 * sides, spending=name, sides=sides)
            ours = boundaries(design, QUARTERS).upper
            defined = expected[f"as{kind}_k4_sided1"]
            gap = {"OF": 0.0702, "P": 0.00479}[kind]
            yield Differs(f"{kind} classical, {sides}-sided", theirs, ours, defined, gap, CLASSICAL, 1e-5)
    if which == "upper":
        for name, design in (("asKD2", SpendingDesign(spending="power", parameter=2.0)), ("asOF", SpendingDesign())):
            yield Same(
                f"{name} at unequal looks",
                expected[f"{name}_unequal_sided2"],
                boundaries(design, UNEQUAL).upper,
                rtol=1e-5,
            )


@CASES.compares("rpact_design")
def costs(case: Case) -> Iterator[Comparison]:
    factor, shift, under_h1 = case["expected"]["asOF_k4_inflation_shift_avgH1"]
    drift = detectable_drift(ONE_SIDED)
    yield Same("inflation", factor, inflation(ONE_SIDED))
    yield Same("squared drift", shift, drift**2)
    yield Same(
        "expected information under the alternative", under_h1, expected_information(ONE_SIDED, drift), rtol=1e-6
    )
    units = 4 * drift**2 / 0.2**2
    why = "A14: normal quantiles, theirs t: 2 units in 802"
    yield Differs(
        "units for d = 0.2", case["expected"]["sample_size_means_d02_max_n"][0], units, 100 * shift, 0.00245, why
    )


@CASES.compares("rpact_analysis")
def analysed(case: Case) -> Iterator[Comparison]:
    i, expected = {k: np.array(v) for k, v in case["inputs"].items()}, case["expected"]
    mean, square, total = [], np.zeros(3), []
    for arm in ("1", "2"):
        n = i["n" + arm].cumsum()
        mean.append((i["n" + arm] * i["means" + arm]).cumsum() / n)
        stages = (i["n" + arm] - 1) * i["sd" + arm] ** 2 + i["n" + arm] * i["means" + arm] ** 2
        square = square + stages.cumsum() - n * mean[-1] ** 2
        total.append(n)
    df = total[0] + total[1] - 2.0
    value, error = mean[0] - mean[1], np.sqrt(square / df * (1 / total[0] + 1 / total[1]))
    looks = (1 / 3, 2 / 3, 1.0)
    ends = np.column_stack(repeated_interval(value, error, boundaries(ONE_SIDED, looks).upper, df)).ravel()
    # Their root finder stops at 3e-7 of the value, which is 2e-4 of the bound nearest to zero.
    yield Same("repeated intervals", expected["repeated_ci"], ends, rtol=2e-4)
    z = -sc.ndtri(sc.stdtr(df, -value / error))
    got = [repeated_p_value(ONE_SIDED, looks[: k + 1], float(z[k])) for k in range(3)]
    yield Same("repeated p, first two looks", expected["repeated_p"][:2], got[:2], rtol=2e-5)
    yield Same("repeated p, last look", expected["repeated_p"][2], got[2], rtol=5e-3)
    stopped = stagewise(ONE_SIDED, looks[:2], float(z[1]), float(error[1]))
    found = [stopped.estimate, stopped.ci_lower, stopped.ci_upper]
    yield Same(
        "estimate and interval after stopping at the second look", expected["final_ci_stagewise"], found, rtol=1e-7
    )
