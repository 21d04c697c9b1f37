"""How a launched series comes about in the sampled model: parameters from their priors, then period by period."""

from __future__ import annotations

from typing import Final

import numpy as np

from stats.bayes.models.launch_series import LaunchSeriesQuestion, reach
from stats.launch.contract import Series
from stats.launch.series_design import NOISE, STEP, Scales

SCALES: Final = Scales(change=0.02, trend=0.004, swing=0.04)
EFFECT: Final = 0.05


def make_series(
    rng: np.random.Generator,
    *,
    periods: int = 180,
    before: int = 150,
    coefficients: tuple[float, ...] = (0.5, 0.0),
    noise: float = 0.33,
    step: float = 0.15,
    effect: float = 0.0,
    week: float = 1.0,
) -> Series:
    """A daily outcome with a season and donors that wander by themselves; the launch reaches everybody at once."""
    time = np.arange(periods)
    donors = (0.3 * rng.standard_normal((periods, len(coefficients)))).cumsum(axis=0)
    donors += rng.standard_normal(donors.shape)
    coverage = (time >= before).astype(np.float64)
    walk = (step * rng.standard_normal(periods)).cumsum() + noise * rng.standard_normal(periods)
    return Series(
        y=10.0 + walk + donors @ np.array(coefficients) + week * np.sin(2 * np.pi * time / 7) + effect * coverage,
        coverage=coverage,
        excluded=np.zeros(periods, dtype=bool),
        regressors=np.empty((periods, 0)),
        donors=donors,
        season=((7.0, 3),) if week else (),
    )


def simulate(rng: np.random.Generator) -> tuple[dict[str, float], LaunchSeriesQuestion]:
    """Parameters from the priors that the question states, a series with a gap and two donors, a gradual launch."""
    periods, before, number = 75, 60, 2
    excluded = np.zeros(periods, dtype=bool)
    excluded[20:23] = True
    coverage = np.clip((np.arange(periods) - before + 1) / 5, 0.0, 1.0)
    donors, regressor = rng.standard_normal((periods, number)), rng.standard_normal((periods, 1))
    history = np.flatnonzero(~excluded[:before])
    unit, relative = SCALES.change, SCALES.swing / SCALES.change
    noise, step = np.abs(rng.standard_normal(2)) * (NOISE, STEP)
    slab = relative**2 / rng.gamma(2.0, 0.5)
    wide = (reach(number, history.size) * np.abs(rng.standard_cauchy()) * rng.standard_cauchy(number)) ** 2
    on_donors = np.sqrt(wide * slab / (wide + slab)) * rng.standard_normal(number)
    spread, influence_spread = donors[history].std(axis=0), regressor[history].std()
    outcome = (step * rng.standard_normal(periods)).cumsum() + noise * rng.standard_normal(periods)
    outcome += SCALES.trend / unit * rng.standard_normal() * np.arange(periods)
    outcome += relative * rng.standard_normal() * regressor[:, 0] / influence_spread + donors @ (on_donors / spread)
    series = Series(3.0 + unit * outcome + EFFECT * coverage, coverage, excluded, regressor, donors)
    truth = {"effect": EFFECT, "sigma_obs": float(unit * noise), "sigma_level": float(unit * step)}
    return truth, LaunchSeriesQuestion(series, scales=SCALES)
