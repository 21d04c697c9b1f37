"""Sequences, sample ratios, corrections and power of gbstats 0.8.0 and GrowthBook's calculators."""

from collections.abc import Iterator

import numpy as np
import scipy.optimize as so
import scipy.special as sc

from stats.always_valid import multiplier, one_sided, two_sided
from stats.estimate import estimate
from stats.lift import lift
from stats.multiplicity import adjusted, simultaneous_level
from stats.power import Design, achieved_power, minimum_detectable_effect
from stats.sample_ratio import chi_square
from tests.golden.comparing import Case, Comparison, Differs, Same, normal_quantile
from tests.golden.gbstats_source import (
    CASES,
    MEAN,
    arms_of,
    compared,
    moments_of,
)


@CASES.compares(
    "seq_mean_relative_nstar_1000",
    "seq_mean_relative_nstar_5000",
    "seq_mean_relative_nstar_100000",
    "seq_mean_absolute",
    "seq_proportion_relative_alpha_10",
    "seq_one_sided_greater",
)
def sequences(case: Case) -> Iterator[Comparison]:
    config, expected = case["inputs"]["config"], case["expected"]
    absolute, relative = compared(case)
    found = relative if config["difference_type"] == "relative" else absolute
    value, error = found.value[0, 0], found.standard_error[0, 0]
    units = sum(arm["n"] for arm in arms_of(case))
    tuned, alpha = config["sequential_tuning_parameter"], config["alpha"]
    yield Same("estimate and standard error", [expected["effect"], expected["se"]], [value, error])
    if case["name"] == "seq_one_sided_greater":
        got = one_sided(value, error**2, units, tuned, alpha)
        yield Same("bound", expected["ci"][0], got.ci_lower)
        yield Same("p (theirs is a bisection)", expected["p_value"], got.p_value, rtol=1e-3)
        return
    got = two_sided(value, error**2, units, tuned, alpha)
    yield Same("interval", expected["ci"], [got.ci_lower, got.ci_upper])
    yield Same("p", expected["p_value"], got.p_value)
    if tuned == 5000 and config["difference_type"] == "relative":
        planned = two_sided(value, error**2, units, units, alpha)
        r = -2 * np.log(alpha) + np.log1p(-2 * np.log(alpha))
        half = error * np.sqrt((r + 1) / r * (np.log1p(r) - 2 * np.log(alpha)))
        why = "B1: tuned at the units of the plan (here those there are), not at 5,000 for everybody"
        ours = [planned.ci_lower, planned.ci_upper]
        yield Differs("interval as planned", expected["ci"], ours, [value - half, value + half], 0.0009, why)


@CASES.compares("srm_balanced", "srm_mismatch", "srm_three_arm_uneven")
def sample_ratio(case: Case) -> Iterator[Comparison]:
    got = chi_square(case["inputs"]["users"], case["inputs"]["weights"])
    yield Same("p", case["expected"]["p_value"], got.p_value)


@CASES.compares("midpower_frequentist", "midpower_frequentist_corrected_3goals", "midpower_already_powered")
def power_now(case: Case) -> Iterator[Comparison]:
    i, expected = case["inputs"], case["expected"]
    found = estimate(moments_of(arms_of(case)), (MEAN,))
    error = lift(found).standard_error[0, 0]
    tests = i["num_goal_metrics"] * (i["num_variations"] - 1) if i["p_value_corrected"] else 1
    design = Design(alpha=i["alpha"], comparisons=tests)
    yield Same("power for the target", expected["power_now"], achieved_power(design, i["target_mde"], error))
    if expected["scaling_factor"]:
        later = achieved_power(design, i["target_mde"], error / np.sqrt(1 + expected["scaling_factor"]))
        target = i["target_power"] ** (1 / i["num_goal_metrics"])
        yield Same("power with the units they ask for (theirs is a bisection)", target, later, rtol=1e-3)


@CASES.compares("pcorr_holm_basic")
def holm(case: Case) -> Iterator[Comparison]:
    yield Same("adjusted p", case["expected"]["adjusted"], adjusted(case["inputs"]["p_values"], "holm"))


@CASES.compares("pcorr_adjusted_ci_widened")
def corrected_interval(case: Case) -> Iterator[Comparison]:
    i = case["inputs"]
    error = (i["ci"][1] - i["ci"][0]) / 2 / normal_quantile()
    level = float(simultaneous_level(2))
    half = sc.ndtri(0.5 + level / 2) * error
    by_hand = 2.241402727604947 * error
    why = "A11: intervals at the level of the family (here two tests); theirs makes up an error from the corrected p"
    ours = [i["lift"] - half, i["lift"] + half]
    yield Differs("interval", case["expected"]["ci"], ours, [i["lift"] - by_hand, i["lift"] + by_hand], 0.00648, why)


def relative_error(case: Case, effect: float) -> float:
    metric = case["inputs"]["metric"]
    return float(metric["sd"] / metric["mean"] * np.sqrt((1 + (1 + effect) ** 2) / (case["inputs"]["n_total"] / 2)))


@CASES.compares("power_freq_mean_2arm")
def planned_power(case: Case) -> Iterator[Comparison]:
    i, expected = case["inputs"], case["expected"]
    target, detectable = i["effect_size"], expected["mde_80"]["mde"]
    found = achieved_power(Design(), target, relative_error(case, target))
    yield Same("power", expected["power"], found)
    at_theirs = achieved_power(Design(), detectable, relative_error(case, detectable))
    yield Same("power at their detectable lift (they leave the far tail out)", 0.8, at_theirs, rtol=2e-6)
    got = float(minimum_detectable_effect(Design(), i["metric"]["sd"], i["n_total"])) / i["metric"]["mean"]
    by_hand = (normal_quantile() + sc.ndtri(0.8)) * i["metric"]["sd"] * np.sqrt(4 / i["n_total"]) / i["metric"]["mean"]
    why = "A14: sizes are planned on the difference; on the relative scale the error grows with the lift"
    yield Differs("detectable lift", detectable, got, by_hand, 0.051, why, 1e-4)


@CASES.compares("power_freq_mean_2arm_sequential")
def planned_sequential_power(case: Case) -> Iterator[Comparison]:
    i, expected = case["inputs"], case["expected"]
    critical = float(multiplier(i["n_total"], i["sequential_tuning_parameter"], i["alpha"]))
    error = relative_error(case, i["effect_size"])
    z = i["effect_size"] / error
    by_hand = sc.ndtr(z - critical) + sc.ndtr(-z - critical)
    why = "ours is the power of the interval at its end (a simulation confirms it); theirs promises what it cannot keep"
    found = achieved_power(Design(), i["effect_size"], error, critical)
    yield Differs("power", expected["power"], found, by_hand, 0.71, why)

    def missing(effect: float) -> float:
        return float(achieved_power(Design(), effect, relative_error(case, effect), critical)) - 0.8

    lift = so.brentq(missing, 0.05, 0.5)
    # By hand, leaving the far tail out: lift^2 = needed^2 sd^2 / mean^2 (1 + (1 + lift)^2) / n, a quadratic.
    unit = (critical + sc.ndtri(0.8)) ** 2 * 2.5**2 / (i["n_total"] / 2)
    by_hand = np.roots([1 - unit, -2 * unit, -2 * unit]).max()
    yield Differs("detectable lift", expected["mde_80"]["mde"], lift, by_hand, 0.121, why, 1e-6)
