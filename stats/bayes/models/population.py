"""The population of effects behind past experiments, by NUTS: the same model as `stats.bayes.population` (METHODS C3).

The effects are integrated out: a Student-t with 4 degrees of freedom is a mixture of normals over fixed nodes of its
latent precision, so two parameters remain however many experiments there are. The service learns priors on the grid;
this is its oracle, and the place from which to extend the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.special as sc

from stats.bayes.diagnostics import ess_bulk
from stats.bayes.effect_grid import HyperPriors, Nodes, Shape
from stats.bayes.models.arm_effects import shortest
from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.models.fit import EffectPosteriors, ModelFit, PredictiveCheck
from stats.bayes.normal import Direction
from stats.bayes.sampling.contract import Array, Data, Draws
from stats.bayes.sensitivity import prior_sensitivity

_THINNED: Final = 2000
_HYPER: Final = HyperPriors()
_EXAMPLE_EXPERIMENTS: Final = 12


def _build(size: int) -> Any:
    import pymc as pm
    import pytensor.tensor as pt

    data = _example(size)
    with pm.Model() as model:
        given = {name: pm.Data(name, values) for name, values in data.items()}
        mean = pm.Deterministic("mean", given["mean_scale"][0] * pm.Normal("mean_z", 0.0, 1.0))
        tau = pm.Deterministic("tau", given["tau_scale"][0] * pm.HalfCauchy("tau_z", 1.0))
        variance = given["variance"]
        total = variance[:, None] + tau**2 * given["spread"][None, :]
        widest = variance + tau**2 * given["spread"][0]
        square = (given["estimate"] - mean) ** 2
        # Measured from the widest component no exponent is positive, and not all of them underflow.
        excess = square[:, None] * (1 / total - (1 / widest)[:, None])
        term = pt.exp(given["log_weight"][None, :] - 0.5 * pt.log(total) - 0.5 * excess)
        pm.Potential("likelihood", (pt.log(term.sum(axis=1)) - 0.5 * square / widest).sum())
    return model


def _example(size: int) -> Data:
    rng = np.random.default_rng(20260101)
    error = np.exp(rng.normal(np.log(0.01), 0.4, _EXAMPLE_EXPERIMENTS))
    effect = 0.01 * rng.standard_t(4, _EXAMPLE_EXPERIMENTS) + error * rng.normal(size=_EXAMPLE_EXPERIMENTS)
    return _data(effect, error, HyperPriors(), Nodes.of("student_t4"))


def _data(estimate: Array, error: Array, hyper: HyperPriors, nodes: Nodes) -> Data:
    return {
        "estimate": estimate,
        "variance": error**2,
        "mean_scale": np.array([hyper.mean_scale]),
        "tau_scale": np.array([hyper.tau_scale]),
        "log_weight": np.log(nodes.weight),
        "spread": nodes.spread,
    }


DEFINITION: Final = ModelDefinition(
    name="population",
    version=1,
    story=(
        "Experiments of a metric have true effects on the log lift, which scatter around a common mean: "
        "effect ~ Student-t4(mean, tau), with mean ~ Normal(0, 0.003) and tau ~ HalfCauchy(0.01). Each experiment "
        "measures its own effect with a known standard error: estimate ~ Normal(effect, error). All experiments of "
        "the past take part, shipped or not. The effect of the next experiment is one more draw from the population."
    ),
    methods=("C3",),
    sizes=(1,),
    build=_build,
    example=_example,
    kept=("mean", "tau"),
)


@dataclass(frozen=True, slots=True)
class PopulationQuestion:
    """One estimate and its standard error of each of K past experiments, on the log lift.

    The fit's `hyper` has `mean` and `tau`; its `effects` are the K effects, shrunk; `difference` has no meaning here.
    """

    estimate: Array
    error: Array
    hyper: HyperPriors = _HYPER
    shape: Shape = "student_t4"
    direction: Direction = "increase"
    rope: float = 0.0
    level: float = 0.95

    @property
    def definition(self) -> ModelDefinition:
        """`stats.bayes.models.population.DEFINITION`."""
        return DEFINITION

    @property
    def size(self) -> int:
        """One class: parameters do not grow with experiments."""
        return 1

    def data(self) -> Data:
        """Estimates, their variances, hyper-priors and the nodes of the shape."""
        if self.estimate.ndim != 1 or self.estimate.shape != self.error.shape or self.estimate.size == 0:
            raise ImpossibleData("every experiment needs one estimate and one standard error")
        if not (np.isfinite(self.estimate).all() and np.isfinite(self.error).all() and (self.error > 0).all()):
            raise ImpossibleData("estimates must be finite numbers and standard errors positive ones")
        if self.hyper.tau_shape != "half_cauchy":
            raise ImpossibleData("this model has a half-Cauchy prior on tau; the grid takes others")
        return _data(self.estimate, self.error, self.hyper, Nodes.of(self.shape))

    def monitored(self, draws: Draws) -> Mapping[str, Array]:
        """`mean` and `tau`."""
        return {"mean": draws.values["mean"], "tau": draws.values["tau"]}

    def summarise(self, draws: Draws, seed: int) -> ModelFit:
        """Mean, tau and the shrunk effects; replications of the estimates as checks."""
        found = self.monitored(draws)
        rng = np.random.default_rng(seed)
        effects = self._effects(found["mean"], found["tau"], rng)
        log_prior = self.hyper.log_density_of_tau(found["tau"]) - 0.5 * (found["mean"] / self.hyper.mean_scale) ** 2
        return ModelFit(
            model=DEFINITION.name,
            version=DEFINITION.version,
            status="ok",
            effects=self._posteriors(effects),
            hyper={name: _belief(values) for name, values in found.items()},
            checks=self._checks(found["mean"].ravel(), found["tau"].ravel(), rng),
            prior_sensitivity=prior_sensitivity(log_prior, found),
        )

    def _effects(self, mean: Array, tau: Array, rng: np.random.Generator) -> Array:
        """Draws (chains, draws, K) of the effects given mean, tau and the estimates."""
        thin = max(1, mean.size // _THINNED)
        mean, tau = mean[:, ::thin, None], tau[:, ::thin, None]
        nodes = Nodes.of(self.shape)
        prior_variance = tau[..., None] ** 2 * nodes.spread
        total = self.error[:, None] ** 2 + prior_variance
        log_share = np.log(nodes.weight) - 0.5 * np.log(total) - 0.5 * (self.estimate - mean)[..., None] ** 2 / total
        share = sc.softmax(log_share, axis=-1)
        below = np.cumsum(share, axis=-1) < rng.random(share.shape[:-1])[..., None]
        node = np.minimum(below.sum(axis=-1), nodes.weight.size - 1)
        wide = np.take_along_axis(prior_variance * np.ones_like(total), node[..., None], axis=-1)[..., 0]
        shrink = wide / (self.error**2 + wide)
        centre = mean + shrink * (self.estimate - mean)
        return np.asarray(centre + np.sqrt(shrink) * self.error * rng.standard_normal(centre.shape))

    def _posteriors(self, effects: Array) -> EffectPosteriors:
        flat = effects.reshape(-1, effects.shape[-1])
        lower, upper = shortest(flat, self.level)
        gain = flat if self.direction == "increase" else -flat
        mean, sd = flat.mean(axis=0), flat.std(axis=0)
        ess = np.array([ess_bulk(effects[..., k]) for k in range(flat.shape[1])])
        nothing = np.full(mean.shape, np.nan)
        overall = np.sign(gain.mean(axis=1, keepdims=True))
        return EffectPosteriors(
            log_mean=mean,
            log_sd=sd,
            mcse=sd / np.sqrt(ess),
            lift=np.expm1(mean),
            hdi_lower=np.expm1(lower),
            hdi_upper=np.expm1(upper),
            chance_to_win=(gain > 0).mean(axis=0),
            expected_loss=np.maximum(-gain, 0.0).mean(axis=0),
            expected_loss_of_not_shipping=np.maximum(gain, 0.0).mean(axis=0),
            rope_probability=(np.abs(flat) < self.rope).mean(axis=0),
            difference=nothing,
            difference_hdi_lower=nothing,
            difference_hdi_upper=nothing,
            sign_differs=(np.sign(gain) != overall).mean(axis=0),
        )

    def _checks(self, mean: Array, tau: Array, rng: np.random.Generator) -> tuple[PredictiveCheck, ...]:
        """The most extreme estimate, and the spread of the middle half, beside replications of all estimates."""
        thin = max(1, mean.size // _THINNED)
        mean, tau = mean[::thin, None], tau[::thin, None]
        nodes = Nodes.of(self.shape)
        spread = rng.choice(nodes.spread, size=(len(mean), self.estimate.size), p=nodes.weight)
        sd = np.sqrt(self.error**2 + tau**2 * spread)
        replicated = mean + sd * rng.standard_normal(sd.shape)
        return tuple(
            _check(name, statistic(self.estimate[None])[0], statistic(replicated))
            for name, statistic in (("largest estimate in standard errors", self._extreme), ("middle half", _middle))
        )

    def _extreme(self, estimates: Array) -> Array:
        centre = np.median(estimates, axis=1, keepdims=True)
        return np.asarray(np.max(np.abs(estimates - centre) / self.error, axis=1))


def _middle(estimates: Array) -> Array:
    low, high = np.quantile(estimates, [0.25, 0.75], axis=1)
    return np.asarray(high - low)


def _check(name: str, observed: float, replicated: Array) -> PredictiveCheck:
    above = float((replicated >= observed).mean())
    return PredictiveCheck(name, 0, float(observed), float(np.median(replicated)), above)


def _belief(draws: Array) -> tuple[float, float, float]:
    lower, upper = np.quantile(draws, [0.025, 0.975])
    return float(draws.mean()), float(lower), float(upper)
