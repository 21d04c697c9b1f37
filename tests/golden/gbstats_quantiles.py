"""Quantiles of gbstats 0.8.0: of units, and of events in clusters."""

from collections.abc import Iterator

import numpy as np

from stats.difference import welch
from stats.estimate import estimate
from stats.lift import Lifts, lift_from
from stats.moments import Moments
from stats.quantile import QuantileSummary, quantile_estimates
from stats.reasons import Reason
from tests.golden.comparing import Behaves, Case, Comparison, Differs, Same, log_delta
from tests.golden.gbstats_source import (
    CASES,
    LINEAR,
    RATIO,
    Matrix,
    arms_of,
)


def quantiles(case: Case) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Quantiles, our variances from their bounds, our variances at their reduced sample, and units, per arm."""
    cells = arms_of(case)
    value, count = (np.array([cell[key] for cell in cells]) for key in ("quantile_hat", "n"))
    ours, theirs = [], []
    for cell in cells:
        found = QuantileSummary(
            cell["nu"], 0.95, *(np.array([cell["n"]]),) * 2,
            *(np.array([cell[f"quantile_{key}"]]) for key in ("hat", "lower", "upper")),
            np.array([np.sqrt(cell["nu"] * (1 - cell["nu"]) / cell["n_star"])]), np.array([False]),
        )  # fmt: skip
        _, variance, reason = quantile_estimates(found)
        assert reason[0] == "", reason
        ours.append(variance[0])
        theirs.append(variance[0] * cell["n_star"] / cell["n"] * (cell["n"] - 1) / cell["n"])
    return value, np.array(ours), np.array(theirs), count


BOUNDS = (
    "A6: order statistics at the ranks of the arm's own sample size; theirs at ranks of a reduced sample n*, scaled"
    " back by n*/n and by (n - 1)/n. Given their bounds ours is the unscaled one"
)


@CASES.compares("t_quantile_unit_p90_absolute", "t_quantile_p50_small_n_floor")
def quantile_differences(case: Case) -> Iterator[Comparison]:
    value, ours, theirs, n = quantiles(case)
    for arm, name in enumerate(("control", "treatment")):
        yield Same(f"variance of {name} at n*", case["intermediate"][name]["unit_variance"], theirs[arm] * n[arm])
    free = np.array("", dtype=object)
    at_theirs = welch(value[1] - value[0], theirs[1], theirs[0], n[1], n[0], free)
    yield Same("degrees of freedom at n*", case["intermediate"]["welch_dof"], at_theirs.df)
    if case["inputs"]["config"]["difference_type"] == "absolute":
        yield Same("difference", case["expected"]["effect"], at_theirs.value)
        yield Same("standard error at n*", case["expected"]["se"], at_theirs.standard_error)
        yield Same("p at n*", case["expected"]["p_value"], at_theirs.p_value)
        yield Same("95 % interval at n*", case["expected"]["ci"], [at_theirs.ci_lower, at_theirs.ci_upper])
        unscaled = np.sqrt(
            sum(((c["quantile_upper"] - c["quantile_lower"]) / 2 / 1.959963984540054) ** 2 for c in arms_of(case))
        )
        yield Differs("standard error", case["expected"]["se"], np.sqrt(ours.sum()), unscaled, 0.0371, BOUNDS)
        return
    got = lift_of(value, theirs)
    yield Same("lift", case["expected"]["effect"], got.value)
    yield Same("standard error of the lift at n*", case["expected"]["se"], got.standard_error)
    by_hand = log_delta(value[1], value[0], theirs[1], theirs[0])
    yield Differs(
        "interval of the lift",
        case["expected"]["ci"],
        [float(got.ci_lower[0]), float(got.ci_upper[0])],
        by_hand,
        0.0481,
        LINEAR,
    )


def lift_of(value: Matrix, variance: Matrix) -> Lifts:
    parts = (np.array([part]) for part in (value[0], value[1] - value[0], variance[0], variance.sum(), -variance[0]))
    return lift_from(*parts, np.array([""], dtype=object), 0.95)


@CASES.compares("t_quantile_event_clustered_p90_relative")
def clustered_quantiles(case: Case) -> Iterator[Comparison]:
    value, _, theirs, _ = quantiles(case)
    by_cluster = []
    for arm, cell in zip(("control", "treatment"), arms_of(case), strict=True):
        sums = np.array([[cell["main_sum"], cell["denominator_sum"]]])
        product = cell["main_denominator_sum_product"]
        squares = np.array([[[cell["main_sum_squares"], product], [product, cell["denominator_sum_squares"]]]])
        k = np.array([cell["n_clusters"]])
        shares = Moments.from_shifted_sums(k, np.zeros(2), sums, squares, np.zeros((1, 2)))
        clustered = estimate(shares, (RATIO,)).variance[0, 0]
        independent = cell["nu"] * (1 - cell["nu"]) / cell["n"]
        by_cluster.append(theirs[len(by_cluster)] * clustered / independent)
        yield Same(
            f"variance of {arm}: the share below the quantile as a ratio over users (A4)",
            case["intermediate"][arm]["unit_variance"],
            by_cluster[-1] * cell["n"],
        )
    got = lift_of(value, np.array(by_cluster))
    yield Same("lift", case["expected"]["effect"], got.value)
    yield Same("standard error of the lift", case["expected"]["se"], got.standard_error)
    by_hand = log_delta(value[1], value[0], by_cluster[1], by_cluster[0])
    yield Differs(
        "interval of the lift",
        case["expected"]["ci"],
        [float(got.ci_lower[0]), float(got.ci_upper[0])],
        by_hand,
        0.0147,
        LINEAR,
    )


@CASES.compares("t_quantile_n_too_small_error")
def thin_quantile(case: Case) -> Iterator[Comparison]:
    for cell in arms_of(case):
        sd = np.sqrt(cell["nu"] * (1 - cell["nu"]) / cell["n"])
        found = QuantileSummary(
            cell["nu"], 0.95, *(np.array([cell["n"]]),) * 2,
            *(np.array([cell[f"quantile_{key}"]]) for key in ("hat", "lower", "upper")),
            np.array([sd]), np.array([False]),
        )  # fmt: skip
        reason = str(quantile_estimates(found)[2][0])
        why = "both refuse; ours says which half of the sample is missing instead of an effect of 0 with p = 1"
        yield Behaves("outcome", case["expected"]["error"], reason, Reason.TAIL_TOO_THIN, why)
