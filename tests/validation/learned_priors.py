"""C3: what a prior learned from forty past experiments is worth for the next one.

True effects come from populations that the model holds for possible (t4), and from others (normal, t3, most effects
nought and some large). Past experiments are analysed together, winners and losers; the next one takes what was learned.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stats.bayes.normal import posterior
from stats.bayes.population import population
from stats.bayes.prior import Prior
from stats.moments import Floats
from tests.validation.cells import Cell, scaled

SEED = 20291
PAST = 40
TABLE = "C3 the next experiment under several priors"
LEVEL = 0.95
SLACK = 0.02
SCALE = 0.012
type Population = Callable[[np.random.Generator, int], Floats]
POPULATIONS: dict[str, Population] = {
    "t4": lambda rng, n: SCALE * rng.standard_t(4, n),
    "normal": lambda rng, n: SCALE * rng.standard_normal(n),
    "t3": lambda rng, n: SCALE * rng.standard_t(3, n),
    "spike and slab": lambda rng, n: np.where(rng.random(n) < 0.8, 0.0, 0.03 * rng.standard_normal(n)),
}


def next_experiments(part: float = 1.0) -> list[Cell]:
    """Coverage of the 95 % HDI, and squared error of the posterior mean as a share of that of the raw estimate.

    Standard errors are between half the population's scale and twice it. Coverage under the learned prior must hold
    within two points whatever the population; the default and no prior are shown beside it.
    """
    reps = scaled(1_000, part, 30)
    cells = []
    for number, (name, draw) in enumerate(POPULATIONS.items()):
        rng = np.random.default_rng([SEED, number])
        held: dict[str, list[bool]] = {}
        squared: dict[str, list[float]] = {}
        for _ in range(reps):
            effects = draw(rng, PAST + 1)
            errors = SCALE * np.exp(rng.uniform(np.log(0.5), np.log(2.0), PAST + 1))
            seen = effects + errors * rng.standard_normal(PAST + 1)
            learned = population(seen[:-1], errors[:-1]).prior("the metric")
            for prior_name, prior in (("learned", learned), ("default", Prior.default()), ("none", Prior.flat())):
                belief = posterior(seen[-1:], errors[-1:], prior, level=LEVEL)
                inside = belief.hdi_lower[0] <= np.expm1(effects[-1]) <= belief.hdi_upper[0]
                held.setdefault(prior_name, []).append(bool(inside))
                squared.setdefault(prior_name, []).append(float((belief.mean[0] - effects[-1]) ** 2))
        for prior_name in held:
            case = {"population": name, "prior": prior_name}
            rule = "equal" if prior_name == "learned" else "report"
            cells.append(Cell(TABLE, case, "coverage", float(np.mean(held[prior_name])), LEVEL, reps, rule, SLACK))
            if prior_name != "none":
                saved = float(np.mean(squared[prior_name]) / np.mean(squared["none"]))
                cells.append(Cell(TABLE, case, "squared error / raw", saved, 1.0, reps, "report"))
    return cells
