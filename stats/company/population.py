"""People, their habits, and the days they live through (METHODS I2).

A user's day starts at a personal offset after midnight, so exposures and windows fall on whole user-days and the truth
is exact, while timestamps look like those of real people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.company.story import HORIZON_DAYS, LAUNCHES, TRIALS, Rollout, Trial

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type Booleans = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
type Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

COUNTRIES: Final = ("DE", "FR", "ES", "PL", "NL")
PLATFORMS: Final = ("android", "ios", "web")
_COUNTRY_SHARE: Final = (0.34, 0.24, 0.18, 0.14, 0.10)
_PLATFORM_SHARE: Final = (0.45, 0.33, 0.22)
_COUNTRY_HABIT: Final = np.array([1.0, 0.95, 1.05, 0.85, 1.1])
_PLATFORM_HABIT: Final = np.array([1.0, 1.15, 0.75])
_WEEKDAY: Final = np.array([0.95, 0.92, 0.95, 1.0, 1.08, 1.12, 0.98])
NEVER: Final = 10 * HORIZON_DAYS


@dataclass(frozen=True, slots=True)
class People:
    """Latent traits, all (users,). `joins` and `leaves` are days; leaving is never caused by a treatment."""

    joins: Integers
    leaves: Integers
    offset: Array  # seconds after midnight at which the user's day starts
    country: Integers
    platform: Integers
    activity: Array  # chance of an active day, before season and effects
    sessions: Array  # sessions per active day, >= 1
    orders: Array  # chance that a session orders
    value: Array  # mean amount of an order


@dataclass(frozen=True, slots=True)
class Assignment:
    """One experiment's units: `arm` (index, -1 outside) and first `exposed` day (users,); `logged` has data losses."""

    arm: Integers
    exposed: Integers
    logged: Booleans


def people(rng: np.random.Generator, users: int) -> People:
    """Half were there at the start, the rest join steadily; the more active stay longer."""
    joins = np.where(rng.random(users) < 0.5, 0, rng.integers(0, HORIZON_DAYS, users))
    country = rng.choice(len(COUNTRIES), users, p=_COUNTRY_SHARE)
    platform = rng.choice(len(PLATFORMS), users, p=_PLATFORM_SHARE)
    latent = rng.standard_normal(users)
    activity = np.clip(0.17 * np.exp(0.6 * latent) * _COUNTRY_HABIT[country] * _PLATFORM_HABIT[platform], 0.01, 0.7)
    lifetime = rng.exponential(140 * np.exp(0.4 * latent)).astype(np.int64) + 1
    return People(
        joins=joins,
        leaves=np.minimum(joins + lifetime, NEVER),
        offset=rng.integers(0, 86_400, users).astype(np.float64),
        country=country,
        platform=platform,
        activity=activity,
        sessions=1 + rng.gamma(1.5, 0.4, users),
        orders=np.clip(rng.beta(4, 14, users) * np.exp(0.15 * latent), 0.01, 0.6),
        value=np.exp(rng.normal(3.2, 0.35, users)),
    )


def marketing_days(rng: np.random.Generator) -> Array:
    """What marketing adds to everybody's log activity (days,): an AR(1)."""
    marketing = np.zeros(HORIZON_DAYS)
    for day in range(1, HORIZON_DAYS):
        marketing[day] = 0.85 * marketing[day - 1] + 0.03 * rng.standard_normal()
    return marketing


def common_days(marketing: Array) -> dict[str, Array]:
    """Log multipliers (days,) shared by everybody: week, marketing and two incidents."""
    activity = np.log(_WEEKDAY[np.arange(HORIZON_DAYS) % 7]) + marketing
    activity[119:121] += np.log(0.45)  # an outage of two days
    orders = np.zeros(HORIZON_DAYS)
    orders[45:48] += np.log(0.7)  # a payment provider in trouble
    return {"activity": activity, "sessions": np.zeros(HORIZON_DAYS), "orders": orders, "value": np.zeros(HORIZON_DAYS)}


def assign(rng: np.random.Generator, who: People, trial: Trial) -> Assignment:
    """Randomise users alive on their enrolment day; enrolment is quick at first and ends a window before the end."""
    users = who.joins.size
    enrolment = trial.days - 7
    arrival = np.minimum(rng.exponential(enrolment / 3, users), enrolment - 1e-9).astype(np.int64)
    exposed = np.maximum(trial.first_day + arrival, who.joins)
    chosen = rng.random(users) < trial.coverage
    within = (exposed < trial.first_day + enrolment) & (exposed < HORIZON_DAYS) & (exposed < who.leaves)
    weights = np.cumsum([arm.weight for arm in trial.arms])
    arm = np.minimum(np.searchsorted(weights, rng.random(users), side="right"), len(trial.arms) - 1)
    enrolled = chosen & within
    quiet = who.activity < np.median(who.activity)
    lost = (arm == len(trial.arms) - 1) & quiet & (rng.random(users) < trial.lost_exposures)
    return Assignment(
        arm=np.where(enrolled, arm, -1), exposed=np.where(enrolled, exposed, NEVER), logged=enrolled & ~lost
    )


@dataclass(frozen=True, slots=True)
class World:
    """Everything that decides behaviour. `reached` holds, per launch, each user's place in the rollout (0 to 1)."""

    who: People
    common: dict[str, Array]
    assignments: dict[str, Assignment]
    reached: dict[str, Array]

    def effect_scale(self, trial: Trial) -> Array:
        """How strongly each user (users,) responds to a trial."""
        return np.array([trial.platform_scale.get(name, 1.0) for name in PLATFORMS])[self.who.platform]

    def trial_effect(self, trial: Trial, channel: str, day: int) -> Array:
        """Log effect (users,) of the arm each user really is in: after exposure, while the trial runs."""
        units = self.assignments[trial.key]
        under = (units.exposed <= day) & (day < trial.last_day)
        by_arm = np.array([*(arm.effects.get(channel, 0.0) for arm in trial.arms), 0.0])  # index -1: not enrolled
        return np.where(under, by_arm[units.arm] * self.effect_scale(trial), 0.0)

    def launch_effect(self, launch: Rollout, channel: str, coverage: float) -> Array:
        """Log effect (users,) of a launch that has reached this share of users."""
        covered = self.reached[launch.key] < coverage
        scale = next((self.effect_scale(t) for t in TRIALS if t.key == launch.trial), np.ones(covered.size))
        return np.where(covered, launch.effects.get(channel, 0.0) * scale, 0.0)

    def log_multiplier(self, channel: str, day: int) -> Array:
        """All that multiplies a user's habit on a day (users,): common days, launches, every trial as it happened."""
        total = np.full(self.who.joins.size, self.common[channel][day])
        for launch in LAUNCHES:
            if channel in launch.effects and coverage_on(launch, day) > 0:
                total += self.launch_effect(launch, channel, coverage_on(launch, day))
        for trial in TRIALS:
            if any(channel in arm.effects for arm in trial.arms):
                total += self.trial_effect(trial, channel, day)
        return total


def coverage_on(launch: Rollout, day: int) -> float:
    """Share of users a launch has reached on a day."""
    return max((share for at, share in launch.steps if at <= day), default=0.0)


@dataclass(frozen=True, slots=True)
class Rates:
    """What a day is expected to bring (users,), given being alive."""

    activity: Array  # chance of at least one session
    sessions: Array  # expected sessions on an active day, >= 1
    orders: Array  # chance per session
    value: Array  # expected amount of an order


def rates(who: People, multiplier: dict[str, Array]) -> Rates:
    """Habits times multipliers, kept inside the possible: the one place where behaviour is defined."""
    return Rates(
        activity=np.minimum(who.activity * np.exp(multiplier["activity"]), 0.95),
        sessions=np.maximum(who.sessions * np.exp(multiplier["sessions"]), 1.0),
        orders=np.minimum(who.orders * np.exp(multiplier["orders"]), 0.95),
        value=who.value * np.exp(multiplier["value"]),
    )
