"""Where chains start."""

from __future__ import annotations

import numpy as np

from stats.bayes.sampling.contract import Array


class Starts:
    """PyMC's rule, a support point of the prior and a uniform jitter of ±1, without PyMC.

    Compiled and frozen programs both start here, so the same seed gives both the same draws.
    """

    def __init__(self, centre: Array, held: object = None) -> None:
        self.centre = centre
        self._held = held

    def holding(self, held: object) -> Starts:
        """The same starts, keeping something alive for as long as a sampler keeps them."""
        return Starts(self.centre, held)

    def __call__(self, seed: int | None = None) -> Array:
        """A point (parameters,) on the unconstrained scale; nutpie passes a seed per chain and attempt."""
        return self.centre + np.random.default_rng(seed).uniform(-1.0, 1.0, self.centre.shape)
