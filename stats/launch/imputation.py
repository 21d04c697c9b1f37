"""Difference-in-differences by imputation (METHODS D2): what treated cells would have been, from untreated ones alone.

Unit and period effects are fitted to untreated cells; a treated cell's effect is what it exceeds them by (Borusyak,
Jaravel & Spiess 2024 "Revisiting event-study designs"). No cell that is already treated serves as a comparison, which
is what makes two-way regressions wrong where launches are staggered and effects grow (Goodman-Bacon 2021).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stats.launch.contract import Estimated, NotEstimable, Panel, nothing
from stats.launch.leads import lead_times, leads
from stats.launch.panel_answer import Averages, answer, left_out
from stats.launch.reasons import LaunchReason
from stats.launch.treated_cells import TreatedCells, usable
from stats.launch.two_way import TwoWay, two_way
from stats.launch.unit_errors import Errors, few, unit_errors
from stats.moments import Floats, Ints


def imputation(panel: Panel, *, level: float = 0.95, seed: int, draws: int = 999) -> Estimated:
    """The launch's effect on treated units, by imputing what they would have been.

    `effect` is at full coverage, by size over all treated cells. The event study has leads from untreated cells alone;
    its bands are by a multiplier bootstrap of `draws` draws. Assumes that without the launch all units had moved in
    parallel, and that announcements are excluded. Cells without at least 2 untreated units in their period, or of
    units that were never seen untreated, are left out with a note. The interval is by t; its standard error is that of
    theorem 3 of the source, or of the untreated units where few are treated (see `unit_errors`).
    """
    try:
        fit, cells = impute(panel)
        before, counted = lead_times(panel), cells.size > 0
        lead = leads(panel, fit, before)
        _, treated = usable(panel)
        return answer(
            "imputation",
            cells,
            imputation_errors(panel, fit, cells),
            before=Averages(before[lead.known], lead.effect[lead.known], lead.errors.of(lead.known)),
            fitted=cells.size[counted] @ fit.fitted[counted],
            notes=left_out(treated, cells),
            level=level,
            seed=seed,
            draws=draws,
        )
    except NotEstimable as problem:
        return nothing("imputation", problem.code, periods=panel.y.shape[1])


def impute(panel: Panel) -> tuple[TwoWay, TreatedCells]:
    """Effects of untreated cells, and of every treated cell that they say something about. Raises `NotEstimable`."""
    untreated, treated = usable(panel)
    fit = two_way(panel.y, untreated)
    with_history = treated & np.isfinite(fit.unit)[:, None]
    if not with_history.any():
        raise NotEstimable(LaunchReason.TOO_LITTLE_HISTORY)
    beside = _compared(fit)
    known = with_history & (beside >= 2)[None, :]
    if not known.any():
        one = (with_history & (beside == 1)[None, :]).any()
        raise NotEstimable(LaunchReason.TOO_FEW_COMPARISON_UNITS if one else LaunchReason.NO_COMPARISON_UNITS)
    effect = np.where(known, np.where(known, panel.y, 0.0) - np.where(known, fit.fitted, 0.0), 0.0)
    return fit, TreatedCells(panel, known, effect, fit.cells)


def imputation_errors(panel: Panel, fit: TwoWay, cells: TreatedCells) -> Callable[[Floats], Errors]:
    """Errors of averages of imputed effects, for targets (K, N, T) on known cells."""
    comparisons = int(_compared(fit)[cells.periods].min())
    by_untreated = few(cells.size)

    def errors(targets: Floats) -> Errors:
        weights = fit.imputing(targets)
        adds = np.einsum("knt,nt->kn", weights, fit.residual + cells.deviations)
        return unit_errors(
            weights, adds, fit=fit, treated=panel.treated, comparisons=comparisons, by_untreated=by_untreated
        )

    return errors


def _compared(fit: TwoWay) -> Ints:
    """(T,) untreated units that say something of a period: a unit's only cell is used up by its own effect."""
    return np.asarray((fit.cells & (fit.cells.sum(axis=1) >= 2)[:, None]).sum(axis=0))
