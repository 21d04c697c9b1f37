"""Many arms against one control, shrunk towards each other: which is the best (METHODS C4, C5)?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from stats.bayes.hierarchy import Array, BoolArray, Hierarchy, between_scale, usable
from stats.bayes.models.arm_effects import shortest
from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.exchangeable import Exchangeable
from stats.bayes.models.family_effects import densities
from stats.bayes.models.fit import ArmPosteriors, Method, ModelFit
from stats.bayes.normal import Direction
from stats.bayes.pooling import Joint
from stats.bayes.prior import Prior

NO_CONTROL: Final = "the control has no estimate"
TOO_FEW: Final = "fewer than two treatments have an estimate"
_DRAWS: Final = 4000


@dataclass(frozen=True, slots=True, eq=False)
class ArmsQuestion(Exchangeable):
    """Log means and their standard errors (A,) of all arms, control first, and the prior of a treatment's log lift.

    `covariance` (A, A) takes the place of squared `errors` where arms' estimates are correlated (adjusted by the same
    covariates). The control's log mean has a flat prior, so only differences matter to the effects; they share the
    control, which is why a lucky control is not mistaken for bad treatments. Treatments without an estimate are left
    out and come back as NaN. `hyper` has the `mean` log lift of such treatments and the sd `between` them.
    """

    log_means: Array
    errors: Array
    prior: Prior
    direction: Direction = "increase"
    rope: float = 0.005
    level: float = 0.95
    covariance: Array | None = None

    @property
    def present(self) -> BoolArray:
        """(A,) which arms have an estimate."""
        if self.covariance is None:
            return usable(self.log_means, self.errors)
        return usable(self.log_means, np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0)))

    @property
    def known(self) -> BoolArray:
        """(A - 1,) which treatments have an estimate."""
        return self.present[1:]

    def hierarchy(self) -> Hierarchy:
        """Log lifts of treatments that have an estimate. Raises `ImpossibleData` without a control, or without two."""
        present = self.present
        if not present[0]:
            raise ImpossibleData(NO_CONTROL)
        if present.sum() < 3:
            raise ImpossibleData(TOO_FEW)
        means, joint = self.log_means[present], self._errors()
        lifts = means[1:] - means[0]
        shared = joint[1:, 1:] - joint[1:, :1] - joint[:1, 1:] + joint[0, 0]
        try:
            return Hierarchy.correlated(lifts, shared, np.ones(lifts.size), self.prior, between_scale(self.prior))
        except ValueError as error:
            raise ImpossibleData(str(error)) from error

    def told(self, joint: Joint, seed: int, method: Method) -> ModelFit:
        """See `Exchangeable.told`; here with all arms, by joint draws of their log means."""
        fit = Exchangeable.told(self, joint, seed, method)
        family = self.hierarchy()
        rng = np.random.default_rng(seed)
        lifts = np.pad(family.drawn(*joint.drawn(_DRAWS, rng), rng), ((0, 0), (1, 0)))
        logs = lifts + self._control(lifts, rng)[:, None]
        best = np.argmax(logs if self.direction == "increase" else -logs, axis=1)
        means = np.exp(logs)
        lower, upper = shortest(means, self.level)
        arms = ArmPosteriors(
            mean=self._everywhere(means.mean(axis=0)),
            hdi_lower=self._everywhere(lower),
            hdi_upper=self._everywhere(upper),
            chance_to_be_best=self._everywhere(np.bincount(best, minlength=logs.shape[1]) / len(best)),
        )
        return replace(fit, arms=arms, densities=densities(family, joint))

    def _errors(self) -> Array:
        """Covariance of the log means of the arms that are there."""
        present = self.present
        if self.covariance is None:
            return np.diag(self.errors[present] ** 2)
        return self.covariance[present][:, present]

    def _control(self, lifts: Array, rng: np.random.Generator) -> Array:
        """The control's log mean (D,) given lifts (D, A): what every arm, less its lift, says of it."""
        solved = np.linalg.solve(self._errors(), np.ones(lifts.shape[1]))
        precision = solved.sum()
        centre = (self.log_means[self.present] - lifts) @ solved / precision
        return np.asarray(centre + rng.standard_normal(len(lifts)) / np.sqrt(precision))

    def _everywhere(self, values: Array) -> Array:
        every = np.full(self.present.shape, np.nan)
        every[self.present] = values
        return every
