"""The segment model in PyMC: (mu, tau) by NUTS, segment effects exactly given each draw (METHODS C4).

The model is compiled once per process and re-used with new data, whatever the number of segments: the likelihood is
collapsed, so no parameter has the length of the data. Importing this module does not import PyMC; the first fit does,
and costs 10-20 CPU seconds for import and compilation. Later fits cost about 0.1 CPU seconds for up to ten segments
and 0.5 for 128, a second attempt included where the first one had divergences (up to one family in five).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final

import numpy as np
import scipy.special as sc

from stats.bayes.diagnostics import Diagnostics, diagnose
from stats.bayes.mixture import Mixture
from stats.bayes.prior import Prior
from stats.bayes.segments import TAU_SHARE, TOO_FEW, SegmentPosterior, check_inputs, estimable_segments

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

POLL_SECONDS: Final = 0.05
_THIN: Final = 4
_ONE_COMPILATION = threading.Lock()


class FitCancelled(Exception):
    """`should_cancel` asked for the end; sampling was aborted and its threads end within milliseconds."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How hard to sample. A failed first attempt is repeated once, twice as long and with smaller steps."""

    chains: int = 4
    tune: int = 500
    draws: int = 1000
    target_accept: float = 0.9
    cores: int = 2
    patience_seconds: float = 30.0

    def harder(self) -> Sampling:
        """The second attempt."""
        return Sampling(self.chains, 2 * self.tune, 2 * self.draws, 0.99, self.cores, self.patience_seconds)


@dataclass(frozen=True, slots=True)
class _Family:
    """Results of one family under the names of `SegmentPosterior`."""

    mean: Array
    sd: Array
    lift: Array
    hdi_lower: Array
    hdi_upper: Array
    sign_differs: Array
    overall_mean: Array
    overall_sd: Array
    overall_hdi_lower: Array
    overall_hdi_upper: Array
    between_mean: Array
    between_lower: Array
    between_upper: Array


class SegmentModel:
    """The compiled model of this process; instances are cheap and share it."""

    def __init__(self, sampling: Sampling | None = None) -> None:
        self.sampling = sampling or Sampling()

    def fit(
        self,
        estimates: Array,
        errors: Array,
        prior: Prior,
        *,
        seed: int,
        level: float = 0.95,
        should_cancel: Callable[[], bool] = lambda: False,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> SegmentPosterior:
        """Posterior of every segment of every family; the same numbers as `stats.bayes.segments.pool` up to MC error.

        `estimates`, `errors` (F, S) are log lifts and standard errors. A family whose diagnostics fail twice is
        `unreliable` and shows no numbers; the others are unaffected. Every family uses the same `seed`, so its bits do
        not depend on its neighbours. `progress` gets fractions in [0, 1], on the calling thread. Raises `FitCancelled`.
        """
        check_inputs(estimates, errors, prior)
        known = estimable_segments(estimates, errors)
        families = len(estimates)
        values = {f.name: _blank(f.name, estimates.shape) for f in fields(_Family)}
        status, reason = np.full(families, "ok", dtype="<U16"), np.full(families, "", dtype="<U120")
        diagnostics: list[Diagnostics | None] = [None] * families
        furthest = 0.0
        for row in range(families):
            here = known[row]
            if here.sum() < 2:
                status[row], reason[row] = "not_estimable", TOO_FEW
                continue
            estimate, error = estimates[row, here], errors[row, here]

            def report(part: float, done: int = row) -> None:
                nonlocal furthest  # a second attempt starts counting again; what we report never goes back
                furthest = max(furthest, (done + part) / families)
                progress(furthest)

            mu, tau, diagnostics[row], problem = self._two_attempts(estimate, error, prior, seed, should_cancel, report)
            if problem:
                status[row], reason[row] = "unreliable", problem
                continue
            result = _effects(estimate, error, mu.ravel(), tau.ravel(), level=level)
            for field in fields(_Family):
                target = values[field.name]
                target[(row, here) if target.ndim == 2 else row] = getattr(result, field.name)
        progress(1.0)
        return SegmentPosterior(
            **values,
            estimable=known & (status == "ok")[:, None],
            status=status,
            reason=reason,
            diagnostics=tuple(diagnostics),
            hdi_level=level,
            prior=prior,
            method="nuts",
        )

    def _two_attempts(
        self,
        estimate: Array,
        error: Array,
        prior: Prior,
        seed: int,
        should_cancel: Callable[[], bool],
        progress: Callable[[float], None],
    ) -> tuple[Array, Array, Diagnostics | None, str]:
        mu: Array = np.empty((0, 0))
        tau = mu
        found: Diagnostics | None = None
        problem = ""
        for sampling in (self.sampling, self.sampling.harder()):
            try:
                mu, tau, divergences = _sample(estimate, error, prior, seed, sampling, should_cancel, progress)
            except (RuntimeError, TimeoutError) as failure:
                problem = f"sampler failed: {failure}"[:120]
                continue
            found = diagnose({"overall": mu, "between": tau}, divergences)
            problem = found.problem
            if not problem:
                break
        return mu, tau, found, problem


@cache
def _compile() -> Any:
    import nutpie
    import pymc as pm  # type: ignore[import-untyped]  # it ships no annotations
    import pytensor.tensor as pt

    with pm.Model() as model:
        # Floats only: integer data would silently truncate what later fits pass in.
        estimate, variance = pm.Data("estimate", np.zeros(3)), pm.Data("variance", np.full(3, 1e-4))
        prior_mean, prior_scale = pm.Data("prior_mean", np.array(0.0)), pm.Data("prior_scale", np.array(0.05))
        z, t = pm.Normal("z", 0.0, 1.0), pm.HalfNormal("t", 1.0)
        mu = pm.Deterministic("mu", prior_mean + prior_scale * z)
        tau = pm.Deterministic("tau", TAU_SHARE * prior_scale * t)
        total = variance + tau**2
        # One fused term: segment effects are integrated out.
        pm.Potential("likelihood", -0.5 * (pt.log(total) + (estimate - mu) ** 2 / total).sum())
    return nutpie.compile_pymc_model(model, var_names=["mu", "tau"])


def _sample(
    estimate: Array,
    error: Array,
    prior: Prior,
    seed: int,
    sampling: Sampling,
    should_cancel: Callable[[], bool],
    progress: Callable[[float], None],
) -> tuple[Array, Array, int]:
    """Draws of mu and tau (chains, draws) and the number of divergences; the sampler ends finished or aborted."""
    if should_cancel():
        raise FitCancelled
    with _ONE_COMPILATION:
        compiled = _compile()
    import nutpie

    seen = [0.0]

    def note(chains: Any) -> None:  # runs on a thread of the sampler: remember, do nothing else
        seen[0] = sum(c.finished_draws for c in chains) / max(sum(c.total_draws for c in chains), 1)

    sampler = nutpie.sample(
        compiled.with_data(
            estimate=np.ascontiguousarray(estimate, dtype=np.float64),
            variance=np.ascontiguousarray(error**2, dtype=np.float64),
            prior_mean=np.array(prior.mean, dtype=np.float64),
            prior_scale=np.array(prior.scale, dtype=np.float64),
        ),
        draws=sampling.draws,
        tune=sampling.tune,
        chains=sampling.chains,
        cores=sampling.cores,
        seed=seed % 2**63,
        target_accept=sampling.target_accept,
        progress_bar=False,
        progress_callback=note,
        return_raw_trace=True,
        blocking=False,
    )
    finished = False
    try:
        for _ in range(max(1, round(sampling.patience_seconds / POLL_SECONDS))):
            try:
                trace = sampler.wait(timeout=POLL_SECONDS)
            except TimeoutError:
                if should_cancel():
                    raise FitCancelled from None
                progress(seen[0])
                continue
            finished = True
            return _read(trace, sampling.tune)
        raise TimeoutError(f"no result within {sampling.patience_seconds:g} s")
    finally:
        # An abandoned sampler keeps its threads and can bring the interpreter down at exit.
        if not finished:
            sampler.cancel()


def _read(trace: Any, tune: int) -> tuple[Array, Array, int]:
    draws, statistics = trace.get_arrow_trace()
    mu, tau = (np.stack([chain.column(name).to_numpy()[tune:] for chain in draws]) for name in ("mu", "tau"))
    divergences = sum(int(np.sum(chain.column("diverging").to_numpy()[tune:])) for chain in statistics)
    return mu, tau, divergences


def _effects(estimate: Array, error: Array, mu: Array, tau: Array, *, level: float) -> _Family:
    """Segment effects from the (D,) draws of mu and tau.

    Given one draw every effect is exactly normal, so means, intervals and sign probabilities average those normals
    instead of drawing from them: the same posterior with less Monte Carlo noise.
    """
    keep = tau**2 / (tau**2 + error[:, None] ** 2)
    mean, sd = keep * estimate[:, None] + (1 - keep) * mu, np.sqrt(keep) * error[:, None]
    segment_mean, segment_sd = _equal_mixture(mean, sd).moments()
    lower, upper = _equal_mixture(mean[:, ::_THIN], sd[:, ::_THIN]).hdi(level)
    mu_lower, mu_upper = _shortest(mu, level)
    low, high = np.quantile(tau, [0.025, 0.975])
    return _Family(
        mean=segment_mean,
        sd=segment_sd,
        lift=np.expm1(segment_mean),
        hdi_lower=np.expm1(lower),
        hdi_upper=np.expm1(upper),
        sign_differs=sc.ndtr(-np.sign(mu) * mean / sd).mean(-1),
        overall_mean=np.asarray(mu.mean()),
        overall_sd=np.asarray(mu.std()),
        overall_hdi_lower=np.asarray(np.expm1(mu_lower)),
        overall_hdi_upper=np.asarray(np.expm1(mu_upper)),
        between_mean=np.asarray(tau.mean()),
        between_lower=np.asarray(low),
        between_upper=np.asarray(high),
    )


def _equal_mixture(mean: Array, sd: Array) -> Mixture:
    return Mixture(np.full(mean.shape, 1 / mean.shape[-1]), mean, sd)


def _shortest(draws: Array, level: float) -> tuple[float, float]:
    ordered = np.sort(draws)
    width = int(np.ceil(level * ordered.size))
    start = int(np.argmin(ordered[width:] - ordered[:-width]))
    return float(ordered[start]), float(ordered[start + width])


def _blank(name: str, shape: tuple[int, ...]) -> Array:
    per_family = name.startswith(("overall", "between"))
    return np.full(shape[:1] if per_family else shape, np.nan)
