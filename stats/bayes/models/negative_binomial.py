"""Counts per unit that vary more than a Poisson allows, with priors on the log lift of the mean (METHODS C2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.special as sc

from stats.bayes.models.arrowhead import Local, RoundMap, padded, round_map
from stats.bayes.models.count_densities import negative_binomial_density
from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.models.fit import ModelFit, PredictiveCheck
from stats.bayes.models.lift_prior import components
from stats.bayes.models.lifted_arms import interval, named, predictive_checks, refuse_impossible_arms, summary
from stats.bayes.models.written_density import log_density
from stats.bayes.normal import Direction
from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.contract import Array, Data, Draws

STORY: Final = (
    "Every unit of arm v has a rate of its own, gamma distributed with mean m_v and relative variance phi, and a "
    "Poisson number of events at that rate: counts are negative binomial with variance m_v + phi m_v². The log of the "
    "control's mean is normal (around the data's own with scale 1, where nothing is stated); every other mean is "
    "m_v = m_0 exp(delta_v), its log lift delta_v drawn from the metric's prior: normal, Student-t4 or the learned "
    "mixture as it is. One dispersion phi for all arms, its log normal around 0 with scale 1.5; or one per arm, their "
    "logs normal around the control's with scale 0.5. Counts below 63 enter one by one, exactly; larger ones as the "
    "gamma distribution with their number, mean and variance, which moves phi by less than 1 % and the lifts by "
    "nothing to speak of."
)
WEAK_DISPERSION: Final = (0.0, 1.5)
ARM_DISPERSION: Final = 0.5
TABLED: Final = 63
"""Counts below this are tabled one by one."""
LARGE: Final = 6
"""Values that stand for the larger counts of an arm."""
_CURVATURE_STEP: Final = 0.02
_LEAST_INFORMATION: Final = 1e-2


def _build(size: int) -> Any:
    import pymc as pm
    import pytensor.tensor as pt
    from pytensor.link.numba.dispatch.basic import numba_njit

    zeros, ones, two = np.zeros(size), np.ones(size), np.zeros((2, size))
    with pm.Model() as model:
        centre, pull, width = pm.Data("centre", two), pm.Data("pull", two), pm.Data("width", two + 1)
        own = pm.Data("own", ones)
        data = [
            pm.Data("units", ones),
            pm.Data("total", ones),
            pm.Data("above", np.zeros((size, TABLED))),
            pm.Data("large", np.zeros((size, LARGE))),
            pm.Data("large_units", np.zeros((size, LARGE))),
            pm.Data("real", ones),
            pm.Data("treated", zeros),
            own,
            pm.Data("baseline", np.array([0.0, 1.0])),
            pm.Data("dispersion_prior", np.array([*WEAK_DISPERSION, ARM_DISPERSION])),
            pm.Data("lift_prior", np.array([[0.0, 0.0, 1.0, 0.0]])),
        ]
        z = pm.Flat("z", shape=(2, size))
        pm.Potential("log_density", log_density(negative_binomial_density(numba_njit), z, centre, pull, width, *data))
        pm.Deterministic("mean", pt.exp(centre[0] + pull[0] * z[0, 0] + width[0] * z[0]))
        pm.Deterministic("dispersion", pt.exp(centre[1] + pull[1] * z[1, 0] + own * width[1] * z[1]))
    return model


def _example(size: int) -> Data:
    rng = np.random.default_rng(size)
    rows = [rng.negative_binomial(0.5, 0.5 / (0.5 + 8.0), 800) for _ in range(max(2, size - 1))]
    return from_counts(rows, Prior.default()).data()


DEFINITION: Final = ModelDefinition(
    name="negative_binomial",
    version=1,
    story=STORY,
    methods=("C2",),
    sizes=(3, 8, 16),
    build=_build,
    example=_example,
    kept=("mean", "dispersion"),
    target_accept=0.8,
)


@dataclass(frozen=True, slots=True, eq=False)
class NegativeBinomialQuestion:
    """`frequency` (A, 63) of units with 0 to 62 events and `tail_units` (A,) with more; control first.

    `units`, `total`, `squares` (A,) are of all units: their number, their events, and summed squared deviations from
    the arm's mean. `baseline` is location and scale of the log of the control's mean, None for weak and centred on the
    data; `dispersion` of the log of phi. `rope` is on the log lift, `level` that of the highest-density intervals.
    """

    units: Array
    total: Array
    squares: Array
    frequency: Array
    tail_units: Array
    prior: Prior
    baseline: tuple[float, float] | None = None
    direction: Direction = "increase"
    rope: float = 0.005
    level: float = 0.95
    shared_dispersion: bool = True
    dispersion: tuple[float, float] = WEAK_DISPERSION

    @property
    def definition(self) -> ModelDefinition:
        """See `Question`."""
        return DEFINITION

    @property
    def size(self) -> int:
        """See `Question`."""
        return DEFINITION.size_for(len(self.units))

    @property
    def control_prior(self) -> tuple[float, float]:
        """Location and scale of the log of the control's mean."""
        if self.baseline is not None:
            return self.baseline
        return float(np.log((self.total[0] + 0.5) / self.units[0])), 1.0

    @property
    def above(self) -> Array:
        """(A, 63): units with more than 0, 1, ... events."""
        return np.asarray(self.units[:, None] - self.frequency.cumsum(axis=1))

    def large(self) -> tuple[Array, Array]:
        """Values (A, 6) that stand for the counts of 63 and more, and the units (A, 6) that have them.

        A Gauss rule for the gamma distribution, beyond 63, with the mean and variance of those counts: sums of smooth
        functions over them come out right. A negative binomial's own tail is close to that.
        """
        counts, units = np.arange(TABLED), np.maximum(self.tail_units, 1)
        total = self.total - self.frequency @ counts
        squares = self.squares + self.total**2 / self.units - self.frequency @ counts**2 - total**2 / units
        mean, variance = np.maximum(total / units - TABLED, 0.0), np.maximum(squares, 0.0) / units
        values, weights = np.tile((mean + TABLED)[:, None], LARGE), np.full((len(units), LARGE), 1 / LARGE)
        for arm in np.flatnonzero((mean > 0) & (variance > 1e-9 * (mean + TABLED) ** 2)):
            nodes, weights[arm] = _gamma_rule(mean[arm] ** 2 / variance[arm])
            values[arm] = TABLED + nodes * variance[arm] / mean[arm]
        return values, weights * self.tail_units[:, None]

    def check(self) -> None:
        """Raise `ImpossibleData` for tables that are not of counts."""
        refuse_impossible_arms(self.units, self.total, self.prior, "events")
        if not (self.total > 0).any():
            raise ImpossibleData("no arm has any events")
        if self.frequency.shape != (len(self.units), TABLED) or not (self.frequency >= 0).all():
            raise ImpossibleData("the table of counts is incomplete")
        if not np.allclose(self.frequency.sum(axis=1) + self.tail_units, self.units, rtol=1e-9):
            raise ImpossibleData("the table of counts does not add up to the units")
        beyond = self.total - self.frequency @ np.arange(TABLED)
        slack = 1e-9 * self.total
        if (beyond < TABLED * self.tail_units - slack).any() or ((self.tail_units == 0) & (beyond > slack)).any():
            raise ImpossibleData("the table of counts does not add up to the events")
        if not (np.isfinite(self.squares) & (self.squares >= 0)).all():
            raise ImpossibleData("a sum of squared deviations is missing or negative")

    def coordinates(self) -> tuple[RoundMap, RoundMap]:
        """Log means, and log dispersions, in which the posterior is round; of dispersions the control's if shared."""
        around = self.dispersion
        neighbours = components(Prior(Family.NORMAL, 0.0, ARM_DISPERSION, "dispersion of arms"))
        pool = np.ones((1, len(self.units))) if self.shared_dispersion else np.eye(len(self.units))

        def profiled(log_dispersion: Array) -> Local:
            low, mid, high = (
                (pool * self._profile(log_dispersion + shift)).sum(axis=1)
                for shift in (-_CURVATURE_STEP, 0.0, _CURVATURE_STEP)
            )
            bend = (2 * mid - low - high) / _CURVATURE_STEP**2
            return Local(
                (high - low) / (2 * _CURVATURE_STEP),
                np.maximum(bend, _LEAST_INFORMATION),
                log_dispersion,
                np.ones_like(log_dispersion),
            )

        mean = self.total / self.units
        excess = self.squares / np.maximum(self.units - 1, 1) - mean
        moment = (pool @ np.maximum(excess, 0.0)) / np.maximum(pool @ mean**2, 1e-12)
        spreads = round_map(profiled, np.log(np.clip(moment, 0.05, 20.0)), around, neighbours)
        relative = np.exp(spreads.centre)

        def local(log_mean: Array) -> Local:
            expected = np.exp(log_mean)
            weight = 1 / (1 + relative * expected)
            return Local(
                (self.total - self.units * expected) * weight,
                self.units * expected * weight,
                log_mean,
                np.ones_like(log_mean),
            )

        start = np.log((self.total + 0.5) / self.units)
        return round_map(local, start, self.control_prior, components(self.prior)), spreads

    def data(self) -> Data:
        """See `Question`."""
        self.check()
        arms, size = len(self.units), self.size
        means, spreads = (each.padded(size) for each in self.coordinates())
        own, above, (large, large_units) = np.ones(arms), self.above, self.large()
        if self.shared_dispersion:
            # Every arm has the control's dispersion: the same position, moved by the same parameter; and units of all
            # arms add to one sum of logarithms.
            own[1:] = 0.0
            above = np.concatenate([above.sum(axis=0, keepdims=True), np.zeros((arms - 1, TABLED))])
            spreads = {
                "centre": padded(np.full(arms, spreads["centre"][0]), size),
                "pull": padded((1 - own) * spreads["width"][0], size),
                "width": padded(np.full(arms, spreads["width"][0]), size, 1.0),
            }
        return {
            "units": padded(self.units, size),
            "total": padded(self.total, size),
            "above": padded(above, size),
            "large": padded(large, size, TABLED),
            "large_units": padded(large_units, size),
            "real": padded(np.ones(arms), size),
            "treated": padded(np.minimum(np.arange(arms), 1.0), size),
            "own": padded(own, size),
            "baseline": np.array(self.control_prior),
            "dispersion_prior": np.array([*self.dispersion, ARM_DISPERSION]),
            "lift_prior": components(self.prior),
            **{name: np.stack([means[name], spreads[name]]) for name in ("centre", "pull", "width")},
        }

    def monitored(self, draws: Draws) -> dict[str, Array]:
        """See `Question`: `mean[arm]`, `log_lift[arm]` and `dispersion`, of every arm where they differ."""
        means, dispersions = self._drawn(draws)
        return named(means) | self._dispersions(dispersions)

    def summarise(self, draws: Draws, seed: int) -> ModelFit:
        """See `Question`."""
        means, dispersions = self._drawn(draws)
        arms = len(self.units)
        return summary(
            DEFINITION,
            means,
            self.prior,
            direction=self.direction,
            rope=self.rope,
            level=self.level,
            checks=self.checks(means.reshape(-1, arms), dispersions.reshape(-1, arms), np.random.default_rng(seed)),
            hyper={name: interval(values) for name, values in self._dispersions(dispersions).items()},
        )

    def checks(self, means: Array, dispersions: Array, rng: np.random.Generator) -> tuple[PredictiveCheck, ...]:
        """Each arm's events, units without any, and variance, from draws (D, A) of means and dispersions.

        A replicated variance is a gamma variable with the mean and variance that the variance of so many negative
        binomial counts has: the units need not be drawn.
        """

        def events(arm: int) -> Array:
            rate = rng.gamma(self.units[arm] / dispersions[:, arm], means[:, arm] * dispersions[:, arm])
            return np.asarray(rng.poisson(rate), np.float64)

        def without(arm: int) -> Array:
            chance = np.exp(-np.log1p(dispersions[:, arm] * means[:, arm]) / dispersions[:, arm])
            return np.asarray(rng.binomial(int(self.units[arm]), chance) / self.units[arm])

        def variance(arm: int) -> Array:
            spread = means[:, arm] + dispersions[:, arm] * means[:, arm] ** 2
            excess_kurtosis = 6 * dispersions[:, arm] + 1 / spread
            shape = 1 / (excess_kurtosis / self.units[arm] + 2 / (self.units[arm] - 1))
            return np.asarray(spread * rng.gamma(shape) / shape)

        arms = range(len(self.units))
        several = [arm for arm in arms if self.units[arm] > 1]
        observed = self.squares / np.maximum(self.units - 1, 1)
        return (
            *predictive_checks("events", self.total, events, arms),
            *predictive_checks("share of zeros", self.frequency[:, 0] / self.units, without, arms),
            *predictive_checks("variance", observed, variance, several),
        )

    def _profile(self, log_dispersion: Array) -> Array:
        """Log likelihood (B, A) of log dispersions (B,), or one per arm (A,), at every arm's own mean."""
        size = np.exp(-log_dispersion)[:, None]
        large, large_units = self.large()
        draws = self.total + self.units * size
        steps = np.log(size[..., None] + np.arange(TABLED))
        beyond = sc.gammaln(large + size[..., None]) - sc.gammaln(TABLED + size)[..., None]
        logs = (self.above * steps).sum(axis=-1) + (large_units * beyond).sum(axis=-1)
        return np.asarray(logs - self.total * np.log(size) - draws * np.log1p((self.total / self.units) / size))

    def _drawn(self, draws: Draws) -> tuple[Array, Array]:
        arms = len(self.units)
        return draws.values["mean"][..., :arms], draws.values["dispersion"][..., :arms]

    def _dispersions(self, dispersions: Array) -> dict[str, Array]:
        if self.shared_dispersion:
            return {"dispersion": dispersions[..., 0]}
        return {f"dispersion[{arm}]": dispersions[..., arm] for arm in range(len(self.units))}


def _gamma_rule(shape: float) -> tuple[Array, Array]:
    """Nodes and weights of Gauss's rule for a gamma distribution of this shape and scale 1 (Golub & Welsch 1969)."""
    k = np.arange(LARGE)
    beside = np.sqrt(k[1:] * (k[1:] + shape - 1))
    nodes, vectors = np.linalg.eigh(np.diag(2.0 * k + shape) + np.diag(beside, 1) + np.diag(beside, -1))
    return nodes, vectors[0] ** 2


def from_counts(counts: Sequence[Any], prior: Prior, **options: Any) -> NegativeBinomialQuestion:
    """The question about units' counts themselves, one array (n,) per arm, control first."""
    rows = [np.asarray(row, dtype=np.int64) for row in counts]
    return NegativeBinomialQuestion(
        units=np.array([float(len(row)) for row in rows]),
        total=np.array([float(row.sum()) for row in rows]),
        squares=np.array([float(((row - row.mean()) ** 2).sum()) for row in rows]),
        frequency=np.array([np.bincount(row[row < TABLED], minlength=TABLED) for row in rows], dtype=np.float64),
        tail_units=np.array([float((row >= TABLED).sum()) for row in rows]),
        prior=prior,
        **options,
    )
