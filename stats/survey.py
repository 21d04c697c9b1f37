"""Survey metrics: who answered, and what their selection could do to a difference of scores (METHODS A13).

Scores are compared as ratios of totals (A4). But a treatment that makes other people answer compares different people.
If it can only add respondents (or only remove them), the effect on those who answer either way lies between the bounds
of Lee (2009 "Training, wages, and sample selection: estimating sharp bounds on treatment effects"): the arm with more
answers loses its surplus, once from the top and once from the bottom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.boschloo import boschloo_exact
from stats.moments import Bools, Floats, Ints, safe_divide
from stats.proportion import SMALL_COUNT, newcombe, score_p
from stats.reasons import Reason, Reasons, first_reason

FEWEST_RESPONDENTS = 2


@dataclass(frozen=True, slots=True, eq=False)
class LeeBounds:
    """Each treatment against control, arrays (V-1,). Scores in their own units, rates as fractions.

    `rate_p_value` tests that both arms answer at the same rate (two-sided; score test, Boschloo's below ten answers or
    refusals), `rate_ci_*` is Newcombe's interval of the difference in rates. `trimmed` is the share of the larger arm's
    answers taken away. `difference` is the plain difference of mean scores; `lower` and `upper` bound the effect on
    those who answer in both arms, and are equal to `difference` for equal rates. `ci_lower` and `ci_upper` cover that
    effect with `ci_level` (Imbens & Manski 2004). Numbers about scores are nan where `reason` is given.
    """

    control_rate: Floats
    treatment_rate: Floats
    rate_p_value: Floats
    rate_ci_lower: Floats
    rate_ci_upper: Floats
    trimmed: Floats
    difference: Floats
    lower: Floats
    upper: Floats
    ci_lower: Floats
    ci_upper: Floats
    ci_level: float
    reason: Reasons


def nps_variance(promoters: ArrayLike, detractors: ArrayLike) -> Floats:
    """Variance of one answer coded 1, 0, -1 from the shares of promoters and detractors: p+ + p- - NPS^2."""
    plus, minus = np.asarray(promoters, dtype=np.float64), np.asarray(detractors, dtype=np.float64)
    return np.asarray(plus + minus - (plus - minus) ** 2, dtype=np.float64)


def lee_bounds(scores: ArrayLike, respondents: Ints, asked: Ints, level: float = 0.95) -> LeeBounds:
    """Bounds from a table of answers.

    `scores` (b,) ascending, `respondents` (V, b) units with that (mean) score, `asked` (V,) all analysed units, control
    first. A score that many share is trimmed by the fraction that is due. Assumes that the treatment moves everybody's
    readiness to answer in the same direction. Raises `ValueError` if more answered than were asked.
    """
    if not 0 < level < 1:
        raise ValueError("level must be between 0 and 1")
    score, table = np.asarray(scores, dtype=np.float64), np.asarray(respondents, dtype=np.int64)
    everyone, answered = np.asarray(asked, dtype=np.int64), np.asarray(respondents).sum(axis=-1)
    if table.shape != (len(everyone), len(score)) or (np.diff(score) <= 0).any():
        raise ValueError("respondents must be (variants, scores) with scores ascending")
    if (answered > everyone).any() or (table < 0).any():
        raise ValueError("more units answered than were asked")
    rate = safe_divide(answered, everyone)
    enough = (answered[0] >= FEWEST_RESPONDENTS) & (answered[1:] >= FEWEST_RESPONDENTS)
    reason = first_reason((len(everyone) - 1,), (~enough, Reason.TOO_FEW_UNITS))
    results = np.full((len(everyone) - 1, 6), np.nan)
    for t in np.flatnonzero(enough) + 1:
        pair = np.array([0, t])
        results[t - 1] = _pair(score, table[pair], rate[pair], everyone[pair], level)
    asked_both = (everyone[0] > 0) & (everyone[1:] > 0)
    counts = (answered[1:], np.maximum(everyone[1:], 1), answered[0], max(int(everyone[0]), 1))
    low, high = newcombe(*counts, level=level)

    def shown(numbers: Floats, where: Bools) -> Floats:
        return np.where(where, numbers, np.nan)

    return LeeBounds(
        control_rate=shown(np.broadcast_to(rate[0], low.shape), np.broadcast_to(everyone[0] > 0, low.shape)),
        treatment_rate=shown(rate[1:], everyone[1:] > 0),
        rate_p_value=shown(_rate_p(*counts), asked_both),
        rate_ci_lower=shown(low, asked_both),
        rate_ci_upper=shown(high, asked_both),
        trimmed=results[:, 0],
        difference=results[:, 1],
        lower=results[:, 2],
        upper=results[:, 3],
        ci_lower=results[:, 4],
        ci_upper=results[:, 5],
        ci_level=level,
        reason=reason,
    )


def _rate_p(answered_t: Ints, asked_t: Ints, answered_c: Ints, asked_c: int) -> Floats:
    p, _ = score_p(answered_t, asked_t, answered_c, asked_c)
    smallest = np.minimum(np.minimum(answered_t, asked_t - answered_t), np.minimum(answered_c, asked_c - answered_c))
    small = smallest < SMALL_COUNT
    if small.any():
        exact, enumerated = boschloo_exact(answered_t[small], asked_t[small], answered_c, asked_c)
        p = p.copy()
        p[small] = np.where(enumerated, exact, p[small])
    return p


def _pair(score: Floats, table: Ints, rate: Floats, asked: Ints, level: float) -> tuple[float, ...]:
    """(trimmed, difference, lower, upper, ci_lower, ci_upper) of a treatment (row 1) against control (row 0).

    At equal rates nothing is trimmed, but either arm could have had to be: the wider interval is that of not knowing.
    """
    if rate[0] != rate[1]:
        return _trimming(score, table, rate, asked, level, int(rate[1] > rate[0]))
    first, second = (_trimming(score, table, rate, asked, level, larger) for larger in (0, 1))
    return *first[:4], min(first[4], second[4]), max(first[5], second[5])


def _trimming(score: Floats, table: Ints, rate: Floats, asked: Ints, level: float, larger: int) -> tuple[float, ...]:
    """The same with the arm given that is trimmed."""
    answered, other = table.sum(axis=1), 1 - larger
    mean = table @ score / answered
    q = float((rate[larger] - rate[other]) / rate[larger])
    # The share that is kept is a ratio of two rates, itself uncertain: its variance over its square.
    kept_noise = float(((1 - rate) / (asked * rate)).sum())
    bottom = _trimmed(score, table[larger], q, kept_noise)
    mirrored = _trimmed(-score[::-1], table[larger][::-1], q, kept_noise)
    top = (-mirrored[0], mirrored[1])
    fixed = float(table[other] @ (score - mean[other]) ** 2) / (answered[other] - 1) / answered[other]
    ends = [bottom[0] - mean[0], top[0] - mean[0]] if larger else [mean[1] - top[0], mean[1] - bottom[0]]
    noise = [bottom[1] + fixed, top[1] + fixed] if larger else [top[1] + fixed, bottom[1] + fixed]
    error = np.sqrt(noise)
    reach = _imbens_manski(float(ends[1] - ends[0]), float(error.max()), level)
    return q, float(mean[1] - mean[0]), *map(float, (*ends, ends[0] - reach * error[0], ends[1] + reach * error[1]))


def _trimmed(score: Floats, count: Ints, q: float, kept_noise: float) -> tuple[float, float]:
    """Mean of the lowest 1 - q of the answers, and its variance (Lee 2009, proposition 3).

    The influence of an answer y on a trimmed mean is min(y, cut) / (1 - q), also where many answers share the cut.
    """
    answered = float(count.sum())
    keep = (1 - q) * answered
    before = np.cumsum(count) - count
    kept = np.clip(keep - before, 0.0, count)
    mean = float(kept @ score / keep)
    cut = float(score[np.flatnonzero(kept > 1e-9 * answered)[-1]])
    clipped = np.minimum(score, cut)
    spread = float(count @ (clipped - count @ clipped / answered) ** 2) / (answered - 1)
    return mean, spread / ((1 - q) ** 2 * answered) + (cut - mean) ** 2 * kept_noise


def _imbens_manski(width: float, error: float, level: float) -> float:
    """Standard errors to add at each end so that the interval covers the effect, not both its bounds, with `level`.

    1.96 where the bounds meet and 1.64 where they are far apart (at 95 %).
    """
    low, high = float(sc.ndtri(level)), float(sc.ndtri(0.5 + level / 2))
    gap = width / error if error > 0 else np.inf
    for _ in range(60):
        middle = (low + high) / 2
        enough = sc.ndtr(middle + gap) - sc.ndtr(-middle) >= level
        low, high = (low, middle) if enough else (middle, high)
    return high
