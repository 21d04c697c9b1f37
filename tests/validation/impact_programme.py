"""F1: the sum of the effects of everything that shipped, which was chosen for large estimates.

True effects spread with a standard deviation of 1 %, errors are uniform around a multiple of it; what measures above
1.645 errors ships. Totals by full Bayes, the one that leads, and by everything else that people use.
"""

from __future__ import annotations

import numpy as np

from stats.programme import selection
from stats.programme.totals import programme
from tests.stats.test_programme_totals import CUT, drawn
from tests.validation.cells import Cell, scaled

SEED = 20403
TABLE = "F1 totals of 60 experiments"
NUMBER = 60
RULES = {
    "naive sum": selection.naive,
    "Lee and Shen": selection.lee_shen,
    "Lee and Shen, posterior": selection.lee_shen_posterior,
    "James and Stein": selection.james_stein,
    "plug-in": selection.plug_in,
    "winners only": selection.winners_only,
}
LEAST = {"normal": 0.93, "t3": 0.90, "spike": 0.85}
"""METHODS I1; a spike (80 % of effects are exactly nothing) is what the population does not hold for possible."""


def totals(part: float = 1.0) -> list[Cell]:
    """METHODS F1: the naive sum is +93 % too large where errors are as large as effects, and +347 % where they are
    twice as large. The total that leads must be within 5 % and hold the truth in 93 % of programmes (90 % for t3).
    `make simulation` has the whole grid of METHODS I1, from 10 to 200 experiments.
    """
    kinds = (("normal", 1.0), ("t3", 1.0), ("normal", 2.0), ("t3", 2.0), ("spike", 1.0))
    return [cell for kind, ratio in kinds for cell in _case(kind, ratio, scaled(120, part, 6))]


def _case(kind: str, ratio: float, runs: int) -> list[Cell]:
    rng = np.random.default_rng([SEED, NUMBER, int(10 * ratio), len(kind)])
    truth, ours, held = np.zeros((3, runs))
    by_rule = {name: np.zeros((2, runs)) for name in RULES}
    for r in range(runs):
        effect, x, s = drawn(rng, kind, NUMBER, ratio)
        shipped = x > CUT * s
        truth[r] = effect[shipped].sum()
        found = programme(x, s).totals(shipped)
        ours[r], held[r] = found.mean[0], found.quantiles[0, 0] <= truth[r] <= found.quantiles[0, 3]
        for name, (total, covered) in by_rule.items():
            one = RULES[name](x, s, shipped)
            total[r] = one.total
            covered[r] = abs(one.total - truth[r]) <= 1.96 * one.sd if np.isfinite(one.sd) else np.nan
    whole = float(truth.mean())
    error = 3 * float((ours - truth).std()) / float(np.sqrt(runs)) / whole
    far = 0.1 if kind == "spike" else 0.05
    case = {"effects": kind, "error / spread": f"{ratio:g}"}
    cells = [
        Cell(TABLE, case, "full Bayes: coverage", float(held.mean()), LEAST[kind], runs, "at_least", 0.0),
        Cell(TABLE, case, "full Bayes: bias", float(ours.mean()) / whole - 1, 0.0, runs, within=far + error),
    ]
    for name, (total, covered) in by_rule.items():
        cells.append(Cell(TABLE, case, f"{name}: bias", float(total.mean()) / whole - 1, 0.0, runs, "report"))
        if np.isfinite(covered).all():
            cells.append(Cell(TABLE, case, f"{name}: coverage", float(covered.mean()), 0.95, runs, "report"))
    return cells
