"""Group-time average effects (METHODS D2): each launch date against units without it, from the period before."""

from __future__ import annotations

import numpy as np

from stats.launch.contract import Estimated, NotEstimable, Panel, nothing
from stats.launch.differences import differences
from stats.launch.leads import lead_times
from stats.launch.panel_answer import Averages, answer, left_out
from stats.launch.reasons import LaunchReason
from stats.launch.treated_cells import TreatedCells, before_launch, since_launch, usable
from stats.moments import Bools

NOT_YET_TREATED = "compared_with_units_not_yet_launched"


def group_time(panel: Panel, *, level: float = 0.95, seed: int, draws: int = 999) -> Estimated:
    """The launch's effect on treated units, from average effects of each launch date in each period.

    ATT(g, t) is what the units launched at g changed by since the base period, less the same of units that never have
    the launch; where fewer than 2 never do, of units that do not have it yet, with a note (Callaway & Sant'Anna 2021
    "Difference-in-differences with multiple time periods"). The base is each unit's last usable period before its
    launch, announced ones excluded, also of effects at times before the launch. Averages are by size. The base is one
    period, so errors are larger than those of `imputation` unless outcomes drift like random walks, but parallel
    movement is assumed from that period on only. Bands are by a multiplier bootstrap of `draws` draws.
    """
    try:
        untreated, treated = usable(panel)
        before = before_launch(panel, untreated)
        never = untreated & ~panel.treated[:, None]
        enough = never.any(axis=1).sum() >= 2
        base = before & (np.arange(panel.y.shape[1]) == _last(before)[:, None])
        since = since_launch(panel)
        early = before & ~base & (since >= lead_times(panel).min(initial=0))
        found = differences(panel, treated | early, base, never if enough else untreated)
        cells = found.cells
        after = TreatedCells(panel, cells.known & treated, np.where(treated, cells.effect, 0.0), untreated)
        if not after.known.any():
            return nothing("group_time", LaunchReason.TOO_FEW_COMPARISON_UNITS, periods=panel.y.shape[1])
        times = np.unique(since[cells.counted & early])
        targets = cells.of_times(times)
        return answer(
            "group_time",
            after,
            found.errors,
            before=Averages(times, np.einsum("knt,nt->k", targets, cells.effect), found.errors(targets)),
            fitted=found.fitted(after.size),
            notes=(*(() if enough else (NOT_YET_TREATED,)), *left_out(treated, after)),
            level=level,
            seed=seed,
            draws=draws,
        )
    except NotEstimable as problem:
        return nothing("group_time", problem.code, periods=panel.y.shape[1])


def _last(cells: Bools) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    """(N,) the last period in which a unit has such a cell, -1 where it has none."""
    return np.where(cells.any(axis=1), cells.shape[1] - 1 - cells[:, ::-1].argmax(axis=1), -1)
