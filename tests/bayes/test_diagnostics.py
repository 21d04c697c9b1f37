"""Diagnostics of chains, against those of ArviZ (METHODS I3)."""

from __future__ import annotations

import numpy as np
from arviz_stats.base import array_stats

from stats.bayes.diagnostics import diagnose, ess_bulk, ess_tail, r_hat


def test_diagnostics_equal_those_of_arviz() -> None:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((4, 800))
    walk = np.empty_like(noise)
    walk[:, 0] = noise[:, 0]
    for step in range(1, 800):
        walk[:, step] = 0.7 * walk[:, step - 1] + noise[:, step]
    for draws in (noise, walk, np.exp(walk), walk + np.array([[0.0], [0.5], [0.0], [0.0]])):
        np.testing.assert_allclose(r_hat(draws), array_stats.rhat(draws, method="rank"), rtol=1e-6)
        np.testing.assert_allclose(ess_bulk(draws), array_stats.ess(draws, method="bulk"), rtol=0.02)
        np.testing.assert_allclose(ess_tail(draws), array_stats.ess(draws, method="tail", prob=(0.05, 0.95)), rtol=0.03)
    apart = noise + np.arange(4)[:, None]
    assert "R-hat" in diagnose({"x": apart}, 0).problem
    assert "divergent" in diagnose({"x": noise}, 3).problem
    assert diagnose({"x": noise}, 0).problem == ""
