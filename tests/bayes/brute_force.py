"""Exchangeable effects integrated by brute force: the oracle of the grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc
import scipy.stats as sps

from stats.bayes.models.exchangeable import Exchangeable, pool_questions
from stats.bayes.models.fit import ModelFit
from stats.bayes.normal import prior_mixture
from stats.bayes.prior import Family, Prior


def by_grid(question: Exchangeable) -> ModelFit:
    """The answer of the grid to one question."""
    (found,) = pool_questions([question])
    return found


@dataclass(frozen=True)
class BruteForce:
    """Weights of a fine lattice of (mu, tau), and every effect's mean and sd (E, nodes) there."""

    mu: np.ndarray
    tau: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(
        cls, estimates: np.ndarray, covariance: np.ndarray, scales: np.ndarray, prior: Prior, between: float
    ) -> BruteForce:
        """In the original coordinates: multivariate normals, no rotation, no conjugacy."""
        reach = 8 * max((prior.scale * 1.5, *(sd for _, _, sd in prior.components)))
        reach += abs(prior.mean)
        mu = np.linspace(-reach, reach, 700)  # zero lies between two nodes, so that signs are clear
        tau = between * 5 * ((np.arange(120) + 0.5) / 120) ** 2  # denser where it is small
        log_prior = (
            sps.t.logpdf(mu, 4, prior.mean, prior.scale)
            if prior.family is Family.STUDENT_T4
            else np.log(prior_mixture(prior).density(mu))
        )
        log_weight, means, sds = [], [], []
        for t, step in zip(tau, np.gradient(tau), strict=True):
            spread = np.diag((t * scales) ** 2)
            total = spread + covariance
            gain = spread @ np.linalg.inv(total)
            residual = estimates - mu[:, None] * scales
            quadratic = np.einsum("ni,ij,nj->n", residual, np.linalg.inv(total), residual)
            log_weight.append(
                log_prior
                - 0.5 * quadratic
                - 0.5 * np.linalg.slogdet(total)[1]
                - 0.5 * (t / between) ** 2
                + np.log(step)
            )
            means.append(mu[:, None] * scales + residual @ gain.T)
            sds.append(np.broadcast_to(np.sqrt(np.diag(spread - gain @ spread)), residual.shape))
        flat = np.concatenate(log_weight)
        weight = np.exp(flat - flat.max())
        return cls(
            np.tile(mu, len(tau)), np.repeat(tau, len(mu)), weight / weight.sum(),
            np.concatenate(means).T, np.concatenate(sds).T,
        )  # fmt: skip

    def check(self, found: ModelFit, scales: np.ndarray, rope: float) -> None:
        """Everything that is told of the effects and of both parameters."""
        effects = found.effects
        assert effects is not None
        mean = self.mean @ self.weight
        sd = np.sqrt((self.sd**2 + (self.mean - mean[:, None]) ** 2) @ self.weight)
        np.testing.assert_allclose(effects.log_mean, mean, atol=2e-3 * sd.min())
        np.testing.assert_allclose(effects.log_sd, sd, rtol=2e-3)
        above = sc.ndtr(self.mean / self.sd)
        win = above @ self.weight
        np.testing.assert_allclose(effects.chance_to_win, np.where(scales > 0, win, 1 - win), atol=1e-3)
        gain = (self.sd * sps.norm.pdf(self.mean / self.sd) + self.mean * above) @ self.weight
        better = np.where(scales > 0, effects.expected_loss_of_not_shipping, effects.expected_loss)
        np.testing.assert_allclose(better, gain, rtol=4e-3, atol=1e-3 * sd.min())
        ends = sc.ndtr((rope - self.mean) / self.sd) - sc.ndtr((-rope - self.mean) / self.sd)
        np.testing.assert_allclose(effects.rope_probability, ends @ self.weight, atol=1e-3)
        along = np.sign(scales)[:, None] * np.sign(self.mu)
        against = sc.ndtr(-along * self.mean / self.sd) @ self.weight
        np.testing.assert_allclose(effects.sign_differs, against, atol=2e-3)
        inside = sc.ndtr((np.log1p(effects.hdi_upper)[:, None] - self.mean) / self.sd)
        outside = sc.ndtr((np.log1p(effects.hdi_lower)[:, None] - self.mean) / self.sd)
        np.testing.assert_allclose((inside - outside) @ self.weight, 0.95, atol=3e-3)
        for name, values in (("mean", self.mu), ("between", self.tau)):
            nodes, place = np.unique(values, return_inverse=True)
            weight = np.bincount(place, self.weight)
            low, high = np.interp([0.025, 0.975], np.cumsum(weight) - weight / 2, nodes)
            np.testing.assert_allclose(found.hyper[name], (values @ self.weight, low, high), atol=0.01 * (high - low))
