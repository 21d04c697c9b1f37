"""I1: simulation-based calibration. A truth drawn from the prior ranks uniformly among draws of its posterior.

Parameters are drawn from the prior, data made from them as rows, the rows reduced to what the model takes, and the
rank of the truth in its posterior noted (Talts et al. 2018, Modrak et al. 2023). Ranks must be uniform: by chi-square
in 20 bins, by the share of truths in central intervals, and within the envelope that their whole empirical
distribution function leaves with 95 % (Saeilynoja, Buerkner & Vehtari 2022), which the picture shows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.special as sc

from stats.bayes.mixture import Mixture
from stats.bayes.models import (
    beta_binomial,
    exchangeable,
    gamma_poisson,
    hurdle_lognormal,
    negative_binomial,
    population,
    student_t,
)
from stats.bayes.normal import posterior, prior_mixture
from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.compiled import compile_program
from stats.moments import Floats
from tests.bayes import calibration
from tests.bayes.stories import beta_binomial as conversions
from tests.bayes.stories import exchangeable as families
from tests.bayes.stories import gamma_poisson as counts
from tests.bayes.stories import hurdle_lognormal as revenue
from tests.bayes.stories import negative_binomial as spread_counts
from tests.bayes.stories import population as populations
from tests.bayes.stories import student_t as latencies
from tests.validation.cells import Cell, scaled

SEED = 20281
BINS = 20
LEVEL = 0.9
SAMPLED = "I1 ranks of sampled models"
CLOSED = "I1 ranks of closed forms"
SMALLEST_P = 0.001
MODELS = {
    "beta_binomial": (conversions.simulate, beta_binomial.DEFINITION, 1000),
    "gamma_poisson": (counts.simulate, gamma_poisson.DEFINITION, 1000),
    "negative_binomial": (spread_counts.simulate, negative_binomial.DEFINITION, 300),
    "hurdle_lognormal": (revenue.simulate, hurdle_lognormal.DEFINITION, 1000),
    "student_t": (latencies.simulate, student_t.DEFINITION, 300),
    "exchangeable": (families.simulate, exchangeable.DEFINITION, 1000),
    "population": (populations.simulate, population.DEFINITION, 300),
}
PRIORS = {
    "normal": Prior.default(),
    "student_t4": Prior.default(Family.STUDENT_T4),
    "learned": Prior(Family.LEARNED, 0.001, 0.0178, "learned", ((0.7, 0.001, 0.008), (0.3, 0.001, 0.03))),
}


def sampled(part: float = 1.0, models: tuple[str, ...] = tuple(MODELS)) -> list[Cell]:
    """Every model of the library, fitted by NUTS with two chains of 300 warm-up and 500 kept draws, every second used.

    A share of fits with divergences up to 1 % is tolerated here: in the service such a fit is repeated with smaller
    steps, and shows no numbers if that fails as well.
    """
    cells = []
    for number, name in enumerate(models):
        simulate, definition, fits = MODELS[name]
        program = compile_program(definition, definition.sizes[0] if definition.sizes == (1,) else 3)
        found = calibration.calibrate(simulate, program, scaled(fits, part, 40), seed=SEED + number)
        cells += _cells(SAMPLED, {"model": name}, found.ranks)
        reps = len(next(iter(found.ranks.values())))
        cells.append(
            Cell(SAMPLED, {"model": name}, "fits with divergences", found.divergent / reps, 0.01, reps, "at_most")
        )
    return [*cells, _small_p_values(SAMPLED, cells)]


def closed_forms(part: float = 1.0) -> list[Cell]:
    """The posterior of a log lift under every family of priors, with standard errors of a tenth to ten prior scales."""
    reps = scaled(20_000, part, 2_000)
    cells: list[Cell] = []
    for number, (name, prior) in enumerate(PRIORS.items()):
        rng = np.random.default_rng([SEED, 100 + number])
        effects = drawn(prior_mixture(prior), reps, rng)
        errors = prior.scale * np.exp(rng.uniform(np.log(0.1), np.log(10.0), reps))
        belief = posterior(effects + errors * rng.standard_normal(reps), errors, prior, level=LEVEL)
        ranks = belief.mixture.cdf(effects[:, None])[:, 0]
        cells += _cells(CLOSED, {"model": f"{name} prior"}, {"log_lift": ranks})
        inside = (belief.hdi_lower < np.expm1(effects)) & (np.expm1(effects) < belief.hdi_upper)
        cells.append(Cell(CLOSED, {"model": f"{name} prior"}, "in the 90 % HDI", float(inside.mean()), LEVEL, reps))
        claimed = belief.chance_to_win
        slope = float(np.polyfit(claimed, effects > 0, 1, w=np.ones(reps))[0])
        cells.append(
            Cell(
                CLOSED, {"model": f"{name} prior"}, "slope of P(better)", slope, 1.0, reps, within=_slope_error(claimed)
            )
        )
    return [*cells, _small_p_values(CLOSED, cells)]


def drawn(mixture: Mixture, count: int, rng: np.random.Generator) -> Floats:
    """Values (count,) from a mixture of normals."""
    which = rng.choice(mixture.weight.size, size=count, p=mixture.weight)
    return np.asarray(mixture.mean[which] + mixture.sd[which] * rng.standard_normal(count))


def _slope_error(claimed: Floats) -> float:
    """METHODS asks for a slope of 0.95 to 1.05; fewer replications leave four standard errors instead."""
    centred = claimed - claimed.mean()
    variance = (centred**2 * claimed * (1 - claimed)).sum() / (centred**2).sum() ** 2
    return max(0.05, 4 * float(np.sqrt(variance)))


def _cells(table: str, case: dict[str, str], ranks: Mapping[str, Floats]) -> list[Cell]:
    found = []
    for quantity, values in ranks.items():
        reps, named = len(values), case | {"quantity": quantity}
        counted = np.histogram(values, BINS, (0, 1))[0]
        p_value = float(sc.chdtrc(BINS - 1, ((counted - reps / BINS) ** 2 / (reps / BINS)).sum()))
        below = np.cumsum(counted)[:-1] / reps
        course = {f"ecdf {i / BINS:g}": float(share) for i, share in enumerate(below, start=1)}
        found.append(
            Cell(table, named, "p of uniform ranks", p_value, SMALLEST_P, reps, "at_least", within=0.0, extra=course)
        )
        inside = float((np.abs(values - 0.5) < LEVEL / 2).mean())
        # Few replications of the short version leave no room for a slack of their own.
        found.append(Cell(table, named, "in the central 90 %", inside, LEVEL, reps))
    return found


def _small_p_values(table: str, cells: list[Cell]) -> Cell:
    p_values = [cell.observed for cell in cells if cell.quantity == "p of uniform ranks"]
    small = float(np.mean([p < 0.05 for p in p_values]))
    return Cell(table, {"model": "all"}, "share of p below 0.05", small, 0.05, len(p_values), "at_most")


def envelope(reps: int, level: float = 0.95, simulations: int = 4000) -> float:
    """Half-width, in standard errors at each point, that uniform ranks' whole ECDF stays within with this probability.

    By simulation, at the edges of the bins; the pointwise standard error is sqrt(x (1 - x) / reps).
    """
    rng = np.random.default_rng([SEED, reps])
    shares = np.cumsum(rng.multinomial(reps, np.full(BINS, 1 / BINS), simulations), axis=1)[:, :-1] / reps
    at = np.arange(1, BINS) / BINS
    furthest = np.abs((shares - at) / np.sqrt(at * (1 - at) / reps)).max(axis=1)
    return float(np.quantile(furthest, level))
