"""A rollout whose order was drawn by lot is an experiment: how often would another order show as much (METHODS D6)?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stats.launch.contract import NotEstimable, Panel
from stats.launch.imputation import imputation_errors, impute
from stats.launch.panel_answer import overall
from stats.moments import Bools

SAME = 1e-9
"""Statistics this close (relatively) are ties, which count against the launch."""


def permuted_order(panel: Panel, *, seed: int, draws: int = 499, eligible: Bools | None = None) -> float:
    """Randomisation p-value that the launch did nothing to any unit: (1 + as extreme) / (draws + 1).

    Rows of coverage and of excluded cells are dealt anew to the units that were in the lot, `eligible` (N,), by default
    all: units that could not have been drawn must be named as not eligible, they stay as they are. The statistic is the
    absolute effect by imputation over its standard error. The p-value is exact under the hypothesis whatever the noise
    is (Fisher 1935); an order that leaves the effect without an estimate counts as extreme. Raises `NotEstimable`
    where the order that was drawn does.
    """
    observed = _statistic(panel)
    lot = np.flatnonzero(np.ones(len(panel.y), dtype=np.bool_) if eligible is None else eligible)
    rng = np.random.default_rng(seed)
    extreme = 0
    for _ in range(draws):
        dealt = np.arange(len(panel.y))
        dealt[lot] = rng.permutation(lot)
        extreme += _at_least(replace(panel, coverage=panel.coverage[dealt], excluded=panel.excluded[dealt]), observed)
    return (1 + extreme) / (draws + 1)


def _statistic(panel: Panel) -> float:
    fit, cells = impute(panel)
    effect, error, _ = overall(cells, imputation_errors(panel, fit, cells))
    return abs(effect) / error


def _at_least(panel: Panel, observed: float) -> bool:
    try:
        return _statistic(panel) >= observed * (1 - SAME)
    except NotEstimable:
        return True
