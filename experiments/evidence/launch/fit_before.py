"""How weighted donors follow the treated segments before the launch (METHODS D3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from experiments.evidence.launch.data import LaunchData
from experiments.evidence.launch.natural_units import unexplained
from stats.launch.synthetic_control import DOMINANT, POOR_FIT, Synthetic

NOISE: Final = 1.5
"""Gaps before the launch that are this much larger than their noise from period to period are more than noise."""
USUAL: Final = 1.5
"""Gaps this much larger than those of donors weighted in the same way are more than what these segments do anyway."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The weights and their gaps before the launch: whether these `follow` the treated, and no donor dominates."""

    synthetic: Synthetic
    share_of_effect: float
    largest_weight: float
    follows: bool

    @property
    def good(self) -> bool:
        return self.follows and self.largest_weight <= DOMINANT


def fit_before(data: LaunchData, made: Synthetic) -> Fit:
    """The fit of weights that could be found.

    METHODS D3 rejects one whose gaps exceed a quarter of the effect. Noise that comes anew every period averages out
    over the periods measured, however small the effect; and gaps that last are in the standard error already where
    they are those of every segment, because placebos have them as well. What is left is a treated segment that drifts
    away from donors which follow each other.
    """
    effect, largest = abs(made.estimated.effect), float(np.abs(made.weights).max())
    share = made.pre_rmspe / effect if effect > 0 else float("inf")
    return Fit(made, share, largest, follows=share <= POOR_FIT or _as_usual(made) or not _drifts(data, made))


def _as_usual(made: Synthetic) -> bool:
    return made.pre_rmspe <= USUAL * made.usual_rmspe


def _drifts(data: LaunchData, made: Synthetic) -> bool:
    """Whether gaps before the launch are more than noise from one period to the next (von Neumann 1941)."""
    known, gap = unexplained(data, made.estimated)
    past = gap[: data.launched][known[: data.launched]]
    if past.size < 3:
        return True
    past = past - past.mean() if made.estimated.method == "synthetic_did" else past
    noise = float(np.sqrt(np.mean(np.diff(past) ** 2) / 2))
    return float(np.sqrt(np.mean(past**2))) > NOISE * noise
