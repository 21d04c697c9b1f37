"""Simulation-based calibration: truths drawn from the prior rank uniformly among draws of their posteriors.

Talts, Betancourt, Simpson, Vehtari & Gelman 2018 "Validating Bayesian inference algorithms with simulation-based
calibration" (METHODS I1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.bayes.models.fit import Question
from stats.bayes.sampling.contract import Program, Sampling

QUICK = Sampling(chains=2, tune=300, draws=500, cores=1)
type Simulate = Callable[[np.random.Generator], tuple[dict[str, float], Question]]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """`ranks` (fits,) of the truth in its posterior, from 0 to 1, by quantity; fits with divergences."""

    ranks: dict[str, np.ndarray]
    divergent: int

    def p_values(self, bins: int = 20) -> dict[str, float]:
        """Of the hypothesis that ranks are uniform, by chi-square in equal bins."""
        found = {}
        for name, ranks in self.ranks.items():
            counts = np.histogram(ranks, bins, (0, 1))[0]
            expected = len(ranks) / bins
            found[name] = float(sc.chdtrc(bins - 1, ((counts - expected) ** 2 / expected).sum()))
        return found

    def coverage(self, level: float = 0.9) -> dict[str, float]:
        """Share of truths within the central interval."""
        return {name: float((np.abs(ranks - 0.5) < level / 2).mean()) for name, ranks in self.ranks.items()}


def calibrate(
    simulate: Simulate, program: Program, fits: int, *, seed: int, sampling: Sampling = QUICK, thin: int = 2
) -> Calibration:
    """Simulate, fit and rank so many times; every `thin`-th draw counts, as draws resemble their neighbours."""
    divergent = 0

    def ranked() -> Iterator[dict[str, float]]:
        nonlocal divergent
        for number, child in enumerate(np.random.SeedSequence(seed).spawn(fits)):
            rng = np.random.default_rng(child)
            truth, question = simulate(rng)
            draws = program.sample(question.data(), sampling, seed=seed + number)
            divergent += draws.divergences > 0
            monitored = question.monitored(draws)
            # Where the truth falls between draws is drawn as well: ranks are uniform, not merely on a grid.
            yield {
                name: ((monitored[name][:, ::thin] < value).sum() + rng.random())
                / (monitored[name][:, ::thin].size + 1)
                for name, value in truth.items()
            }

    table = list(ranked())
    return Calibration({name: np.array([row[name] for row in table]) for name in table[0]}, divergent)
