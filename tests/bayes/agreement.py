"""Whether two sets of draws are of the same posterior, within Monte-Carlo error."""

from __future__ import annotations

from typing import Any

import numpy as np

from stats.bayes.diagnostics import ess_bulk


def sampled(model: Any, kept: tuple[str, ...], *, seed: int) -> dict[str, np.ndarray]:
    """Draws (chains, draws, ...) of a PyMC model that is compiled for this one time, as a user would."""
    import nutpie

    compiled = nutpie.compile_pymc_model(model, var_names=list(kept))
    tree = nutpie.sample(
        compiled, draws=1000, tune=500, chains=4, cores=2, seed=seed, target_accept=0.9, progress_bar=False
    )
    return {name: np.asarray(tree.posterior[name]) for name in kept}


def assert_same(draws: np.ndarray, other: np.ndarray, name: str = "") -> None:
    """Means within 4 of their errors and log standard deviations within 4 of theirs; both (chains, draws)."""
    (mean, error), (other_mean, other_error) = _mean(draws), _mean(other)
    assert abs(mean - other_mean) < 4 * np.hypot(error, other_error), f"mean of {name}: {mean} and {other_mean}"
    (log_sd, error), (other_sd, other_error) = _log_sd(draws), _log_sd(other)
    assert abs(log_sd - other_sd) < 4 * np.hypot(error, other_error), f"log sd of {name}: {log_sd} and {other_sd}"


def assert_moments(draws: np.ndarray, mean: float, sd: float, name: str = "") -> None:
    """The same against exact numbers."""
    found, error = _mean(draws)
    assert abs(found - mean) < 4 * error, f"mean of {name}: {found} is not {mean}"
    log_sd, error = _log_sd(draws)
    assert abs(log_sd - np.log(sd)) < 4 * error, f"sd of {name}: {np.exp(log_sd)} is not {sd}"


def _mean(draws: np.ndarray) -> tuple[float, float]:
    return float(draws.mean()), float(draws.std() / np.sqrt(ess_bulk(draws)))


def _log_sd(draws: np.ndarray) -> tuple[float, float]:
    squares = (draws - draws.mean()) ** 2
    relative = squares.std() / squares.mean() / np.sqrt(ess_bulk(squares))
    return float(np.log(draws.std())), float(relative / 2)
