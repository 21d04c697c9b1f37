"""Segment effects for the hierarchical model (METHODS A15, C4): what the model needs, and its answer as a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from experiments.result import SegmentModel

type Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRequest:
    """Log lifts of one metric and variant over the levels of one dimension; all arrays are (levels,).

    Only levels whose log lift is estimable are listed. `overall` is the log lift over everybody, for the probability
    that a segment's sign differs from it. `prior_scale` is the plan's sd of log lifts (METHODS C3).
    """

    metric_key: str
    variant_key: str
    dimension: str
    levels: tuple[str, ...]
    log_lifts: Floats
    standard_errors: Floats
    units: NDArray[np.int64]
    overall: float
    ci_level: float
    prior_scale: float

    def without_numbers(self, status: Literal["unreliable", "not_estimable"], reason: str) -> SegmentModel:
        """The document of a model that could not be fitted or must not be trusted."""
        return SegmentModel(
            metric_key=self.metric_key,
            variant_key=self.variant_key,
            dimension=self.dimension,
            status=status,
            reason=reason,
            effects=[],
            mean_lift=None,
            tau=None,
            r_hat=None,
            ess_bulk=None,
            ess_tail=None,
            divergences=None,
        )
