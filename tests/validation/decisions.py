"""A11: "ship if a success metric wins and every guardrail clears": power if the change is good, errors if it is not.

Statistics of all metrics are correlated normals. Good: one success metric has the effect its test is powered for, the
others nothing, guardrails unharmed. Uncorrected power is what dividing nothing would give.
"""

from __future__ import annotations

import numpy as np
import scipy.special as sc

from stats.equivalence import non_inferiority
from stats.moments import Bools, Floats
from stats.multiplicity import adjusted, decision_errors
from tests.validation.cells import Cell, scaled, share

SEED = 20269
ALPHA, POWER = 0.05, 0.8
REPLICATIONS = 20_000
TABLE = "A11 decision rule"


def decision_rule(part: float = 1.0) -> list[Cell]:
    cells = []
    reps = scaled(REPLICATIONS, part, 500)
    for successes in (1, 2):
        for guardrails in (0, 3, 5):
            for rho in (0.0, 0.5):
                rng = np.random.default_rng([SEED, successes, guardrails, round(10 * rho)])
                tests = successes + guardrails
                noise = np.sqrt(rho) * rng.standard_normal((reps, 1)) + np.sqrt(1 - rho) * rng.standard_normal(
                    (reps, tests)
                )
                split = decision_errors(ALPHA, POWER, successes, guardrails)
                case = {"success": str(successes), "guardrails": str(guardrails), "rho": f"{rho:g}"}
                good = _ships(noise, successes, split.alpha_per_success_test, split.power_per_test, 1, 0)
                naive = _ships(noise, successes, split.alpha_per_success_test, POWER, 1, 0)
                useless = _ships(noise, successes, split.alpha_per_success_test, split.power_per_test, 0, 0)
                cells += [
                    Cell(TABLE, case, "ships a good change", share(good), POWER, reps, "at_least", slack=0.01),
                    Cell(TABLE, case, "with 80 % for each test (not used)", share(naive), POWER, reps, "report"),
                    Cell(TABLE, case, "ships without any success", share(useless), ALPHA, reps, "at_most", slack=0.0),
                ]
                if guardrails:
                    harmful = _ships(noise, successes, split.alpha_per_success_test, split.power_per_test, successes, 1)
                    cells.append(
                        Cell(
                            TABLE, case, "ships a harm at the margin", share(harmful), ALPHA, reps, "at_most", slack=0.0
                        )
                    )
    return cells


def _ships(noise: Floats, successes: int, alpha: float, power: float, moved: int, harmed: int) -> Bools:
    """`moved` success metrics have the effect of the design, `harmed` guardrails a harm as large as their margin."""
    effect = float(sc.ndtri(1 - alpha / 2) + sc.ndtri(power))
    room = float(sc.ndtri(1 - ALPHA) + sc.ndtri(power))
    z = noise.copy()
    z[:, :moved] += effect
    z[:, successes : successes + harmed] -= room
    p = adjusted(2 * sc.ndtr(-np.abs(z[:, :successes])), "holm")
    won = ((p < ALPHA) & (z[:, :successes] > 0)).any(axis=1)
    if successes == noise.shape[1]:
        return np.asarray(won)
    safe = non_inferiority(z[:, successes:], 1.0, np.inf, room) < ALPHA
    return np.asarray(won & safe.all(axis=1))
