"""Difference-in-differences of units' means before and after their launch (METHODS D2)."""

from __future__ import annotations

from stats.launch.contract import Estimated, NotEstimable, Panel, nothing
from stats.launch.differences import differences
from stats.launch.panel_answer import answer, left_out
from stats.launch.treated_cells import before_launch, usable


def did(panel: Panel, *, level: float = 0.95) -> Estimated:
    """What treated units changed by, less what untreated units changed by over the same periods.

    A unit's change is from the mean of its cells before its launch; treated units count by size, units that never have
    the launch equally. With one launch date and no gaps this is the 2 x 2 estimate, with Welch's standard error and t.
    Unit means answer for dependence between periods (Bertrand, Duflo & Mullainathan 2004 "How much should we trust
    differences-in-differences estimates?"). One treated unit has no spread of its own: its standard error is that of
    untreated changes, s * sqrt(1 + 1 / n), or more if it varied more than they did (see `unit_errors`). Assumes that
    without the launch units had moved in parallel.
    """
    try:
        untreated, treated = usable(panel)
        never = untreated & ~panel.treated[:, None]
        found = differences(panel, treated, before_launch(panel, untreated), never)
        return answer(
            "did",
            found.cells,
            found.errors,
            before=None,
            fitted=found.fitted(found.cells.size),
            notes=left_out(treated, found.cells),
            level=level,
        )
    except NotEstimable as problem:
        return nothing("did", problem.code, periods=panel.y.shape[1])
