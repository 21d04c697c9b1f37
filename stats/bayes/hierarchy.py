"""Effects that are alike and estimates that see them, with or without correlated errors (METHODS A15, C4).

Effects of one family are exchangeable in units of their own scale: `effect_e = scale_e (mu + tau u_e)`, u standard
normal, `mu` from the prior and `tau ~ HalfNormal(between_scale)`. They are seen through `estimate ~ N(effect, S)` with
S known. Divided by the scales and rotated by the eigenvectors of S the estimates become independent,
`value_i ~ N(loading_i mu, variance_i + tau²)`, so two parameters are left, whatever the number of effects, and given
those two every effect is exactly normal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.bayes.prior import Family, Prior

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type BoolArray = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

TAU_SHARE: Final = 0.5
"""Effects of one family seldom differ by more than effects are large: tau ~ HalfNormal(TAU_SHARE x prior scale)."""
_SMALLEST_VARIANCE: Final = 1e-10
"""Of an estimate in units of the largest: two metrics that measure the same leave a direction without any error."""


def usable(estimates: Array, errors: Array) -> BoolArray:
    """Which estimates carry information: finite, with a finite positive standard error."""
    return np.asarray(np.isfinite(estimates) & np.isfinite(errors) & (errors > 0))


def between_scale(prior: Prior) -> float:
    """Scale of tau's prior: half the prior's standard deviation; a flat prior says nothing here, the default does."""
    if prior.family is Family.STUDENT_T4:
        return TAU_SHARE * prior.scale * float(np.sqrt(2.0))
    return TAU_SHARE * (Prior.default().scale if prior.is_flat else prior.scale)


@dataclass(frozen=True, slots=True, eq=False)
class Hierarchy:
    """One family: `value`, `loading`, `variance` (E,) in rotated coordinates, `rotation` (E, E) back to effects.

    `rotation` is None where errors are independent. `scale` (E,) gives every effect its unit, with a sign where a
    smaller number is the better one. `prior` is that of mu, `between_scale` that of tau.
    """

    value: Array
    loading: Array
    variance: Array
    rotation: Array | None
    scale: Array
    prior: Prior
    between_scale: float

    @classmethod
    def independent(cls, estimates: Array, errors: Array, prior: Prior, between: float) -> Hierarchy:
        """Effects in units of their own, from estimates and standard errors (E,) of disjoint units."""
        one = np.ones(len(estimates))
        return cls(estimates, one, errors**2, None, one, prior, between)

    @classmethod
    def correlated(cls, estimates: Array, covariance: Array, scale: Array, prior: Prior, between: float) -> Hierarchy:
        """From estimates (E,) with error covariance (E, E), both in units of the data.

        Raises `ValueError` for a covariance that is none: not symmetric, or negative in some direction.
        """
        scaled = covariance / np.multiply.outer(scale, scale)
        if not (np.isfinite(scaled).all() and np.allclose(scaled, scaled.T, rtol=1e-8, atol=1e-12)):
            raise ValueError("a covariance of errors must be finite and symmetric")
        variance, rotation = np.linalg.eigh((scaled + scaled.T) / 2)
        largest = variance[-1]
        if not (largest > 0 and variance[0] > -1e-8 * largest):
            raise ValueError("a covariance of errors must not be negative in any direction")
        rotated = rotation.T @ np.stack([estimates / scale, np.ones(len(scale))], axis=1)
        return cls(
            rotated[:, 0],
            rotated[:, 1],
            np.maximum(variance, _SMALLEST_VARIANCE * largest),
            rotation,
            scale,
            prior,
            between,
        )

    def given_tau(self, tau: Array) -> tuple[Array, Array, Array]:
        """Every effect (E, D) as `offset + slope mu + sd` noise, for each tau (D,)."""
        keep = tau**2 / (tau**2 + self.variance[:, None])  # how much of an estimate survives
        offset, slope = keep * self.value[:, None], (1 - keep) * self.loading[:, None]
        variance = keep * self.variance[:, None]
        if self.rotation is not None:
            offset, slope, variance = self.rotation @ offset, self.rotation @ slope, self.rotation**2 @ variance
        scale = self.scale[:, None]
        return scale * offset, scale * slope, np.abs(scale) * np.sqrt(variance)

    def drawn(self, mu: Array, tau: Array, rng: np.random.Generator) -> Array:
        """One joint draw of all effects (D, E) for each of D pairs of mu and tau."""
        keep = tau[:, None] ** 2 / (tau[:, None] ** 2 + self.variance)
        mean = keep * self.value + (1 - keep) * self.loading * mu[:, None]
        effects = mean + np.sqrt(keep * self.variance) * rng.standard_normal(mean.shape)
        return np.asarray(self.scale * (effects if self.rotation is None else effects @ self.rotation.T))

    def standardised_residuals(self, mu: Array, tau: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Largest |residual| of any estimate in standard deviations (D,): of the data, and of a replication each."""
        total = np.sqrt(self.variance + tau[:, None] ** 2)
        seen = self.value - self.loading * mu[:, None]
        again = total * rng.standard_normal(total.shape)
        spread = total
        if self.rotation is not None:
            seen, again = seen @ self.rotation.T, again @ self.rotation.T
            spread = np.sqrt(total**2 @ (self.rotation**2).T)
        return np.abs(seen / spread).max(axis=1), np.abs(again / spread).max(axis=1)
