"""Coordinates in which the posterior of arms around a control is round (METHODS C2).

Given the control the arms are independent, so the precision matrix of their log means is an arrowhead and its Cholesky
factor is closed form. With draws `z` of order one, `position = centre + pull * z[control] + width * z` has independent
standard normal `z` where the posterior is normal: as few leapfrog steps whatever the sizes of arms and priors. The map
is affine with data for coefficients: it changes how fast a sampler is, not what it samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.bayes.models.lift_prior import local_normal
from stats.bayes.sampling.contract import Array

_STEPS: Final = 40
_LONGEST_STEP: Final = 1.0


@dataclass(frozen=True, slots=True)
class Local:
    """At one position of every arm, arrays (A,): the log likelihood's slope and its information (minus curvature, > 0),

    the log of the arm's mean and how fast that changes with position (> 0).
    """

    slope: Array
    information: Array
    log_mean: Array
    log_mean_slope: Array


@dataclass(frozen=True, slots=True)
class RoundMap:
    """`position = centre + pull * z[0] + width * z`, arrays (A,) with control first; `pull[0]` is 0."""

    centre: Array
    pull: Array
    width: Array

    @property
    def spread(self) -> Array:
        """Standard deviation of each position in the normal approximation."""
        return np.hypot(self.width, self.pull)

    def padded(self, size: int) -> Mapping[str, Array]:
        """As data of a model of `size` arms; empty arms stay at zero with unit width."""
        return {
            "centre": padded(self.centre, size),
            "pull": padded(self.pull, size),
            "width": padded(self.width, size, 1.0),
        }


def padded(values: Array, size: int, filler: float = 0.0) -> Array:
    """Values (A,) or (A, ...) with rows of `filler` appended up to `size` of them."""
    values = np.asarray(values, dtype=np.float64)
    return np.concatenate([values, np.full((size - len(values), *values.shape[1:]), filler)])


def round_map(
    local: Callable[[Array], Local], start: Array, baseline: tuple[float, float], lift_prior: Array
) -> RoundMap:
    """The map at the posterior mode of the arms' positions, by Newton steps from `start` (A,).

    `baseline` is location and scale of the normal prior of the control's log mean, `lift_prior` the components (K, 4)
    of the prior of every log lift.
    """
    location, scale = baseline
    position = np.array(start, dtype=np.float64)
    for _ in range(_STEPS):
        at = local(position)
        control, arms = at.log_mean_slope[0], at.log_mean_slope[1:]
        precision, mean = local_normal(at.log_mean[1:] - at.log_mean[0], lift_prior)
        gap = at.log_mean[1:] - at.log_mean[0] - mean
        stiffness = at.information[1:] + precision * arms**2
        alone = (at.slope[1:] - precision * arms * gap) / stiffness
        follows = precision * arms * control / stiffness
        # What is left of the control's slope and information once every arm has followed it.
        kept = precision * control**2 * at.information[1:] / stiffness
        slope = at.slope[0] - control * (at.log_mean[0] - location) / scale**2
        slope += (precision * control * (gap + arms * alone)).sum()
        information = at.information[0] + (control / scale) ** 2 + kept.sum()
        first = slope / information
        step = np.concatenate([[first], alone + follows * first])
        position = position + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        if np.abs(step).max() < 1e-6:
            break
    width = information**-0.5
    return RoundMap(
        centre=position,
        pull=np.concatenate([[0.0], follows * width]),
        width=np.concatenate([[width], stiffness**-0.5]),
    )
