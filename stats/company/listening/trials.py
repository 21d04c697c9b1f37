"""What the experiments of the listening service really did, what they measured, and what was decided (METHODS I2).

On the log scale. An idea's effect on the company's hours is t4 with the scale `TAU` about `MEAN`; those who could be
exposed are a share of the company, and felt all of it. A part of the effect goes along with songs saved, at the slope
`SLOPE`; saves and hours of one listener correlate by 0.8, which says nothing about effects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.company.listening.story import BROKEN, CHEAP, GAMED, IDEAS, PAIRS, PEEKED, PLACE, RUNNING, WEEKS, Idea
from stats.company.population import Array, Booleans, Integers

MEAN, TAU, SLOPE, SAVES_TAU = 0.0025, 0.006, 0.3, 0.009
CLASH: Final = -0.006
"""Log effect of everybody having both of a pair, beyond what each does alone."""
_GAMED_SESSIONS, _GAMED_HOURS = 0.03, -0.015
USUAL: Final = np.array([2.17, 0.5, 6.2, 0.7, 0.8])
"""Means by metric of a listener who is on record: hours = active x sessions x length."""
LISTENERS: Final = 800_000
_LOOKS: Final = 10
_LOST, _LOST_IS_QUIET = 0.05, 0.01
"""Share of listeners that the broken treatment loses, and what is too high among the others then, on the log scale."""
_BETTER, _CHEAP_BETTER, _WORSE = 1.645, 0.3, -1.645
_SHARE_OF_SECOND: Final = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Arrays over the K ideas, in the order of `IDEAS`, and the 5 metrics, in that of `definitions.METRICS`.

    `true_log_lift` (K, 5) and `true_topline` (K,): of those exposed, and of the company's hours; for one of a pair,
    beside the other's test. `alone` (K,) is the topline without the other. `counts` (K, 2) and `means` (K, 2, 5) are
    what the arms report, `log_lift` (K, 5) and its `error` (K, 5, 5) what follows. `share` (K,) is how much of the
    hours could be reached, `declared` (K,) what the team says of it, with the error `share_error` (K,). `looks` (L, 2,
    5) are the means that the peeker saw, each after as many more units; it ended after the last. Each ran in the weeks
    [`first_week`, `last_week`) (K,) with the share `enrolled` (K,) of those who could be. `outcome` (K,) is what people
    decided, empty where the experiment still runs. `usable` (K,) is False where no result can be trusted.
    """

    true_log_lift: Array
    true_topline: Array
    alone: Array
    counts: Integers
    means: Array
    log_lift: Array
    error: Array
    share: Array
    declared: Array
    share_error: Array
    looks: Array
    first_week: Integers
    last_week: Integers
    enrolled: Array
    outcome: tuple[str, ...]
    usable: Booleans

    @property
    def topline(self) -> Array:
        """(K,) the measured log lift of the company's hours, with the declared shares."""
        return np.log1p(self.declared * np.expm1(self.log_lift[:, 0]))

    @property
    def topline_error(self) -> Array:
        """(K,) its standard error, by the delta method."""
        lift = np.expm1(self.log_lift[:, 0])
        from_lift = self.declared * (1 + lift) * np.sqrt(self.error[:, 0, 0])
        return np.asarray(np.hypot(from_lift, lift * self.share_error) / (1 + self.declared * lift))

    @property
    def shipped(self) -> Booleans:
        """(K,) whether people decided to ship it."""
        return np.array([outcome == "ship" for outcome in self.outcome])


def trials(rng: np.random.Generator) -> Trials:
    """Sixty experiments and the decisions on them."""
    count = len(IDEAS)
    share = np.where(rng.random(count) < 0.5, 1.0, rng.uniform(0.3, 0.95, count))
    share_error = np.where(share < 1, 0.02, 0.0)
    declared = np.where(share < 1, np.clip(np.round(share + share_error * rng.standard_normal(count), 3), 0.2, 1), 1.0)
    true, alone = _effects(rng, share)
    counts, enrolled = _counts(rng, share)
    first, last = _weeks(rng)
    means, looks, counts = _measured(rng, true, counts)
    relative = of_values(means) / (means[..., :, None] * means[..., None, :])
    error = (relative / counts[..., None, None]).sum(1)
    log_lift = np.log(means[:, 1] / means[:, 0])
    return Trials(
        true_log_lift=true,
        true_topline=np.log1p(share * np.expm1(true[:, 0])),
        alone=alone,
        counts=counts,
        means=means,
        log_lift=log_lift,
        error=error,
        share=share,
        declared=declared,
        share_error=share_error,
        looks=looks,
        first_week=first,
        last_week=last,
        enrolled=enrolled,
        outcome=_decided(log_lift[:, 0] / np.sqrt(error[:, 0, 0])),
        usable=np.array([idea.key != BROKEN for idea in IDEAS]),
    )


def of_units() -> Array:
    """(5, 5) covariance of one listener's influence on the log of each metric.

    Who is active says nothing about sessions per active listener, and sessions nothing but a little about their length:
    a ratio's influence and its denominator's do not correlate. The hours' are the sum of their three factors'.
    """
    factors = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, -0.06], [0.0, -0.06, 0.3]])
    # Saves follow the hours, and have as much noise of their own as leaves a correlation of 0.8.
    add_up = np.vstack([np.ones(3), np.eye(3), np.ones(3)])
    spread = add_up @ factors @ add_up.T
    spread = np.asarray(spread + spread.T) / 2  # what rounding made of its symmetry
    spread[4, 4] += spread[0, 0] * (1 / 0.8**2 - 1)
    return spread


def of_values(means: Array) -> Array:
    """(..., 5, 5) covariance of the units' values where these (..., 5) are the means; of a ratio, of its influences."""
    spread = np.broadcast_to(of_units(), (*means.shape, means.shape[-1])).copy()
    # Who is active is a coin: its variance follows from the mean, wherever it is a part.
    active = means[..., 1]
    extra = (1 - active) / active - 1.0
    spread[..., [[0], [1], [4]], [0, 1, 4]] += extra[..., None, None]
    return np.asarray(spread * (means[..., :, None] * means[..., None, :]))


def _effects(rng: np.random.Generator, share: Array) -> tuple[Array, Array]:
    """True log lifts (K, 5) of those exposed, and toplines (K,) where nobody else's test is in the way."""
    fat = 1 / np.sqrt(rng.gamma(2.0, 0.5, share.size))
    saves = SAVES_TAU * fat * rng.standard_normal(share.size)
    rest = np.sqrt(TAU**2 - (SLOPE * SAVES_TAU) ** 2) * fat * rng.standard_normal(share.size)
    hours = (MEAN + SLOPE * saves + rest) / share
    hours[PLACE[GAMED]] = _GAMED_HOURS
    topline = np.log1p(share * np.expm1(hours))
    clash = np.zeros(share.size)
    for pair in PAIRS:
        clash[[PLACE[key] for key in pair]] = CLASH / 2  # half of the others have the other one
    beside = np.log1p(np.expm1(topline + clash) / share)
    inputs = np.array([_split(idea) for idea in IDEAS]) * beside[:, None]
    inputs[PLACE[GAMED]] = [0.0, _GAMED_SESSIONS, _GAMED_HOURS - _GAMED_SESSIONS]
    return np.column_stack([beside, inputs, saves / share]), topline


def _split(idea: Idea) -> list[float]:
    """How an idea's effect on hours comes about through the three inputs."""
    parts = [1.0] if len(idea.moves) == 1 else [1 - _SHARE_OF_SECOND, _SHARE_OF_SECOND]
    found = dict(zip(idea.moves, parts, strict=True))
    return [found.get(letter, 0.0) for letter in "ash"]


def _counts(rng: np.random.Generator, share: Array) -> tuple[Integers, Array]:
    """Units by arm (K, 2) for errors of the hours from 0.4 to 1.2 %, where there are enough, and the share enrolled."""
    target = np.clip(0.006 * np.exp(0.3 * rng.standard_normal(share.size)), 0.004, 0.012)
    there = share * LISTENERS
    wanted = np.minimum(2 * of_units()[0, 0] / target**2, there / 2)
    enrolled = np.round(np.clip(2 * wanted / there, 0.02, 1.0), 2)
    per_arm = np.round(enrolled * there / 2).astype(np.int64)
    chance = rng.binomial(2 * per_arm, 0.5)
    counts = np.stack([chance, 2 * per_arm - chance], axis=1)
    counts[PLACE[BROKEN], 1] = round(counts[PLACE[BROKEN], 1] * (1 - _LOST))
    return counts, enrolled


def _weeks(rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Weeks (K,) in which each began and ended, spread over the two years; the running ones end after them.

    Teams do not take turns in the order of the list, but pairs run together.
    """
    ended = [number for number, idea in enumerate(IDEAS) if idea.key not in RUNNING]
    place = np.zeros(len(IDEAS), dtype=np.int64)
    place[rng.permutation(ended)] = np.arange(len(ended))
    first = 2 + place * (WEEKS - 9) // (len(ended) - 1)
    last = first + rng.integers(2, 5, len(IDEAS))
    for one, other in PAIRS:
        first[PLACE[other]], last[PLACE[other]] = first[PLACE[one]], last[PLACE[one]]
    last[PLACE[PEEKED]] = first[PLACE[PEEKED]] + 2
    for key in RUNNING:
        first[PLACE[key]], last[PLACE[key]] = WEEKS - 2, WEEKS + 2
    return first, last


def _measured(rng: np.random.Generator, true: Array, counts: Integers) -> tuple[Array, Array, Integers]:
    """Means by arm (K, 2, 5), what the peeker saw at each look, and counts after it had ended."""
    factor = np.linalg.cholesky(of_units()[1:, 1:])
    noise = rng.standard_normal((*counts.shape, 4)) @ factor.T / np.sqrt(counts)[..., None]
    peeked = PLACE[PEEKED]
    steps = rng.standard_normal((_LOOKS, 2, 4)) @ factor.T
    seen = (
        np.cumsum(steps, axis=0) / np.arange(1, _LOOKS + 1)[:, None, None] / np.sqrt(counts[peeked] / _LOOKS)[:, None]
    )
    effect = np.stack([np.zeros(4), true[peeked, 1:]])
    found = (seen + effect)[:, 1, :3].sum(-1) - (seen + effect)[:, 0, :3].sum(-1)
    spread = of_units()[0, 0] * (1 / counts[peeked]).sum()
    z = found / np.sqrt(spread * _LOOKS / np.arange(1, _LOOKS + 1))
    stop = int(np.argmax(z > _BETTER)) + 1 if (z > _BETTER).any() else _LOOKS
    counts = counts.copy()
    counts[peeked] = counts[peeked] * stop // _LOOKS
    noise[peeked] = seen[stop - 1]
    logs = np.log(USUAL[1:]) + noise
    logs[:, 1] += true[:, 1:]
    logs[PLACE[BROKEN], 1, 0] += _LOST_IS_QUIET
    shown = np.log(USUAL[1:]) + seen[:stop] + effect
    return _with_hours(logs), _with_hours(shown), counts


def _with_hours(logs: Array) -> Array:
    """(..., 5) means from the logs (..., 4) of all but the hours, which are the product of three of them."""
    parts = np.exp(logs)
    return np.concatenate([parts[..., :3].prod(-1, keepdims=True), parts], axis=-1)


def _decided(z: Array) -> tuple[str, ...]:
    """What people chose on the measured hours; nobody decides on what is broken or still runs."""

    def one(idea: Idea, score: float) -> str:
        if idea.key in RUNNING:
            return ""
        if idea.key == BROKEN:
            return "iterate"
        if score > (_CHEAP_BETTER if idea.key in CHEAP else _BETTER):
            return "ship"
        return "roll_back" if score < _WORSE else "iterate"

    return tuple(one(idea, float(score)) for idea, score in zip(IDEAS, z, strict=True))
