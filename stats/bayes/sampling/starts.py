"""Where chains start."""

from __future__ import annotations

import numpy as np

from stats.bayes.sampling.contract import Array


class Starts:
    """PyMC's rule, a support point of the prior and a uniform jitter of ±1, without PyMC.

    Compiled and frozen programs both start here, so the same seed gives both the same draws.
    """

    def __init__(self, centre: Array) -> None:
        self.centre = centre

    def __call__(self, seed: int | None = None) -> Array:
        """A point (parameters,) on the unconstrained scale; nutpie passes a seed per chain and attempt."""
        return self.centre + np.random.default_rng(seed).uniform(-1.0, 1.0, self.centre.shape)
