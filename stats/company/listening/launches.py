"""What the listening service launched, to whom and when, and what that really did to its hours (METHODS F6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.company.listening.definitions import METRICS, NORTH_STAR_KEY
from stats.company.listening.story import (
    BLINDS,
    DISPUTE,
    FUTURE_WEEKS,
    HOLDOUT_SHARE,
    HOLDOUT_WEEKS,
    IDEAS,
    OWNERS,
    PAIRS,
    WEEKS,
)  # fmt: skip
from stats.company.listening.trials import MEAN, TAU, USUAL, Trials, of_units
from stats.company.population import Array, Booleans, Integers
from stats.company.records import Calendar, LaunchRecord

KAPPA, SCATTER = 0.8, 0.002
"""What becomes of a true effect once everybody has the change (overlap, cannibalisation), and how much that varies."""
_FADES, _FADED, _IN_STEPS = 1 / 3, 0.5, 0.6
_FADE_WEEKS: Final = (3.0, 8.0)
_STEPS: Final = ((0, 0.25), (1, 0.5), (3, 1.0))
_HOLDOUT_UNITS: Final = 350_000


@dataclass(frozen=True, slots=True, eq=False)
class Launches:
    """Arrays over the J launches: those shipped from experiments in the order of these, then the blind ones.

    `source` (J,) is the position of the idea, -1 for a blind one. `effect` (J,) is the true log effect on the company's
    hours as an experiment would find it, `theta` (J,) what it became at full coverage, `parts` (J, 3) how that divides
    among the inputs. `remaining` (J,) is the share that lasts, reached with the time constant `weeks` (J,). `coverage`
    (W, J) is who had it by week, the experiment's own treatment included, `path` (W, J) that times what is left of the
    effect: launches added `path @ theta`. `first_week` (J,) is that of the launch itself. W reaches beyond the data.
    """

    keys: tuple[str, ...]
    source: Integers
    effect: Array
    theta: Array
    parts: Array
    remaining: Array
    weeks: Array
    first_week: Integers
    steps: tuple[tuple[tuple[int, float], ...], ...]
    coverage: Array
    path: Array

    @property
    def held_out(self) -> Booleans:
        """(J,) whether the holdout was kept from it."""
        return self.first_week >= WEEKS - HOLDOUT_WEEKS

    @property
    def added(self) -> Array:
        """(W, 3) what launches added to the log of each input."""
        return np.asarray(self.path @ (self.theta[:, None] * self.parts))


@dataclass(frozen=True, slots=True, eq=False)
class Holdout:
    """What a twentieth of the listeners missed at the end, and what that experiment measured.

    `true_log_lift` is the sum of what the held-out launches added to the company's hours in the last week. `counts`
    (2,) and `means` (2, 5) are those of the held-out and of all others.
    """

    true_log_lift: float
    counts: Integers
    means: Array
    log_lift: float
    standard_error: float


def launches(rng: np.random.Generator, tried: Trials) -> Launches:
    """Everything shipped by decision, a week after the experiment's end, and the blind launches."""
    shipped = np.flatnonzero(tried.shipped)
    source = np.concatenate([shipped, np.full(len(BLINDS), -1)])
    effect = np.concatenate([_effects(tried, shipped), _blind_effects(rng)])
    first = np.concatenate([tried.last_week[shipped] + 1, [blind.week for blind in BLINDS]]).astype(np.int64)
    in_steps = np.concatenate([rng.random(shipped.size) < _IN_STEPS, [blind.in_steps for blind in BLINDS]])
    fades = rng.random(source.size) < _FADES
    remaining, weeks = np.where(fades, _FADED, 1.0), rng.uniform(*_FADE_WEEKS, source.size)
    steps = tuple(
        tuple((int(week) + later, share) for later, share in (_STEPS if slow else ((0, 1.0),)))
        for week, slow in zip(first, in_steps, strict=True)
    )
    week = np.arange(WEEKS + FUTURE_WEEKS)[:, None]
    coverage = np.zeros((week.size, source.size))
    for j, path in enumerate(steps):
        if source[j] >= 0:
            coverage[tried.first_week[source[j]] : tried.last_week[source[j]], j] = tried.enrolled[source[j]] / 2
        for at, share in path:
            coverage[at:, j] = share
    age = np.maximum(week - np.argmax(coverage > 0, axis=0), 0)  # novelty wears off from the first who had it
    lasting = remaining + (1 - remaining) * np.exp(-age / weeks)
    of_inputs = tried.true_log_lift[shipped, 1:4] / tried.true_log_lift[shipped, :1]
    parts = np.concatenate([of_inputs, rng.dirichlet(np.ones(3), len(BLINDS))])
    return Launches(
        keys=(*(f"launch_{IDEAS[k].key}" for k in shipped), *(f"launch_{blind.key}" for blind in BLINDS)),
        source=source,
        effect=effect,
        theta=KAPPA * effect + SCATTER * rng.standard_normal(source.size),
        parts=parts,
        remaining=remaining,
        weeks=weeks,
        first_week=first,
        steps=steps,
        coverage=coverage,
        path=coverage * lasting,
    )


def holdout(rng: np.random.Generator, launched: Launches) -> Holdout:
    """The listeners who got nothing new for half a year, against all others, in the last week."""
    mine = launched.theta * launched.path[WEEKS - 1] * launched.held_out
    held = rng.binomial(_HOLDOUT_UNITS, HOLDOUT_SHARE)
    counts = np.array([held, _HOLDOUT_UNITS - held])
    spread = of_units()
    factor = np.linalg.cholesky(spread[1:, 1:])
    logs = np.log(USUAL[1:]) + rng.standard_normal((2, 4)) @ factor.T / np.sqrt(counts)[:, None]
    logs[1, :3] += mine @ launched.parts
    parts = np.exp(logs)
    means = np.concatenate([parts[:, :3].prod(-1, keepdims=True), parts], axis=-1)
    return Holdout(
        true_log_lift=float(mine.sum()),
        counts=counts,
        means=means,
        log_lift=float(np.log(means[1, 0] / means[0, 0])),
        standard_error=float(np.sqrt(spread[0, 0] * (1 / counts).sum())),
    )


def launch_records(launched: Launches, calendar: Calendar) -> tuple[LaunchRecord, ...]:
    """As the teams recorded them; what they did to the hours at full coverage is only for the truth."""
    of_blind = {f"launch_{blind.key}": blind for blind in BLINDS}
    began, ended = (calendar.day(7 * week) for week in DISPUTE)
    found = []
    for key, source, steps, theta in zip(launched.keys, launched.source, launched.steps, launched.theta, strict=True):
        blind = of_blind.get(key)
        team = blind.team if blind else IDEAS[source].team
        spec: dict[str, Any] = {
            "key": key,
            "name": blind.name if blind else IDEAS[source].name,
            "owner": OWNERS[team],
            "north_star_key": NORTH_STAR_KEY,
            "rollout": [
                {"at": calendar.day(7 * week).isoformat(), "coverage": share,
                 "mechanism": "all_at_once" if len(steps) == 1 else "random"}
                for week, share in steps
            ],
            "measurements": [],
        }  # fmt: skip
        begun = calendar.day(7 * steps[0][0])
        if began <= begun < ended:
            spec["confounders"] = [
                {"name": "A label withdrew its music", "began_at": began.isoformat(), "ended_at": ended.isoformat()}
            ]
        if blind is None:
            spec |= {"experiment_key": IDEAS[source].key, "shipped_variant": "treatment"}
        found.append(LaunchRecord(spec, {METRICS[0]: float(theta)}))
    return tuple(found)


def _effects(tried: Trials, shipped: Integers) -> Array:
    """True effects on the company: of a pair, without the other one if that one was not shipped."""
    keys = {IDEAS[k].key for k in shipped}
    alone = {one for pair in PAIRS for one in pair if not set(pair) <= keys}
    without = np.array([IDEAS[k].key in alone for k in shipped], dtype=np.bool_)
    return np.where(without, tried.alone[shipped], tried.true_topline[shipped])


def _blind_effects(rng: np.random.Generator) -> Array:
    return np.asarray(MEAN + TAU * rng.standard_t(4, len(BLINDS)))
