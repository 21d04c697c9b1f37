"""What the launch may have moved although it should not have: donors and regressors, one by one (METHODS D4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

from experiments.evidence.launch.data import LaunchData
from stats.launch.structural import structural_many
from stats.moments import Bools, Floats
from stats.multiplicity import adjusted

FALSE_DISCOVERIES: Final = 0.05
"""Share of false alarms among suspects (Benjamini & Hochberg 1995)."""
WORTH_LEAVING_OUT: Final = 0.25
"""A donor that moved by less than this share of the outcome's own change does not change the answer."""
FEWEST_PEERS: Final = 3
"""With fewer untreated segments, nobody can say which of them moved apart from the others."""
ANTICIPATED: Final = 0.001
"""Below this the outcome moved before the launch; a level that drifts passes 0.01 too often."""


@dataclass(frozen=True, slots=True)
class Touched:
    """Names of what must be left out, and how many were tested.

    `copies` are donors that are the outcome itself under another name. `anticipation` is the p-value of a change in the
    last periods before the launch, nan where there is too little history to tell.
    """

    copies: tuple[str, ...] = ()
    donors: tuple[str, ...] = ()
    donors_tested: int = 0
    regressors: tuple[str, ...] = ()
    regressors_tested: int = 0
    anticipation: float = float("nan")

    @property
    def left_out(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.copies, *self.donors, *self.regressors)


def touched(data: LaunchData) -> Touched:
    """Test what is held against the outcome for a change at the launch of its own.

    Untreated segments are tested against the median of all of them: a holiday that hits every segment at the launch is
    what comparisons are for, and no suspicion. Control series and regressors are tested as they are.
    """
    if data.reason:
        return Touched()
    copies = _copies(data)
    rest = data.without(copies)
    columns, peers = rest.series.donors, slice(rest.controls, None)
    if columns.shape[1] - rest.controls >= FEWEST_PEERS:
        columns = columns.copy()
        columns[:, peers] -= _common(columns[:, peers], rest.launched)
    own = structural_many(rest.series.y[None, :], rest.series.coverage, rest.series.excluded, rest.series.season)[0][0]
    moved, effect = _moved(columns, rest)
    moved &= np.abs(effect) >= WORTH_LEAVING_OUT * abs(float(own))
    regressors, _ = _moved(rest.series.regressors, rest)
    return Touched(
        copies=copies,
        donors=_named(rest.donors, moved),
        donors_tested=len(rest.donors),
        regressors=_named(rest.regressors, regressors),
        regressors_tested=len(rest.regressors),
        anticipation=_anticipation(rest),
    )


def _copies(data: LaunchData) -> tuple[str, ...]:
    """Donors that go up and down exactly as the outcome does, after the launch too."""
    step = np.diff(data.series.y)
    known = np.isfinite(step)
    if not known.any():
        return ()
    scale = float(np.abs(step[known]).max())
    apart = np.abs(np.diff(data.series.donors, axis=0)[known] - step[known, None])
    return _named(data.donors, (apart <= 1e-9 * scale).all(axis=0))


def _common(columns: Floats, launched: int) -> Floats:
    """(T, 1) the median of the segments, each around its own mean before the launch."""
    centred = columns - columns[:launched].mean(axis=0)
    return np.asarray(np.median(centred, axis=1)[:, None], dtype=np.float64)


def _moved(columns: Floats, data: LaunchData) -> tuple[Bools, Floats]:
    """(J,) whether each column changed with the coverage of the launch, and by how much."""
    if not columns.shape[1]:
        return np.zeros(0, dtype=np.bool_), np.zeros(0)
    effect, error = structural_many(columns.T, data.series.coverage, data.series.excluded, data.series.season)
    known = np.isfinite(effect) & (error > 0)
    z = np.divide(np.abs(effect), error, out=np.zeros_like(effect), where=known)
    p = np.where(known, 2 * sc.ndtr(-z), np.nan)
    return np.asarray(adjusted(p, "benjamini_hochberg") < FALSE_DISCOVERIES, dtype=np.bool_), effect


def _named(names: Sequence[str], which: Bools) -> tuple[str, ...]:
    return tuple(name for name, is_meant in zip(names, which, strict=True) if is_meant)


_LAST: Final = {"hour": 24, "day": 7, "week": 2}
_HISTORY: Final = 5


def _anticipation(data: LaunchData) -> float:
    """The p-value of a change in the last day, week or fortnight before anybody had it or knew of it, or in half of it.

    Of two tests the smaller p-value, doubled.
    """
    usable = ~data.series.excluded[: data.launched]
    end = int(np.flatnonzero(usable)[-1]) + 1 if usable.any() else 0
    last = _LAST[data.grain]
    if end < _HISTORY * last:
        return float("nan")
    outcome = data.series.y[:end]
    peers = data.series.donors[:end, data.controls :]
    if peers.shape[1] >= FEWEST_PEERS:
        outcome = outcome - np.median(peers - peers.mean(axis=0), axis=1)
    smallest = float("nan")
    for length in (last, -(-last // 2)):
        late = np.zeros(end)
        late[-length:] = 1.0
        effect, error = structural_many(outcome[None, :], late, data.series.excluded[:end], data.series.season)
        if error[0] > 0:
            smallest = np.fmin(smallest, 4 * sc.ndtr(-abs(effect[0] / error[0])))
    return float(np.fmin(smallest, 1.0)) if np.isfinite(smallest) else smallest
