"""What randomising clusters (accounts, stores) instead of units costs (Donner & Klar 2000; METHODS A5, A14).

Units of a cluster resemble each other, so a cluster of m brings less than m units' information, and clusters of
unequal size less still. With few clusters a t with G - 2 degrees of freedom takes the place of the normal distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.moments import Floats

FEWEST_CLUSTERS = 4


@dataclass(frozen=True, slots=True)
class ClusterDesign:
    """Mean `size` of the clusters, coefficient of variation `size_cv` of their sizes, and intraclass correlation.

    `measured_effect` is the design effect where it is known from data; then `size_cv` and `icc` are not used.
    """

    size: float
    size_cv: float = 0.0
    icc: float = 0.0
    measured_effect: float | None = None

    def __post_init__(self) -> None:
        if not (self.size >= 1 and self.size_cv >= 0 and 0 <= self.icc <= 1):
            raise ValueError("clusters have at least one unit, a cv that is not negative and an ICC between 0 and 1")
        if self.measured_effect is not None and not self.measured_effect > 0:
            raise ValueError("a design effect is positive")

    @property
    def effect(self) -> float:
        """Variance of the difference over that of as many units randomised one by one: 1 + ((cv^2 + 1) m - 1) ICC."""
        if self.measured_effect is not None:
            return self.measured_effect
        return 1 + ((self.size_cv**2 + 1) * self.size - 1) * self.icc


def signal_with_clusters(critical: float, power: float, clusters: ArrayLike) -> Floats:
    """Standard errors that a true effect must measure when so many `clusters` (all arms) are compared.

    `critical` is that of a test with normal statistics, of which the tail probability is kept.
    """
    df = np.maximum(np.asarray(clusters, dtype=np.float64) - 2, 1.0)
    return np.asarray(-sc.stdtrit(df, sc.ndtr(-critical)) + sc.stdtrit(df, power), dtype=np.float64)


def clusters_needed(clusters: float, critical: float, power: float) -> int:
    """Clusters where the normal distribution asks for `clusters`: the smallest number whose t quantiles suffice."""
    normal = critical + float(sc.ndtri(power))
    needed = max(int(np.ceil(clusters * (1 - 1e-12))), FEWEST_CLUSTERS)
    while needed < clusters * (float(signal_with_clusters(critical, power, needed)) / normal) ** 2 * (1 - 1e-12):
        needed += 1
    return needed
