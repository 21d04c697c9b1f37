"""How a ledger comes about: parameters from their priors, effects, what was shipped, then week by week (METHODS F6)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stats.bayes.models.ledger import LedgerQuestion
from stats.ledger.contract import LedgerData, LedgerPriors

TYPICAL = {
    "mean": 0.001,
    "tau": 0.006,
    "kappa": 0.9,
    "scatter": 0.002,
    "remaining": 0.85,
    "weeks": 6.0,
    "noise": 0.01,
    "level_step": 0.004,
    "slope_step": 0.0002,
}
PRIORS = LedgerPriors()


def from_priors(rng: np.random.Generator, priors: LedgerPriors = PRIORS) -> dict[str, float]:
    """One value of each scalar."""
    found = {}
    for name in TYPICAL:
        prior = getattr(priors, name)
        z = float(rng.standard_normal())
        found[name] = prior[0] * np.exp(prior[1] * z) if isinstance(prior, tuple) else prior * abs(z)
    return found | {"mean": float(priors.mean * rng.standard_normal())}


def make_ledger(
    rng: np.random.Generator,
    scalars: Mapping[str, float] = TYPICAL,
    *,
    weeks: int = 104,
    experiments: int = 60,
    blind: int = 6,
    influences: int = 2,
    holdout: bool = False,
    measured: int = 2,
    threshold: float = 1.645,
    priors: LedgerPriors = PRIORS,
) -> tuple[LedgerData, dict[str, float]]:
    """Winners are shipped, the first of them twice, by half each; some persistences are measured, one week is unknown.

    Returns the truths beside the data: the scalars, what launches do together in the last week, and `theta[0]`.
    """
    known = dict(scalars)
    mean, tau, kappa = known["mean"], known["tau"], known["kappa"]
    tails = rng.standard_t(priors.nu, experiments) if np.isfinite(priors.nu) else rng.standard_normal(experiments)
    delta, error = mean + tau * tails, 0.006 * np.exp(0.4 * rng.standard_normal(experiments))
    bias = np.where(np.arange(experiments) % 10 == 9, 0.004, 0.0)
    estimate = delta + np.hypot(error, bias) * rng.standard_normal(experiments)
    shipped = np.flatnonzero(estimate > threshold * error)
    source = np.concatenate([shipped[:1], shipped, np.full(blind, -1)]).astype(np.intp)
    launches = source.size
    centre = np.where(source >= 0, kappa * np.append(delta, 0.0)[source], kappa * mean)
    spread = np.where(source >= 0, known["scatter"], np.hypot(kappa * tau, known["scatter"]))
    theta = centre + spread * rng.standard_normal(launches)
    begun = rng.integers(weeks // 10, weeks - 3, launches)
    time = np.arange(weeks)
    coverage = np.clip((time[:, None] - begun + 1) / rng.integers(1, 4, launches), 0, 1)
    if shipped.size:
        coverage[:, :2] /= 2
    remaining, lasting, lasting_sd = np.full(launches, known["remaining"]), *np.full((2, launches), np.nan)
    lasting[:measured], lasting_sd[:measured] = 0.7, 0.2
    remaining[:measured] = 0.7 * np.exp(0.2 * rng.standard_normal(min(measured, launches)))
    constant = np.full(launches, np.nan)
    constant[:1] = 4.0
    fading = np.exp(-np.maximum(time[:, None] - begun, 0) / np.where(np.isfinite(constant), constant, known["weeks"]))
    path = coverage * (remaining + (1 - remaining) * fading)
    slope = priors.slope * rng.standard_normal() + known["slope_step"] * np.append(
        0.0, rng.standard_normal(weeks - 1).cumsum()
    )
    level = 10 + np.append(0.0, slope[:-1].cumsum()) + known["level_step"] * rng.standard_normal(weeks).cumsum()
    turns = 2 * np.pi * np.arange(1, 3)[:, None] * time / 52.18
    season = priors.season * rng.standard_normal(4) @ np.vstack([np.sin(turns), np.cos(turns)])
    outside = rng.standard_normal((weeks, influences))
    series = level + season + outside @ (priors.influence * rng.standard_normal(influences)) + path @ theta
    series += known["noise"] * rng.standard_normal(weeks)
    together = float(path[-1] @ theta)
    held = int(holdout)
    data = LedgerData(
        log_values=np.where(time == weeks // 3, np.nan, series),
        season_phase=time / 52.18,
        influences=outside,
        estimate=estimate,
        error=error,
        bias_sd=bias,
        source=source,
        coverage=coverage,
        remaining=lasting,
        remaining_log_sd=lasting_sd,
        time_constant=constant,
        held_out=np.ones((held, launches)),
        holdout_week=np.full(held, weeks - 1),
        holdout_estimate=together + 0.01 * rng.standard_normal(held),
        holdout_error=np.full(held, 0.01),
    )
    return data, known | {"launches": together} | {f"theta[{j}]": float(effect) for j, effect in enumerate(theta[:1])}


def simulate(rng: np.random.Generator) -> tuple[dict[str, float], LedgerQuestion]:
    """A ledger of two years whose parameters are from the priors, for calibration."""
    data, truth = make_ledger(rng, from_priors(rng), experiments=40, blind=3, holdout=bool(rng.integers(2)))
    return truth, LedgerQuestion(data)
