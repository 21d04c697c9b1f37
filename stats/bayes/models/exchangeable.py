"""One compiled program for every family of exchangeable effects: segments, arms, metrics, replications (METHODS C4).

The program sees rotated, scaled estimates (`stats.bayes.hierarchy`), so it has two parameters and takes any number of
effects. Which families they are is told by the questions of the sibling modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import scipy.special as sc

from stats.bayes.hierarchy import Array, Hierarchy, normals
from stats.bayes.mixture import Mixture, standard_density
from stats.bayes.models.definition import ModelDefinition
from stats.bayes.models.fit import EffectPosteriors, PredictiveCheck
from stats.bayes.normal import Direction
from stats.bayes.prior import Prior
from stats.bayes.sampling.contract import Data, Draws

_THIN: Final = 8
_BATCHES: Final = 10
"""Per chain, for the Monte Carlo error of means."""


def build(size: int) -> Any:
    """The PyMC model of (mu, tau); `size` is always 1, because no parameter has the length of the data.

    `mu` is sampled as its distance from where data and prior together put it, given tau: under a normal prior that
    distance is exactly standard normal and independent of tau. `tau` is a softplus: logarithmic where it cannot be told
    from zero, linear where it can, so that no step of the sampler meets an exponential cliff.
    """
    import pymc as pm  # type: ignore[import-untyped]  # it ships no annotations
    import pytensor.tensor as pt

    sample = example(size)
    with pm.Model() as model:
        given = {name: pm.Data(name, np.asarray(value, dtype=np.float64)) for name, value in sample.items()}
        value, loading, variance = given["value"], given["loading"], given["variance"]
        reference_mean, reference_precision, scale, bend = (given["constants"][i] for i in range(4))
        z, u = pm.Normal("z", 0.0, 1.0), pm.Flat("u")
        bent = pt.log1p(pt.exp(-pt.abs(u)))
        tau = pm.Deterministic("tau", bend * (bent + pt.maximum(u, 0.0)))
        total = variance + tau**2
        precision = reference_precision + (loading**2 / total).sum()
        centre = (reference_precision * reference_mean + (loading * value / total).sum()) / precision
        mu = pm.Deterministic("mu", centre + z / pt.sqrt(precision))
        prior = given["prior_log_weight"] - 0.5 * ((mu - given["prior_mean"]) / given["prior_sd"]) ** 2
        highest = prior.max()
        log_prior = highest + pt.log(pt.exp(prior - highest).sum())
        # One fused term: effects are integrated out; the last two parts are Jacobians, and z's own density leaves.
        pm.Potential(
            "likelihood",
            log_prior
            - 0.5 * (pt.log(total) + (value - loading * mu) ** 2 / total).sum()
            - 0.5 * (tau / scale) ** 2
            - (bent + pt.maximum(-u, 0.0))
            + 0.5 * z**2
            - 0.5 * pt.log(precision),
        )
    return model


def example(size: int) -> Data:
    """Three estimates under the default prior."""
    prior = Prior.default()
    family = Hierarchy.independent(
        np.array([0.01, -0.02, 0.03]), np.array([0.01, 0.02, 0.015]), normals(prior), 0.5 * prior.scale
    )
    return data_of(family)


def data_of(family: Hierarchy) -> Data:
    """What the program needs to know of a family."""
    mean, sd = family.prior.moments()
    return {
        "value": family.value,
        "loading": family.loading,
        "variance": family.variance,
        "prior_log_weight": np.log(family.prior.weight) - np.log(family.prior.sd),
        "prior_mean": family.prior.mean,
        "prior_sd": family.prior.sd,
        "constants": np.array([float(mean), float(sd) ** -2.0, family.between_scale, family.between_scale]),
    }


DEFINITION: Final = ModelDefinition(
    name="exchangeable",
    version=1,
    story=(
        "Effects of one family (segments of an experiment, arms, metrics, replications of a hypothesis) are alike: each"
        " is drawn from a normal around a common mean mu with standard deviation tau, in units of its own scale."
        " Estimates see the effects with normal errors of known covariance. mu has the metric's prior on the log lift,"
        " of any family, exactly (as a mixture of normals); tau is half-normal with half the prior's standard"
        " deviation, because parts of one experiment seldom differ by more than effects are large. Effects are"
        " integrated out: (mu, tau) is sampled, effects are exact given each draw."
    ),
    methods=("A15", "C4"),
    sizes=(1,),
    build=build,
    example=example,
    kept=("mu", "tau"),
)


class Exchangeable:
    """The part of `stats.bayes.models.fit.Question` that all families share; they say what their `hierarchy` is."""

    __slots__ = ()

    @property
    def definition(self) -> ModelDefinition:
        """The one model of all families."""
        return DEFINITION

    @property
    def size(self) -> int:
        """The one size class."""
        return 1

    def hierarchy(self) -> Hierarchy:
        """The family in rotated coordinates. Raises `ImpossibleData`."""
        raise NotImplementedError

    def data(self) -> Data:
        """See `Question.data`."""
        return data_of(self.hierarchy())

    def monitored(self, draws: Draws) -> Mapping[str, Array]:
        """Both parameters; every reported number is a smooth function of these two."""
        return {"mean": draws.values["mu"], "between": draws.values["tau"]}


def effects_of(
    effects: Mixture, *, good: Array, rope: float, level: float, sign_differs: Array, mcse: Array, thin: int = 1
) -> EffectPosteriors:
    """Posteriors of E effects given as mixtures of normals (E, D); `good` (E,) is the sign of the good direction.

    `rope` is a half-width on the log lift. The interval looks at every `thin`-th component.
    """
    weight, mean, sd = effects.weight, effects.mean, effects.sd
    log_mean, log_sd = effects.moments()
    z = mean / sd
    above, bump = sc.ndtr(z), sd * standard_density(z)
    up = (weight * (bump + mean * above)).sum(-1)  # E[effect where positive], E[-effect where negative]
    down = np.maximum(up - log_mean, 0.0)
    gain, loss = np.where(good > 0, up, down), np.where(good > 0, down, up)
    positive = (weight * above).sum(-1)
    inside = (weight * (sc.ndtr((rope - mean) / sd) - sc.ndtr((-rope - mean) / sd))).sum(-1)
    some = slice(None, None, thin)
    part = weight[:, some] / weight[:, some].sum(-1, keepdims=True)
    lower, upper = Mixture(part, mean[:, some], sd[:, some]).hdi(level)
    unknown = np.full(log_mean.shape, np.nan)
    return EffectPosteriors(
        log_mean=log_mean,
        log_sd=log_sd,
        mcse=mcse,
        lift=np.expm1(log_mean),
        hdi_lower=np.expm1(lower),
        hdi_upper=np.expm1(upper),
        chance_to_win=np.where(good > 0, positive, 1 - positive),
        expected_loss=loss,
        expected_loss_of_not_shipping=gain,
        rope_probability=inside,
        difference=unknown,
        difference_hdi_lower=unknown,
        difference_hdi_upper=unknown,
        sign_differs=sign_differs,
    )


def sampled_effects(
    family: Hierarchy, draws: Draws, *, direction: Direction, rope: float, level: float
) -> EffectPosteriors:
    """Posteriors of the effects of a family from draws of (mu, tau).

    Given one draw every effect is exactly normal, so means, intervals and probabilities average those normals instead
    of drawing from them: the same posterior with less Monte Carlo noise.
    """
    mu, tau = draws.values["mu"], draws.values["tau"]
    mean, sd = family.conditional(mu.ravel(), tau.ravel())
    good = np.sign(family.scale) * (1.0 if direction == "increase" else -1.0)
    overall = np.sign(family.scale)[:, None] * np.sign(mu.ravel())
    return effects_of(
        Mixture(np.full(mean.shape, 1 / mean.shape[1]), mean, sd),
        good=good,
        rope=rope,
        level=level,
        sign_differs=sc.ndtr(-overall * mean / sd).mean(-1),
        mcse=batch_error(mean.reshape(len(mean), *mu.shape)),
        thin=_THIN,
    )


def batch_error(series: Array) -> Array:
    """Monte Carlo standard error (E,) of the means of (E, chains, draws), by batch means."""
    length = series.shape[2] // _BATCHES
    batches = series[:, :, : length * _BATCHES].reshape(len(series), -1, length).mean(-1)
    return np.asarray(batches.std(axis=1, ddof=1) / np.sqrt(batches.shape[1]))


def hyper_of(mu: Array, tau: Array) -> dict[str, tuple[float, float, float]]:
    """Mean and 95 % interval (equal tails) of both parameters, in log lift, from (D,) draws."""
    found = {}
    for name, values in (("mean", mu), ("between", tau)):
        low, high = np.quantile(values, [0.025, 0.975])
        found[name] = (float(values.mean()), float(low), float(high))
    return found


def outlier_check(family: Hierarchy, mu: Array, tau: Array, seed: int) -> PredictiveCheck:
    """Would families of this model have as large an outlier? Its statistic is the largest standardised residual.

    Fails where one effect is unlike the others. `mu`, `tau` are (D,) draws; their first thousand, evenly spread.
    """
    some = slice(None, None, max(1, mu.size // 1000))
    seen, again = family.standardised_residuals(mu[some], tau[some], np.random.default_rng(seed))
    return PredictiveCheck(
        statistic="largest standardised residual",
        arm=0,
        observed=float(seen.mean()),
        expected=float(again.mean()),
        p_value=float((again >= seen).mean()),
    )
