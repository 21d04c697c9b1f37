"""Switchbacks: everybody has the change in some blocks of time and nobody in the others (METHODS D5).

Bojinov, Simchi-Levi & Zhao 2023 ("Design and analysis of switchback experiments").
"""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.stats as sps

from stats.launch.contract import Estimated, nothing
from stats.launch.reasons import LaunchReason
from stats.moments import Bools, Floats

type Labels = np.ndarray[tuple[int, ...], np.dtype[np.intp]]

FEWEST_BLOCKS: Final = 4
"""Of each state: fewer have too few arrangements for a p-value below 0.03."""


def switchback(
    y: Floats,
    on: Bools,
    block: Labels,
    stratum: Labels,
    *,
    carry_over: int,
    usable: Bools,
    level: float = 0.95,
    seed: int,
    draws: int = 1999,
) -> Estimated:
    """The effect of having the change on, from blocks of time drawn by lot.

    Arrays are (T,): `on` is the state of a period, `block` numbers the randomised blocks 0, 1, ... in order of time
    (a state may be drawn again, so that neighbours can be equal), `stratum` what repeats (the hour of the week). The
    first `carry_over` periods after every change of state are left out: by then the former state must have worn off,
    which is assumed, not tested. A Hajek comparison within strata, around a linear trend; the block is the unit of
    analysis, with standard errors clustered by block and a t interval. `p_value` is that of a randomisation test of
    no effect on anything, which permutes the states of blocks and repeats the burn-in; it is exact when every
    arrangement with as many blocks on was equally likely.

    Not estimable with fewer than 4 blocks of either state.
    """
    kept = usable & np.isfinite(y) & ~_burn_in(on[None, :], block, carry_over)[0]
    starts = np.unique(block, return_index=True)[1]
    state = on[starts]
    used = np.array([bool(kept[block == number].any()) for number in block[starts]])
    if min(int(np.count_nonzero(used & state)), int(np.count_nonzero(used & ~state))) < FEWEST_BLOCKS:
        return nothing("switchback", LaunchReason.TOO_FEW_BLOCKS, periods=y.size)
    effect, error, freedom = _clustered(y, on, block, stratum, kept)
    if not np.isfinite(error) or error <= 0:
        return nothing("switchback", LaunchReason.CONSTANT_SERIES, periods=y.size)
    margin = float(sps.t.ppf(0.5 + level / 2, freedom)) * error
    periods = np.flatnonzero(on & usable & np.isfinite(y))
    hyper = {}
    if carry_over:
        plain, plain_error, _ = _clustered(y, on, block, stratum, usable & np.isfinite(y))
        reach = float(sps.norm.ppf(0.5 + level / 2)) * plain_error
        hyper["without_burn_in"] = (plain, plain - reach, plain + reach)
    return Estimated(
        method="switchback",
        effect=effect,
        standard_error=error,
        lower=effect - margin,
        upper=effect + margin,
        p_value=_randomisation_p(y, state, block, stratum, usable & np.isfinite(y), carry_over, seed, draws),
        interval_kind="t",
        periods=periods,
        by_period=np.full(periods.size, effect),
        covariance=np.full((periods.size, periods.size), error**2),
        fitted=np.where(on, y - effect, y),
        hyper=hyper,
    )


def _burn_in(on: Bools, block: Labels, carry_over: int) -> Bools:
    """(D, T) periods in which the former state may still act, for D sequences of states."""
    changed = np.zeros(on.shape, dtype=np.bool_)
    changed[:, 1:] = on[:, 1:] != on[:, :-1]
    worn = np.zeros(on.shape, dtype=np.bool_)
    for lag in range(carry_over):
        worn[:, lag:] |= changed[:, : on.shape[1] - lag]
    return worn


def _clustered(y: Floats, on: Bools, block: Labels, stratum: Labels, kept: Bools) -> tuple[float, float, float]:
    """Least squares on the state, strata and a trend; (effect, cluster-robust error, degrees of freedom)."""
    target, groups, cluster = y[kept], stratum[kept], block[kept]
    columns = np.column_stack([on[kept].astype(np.float64), np.flatnonzero(kept) / y.size])
    both = np.column_stack([target, columns])
    both = both - _group_means(both, groups)
    target, columns = both[:, 0], both[:, 1:]
    gram = columns.T @ columns
    if np.linalg.matrix_rank(gram) < 2:
        return float("nan"), float("nan"), 1.0
    inverse = np.linalg.inv(gram)
    beta = inverse @ (columns.T @ target)
    residual = target - columns @ beta
    members = np.unique(cluster, return_inverse=True)[1]
    count = int(members.max()) + 1
    score = np.zeros((count, 2))
    np.add.at(score, members, columns * residual[:, None])
    freedom = max(count - 2, 1)
    variance = (inverse @ (score.T @ score) @ inverse)[0, 0] * count / freedom
    return float(beta[0]), float(np.sqrt(variance)), float(freedom)


def _group_means(values: Floats, groups: Labels) -> Floats:
    members = np.unique(groups, return_inverse=True)[1]
    size = int(members.max()) + 1
    total = np.zeros((size, values.shape[1]))
    np.add.at(total, members, values)
    return np.asarray((total / np.bincount(members, minlength=size)[:, None])[members])


def _randomisation_p(
    y: Floats, state: Bools, block: Labels, stratum: Labels, known: Bools, carry_over: int, seed: int, draws: int
) -> float:
    """(1 + arrangements at least as extreme) / (1 + arrangements), on the outcome without its trend."""
    rng = np.random.default_rng(seed)
    trend = np.arange(y.size) / y.size
    both = np.column_stack([np.where(known, y, 0.0), trend])[known]
    centred = both - _group_means(both, stratum[known])
    slope = float(centred[:, 1] @ centred[:, 0] / max(float(centred[:, 1] @ centred[:, 1]), 1e-300))
    outcome = np.where(known, y, 0.0) - slope * trend
    arrangements = np.vstack([state, rng.permuted(np.tile(state, (draws, 1)), axis=1)])
    of_period = np.unique(block, return_inverse=True)[1]
    on = arrangements[:, of_period]
    kept = known & ~_burn_in(on, block, carry_over)
    member = np.unique(stratum, return_inverse=True)[1]
    indicator = np.zeros((y.size, int(member.max()) + 1))
    indicator[np.arange(y.size), member] = 1.0
    n = kept @ indicator
    n_on = (kept & on) @ indicator
    total = (kept * outcome) @ indicator
    total_on = ((kept & on) * outcome) @ indicator
    share = np.divide(n_on, n, out=np.zeros_like(n_on, dtype=np.float64), where=n > 0)
    top = (total_on - share * total).sum(axis=1)
    bottom = (n_on * (1 - share)).sum(axis=1)
    found = np.abs(np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0))
    return float((1 + np.count_nonzero(found[1:] >= found[0] * (1 - 1e-12))) / (draws + 1))
