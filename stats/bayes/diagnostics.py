"""Did the chains agree, and how much did they tell us? (METHODS I3)

Rank-normalised split R-hat and bulk/tail effective sample size of Vehtari, Gelman, Simpson, Carpenter & Buerkner 2021
"Rank-normalization, folding, and localization: an improved R-hat". One quantity is an array (chains, draws).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

MAX_R_HAT: Final = 1.01
MIN_ESS: Final = 400.0


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """The worst value over all monitored quantities; `problem` is empty when the numbers may be shown."""

    r_hat: float
    ess_bulk: float
    ess_tail: float
    divergences: int
    chains: int
    draws: int
    problem: str


def diagnose(quantities: Mapping[str, Array], divergences: int) -> Diagnostics:
    """Diagnostics of draws {name: (chains, draws)} against R-hat < 1.01, ESS > 400, no divergences."""
    r_hats = {name: r_hat(draws) for name, draws in quantities.items()}
    bulks = {name: ess_bulk(draws) for name, draws in quantities.items()}
    tails = {name: ess_tail(draws) for name, draws in quantities.items()}
    worst, thinnest, tail = max(r_hats, key=r_hats.__getitem__), min(bulks, key=bulks.__getitem__), min(tails.values())
    problem = ""
    if divergences:
        problem = f"{divergences} divergent transitions"
    elif not r_hats[worst] < MAX_R_HAT:
        problem = f"chains disagree on {worst}: split R-hat {r_hats[worst]:.3f} is not below {MAX_R_HAT}"
    elif not min(bulks[thinnest], tail) > MIN_ESS:
        problem = f"effective sample size {min(bulks[thinnest], tail):.0f} is not above {MIN_ESS:.0f}"
    chains, draws = next(iter(quantities.values())).shape
    return Diagnostics(r_hats[worst], bulks[thinnest], tail, divergences, chains, draws, problem)


def r_hat(draws: Array) -> float:
    """The larger of rank-normalised split R-hat and its folded version; infinite for constant chains that differ."""
    split = _split(draws)
    folded = np.abs(split - np.median(split))
    return max(_plain_r_hat(_normal_scores(split)), _plain_r_hat(_normal_scores(folded)))


def ess_bulk(draws: Array) -> float:
    """Effective sample size of the rank-normalised draws: how well the centre is known."""
    return _ess(_normal_scores(_split(draws)))


def ess_tail(draws: Array) -> float:
    """The smaller effective sample size of the 5 % and 95 % quantile indicators."""
    split = _split(draws)
    return min(_ess((split <= np.quantile(draws, q)).astype(np.float64)) for q in (0.05, 0.95))


def _split(draws: Array) -> Array:
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _normal_scores(draws: Array) -> Array:
    _, inverse, counts = np.unique(draws, return_inverse=True, return_counts=True)
    average_rank = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(sc.ndtri((average_rank[inverse.reshape(draws.shape)] - 0.375) / (draws.size + 0.25)))


def _plain_r_hat(draws: Array) -> float:
    n = draws.shape[1]
    within = draws.var(axis=1, ddof=1).mean()
    between = draws.mean(axis=1).var(ddof=1)
    if within == 0:
        return 1.0 if between == 0 else float("inf")
    return float(np.sqrt((n - 1) / n + between / within))


def _ess(draws: Array) -> float:
    """Geyer's initial monotone sequence over the autocorrelation pooled across chains."""
    chains, n = draws.shape
    if np.ptp(draws) == 0:
        return float(chains * n)
    centred = draws - draws.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * n, axis=1)
    autocovariance = np.fft.irfft(spectrum * np.conj(spectrum), axis=1)[:, :n] / n
    within = (autocovariance[:, 0] * n / (n - 1)).mean()
    total = within * (n - 1) / n + (draws.mean(axis=1).var(ddof=1) if chains > 1 else 0.0)
    rho = 1 - (within - autocovariance.mean(axis=0)) / total
    rho[0] = 1.0
    pairs = rho[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    kept = int(np.argmax(pairs < 0)) if (pairs < 0).any() else len(pairs)
    tau = -1 + 2 * np.minimum.accumulate(pairs[:kept]).sum()
    # With antithetic chains tau approaches zero; Vehtari et al. cap the gain at log10 of the sample size.
    return float(chains * n / max(tau, 1 / np.log10(chains * n)))
