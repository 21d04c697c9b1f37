"""The intervals of all rows at other levels than the plan's: what corrections need (METHODS A11, B1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.evidence.effects import Effects
from experiments.evidence.rows import nulls
from stats import always_valid
from stats.moments import Floats

type Bound = list[float | None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Intervals in step with the rows, None where there is none."""

    lift_lower: Bound
    lift_upper: Bound
    difference_lower: Bound
    difference_upper: Bound


@dataclass(slots=True, eq=False)
class Levels:
    """Intervals of the rows of all blocks, in the order of the rows: by block, metric, cell and variant.

    `heads` are the blocks' effects with cells (1 + segments,).
    """

    heads: Sequence[Effects]
    alpha: float
    _fixed: dict[float, Bounds] = field(default_factory=dict)

    def fixed(self, level: float) -> Bounds:
        """Fixed-horizon intervals at `level`."""
        if level not in self._fixed:
            found = [head.at(level) for head in self.heads]
            lifts, differences = [item.lift for item in found], [item.difference for item in found]
            self._fixed[level] = Bounds(
                *(
                    [number for numbers in kind for number in _listed(getattr(numbers, end))]
                    for kind in (lifts, differences)
                    for end in ("ci_lower", "ci_upper")
                )
            )
        return self._fixed[level]

    def always_valid(self, share: float) -> tuple[Bound, Bound]:
        """Always-valid intervals of the lift with error `share` of alpha each.

        The mixture stays the one tuned for alpha, so that an interval excludes zero exactly when the always-valid
        p-value is at most that error.
        """
        lower: Bound = []
        upper: Bound = []
        for head in self.heads:
            low, high = _widened(head, share, self.alpha)
            lower += _listed(low)
            upper += _listed(high)
        return lower, upper


def _listed(array: Any) -> Bound:
    """(cells, V-1, M) in the order of rows."""
    found: Bound = nulls(np.moveaxis(array, -1, 0).reshape(-1))
    return found


def _widened(effects: Effects, share: float, alpha: float) -> tuple[Floats, Floats]:
    """Always-valid bounds widened on the scale on which they are symmetric, the log lift or the lift itself (A3)."""
    av = effects.always
    by_log = effects.lift.interval_kind == "log_delta"
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = (np.where(by_log, np.log1p(bound), bound) for bound in (av.lower, av.upper))
        ratio = always_valid.widened(av.weight, alpha, share)
        middle, half = (low + high) / 2, (high - low) / 2 * ratio
        found = [np.where(by_log, np.expm1(bound), bound) for bound in (middle - half, middle + half)]
    return found[0], found[1]
