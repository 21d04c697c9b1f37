"""Switchbacks: everybody has the change in some blocks of time and nobody in the others (METHODS D5).

Bojinov, Simchi-Levi & Zhao 2023 ("Design and analysis of switchback experiments").
"""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.special as sc

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
    which is assumed, not tested. A Hajek comparison within strata, around a linear trend.

    The block is the unit of analysis: p-value, interval and standard error come from permuting the states of whole
    blocks, burn-in repeated, and are exact for a constant effect when every arrangement with as many blocks on was
    equally likely. (Errors clustered by block cover 0.75-0.92 with 12 to 40 blocks: strata use up what they rest on.)

    Not estimable with fewer than 4 blocks of either state, or when no stratum saw both.
    """
    known = usable & np.isfinite(y)
    kept = known & ~_burn_in(on[None, :], block, carry_over)[0]
    starts = np.unique(block, return_index=True)[1]
    state = on[starts]
    used = np.array([bool(kept[block == number].any()) for number in block[starts]])
    if min(int(np.count_nonzero(used & state)), int(np.count_nonzero(used & ~state))) < FEWEST_BLOCKS:
        return nothing("switchback", LaunchReason.TOO_FEW_BLOCKS, periods=y.size)
    arrangements = np.vstack([state, np.random.default_rng(seed).permuted(np.tile(state, (draws, 1)), axis=1)])
    states = arrangements[:, np.unique(block, return_inverse=True)[1]]
    of_outcome, of_state = _contrasts(y, on, states, block, stratum, known, carry_over)
    if of_state[0] <= 0:
        return nothing("switchback", LaunchReason.NOT_CONCURRENT, periods=y.size)
    effect = float(of_outcome[0] / of_state[0])
    # What an arrangement would have shown, had it been drawn and the effect been this one.
    error = float(np.std(of_outcome[1:] - effect * of_state[1:]) / of_state[0])
    if error <= 1e-12 * max(1.0, float(np.abs(y[known]).max())):
        return nothing("switchback", LaunchReason.CONSTANT_SERIES, periods=y.size)
    lower, upper = _not_rejected(of_outcome, of_state, effect, error, level)
    periods = np.flatnonzero(on & known)
    hyper = {}
    if carry_over:
        plain, plain_state = _contrasts(y, on, states, block, stratum, known, 0)
        without = float(plain[0] / plain_state[0])
        reach = float(sc.ndtri(0.5 + level / 2) * np.std(plain[1:] - without * plain_state[1:]) / plain_state[0])
        hyper["without_burn_in"] = (without, without - reach, without + reach)
    return Estimated(
        method="switchback",
        effect=effect,
        standard_error=error,
        lower=lower,
        upper=upper,
        p_value=float(_p_values(of_outcome, of_state, np.zeros(1))[0]),
        interval_kind="randomisation",
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
    for lag in range(min(carry_over, on.shape[1])):
        worn[:, lag:] |= changed[:, : on.shape[1] - lag]
    return worn


def _contrasts(
    y: Floats, on: Bools, states: Bools, block: Labels, stratum: Labels, known: Bools, carry_over: int
) -> tuple[Floats, Floats]:
    """(D,) on-against-off contrasts of the outcome, and of the state that really was, under D sequences of states.

    Both are linear, so that the contrast of an outcome without an effect e is that of `y` less e times that of `on`.
    """
    member = np.unique(stratum, return_inverse=True)[1]
    indicator = np.zeros((y.size, int(member.max()) + 1))
    indicator[np.arange(y.size), member] = 1.0
    both = np.column_stack([np.where(known, y, 0.0), on.astype(np.float64)])
    both = both - _trend_of(both, indicator, known)
    kept = known & ~_burn_in(states, block, carry_over)
    kept_on = kept & states
    n, n_on = kept @ indicator, kept_on @ indicator
    share = np.divide(n_on, n, out=np.zeros_like(n), where=n > 0)
    weight = (n_on * (1 - share)).sum(axis=1)
    found = []
    for outcome in both.T:
        top = ((kept_on * outcome) @ indicator - share * ((kept * outcome) @ indicator)).sum(axis=1)
        found.append(np.divide(top, weight, out=np.zeros_like(top), where=weight > 0))
    return found[0], found[1]


def _trend_of(values: Floats, indicator: Floats, known: Bools) -> Floats:
    """(T, C) linear trends within strata of C columns, over known periods."""
    time = np.arange(values.shape[0]) / values.shape[0]
    weight = indicator * known[:, None]
    size = np.maximum(weight.sum(axis=0), 1.0)
    centred = (time - indicator @ (weight.T @ time / size)) * known
    square = float(centred @ centred)
    slope = centred @ values / square if square > 0 else np.zeros(values.shape[1])
    return np.asarray(time[:, None] * slope)


def _p_values(of_outcome: Floats, of_state: Floats, effects: Floats) -> Floats:
    """(1 + arrangements at least as extreme) / (1 + arrangements) when the effect is each of `effects`."""
    contrast = np.abs(of_outcome[:, None] - of_state[:, None] * effects)
    extreme = contrast[1:] >= contrast[0] * (1 - 1e-12)
    return np.asarray((1 + np.count_nonzero(extreme, axis=0)) / of_outcome.size)


def _not_rejected(
    of_outcome: Floats, of_state: Floats, effect: float, error: float, level: float
) -> tuple[float, float]:
    """The effects around the estimate that the randomisation test does not reject, to a hundredth of an error."""
    reach = 10.0
    offset = np.arange(1, int(100 * reach) + 1) / 100 * error
    ends = []
    for sign in (-1.0, 1.0):
        rejected = _p_values(of_outcome, of_state, effect + sign * offset) <= 1 - level
        ends.append(effect + sign * float(offset[rejected.argmax()] if rejected.any() else np.inf))
    return ends[0], ends[1]
