"""The true log lifts (METHODS I2).

Estimand: over the users an experiment enrolled (all arms, before any loss of data), the mean of what each is expected
to do in the closed window of 7 days after first exposure, had everybody been in the variant, against had everybody
been in control; every other experiment and launch as it really happened. Ratios are ratios of these means. Given the
latent habits the expectations are closed forms (Bernoulli days, Poisson sessions), so nothing is simulated. Of a
running experiment all users enrolled by the end of the data count, with windows that reach beyond it left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.company.definitions import COMPONENTS
from stats.company.population import COUNTRIES, PLATFORMS, Array, Booleans, World, rates
from stats.company.story import CHANNELS, HORIZON_DAYS, TRIALS, WINDOW_DAYS, Trial

DIMENSIONS: Final = {"country": COUNTRIES, "platform": PLATFORMS}


@dataclass(frozen=True, slots=True)
class TrueLift:
    """True `log_lift` of a variant on a metric; `dimension` and `level` are empty for all users together."""

    experiment_key: str
    variant_key: str
    metric_key: str
    dimension: str
    level: str
    log_lift: float


def true_lifts(world: World) -> tuple[TrueLift, ...]:
    """One row per experiment, treatment variant, metric and segment (and overall); none for a segment nobody is in."""
    return tuple(row for trial in TRIALS for row in _of_trial(world, trial))


def complete(world: World, trial: Trial) -> Booleans:
    """Enrolled users (users,) whose whole window lies within the data, which end at everybody's midnight."""
    ends = world.assignments[trial.key].exposed + WINDOW_DAYS + world.who.offset / 86_400
    return np.asarray(ends <= HORIZON_DAYS)


def _of_trial(world: World, trial: Trial) -> list[TrueLift]:
    expected = [_expected(world, trial, arm) for arm in range(len(trial.arms))]
    inside = complete(world, trial)
    groups = [("", "", inside)]
    for dimension, levels in DIMENSIONS.items():
        member = getattr(world.who, dimension)
        groups += [(dimension, level, inside & (member == code)) for code, level in enumerate(levels)]
    rows = []
    for dimension, level, users in groups:
        if not users.any():
            continue
        means = [{name: float(values[users].mean()) for name, values in arm.items()} for arm in expected]
        for arm, mean in zip(trial.arms[1:], means[1:], strict=True):
            for metric, (top, bottom) in COMPONENTS.items():
                lift = np.log(mean[top] / means[0][top])
                if bottom is not None:
                    lift -= np.log(mean[bottom] / means[0][bottom])
                rows.append(TrueLift(trial.key, arm.key, metric, dimension, level, float(lift)))
    return rows


def _expected(world: World, trial: Trial, arm: int) -> dict[str, Array]:
    """Expected window totals (users,) had everybody been in `arm`; zero outside the experiment."""
    units, who = world.assignments[trial.key], world.who
    users = who.joins.size
    idle = np.ones(users)
    totals = {name: np.zeros(users) for name in ("sessions", "orders", "revenue")}
    scale = world.effect_scale(trial)
    for day in range(trial.first_day, min(trial.last_day, HORIZON_DAYS)):
        here = (units.exposed <= day) & (day < units.exposed + WINDOW_DAYS) & (day < who.leaves)
        if not here.any():
            continue
        effects = trial.arms[arm].effects
        today = rates(
            who,
            {
                channel: world.log_multiplier(channel, day)
                - world.trial_effect(trial, channel, day)
                + effects.get(channel, 0.0) * scale
                for channel in CHANNELS
            },
        )
        active = np.where(here, today.activity, 0.0)
        idle *= 1 - active
        sessions = active * today.sessions
        totals["sessions"] += sessions
        totals["orders"] += sessions * today.orders
        totals["revenue"] += sessions * today.orders * today.value
    return {"active": 1 - idle, **totals}
