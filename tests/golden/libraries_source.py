"""Cases computed with tea-tasting, statsmodels, scipy, spotify-confidence, confseq, rpact, R and others."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stats.estimate import MetricShape
from stats.moments import Moments
from tests.golden.comparing import Case, Cases
from tests.stats.moment_cases import arms

QUASI = "launches without randomisation (D), not experiments"
CASES = Cases(
    "libraries",
    {
        "synthetic_did_prop99": QUASI,
        "did_twfe_clustered": QUASI,
        "rdrobust_sharp": QUASI,
        "causalimpact_vignette": QUASI,
        "causalimpact_comparison_data_documented": QUASI,
        "causalimpact_vignette_tf": QUASI,
        "causalpy_did_and_sc": QUASI,
        "combine_pvalues": "p-values are not combined: evidence of several experiments is joined by e-values (B5)",
        "r_wilcox": "a rank test says nothing about a mean, which is what every metric here is",
    },
)
MEAN = MetricShape("m", "mean", 0)
SHARE = MetricShape("p", "proportion", 0)
RATIO = MetricShape("r", "ratio", 0, 1)
CUPED = MetricShape("m", "mean", 0, covariates=(1,))
FIELDS = ("count", "mean", "comoment", "third")


def columns(case: Case, *names: str) -> Moments:
    """Columns of control and treatment named like `control`, or `numer_control` for a prefix `numer`."""
    i = case["inputs"]
    return arms(*([i[f"{n}_{arm}" if n else arm] for n in names] for arm in ("control", "treatment")))


def copies(moments: Moments, times: int) -> Moments:
    """Every unit so many times: examples of a dozen units are too few for a covariate (50 in each arm) or a ratio."""
    return Moments(*(np.stack([getattr(moments, name)] * times) for name in FIELDS)).merge_axis(0)


def shares(case: Case) -> tuple[list[int], Moments]:
    """(successes and units of treatment, then control), and their moments with variances p (1 - p) / n."""
    i = case["inputs"]
    table = [i["count_treatment"], i["n_treatment"], i["count_control"], i["n_control"]]
    x, n = np.array([table[2], table[0]]), np.array([table[3], table[1]])
    p = x / n
    squares = p * (1 - p) * (n - 1)
    return table, Moments(n, p[:, None], squares[:, None, None], np.zeros((2, 1)))


def pair(found: Any) -> list[float]:
    """The interval of the first comparison."""
    return [float(np.ravel(found.ci_lower)[0]), float(np.ravel(found.ci_upper)[0])]


def first(numbers: ArrayLike) -> float:
    return float(np.ravel(np.asarray(numbers))[0])
