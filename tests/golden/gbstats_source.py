"""gbstats 0.8.0 and GrowthBook's calculators, case by case: what is the same, and what we define differently."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stats.difference import Differences, difference
from stats.estimate import MetricShape, estimate
from stats.lift import Lifts, lift
from stats.moments import Moments
from tests.golden.comparing import Case, Cases
from tests.stats.moment_cases import from_joint_summary, from_summary

BAYES = "Bayesian engine (C1); its own tests compare it"
CASES = Cases(
    "gbstats",
    {
        "bayes_mean_prior_0_0.3_relative": BAYES,
        "bayes_mean_flat_absolute": BAYES,
        "bayes_ratio_prior_relative": BAYES,
        "bayes_ratio_cuped_flat_relative": BAYES,
        "bayes_quantile_unit_prior": BAYES,
        "bayes_zero_variance_error": BAYES,
        "e2e_process_experiment_results_bayesian_cuped": BAYES,
        "power_bayes_mean_2arm": "power of a Bayesian rule; plans are made for the frequentist decision (A14)",
        "impact_james_stein_partial": "totals over a programme of experiments (F1), not one experiment",
    },
)
MEAN = MetricShape("m", "mean", 0)
RATIO = MetricShape("r", "ratio", 0, 1)
SHAPES = {
    "mean": MEAN,
    "proportion": MEAN,
    "ratio": RATIO,
    "cuped": MetricShape("m", "mean", 0, covariates=(1,)),
    "ratio_cuped": MetricShape("r", "ratio", 0, 1, covariates=(2, 3)),
}
COLUMNS = {
    "ratio": ("numerator", "denominator"),
    "cuped": ("post", "pre"),
    "ratio_cuped": ("m_post", "d_post", "m_pre", "d_pre"),
}
LINEAR = "A3: log-delta interval (Fieller below 10 standard errors from zero), theirs is linear in the control's error"
P_VALUE = "the p-value is that of the difference (A1), theirs that of the lift; both ask whether it is zero"
SLOPE = "A7: the slope minimises the variance of the difference over all arms; theirs regresses both arms as one sample"

Matrix = NDArray[np.float64]


def arms_of(case: Case) -> list[dict[str, Any]]:
    return [case["inputs"][arm] for arm in ("control", "treatment")]


def moments_of(arms: list[dict[str, Any]]) -> Moments:
    kind = arms[0]["type"]
    return from_joint_summary(COLUMNS[kind], *arms) if kind in COLUMNS else from_summary(*arms)


def compared(case: Case, adjust: bool = True) -> tuple[Differences, Lifts]:
    arms = arms_of(case)
    found = estimate(moments_of(arms), (SHAPES[arms[0]["type"]],), adjust)
    level = 1 - case["inputs"]["config"]["alpha"]
    return difference(found, level), lift(found, level)


def ends(found: Differences | Lifts) -> list[float]:
    return [float(found.ci_lower[0, 0]), float(found.ci_upper[0, 0])]
