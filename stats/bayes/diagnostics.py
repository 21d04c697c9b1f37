"""Did the chains agree, and how much did they tell us? (METHODS I3)

Rank-normalised split R-hat and bulk/tail effective sample size of Vehtari, Gelman, Simpson, Carpenter & Buerkner 2021
"Rank-normalization, folding, and localization: an improved R-hat". One quantity is an array (chains, draws); Q of them
are worked on at once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type BoolArray = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
type IntArray = np.ndarray[tuple[int, ...], np.dtype[np.intp]]

MAX_R_HAT: Final = 1.01
MIN_ESS: Final = 400.0
_TAILS: Final = (0.05, 0.95)


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
    names, stacked = list(quantities), np.stack(list(quantities.values()))
    split = _split(stacked)
    scores = _normal_scores(split)
    r_hats, bulks, tails = _r_hats(split, scores), _sizes(scores), _tail_sizes(stacked, split)
    worst, thinnest = int(np.argmax(r_hats)), int(np.argmin(bulks))
    r_hat, ess_bulk, ess_tail = float(r_hats[worst]), float(bulks[thinnest]), float(tails.min())
    problem = ""
    if divergences:
        problem = f"{divergences} divergent transitions"
    elif not r_hat < MAX_R_HAT:
        problem = f"chains disagree on {names[worst]}: split R-hat {r_hat:.3f} is not below {MAX_R_HAT}"
    elif not min(ess_bulk, ess_tail) > MIN_ESS:
        problem = f"effective sample size {min(ess_bulk, ess_tail):.0f} is not above {MIN_ESS:.0f}"
    _, chains, draws = stacked.shape
    return Diagnostics(r_hat, ess_bulk, ess_tail, divergences, chains, draws, problem)


def r_hat(draws: Array) -> float:
    """The larger of rank-normalised split R-hat and its folded version; infinite for constant chains that differ."""
    split = _split(draws[None])
    return float(_r_hats(split, _normal_scores(split))[0])


def ess_bulk(draws: Array) -> float:
    """Effective sample size of the rank-normalised draws: how well the centre is known."""
    return float(bulk_sizes(draws[None])[0])


def bulk_sizes(draws: Array) -> Array:
    """`ess_bulk` of Q quantities (Q, chains, draws) at once: (Q,)."""
    return _sizes(_normal_scores(_split(draws)))


def ess_tail(draws: Array) -> float:
    """The smaller effective sample size of the 5 % and 95 % quantile indicators."""
    return float(_tail_sizes(draws[None], _split(draws[None]))[0])


def _split(draws: Array) -> Array:
    """Halves of chains as chains of their own: (Q, 2 chains, draws // 2)."""
    half = draws.shape[-1] // 2
    return np.concatenate([draws[..., :half], draws[..., -half:]], axis=1)


def _r_hats(split: Array, scores: Array) -> Array:
    middle = split[0].size // 2  # of an even number; `np.median` and `np.quantile` import masked arrays: 0.1 s
    parted = np.partition(split.reshape(len(split), -1), (middle - 1, middle), axis=1)
    folded = np.abs(split - parted[:, middle - 1 : middle + 1].mean(axis=1)[:, None, None])
    return np.maximum(_plain_r_hats(scores), _plain_r_hats(_normal_scores(folded)))


def _tail_sizes(draws: Array, split: Array) -> Array:
    flat = draws.reshape(len(draws), -1)
    below = [int(q * (flat.shape[1] - 1)) for q in _TAILS]  # draws up to an interpolated quantile are those up to here
    edges = np.partition(flat, below, axis=1)[:, below].T
    return np.minimum(*(_sizes((split <= edge[:, None, None]).astype(np.float64)) for edge in edges))


def _normal_scores(draws: Array) -> Array:
    """Normal quantiles of each quantity's ranks; draws that tie share the average of theirs."""
    flat = draws.reshape(len(draws), -1)
    order = np.argsort(flat, axis=1)
    ordered = np.take_along_axis(flat, order, axis=1)
    places = np.broadcast_to(2 * np.arange(flat.shape[1]), flat.shape)
    again = ordered[:, 1:] == ordered[:, :-1]
    if again.any():
        places = _tied(again)
    scores = np.empty(flat.shape)
    np.put_along_axis(scores, order, _quantiles(flat.shape[1])[places], axis=1)
    return scores.reshape(draws.shape)


def _tied(again: BoolArray) -> IntArray:
    """Twice the average place, from 0, of ordered draws (Q, N); `again` (Q, N - 1) where one equals that before it."""
    begins = np.pad(~again, ((0, 0), (1, 0)), constant_values=True)
    ends = np.pad(~again, ((0, 0), (0, 1)), constant_values=True)
    place = np.arange(begins.shape[1])
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, place, len(place))[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(first + last)


@functools.lru_cache(maxsize=8)
def _quantiles(size: int) -> Array:
    """Scores of the ranks 1, 1.5, 2, ..., `size`: they depend on nothing else, and samples are of few sizes."""
    normal = NormalDist()
    lower = [normal.inv_cdf((twice / 2 - 0.375) / (size + 0.25)) for twice in range(2, size + 1)]
    scores = np.array([*lower, 0.0, *(-score for score in reversed(lower))])
    scores.flags.writeable = False
    return scores


def _plain_r_hats(draws: Array) -> Array:
    n = draws.shape[-1]
    within = draws.var(axis=-1, ddof=1).mean(axis=-1)
    between = draws.mean(axis=-1).var(axis=-1, ddof=1)
    # Constant chains: fine where all are the same.
    ratio = np.divide(between, within, out=np.where(between > 0, np.inf, 1.0 / n), where=within > 0)
    return np.asarray(np.sqrt((n - 1) / n + ratio))


def _sizes(draws: Array) -> Array:
    """Geyer's initial monotone sequence over the autocorrelation pooled across chains, for each of Q quantities."""
    _, chains, n = draws.shape
    means = draws.mean(axis=-1, keepdims=True)
    spectrum = np.fft.rfft(draws - means, 2 * n, axis=-1)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=1)
    autocovariance = np.fft.irfft(power, axis=-1)[:, :n] / n
    within = autocovariance[:, :1] * n / (n - 1)
    total = within * (n - 1) / n + (means.var(axis=1, ddof=1) if chains > 1 else 0.0)
    constant = np.ptp(draws, axis=(1, 2)) == 0
    rho = 1 - (within - autocovariance) / np.where(constant[:, None], 1.0, total)
    rho[:, 0] = 1.0
    pairs = rho[:, : n // 2 * 2].reshape(len(draws), -1, 2).sum(axis=-1)
    kept = np.logical_and.accumulate(pairs >= 0, axis=1)
    tau = -1 + 2 * np.where(kept, np.minimum.accumulate(pairs, axis=1), 0.0).sum(axis=1)
    # With antithetic chains tau approaches zero; Vehtari et al. cap the gain at log10 of the sample size.
    sizes = chains * n / np.maximum(tau, 1 / np.log10(chains * n))
    return np.where(constant, float(chains * n), sizes)
