"""Companies whose ledger is known: drawn from the ledger's own model, or from one that it does not know."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stats.ledger.contract import Array, LedgerData, LedgerPriors


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What happened. `launched` (T, J) is what launches added each week; other names are those of `LedgerFit`."""

    scalars: dict[str, float]
    delta: Array
    theta: Array
    launched: Array
    level: Array
    season: Array
    outside: Array
    noise: Array


@dataclass(frozen=True, slots=True)
class Story:
    """A company to draw. `scalars` that are given replace draws from the priors."""

    weeks: int = 104
    experiments: int = 60
    ship_above: float = 1.645
    influences: int = 2
    scalars: dict[str, float] | None = None
    error: tuple[float, float] = (0.006, 0.4)
    fat_tails: float = 4.0
    hidden: int = 0
    hidden_sd: float = 0.015
    lost_to_others: float = 0.0
    decays: bool = True
    told_of_decay: bool = True
    blind: int = 0
    biased: bool = False
    measured_persistence: bool = False
    holdout_error: float | None = None
    outage: float = 0.0


TYPICAL = {"mean": 0.0005, "tau": 0.006, "noise": 0.01, "level_step": 0.004, "slope_step": 0.0001}


def company(seed: int, story: Story, priors: LedgerPriors | None = None) -> tuple[LedgerData, Truth]:
    """A company's data and what is true of it."""
    rng = np.random.default_rng(seed)
    priors = priors or LedgerPriors()
    s = {
        "mean": priors.mean * rng.standard_normal(),
        "tau": abs(priors.tau * rng.standard_normal()),
        "kappa": priors.kappa[0] * np.exp(priors.kappa[1] * rng.standard_normal()),
        "scatter": abs(priors.scatter * rng.standard_normal()),
        "remaining": priors.remaining[0] * np.exp(priors.remaining[1] * rng.standard_normal()),
        "weeks": priors.weeks[0] * np.exp(priors.weeks[1] * rng.standard_normal()),
        "noise": abs(priors.noise * rng.standard_normal()),
        "level_step": abs(priors.level_step * rng.standard_normal()),
        "slope_step": abs(priors.slope_step * rng.standard_normal()),
    } | (story.scalars or {})
    weeks, count = story.weeks, story.experiments
    w = rng.gamma(story.fat_tails / 2, 2 / story.fat_tails, count) if np.isfinite(story.fat_tails) else np.ones(count)
    delta = s["mean"] + s["tau"] / np.sqrt(w) * rng.standard_normal(count)
    error = story.error[0] * np.exp(story.error[1] * rng.standard_normal(count))
    bias_sd = np.where(rng.random(count) < 0.3, 0.5 * error, 0.0) if story.biased else np.zeros(count)
    estimate = delta + np.hypot(error, bias_sd) * rng.standard_normal(count)
    source = np.flatnonzero(estimate / error > story.ship_above)
    source = np.concatenate([source, np.full(story.blind, -1)]).astype(np.intp)
    effect = np.where(source >= 0, delta[source], s["mean"] + s["tau"] * rng.standard_normal(source.size))
    theta = s["kappa"] * effect + s["scatter"] * rng.standard_normal(source.size)
    theta = theta * (1 - story.lost_to_others)
    at = rng.integers(8, weeks - 4, source.size) if weeks else np.zeros(source.size, int)
    week = np.arange(weeks)[:, None]
    age = np.maximum(week - at, 0)
    coverage = np.clip((week - at + 1) / rng.integers(1, 4, source.size), 0, 1)
    remaining, time = np.full(source.size, s["remaining"]), np.full(source.size, s["weeks"])
    own = rng.random(source.size) < (0.5 if story.measured_persistence else 0.0)
    measured = np.where(own, np.exp(0.2 * rng.standard_normal(source.size)) * 0.8, np.nan)
    remaining = np.where(own, np.where(own, measured, 1) * np.exp(0.25 * rng.standard_normal(source.size)), remaining)
    time = np.where(own, 4.0, time)
    fading = remaining + (1 - remaining) * np.exp(-age / time) if story.decays else np.ones(age.shape)
    path = coverage * fading
    phase = np.arange(weeks) / 52.18 + 0.3
    turns = [2 * np.pi * h * phase for h in (1, 2)]
    waves = np.column_stack([wave(turn) for turn in turns for wave in (np.sin, np.cos)])
    season = waves @ (priors.season * rng.standard_normal(4))
    influences = rng.standard_normal((weeks, story.influences))
    outside = influences * (priors.influence * rng.standard_normal(story.influences))
    slope = np.cumsum(np.append(priors.slope * rng.standard_normal(), s["slope_step"] * rng.standard_normal(weeks)))
    steps = slope[:-1] + s["level_step"] * rng.standard_normal(weeks)
    level = 13.0 + np.append(0.0, np.cumsum(steps))[:weeks]
    for _ in range(story.hidden):
        level = level + story.hidden_sd * rng.standard_normal() * (week[:, 0] >= rng.integers(8, weeks - 4))
    noise = s["noise"] * rng.standard_normal(weeks)
    if story.outage:
        noise[weeks // 2] -= story.outage
    launched = path * theta
    held = np.ones((1, source.size)) if story.holdout_error else np.zeros((0, source.size))
    measured_total = held @ launched[-1] if weeks else np.zeros(len(held))
    hold_error = np.full(len(held), story.holdout_error or 1.0)
    data = LedgerData(
        log_values=level + season + outside.sum(axis=1) + launched.sum(axis=1) + noise,
        season_phase=phase,
        influences=influences,
        estimate=estimate,
        error=error,
        bias_sd=bias_sd,
        source=source,
        coverage=coverage,
        remaining=measured,
        remaining_log_sd=np.where(own, 0.25, np.nan),
        time_constant=np.where(own, 4.0, np.nan),
        held_out=held,
        holdout_week=np.full(len(held), max(weeks - 1, 0), np.intp),
        holdout_estimate=measured_total + hold_error * rng.standard_normal(len(held)),
        holdout_error=hold_error,
    )
    if not story.told_of_decay:
        data = replace(
            data,
            remaining=np.ones(source.size),
            remaining_log_sd=np.full(source.size, 1e-6),
            time_constant=np.full(source.size, 6.0),
        )
    return data, Truth(s, delta, theta, launched, level, season, outside, noise)
