"""Six months of a company, from one seed (METHODS I2): the same seed gives identical arrays. No clock is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np

from stats.company import definitions
from stats.company.business import Business, business
from stats.company.deliveries import deliveries
from stats.company.launches import OWNERS, user_launches, user_series
from stats.company.listening import Listening
from stats.company.listening import generate as listening
from stats.company.population import COUNTRIES, PLATFORMS, World, assign, common_days, marketing_days, people, rates
from stats.company.records import Calendar, Column, ExperimentRecord, LaunchRecord, SeriesRecord, times
from stats.company.store import store
from stats.company.story import CHANNELS, HORIZON_DAYS, LAUNCHES, TRIALS, Trial
from stats.company.truth import TrueLift, true_lifts

_DAY: Final = 86_400.0
_VALUE_SPREAD: Final = 0.5  # sd of ln(amount) within a user


@dataclass(frozen=True, slots=True)
class Company:
    """Everything the platform would be told, and the `truth` it is not.

    `exposures` columns: experiment_key, unit_id, variant_key, exposed_at, country, platform. `events` columns: unit_id,
    event, occurred_at, value (the amount of an order; 0 for a session), country. Times are UTC,
    `datetime64[us]`, ascending. `series` are what launches are measured on: counted from the events, or pushed.
    """

    started_at: datetime
    ended_at: datetime
    exposures: dict[str, Column]
    events: dict[str, Column]
    experiments: tuple[ExperimentRecord, ...]
    series: tuple[SeriesRecord, ...]
    launches: tuple[LaunchRecord, ...]
    fact_sources: tuple[dict[str, Any], ...]
    metrics: tuple[dict[str, Any], ...]
    north_star: dict[str, Any]
    truth: tuple[TrueLift, ...]
    business: Business
    """Its second business, with tables, experiments and a truth of its own."""
    listening: Listening
    """Its third one: two years of a listening service, known by weeks and by summaries of experiments."""


def generate(start: date | datetime, *, seed: int = 20260101, users: int = 20_000) -> Company:
    """The company whose data begin at `start` (a date: at 00:00 UTC) and last 26 weeks.

    Raises `ValueError` below 500 users, where some experiments would have no units at all.
    """
    if users < 500:
        raise ValueError("the company needs at least 500 users")
    day = datetime(start.year, start.month, start.day, tzinfo=UTC)
    begin = start.astimezone(UTC) if isinstance(start, datetime) else day
    # One stream per purpose: changing how one thing is drawn leaves the others as they were.
    traits, days, rollout, behaviour, *trials = np.random.SeedSequence(seed).spawn(4 + len(TRIALS))
    who = people(np.random.default_rng(traits), users)
    order = np.random.default_rng(rollout)
    marketing = marketing_days(np.random.default_rng(days))
    world = World(
        who=who,
        common=common_days(marketing),
        assignments={
            trial.key: assign(np.random.default_rng(stream), who, trial)
            for trial, stream in zip(TRIALS, trials, strict=True)
        },
        reached={launch.key: order.random(users) for launch in LAUNCHES},
    )
    names = np.array([f"u{number:06d}" for number in range(users)])
    events = _events(world, begin, names, np.random.default_rng(behaviour))
    end = begin + timedelta(days=HORIZON_DAYS)
    calendar = Calendar.within(begin, end)
    of_users = user_series(world, marketing, events, begin, names, np.random.default_rng([seed, HORIZON_DAYS]))
    of_cities, in_cities = deliveries(calendar, seed)
    of_store, in_store = store(calendar, seed)
    return Company(
        started_at=begin,
        ended_at=end,
        exposures=_exposures(world, begin, names),
        events=events,
        experiments=tuple(_experiment(trial, begin, world) for trial in TRIALS),
        series=(*of_users, *of_cities, *of_store),
        launches=(*user_launches(world, begin), *in_cities, *in_store),
        fact_sources=definitions.fact_sources(),
        metrics=definitions.metrics(),
        north_star=definitions.north_star(),
        truth=true_lifts(world),
        business=business(begin, seed=seed, users=users),
        listening=listening(end, seed=seed),
    )


def _exposures(world: World, begin: datetime, names: Column) -> dict[str, Column]:
    parts: list[tuple[Column, ...]] = []
    for trial in TRIALS:
        units = world.assignments[trial.key]
        logged = np.flatnonzero(units.logged)
        keys = np.array([arm.key for arm in trial.arms])[units.arm[logged]]
        seconds = units.exposed[logged] * _DAY + world.who.offset[logged]
        parts.append((np.full(logged.size, trial.key), logged, keys, seconds))
    experiment, user, variant, seconds = (np.concatenate(column) for column in zip(*parts, strict=True))
    kept = seconds < HORIZON_DAYS * _DAY  # the data end at midnight, some users' last day does not
    order = np.flatnonzero(kept)[np.argsort(seconds[kept], kind="stable")]
    user = user[order]
    return {
        "experiment_key": experiment[order],
        "unit_id": names[user],
        "variant_key": variant[order],
        "exposed_at": times(begin, seconds[order]),
        "country": np.array(COUNTRIES)[world.who.country[user]],
        "platform": np.array(PLATFORMS)[world.who.platform[user]],
    }


def _events(world: World, begin: datetime, names: Column, rng: np.random.Generator) -> dict[str, Column]:
    who = world.who
    users: list[Column] = []
    seconds: list[Column] = []
    values: list[Column] = []
    ordered: list[Column] = []
    for day in range(HORIZON_DAYS):
        today = rates(who, {channel: world.log_multiplier(channel, day) for channel in CHANNELS})
        alive = (who.joins <= day) & (day < who.leaves)
        active = np.flatnonzero(alive & (rng.random(alive.size) < today.activity))
        user = np.repeat(active, 1 + rng.poisson(today.sessions[active] - 1))
        moment = rng.random(user.size) * _DAY
        buys = rng.random(user.size) < today.orders[user]
        # An order follows its session within half an hour and within the same user-day, so windows hold both.
        buyer, after = user[buys], moment[buys]
        later = after + rng.random(after.size) * np.minimum(1800.0, _DAY - after)
        noise = rng.standard_normal(buyer.size) * _VALUE_SPREAD - _VALUE_SPREAD**2 / 2
        users += [user, buyer]
        seconds += [day * _DAY + who.offset[user] + moment, day * _DAY + who.offset[buyer] + later]
        values += [np.zeros(user.size), np.round(today.value[buyer] * np.exp(noise), 2)]
        ordered += [np.zeros(user.size, dtype=np.bool_), np.ones(buyer.size, dtype=np.bool_)]
    at, who_did = np.concatenate(seconds), np.concatenate(users)
    kept = at < HORIZON_DAYS * _DAY
    order = np.flatnonzero(kept)[np.argsort(at[kept], kind="stable")]
    return {
        "unit_id": names[who_did[order]],
        "event": np.where(np.concatenate(ordered)[order], "order", "session"),
        "occurred_at": times(begin, at[order]),
        "value": np.concatenate(values)[order],
        "country": np.array(COUNTRIES)[who.country[who_did[order]]],
    }


def _experiment(trial: Trial, begin: datetime, world: World) -> ExperimentRecord:
    planned_end = begin + timedelta(days=trial.last_day + 1)  # user-days end up to a day after the calendar's
    roles: list[dict[str, Any]] = [{"metric_key": trial.primary, "role": "primary", "mde": 0.05}]
    if trial.primary != "orders":
        roles.append({"metric_key": "orders", "role": "secondary"})
    guardrail = "revenue" if trial.primary != "order_value" else "active_users"
    roles.append({"metric_key": guardrail, "role": "guardrail", "non_inferiority_margin": 0.1})
    taken = {role["metric_key"] for role in roles}
    roles += [{"metric_key": key, "role": "monitor"} for key in definitions.COMPONENTS if key not in taken]
    spec = {
        "key": trial.key,
        "name": trial.name,
        "hypothesis": trial.hypothesis,
        "owner": OWNERS[trial.team],
        "team": trial.team,
        "tags": [trial.team, trial.primary],
        "unit_type": "user",
        "variants": [
            {"key": arm.key, "name": arm.key.replace("_", " ").capitalize(), "weight": arm.weight, "is_control": not i}
            for i, arm in enumerate(trial.arms)
        ],
        "metrics": roles,
        "north_star_key": "weekly_orders",
        "segments": ["country", "platform"],
        "coverage": trial.coverage,
        "planned_units": int((world.assignments[trial.key].arm >= 0).sum()),
        "planned_end_at": planned_end.isoformat(),
    }
    return ExperimentRecord(spec, begin + timedelta(days=trial.first_day), None if trial.running else planned_end)
