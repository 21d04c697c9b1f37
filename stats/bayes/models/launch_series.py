"""A launch measured by the forecast of its own series, with donors under a regularised horseshoe (METHODS D4)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.special as sc

from stats.bayes.mixture import Mixture
from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.models.fit import ModelFit, PathPosterior, PredictiveCheck
from stats.bayes.models.launch_density import FIRST_DONOR, launch_density
from stats.bayes.models.launch_forecast import (
    AverageEffect,
    Counterfactual,
    Parameters,
    average_effect,
    counterfactual,
)
from stats.bayes.models.launch_history import History, history_of, rotated
from stats.bayes.models.lifted_arms import interval
from stats.bayes.models.written_density import log_density
from stats.bayes.sampling.contract import Array, Data, Draws
from stats.bayes.sensitivity import prior_sensitivity
from stats.launch.contract import Series
from stats.launch.series_design import NOISE, STEP, Scales
from stats.launch.state_space import equal_tails

STORY: Final = (
    "Before the launch the outcome is a level, a straight trend, seasons, what outside influences and donors do, and "
    "noise. The level is a random walk. The unit is the standard deviation of the outcome's changes from period to "
    "period before the launch: noise has a half-normal standard deviation with scale 1, the level's steps with scale "
    "0.4, the trend is Normal(0, 0.2) per period, a season's wave and an influence Normal(0, 2), the last three wider "
    "where the history itself moved more. Donors are series that the launch did not touch, each standardised; their "
    "coefficients have a regularised horseshoe prior (Piironen & Vehtari 2017): most are next to nothing, a few as "
    "large as the data want, up to a slab, a Student-t4 as wide as the outcome moved. Three donors, or half of them "
    "where they are fewer than six, are expected to matter. Level and coefficients are integrated out exactly; what is "
    "sampled are standard deviations and each donor's shrinkage. The launch's own periods teach the model nothing: "
    "they are forecast, and the effect is what happened less the forecast. It assumes that donors and influences did "
    "not move with the launch, and that nothing else happened at the time."
)

_EXPECTED_DONORS: Final = 3.0
_PERIODS_OF_EXAMPLE: Final = 61
_USED: Final = 1000
"""Draws behind what is not monitored: each stands for a whole normal, so that more would say the same."""


def _build(size: int) -> Any:
    import pymc as pm

    with pm.Model() as model:
        data = {name: pm.Data(name, values) for name, values in _example(size).items()}
        z = pm.Flat("z", shape=FIRST_DONOR + size)
        pm.Deterministic("score", 1.0 * z)
        names = inspect.signature(launch_density).parameters
        pm.Potential("log_density", log_density(launch_density, z, *(data[name] for name in names if name != "z")))
    return model


def _example(size: int) -> Data:
    """One donor less than there is room for; no length is also that of a parameter, which could not change."""
    rng = np.random.default_rng(size)
    periods = _PERIODS_OF_EXAMPLE + 10
    donors = rng.standard_normal((periods, max(2, size - 1))).cumsum(axis=0)
    week = np.sin(2 * np.pi * np.arange(periods) / 7)
    series = Series(
        y=10.0
        + 0.5 * donors[:, 0]
        + week
        + (0.2 * rng.standard_normal(periods)).cumsum()
        + rng.standard_normal(periods),
        coverage=(np.arange(periods) >= _PERIODS_OF_EXAMPLE).astype(np.float64),
        excluded=np.zeros(periods, dtype=bool),
        regressors=np.empty((periods, 0)),
        donors=donors,
        season=((7.0, 3),),
    )
    return LaunchSeriesQuestion(series).data()


DEFINITION: Final = ModelDefinition(
    name="launch_series",
    version=1,
    story=STORY,
    methods=("D4",),
    sizes=(2, 4, 8, 16, 40),
    build=_build,
    example=_example,
    kept=("score",),
    target_accept=0.95,
)


@dataclass(frozen=True, slots=True, eq=False)
class LaunchSeriesQuestion:
    """One outcome of a launch, in the scale that its effect is wanted in, with regressors and up to 40 donors.

    Intervals hold `level`. Without `trend` the level is all that grows. `steps` is the scale of the level's steps, in
    changes of the outcome. `scales` None are read off the history, as the story tells; stated ones are priors like any
    other. The fit has a `path` and no `effects` of arms. Its `hyper` has `sigma_obs`, `sigma_level`, and as `donor[j]`
    what the outcome moves when donor j moves by one.
    """

    series: Series
    level: float = 0.95
    trend: bool = True
    steps: float = STEP
    scales: Scales | None = None

    @property
    def definition(self) -> ModelDefinition:
        """See `Question`."""
        return DEFINITION

    @property
    def size(self) -> int:
        """See `Question`."""
        donors = self.series.donors.shape[1]
        if donors > DEFINITION.sizes[-1]:
            raise ImpossibleData(f"there are {donors} donors, and the model takes at most {DEFINITION.sizes[-1]}")
        return DEFINITION.size_for(donors)

    def data(self) -> Data:
        """See `Question`."""
        history = self._history()
        before = history.before
        columns, roughness = rotated(
            np.vstack([history.explained[before, 1:].T, history.design.outcome[before]]), before.astype(np.float64)
        )
        donors = history.donors.size
        return {
            "columns": columns,
            "roughness": roughness,
            "scales": np.array([donors, NOISE, self.steps, reach(donors, before.size), history.slab]),
        }

    def monitored(self, draws: Draws) -> dict[str, Array]:
        """See `Question`: `effect`, `sigma_obs`, `sigma_level`, and the mean of `donor[j]` given the rest."""
        history, score = self._history(), draws.values["score"]
        unit, shape = history.design.unit, score.shape[:2]
        found = average_effect(history, self._parameters(history, score), self.series.coverage)
        donors = found.donors * unit / history.donor_sd
        return {
            "effect": unit * _drawn(found, np.random.default_rng(0)).reshape(shape),
            "sigma_obs": unit * NOISE * np.exp(score[..., 0]),
            "sigma_level": unit * self.steps * np.exp(score[..., 1]),
        } | {f"donor[{donor}]": donors[:, r].reshape(shape) for r, donor in enumerate(history.donors)}

    def summarise(self, draws: Draws, seed: int) -> ModelFit:
        """See `Question`."""
        history, rng, every = self._history(), np.random.default_rng(seed), draws.values["score"]
        unit = history.design.unit
        score = every[:, :: max(1, every[..., 0].size // _USED)]
        parameters = self._parameters(history, score)
        average = average_effect(history, parameters, self.series.coverage)
        found = counterfactual(history, parameters, rng)
        donors = found.donors * unit / history.donor_sd
        effect = _drawn(average, rng).reshape(score.shape[:2])
        return ModelFit(
            model=DEFINITION.name,
            version=DEFINITION.version,
            status="ok",
            hyper={
                "sigma_obs": interval(unit * NOISE * np.exp(every[..., 0])),
                "sigma_level": interval(unit * self.steps * np.exp(every[..., 1])),
            }
            | {f"donor[{donor}]": interval(donors[:, r]) for r, donor in enumerate(history.donors)},
            checks=_checks(found.surprise, rng),
            prior_sensitivity=prior_sensitivity(_log_prior(score, history), {"effect": effect}),
            path=self._path(history, average, found),
        )

    def _history(self) -> History:
        return history_of(self.series, trend=self.trend, scales=self.scales)

    def _parameters(self, history: History, score: Array) -> Parameters:
        """The draws (chains, draws, 4 + J) one after the other, in the outcome's unit."""
        flat = score.reshape(-1, score.shape[-1])
        own = slice(FIRST_DONOR, FIRST_DONOR + history.donors.size)
        scale = reach(history.donors.size, history.before.size)
        wide = (scale * np.exp(_log_half_cauchy(flat[:, 2:3]) + _log_half_cauchy(flat[:, own]))) ** 2
        slab = history.slab**2 * np.exp(flat[:, 3:4])
        return Parameters(NOISE * np.exp(flat[:, 0]), self.steps * np.exp(flat[:, 1]), wide * slab / (slab + wide))

    def _path(self, history: History, average: AverageEffect, found: Counterfactual) -> PathPosterior:
        ready = history.design
        weight = np.full(average.mean.size, 1 / average.mean.size)
        sides = [Mixture(weight, sign * average.mean, average.sd) for sign in (1.0, -1.0)]
        lower, upper = equal_tails(sides[0], self.level)
        effect, error = sides[0].moments()
        fitted = np.full(self.series.y.size, np.nan)
        fitted[history.before], fitted[ready.begin :] = found.behind, found.ahead
        return PathPosterior(
            mean=found.by_period * ready.unit,
            covariance=found.covariance * ready.unit**2,
            periods=ready.treated,
            fitted=ready.centre + ready.unit * fitted,
            effect=float(effect) * ready.unit,
            standard_error=float(error) * ready.unit,
            lower=lower * ready.unit,
            upper=upper * ready.unit,
            p_value=min(1.0, 2 * min(float(side.cdf(np.zeros(1))[0]) for side in sides)),
        )


def _drawn(found: AverageEffect, rng: np.random.Generator) -> Array:
    return found.mean + found.sd * rng.standard_normal(found.mean.size)


def reach(donors: int, periods: int) -> float:
    """Scale of tau by which about as many donors as expected are not shrunk to nothing (Piironen & Vehtari 2017, 3.3).

    For a history of so many periods, noise as large as the outcome's changes.
    """
    expected = min(_EXPECTED_DONORS, donors / 2)
    return float(expected / max(donors - expected, 0.5) / np.sqrt(periods))


def _log_half_cauchy(score: Array) -> Array:
    """Of the half-Cauchy quantile with this normal score."""
    return np.log(np.sin(np.pi / 2 * sc.ndtr(score))) - np.log(np.sin(np.pi / 2 * sc.ndtr(-score)))


def _log_prior(score: Array, history: History) -> Array:
    """Of the standard deviations, and of the reach of all donors, where there are any: (chains, draws)."""
    density = -0.5 * np.exp(2 * score[..., 0]) - 0.5 * np.exp(2 * score[..., 1])
    if history.donors.size:
        density = density - np.log1p(np.exp(2 * _log_half_cauchy(score[..., 2])))
    return np.asarray(density)


def _checks(standard: Array, rng: np.random.Generator) -> tuple[PredictiveCheck, ...]:
    """Surprises (D, n) beside as many independent standard normal numbers: what they are where the model is right."""
    replicated = rng.standard_normal(standard.shape)
    quarter = -(-standard.shape[1] // 4)
    statistics: dict[str, Callable[[Array], Array]] = {
        "innovation_autocorrelation": lambda u: (u[:, 1:] * u[:, :-1]).sum(axis=1) / (u * u).sum(axis=1),
        "largest_innovation": lambda u: np.abs(u).max(axis=1),
        "recent_drift": lambda u: u[:, -quarter:].sum(axis=1) / np.sqrt(quarter),
    }
    checks = []
    for name, statistic in statistics.items():
        observed, again = statistic(standard), statistic(replicated)
        share = float((again >= observed).mean())
        checks.append(PredictiveCheck(name, 0, float(observed.mean()), float(again.mean()), share))
    return tuple(checks)
