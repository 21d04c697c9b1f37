"""Moments for tests: from rows per arm, or from the summaries that oracle cases carry."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stats.moments import Moments


def arms(*columns_per_arm: Sequence[ArrayLike]) -> Moments:
    """Each argument is one arm (control first): a list of equally long columns."""
    blocks = [np.column_stack([np.asarray(c, dtype=float) for c in columns]) for columns in columns_per_arm]
    cell = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    return Moments.from_rows(np.vstack(blocks), cell, len(blocks))


def from_summary(*per_arm: dict[str, Any]) -> Moments:
    """gbstats inputs {type, n, sum, sum_squares}. Its proportions use p(1-p), without n/(n-1): so do these moments."""
    count = np.array([arm["n"] for arm in per_arm])
    mean = np.array([arm["sum"] / arm["n"] for arm in per_arm])
    squares = [
        mean[i] * (1 - mean[i]) * (arm["n"] - 1)
        if arm["type"] == "proportion"
        else arm["sum_squares"] - arm["sum"] ** 2 / arm["n"]
        for i, arm in enumerate(per_arm)
    ]
    return Moments(count, mean[:, None], np.array(squares)[:, None, None], np.zeros((len(per_arm), 1)))


def from_joint_summary(names: Sequence[str], *per_arm: dict[str, Any]) -> Moments:
    """Sums, squares and products of several columns named as in gbstats ('m_post', 'd_post', ...)."""
    blocks = []
    for arm in per_arm:
        n, k = arm["n"], len(names)
        sums = np.array([arm[name]["sum"] for name in names])
        products = np.empty((k, k))
        for i, a in enumerate(names):
            for j, b in enumerate(names):
                if i == j:
                    products[i, i] = arm[a].get("sum_squares", arm[a]["sum"])
                else:
                    products[i, j] = next(
                        arm[key]
                        for key in (f"{a}_{b}", f"{b}_{a}", f"{a}_{b}_sum_of_products", f"{b}_{a}_sum_of_products")
                        if key in arm
                    )
        blocks.append((n, sums, products))
    count = np.array([b[0] for b in blocks])
    sums, products = np.array([b[1] for b in blocks]), np.array([b[2] for b in blocks])
    return Moments.from_shifted_sums(count, np.zeros(len(names)), sums, products, np.zeros_like(sums))


def within(observed: float, nominal: float, replications: int, tolerance: float = 0.005) -> bool:
    """The Monte Carlo rule of METHODS I1."""
    return abs(observed - nominal) <= 3 * np.sqrt(nominal * (1 - nominal) / replications) + tolerance
