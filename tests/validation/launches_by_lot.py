"""D5 and D6: launches that were drawn by lot without being experiments: blocks of time, and stages of a rollout."""

from __future__ import annotations

from typing import Any

import numpy as np

from stats.launch.contract import Estimated
from stats.launch.staged import Stages, staged
from stats.launch.switchback import switchback
from stats.moments import Floats
from tests.validation.cells import Cell, Rule, scaled
from tests.validation.intervals import Intervals, shares_below

SEED = 20305
SWITCHED, SWITCHED_P, STAGED = "D5 switchbacks", "D5 p-values", "D6 stages"
HOURS = 24
DRAWS = 199
EFFECT = 0.05
NOISE = 0.02
WEARS_OFF = 0.5
"""Share of the former state that is left after an hour: 6 % after four hours, 2 % after six."""


def blocks_of_time(part: float = 1.0) -> list[Cell]:
    """Hourly outcomes with the shape of a day, a trend, and AR(1) noise of correlation `rho`; blocks of 8 hours are on
    or off by lot. Interval and p-value are those of the randomisation test, which holds for any noise, also one that
    outlasts the blocks. Where an effect wears in and out, by half of what is left in an hour, hours after a switch are
    in between: without burn-in estimates are too small, with one of six hours they are not.
    """
    cells = []
    for rho in (0.5, 0.9):
        for blocks in (12, 40):
            case = {"rho": f"{rho:g}", "blocks": str(blocks), "effect": "0", "burn-in": "0"}
            said = _said([SEED, round(10 * rho), blocks], scaled(400, part, 10), rho=rho, blocks=blocks)
            cells.append(said.coverage(SWITCHED, case, "switchback", "at_least", 0.0))
            where = {"rho": f"{rho:g}", "blocks": str(blocks)}
            cells += shares_below(said.p_value, SWITCHED_P, where, "switchback", "equal", 0.01)
    for rho in (0.5, 0.9):
        for burn_in in (0, 2, 4, 6):
            case = {"rho": f"{rho:g}", "blocks": "40", "effect": f"{EFFECT:g} that wears in", "burn-in": str(burn_in)}
            said = _said(
                [SEED, 100 + round(10 * rho)],
                scaled(300, part, 10),
                rho=rho,
                blocks=40,
                burn_in=burn_in,
                effect=EFFECT,
                wears_off=WEARS_OFF,
            )
            rule: Rule = "at_least" if burn_in == 6 else "report"
            cells += [
                said.coverage(SWITCHED, case, "switchback", rule, 0.01),
                said.bias(SWITCHED, case, "switchback", "equal" if burn_in == 6 else "report"),
            ]
    return cells


def _said(seed: list[int], replications: int, *, burn_in: int = 0, **story: Any) -> Intervals:
    rng, said = np.random.default_rng(seed), Intervals()
    for replication in range(replications):
        said.of(story.get("effect", 0.0), switched(rng, replication, burn_in=burn_in, **story))
    return said


def switched(
    rng: np.random.Generator,
    seed: int,
    *,
    rho: float,
    blocks: int,
    burn_in: int = 0,
    effect: float = 0.0,
    wears_off: float = 0.0,
    length: int = 8,
) -> Estimated:
    """What the estimator says of one switchback."""
    states = rng.permutation(np.repeat([True, False], blocks // 2))
    on, block = np.repeat(states, length), np.repeat(np.arange(blocks), length)
    time = np.arange(on.size)
    shock, error, acting = NOISE * rng.standard_normal(on.size), np.zeros(on.size), np.zeros(on.size)
    acting[0] = float(on[0])
    for t in range(1, on.size):
        error[t] = rho * error[t - 1] + shock[t]
        acting[t] = wears_off * acting[t - 1] + (1 - wears_off) * on[t]
    y = 3.0 + 0.3 * np.sin(2 * np.pi * time / HOURS) + 0.0005 * time + effect * acting + error
    everything = np.ones(on.size, dtype=np.bool_)
    return switchback(y, on, block, time % HOURS, carry_over=burn_in, usable=everything, seed=seed, draws=DRAWS)


def stages(part: float = 1.0) -> list[Cell]:
    """A rollout to 10, 25 and 50 % of 4,000 users by lot, who keep their habits: the same users are in all stages.
    Intervals must hold the truth; they are made for stages that share all users, and hold a little too much.
    """
    cells = []
    for lift in (0.0, 0.1):
        rng, said, failed = np.random.default_rng([SEED, 9, round(10 * lift)]), Intervals(), []
        truth, replications = float(np.log1p(lift)), scaled(1_000, part, 20)
        for _ in range(replications):
            place, habit = rng.random(4_000), rng.gamma(4.0, 0.25, 4_000)
            moments, reached = [], (0.1, 0.25, 0.5)
            for coverage in reached:
                on = place < coverage
                y = rng.poisson(5 * habit * np.where(on, 1 + lift, 1.0)).astype(np.float64)
                moments.append([summary(y[each]) for each in (on, ~on)])
            columns = np.array(moments).reshape(len(reached), 6).T
            found = staged(Stages(*columns, coverage=np.array(reached)))
            said.of(truth, found.estimated)
            failed.append(found.sample_ratio_p < 0.01)
        case = {"lift": f"{lift:g}"}
        cells += [
            said.coverage(STAGED, case, "staged", "at_least", 0.0),
            said.width(STAGED, case, "staged"),
            said.bias(STAGED, case, "staged"),
            Cell(STAGED, case, "sample ratio: p ≤ 0.01", float(np.mean(failed)), 0.01, replications, "at_most", 0.0),
        ]
    return cells


def summary(y: Floats) -> tuple[float, float, float]:
    """Number, mean and variance."""
    return float(y.size), float(y.mean()), float(y.var(ddof=1))
