"""Members, what they do around an experiment, and what is true of it (METHODS I2).

Members take part in one experiment (or in two beside each other), and only what its metrics need is told of them: facts
in the two weeks before and in the window of a week after they begin to count. They buy at most once in a window, for an
amount that no effect touches, so that a lift in buyers is the same lift in spend, under every cap.

The truth is over all enrolled members: what they are expected to do under one variant against the other, the experiment
beside it as it really was. A shift of log latencies shifts their quantiles by as much. A score is of those who answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import scipy.special as sc

from stats.company.member_story import MEMBER_TRIALS, WINDOW_DAYS, MemberTrial
from stats.company.population import COUNTRIES, PLATFORMS, Array, Integers

_DAY: Final = 86_400.0
_WEEKS_BEFORE: Final = 4
_AMOUNT: Final = (3.8, 1.3)  # mean and sd of ln(amount): a heavy tail, which a cap is for
_SCORE: Final = (8.6, 1.6, 1.2)  # mean, spread between members, spread of one answer
_PROMOTER, _DETRACTOR = 8.5, 6.5  # answers are rounded
_LATENCY: Final = (6.2, 0.35, 0.5)  # ln milliseconds: mean, spread between members, spread of one page
_ACCOUNT_SIZE: Final = (2.6, 0.8)
_SMALLEST: Final = 40


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """The members of one trial, all (members,). `arm` is 1 in the treatment, `other` in that of the trial beside it.

    `assigned` and `counts_from` are seconds since the start of the data; the latter is later with a trigger, and inf
    for who never triggers. `buying` and `answering` are chances without any effect, `content` is standard normal.
    """

    trial: MemberTrial
    first: int
    arm: Integers
    other: Integers
    account: Integers
    country: Integers
    platform: Integers
    assigned: Array
    counts_from: Array
    buying: Array
    content: Array
    answering: Array
    slowness: Array
    views: Array

    def chance(self, arm: Integers | int) -> Array:
        """Chance to buy (members,) had everybody been in `arm`, given the trial beside it."""
        partner = next((t for t in MEMBER_TRIALS if t.key == self.trial.beside or t.beside == self.trial.key), None)
        both = self.trial.interaction + (0.0 if partner is None else partner.interaction)
        effect = arm * self.trial.effects.get("buying", 0.0)
        if partner is not None:
            effect = effect + self.other * (partner.effects.get("buying", 0.0) + arm * both)
        return np.asarray(self.buying * np.exp(effect), dtype=np.float64)

    def answers(self, arm: Integers | int) -> Array:
        """Chance to answer the survey."""
        return np.asarray(self.answering * np.exp(arm * self.trial.effects.get("answering", 0.0)), dtype=np.float64)

    def gladness(self, arm: Integers | int) -> Array:
        """Mean of the score before it is rounded."""
        mean, spread, _ = _SCORE
        return mean + spread * (self.content + arm * self.trial.effects.get("content", 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class MemberFacts:
    """Events of a cohort: whose (an index into its members), which, when (seconds) and the value."""

    member: Integers
    event: np.ndarray[tuple[int], np.dtype[np.str_]]
    seconds: Array
    value: Array


def cohorts(seed: int, users: int) -> tuple[Cohort, ...]:
    """All cohorts; members are numbered through them. Every trial has streams of its own."""
    found: list[Cohort] = []
    number = 0
    streams = np.random.SeedSequence([seed, WINDOW_DAYS]).spawn(len(MEMBER_TRIALS))
    for trial, stream in zip(MEMBER_TRIALS, streams, strict=True):
        rng = np.random.default_rng(stream)
        partner = next((cohort for cohort in found if cohort.trial.key == trial.beside), None)
        if partner is not None:
            arm = (rng.random(partner.arm.size) < trial.ramp[0][1]).astype(np.int64)
            found[found.index(partner)] = replace(partner, other=arm)
            found.append(replace(partner, trial=trial, arm=arm, other=partner.arm))
            continue
        found.append(_cohort(trial, rng, users, number))
        number += found[-1].arm.size
    return tuple(found)


def facts(cohort: Cohort, rng: np.random.Generator) -> MemberFacts:
    """What these members did; of the metrics of their trial only."""
    wanted = {use["metric_key"] for use in cohort.trial.metrics}
    size = cohort.arm.size
    everybody = np.arange(size)
    counts = np.isfinite(cohort.counts_from)
    start = np.where(counts, cohort.counts_from, 0.0)
    parts: list[tuple[Integers, str, Array, Array]] = []

    def within(days: float, count: int) -> Array:
        return rng.random(count) * days * _DAY

    if cohort.trial.trigger_days:
        parts.append((everybody[counts], "checkout_view", start[counts], np.zeros(int(counts.sum()))))
    for week in range(-_WEEKS_BEFORE, 1):
        chance = cohort.buying if week < 0 else cohort.chance(cohort.arm)
        buys = everybody[(rng.random(size) < chance) & (counts | (week < 0))]
        begin = cohort.assigned[buys] + week * WINDOW_DAYS * _DAY if week < 0 else start[buys]
        amount = np.round(np.exp(rng.normal(*_AMOUNT, buys.size)), 2) + 0.01
        parts.append((buys, "purchase", begin + within(WINDOW_DAYS, buys.size), amount))
    if "page_latency" in wanted:
        mean, _, noise = _LATENCY
        who = np.repeat(everybody, 1 + rng.poisson(cohort.views))
        shift = cohort.arm * cohort.trial.effects.get("latency", 0.0)
        latency = np.exp(mean + (cohort.slowness + shift)[who] + noise * rng.standard_normal(who.size))
        parts.append((who, "page_view", start[who] + within(WINDOW_DAYS, who.size), np.round(latency, 3)))
    if "nps" in wanted:
        who = everybody[rng.random(size) < cohort.answers(cohort.arm)]
        score = np.rint(cohort.gladness(cohort.arm)[who] + _SCORE[2] * rng.standard_normal(who.size))
        parts.append((who, "survey_answer", start[who] + within(WINDOW_DAYS, who.size), np.clip(score, 0, 10)))
    return MemberFacts(
        member=np.concatenate([part[0] for part in parts]),
        event=np.concatenate([np.full(part[0].size, part[1]) for part in parts]),
        seconds=np.concatenate([part[2] for part in parts]),
        value=np.concatenate([part[3] for part in parts]),
    )


def member_lifts(cohort: Cohort) -> dict[str, float]:
    """The true log lift of the treatment on each metric of the trial."""
    counts = np.isfinite(cohort.counts_from)
    bought = [float(cohort.chance(arm)[counts].mean()) for arm in (0, 1)]
    scores = [_score(cohort, arm) for arm in (0, 1)]
    lifts = {
        "buyers": np.log(bought[1] / bought[0]),
        "spend": np.log(bought[1] / bought[0]),
        "page_latency": cohort.trial.effects.get("latency", 0.0),
        "nps": np.log(scores[1] / scores[0]),
    }
    return {use["metric_key"]: float(lifts[use["metric_key"]]) for use in cohort.trial.metrics}


def ignoring_stages(cohort: Cohort) -> float:
    """The log lift in buyers that a comparison of all members would expect, whenever they came."""
    treated = cohort.arm == 1
    return float(np.log(cohort.chance(1)[treated].mean() / cohort.chance(0)[~treated].mean()))


def _score(cohort: Cohort, arm: int) -> float:
    """Expected promoters less detractors among the expected answers."""
    mean, noise = cohort.gladness(arm), _SCORE[2]
    net = sc.ndtr((mean - _PROMOTER) / noise) - sc.ndtr((_DETRACTOR - mean) / noise)
    weight = cohort.answers(arm)
    return float((weight * net).sum() / weight.sum())


def _cohort(trial: MemberTrial, rng: np.random.Generator, users: int, first: int) -> Cohort:
    if trial.by_account:
        sizes = 1 + np.exp(rng.normal(*_ACCOUNT_SIZE, trial.size)).astype(np.int64)
        account = np.repeat(np.arange(trial.size), sizes)
        habit_of_account = 0.3 * rng.standard_normal(trial.size)[account]
    else:
        size = max(_SMALLEST, round(trial.size * users / 20_000))
        account = np.arange(size)
        habit_of_account = np.zeros(size)
    size = account.size
    latent = rng.standard_normal(size)
    content = rng.standard_normal(size)
    buying = np.clip(0.28 * np.exp(0.45 * latent + habit_of_account), 0.02, 0.55)
    rank = rng.random(size)
    if len(trial.ramp) > 1:  # the keen come first
        rank = sc.ndtr(0.6 * rng.standard_normal(size) - 0.8 * latent)
    day = np.minimum(rank, 1 - 1e-9) * trial.exposure_days
    share = np.array([share for _, share in trial.ramp])
    stage = np.searchsorted([begin for begin, _ in trial.ramp], day, side="right") - 1
    if trial.by_account:
        arm = (rng.permutation(trial.size) < trial.size // 2).astype(np.int64)[account]
    else:
        arm = (rng.random(size) < share[stage]).astype(np.int64)
    assigned = (trial.first_day + day) * _DAY
    counts_from = assigned
    if trial.trigger_days:
        triggers = rng.random(size) < 0.5
        counts_from = np.where(triggers, assigned + rng.random(size) * trial.trigger_days * _DAY, np.inf)
    return Cohort(
        trial=trial,
        first=first,
        arm=arm,
        other=np.zeros(size, dtype=np.int64),
        account=account,
        country=rng.integers(0, len(COUNTRIES), size),
        platform=rng.integers(0, len(PLATFORMS), size),
        assigned=assigned,
        counts_from=counts_from,
        buying=buying,
        content=content,
        answering=np.clip(0.4 * np.exp(0.25 * content), 0.05, 0.8),
        slowness=_LATENCY[1] * rng.standard_normal(size),
        views=rng.gamma(2.0, 2.0, size),
    )
