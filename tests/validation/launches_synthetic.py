"""D3: one segment has the launch, and others that move as it does are weighted to say what would have been.

Panels of 20 segments with levels of their own, a common random walk, two lasting factors that segments follow by
loadings of their own, and noise (standard deviation 0.5); 52 periods before the launch and 8 after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stats.launch.synthetic_control import WEIGHTS, SyntheticMethod, leave_one_out, synthetic
from tests.launch.donor_panels import factor_panel
from tests.validation.cells import Cell, scaled
from tests.validation.intervals import Intervals, shares_below

SEED = 20303
TABLE = "D3 synthetic controls"
SPACE_P = "D3 rank among placebos in space"
SPILL_OVER = "D3 donors that the launch reached"
UNITS, AFTER, EFFECT = 20, 8, 2.0
SLACK = 0.015
NAMES: dict[SyntheticMethod, str] = {
    "synthetic_control": "synthetic control",
    "augmented_synthetic_control": "augmented",
    "synthetic_did": "synthetic DiD",
}
CASES: dict[str, dict[str, float]] = {
    "one treated": {},
    "one treated, unequally noisy": {"uneven": 0.7},
    "three treated": {"treated": 3},
}
SLOW = 0.12
"""Share of replications for the augmented method, whose penalty is chosen anew for every placebo."""


def panels(part: float = 1.0, methods: Sequence[SyntheticMethod] = tuple(WEIGHTS)) -> list[Cell]:
    """Coverage and bias without effect, and with one of 2 that reaches everybody in eight steps; without effect also
    the p-value, the rank of the launch among placebo launches on every donor. A treated segment has one donor more
    than its placebos have, fits better before, and may rank first a little too often (0.02 are allowed for).
    """
    cells = []
    for number, (name, options) in enumerate(CASES.items()):
        for effect, path in ((0.0, np.ones(AFTER)), (EFFECT, np.arange(1.0, AFTER + 1) / AFTER)):
            case = {"panel": name, "effect": f"{effect:g}"}
            for method in methods:
                rng = np.random.default_rng([SEED, number, round(effect)])
                said = Intervals()
                share_made = part * (SLOW if method == "augmented_synthetic_control" else 1.0)
                for _ in range(scaled(500, share_made, 8)):
                    panel = factor_panel(rng, units=UNITS, after=AFTER, **options)  # type: ignore[arg-type]  # as data
                    reached = panel.coverage * np.append(np.ones(panel.pre), path)
                    panel = replace(panel, coverage=reached, y=panel.y + effect * reached)
                    said.of(effect, synthetic(panel, method).estimated)
                cells += [
                    said.coverage(TABLE, case, NAMES[method], "at_least", SLACK),
                    said.width(TABLE, case, NAMES[method]),
                    said.bias(TABLE, case, NAMES[method]),
                ]
                if effect == 0:
                    cells += shares_below(said.p_value, SPACE_P, {"panel": name}, NAMES[method], "at_most", 0.02)
    return cells


def spill_over(part: float = 1.0) -> list[Cell]:
    """The launch reaches two of twelve donors too, with half its effect; both move as the treated segment does, so that
    they carry much of the weight. Estimates that take them for untouched are too small. Leaving one donor out at a time
    must name one of the two. Northlift also tests every donor for a change of its own and leaves suspects out before it
    compares: what that does is in the study of grades.
    """
    cells = []
    for effect in (0.0, EFFECT):
        case = {"effect": f"{effect:g}"}
        for method in ("synthetic_control", "synthetic_did"):
            rng = np.random.default_rng([SEED, 9])
            said, named, replications = Intervals(), [], scaled(300, part, 8)
            for _ in range(replications):
                panel = factor_panel(rng, units=13)
                y = panel.y.copy()
                y[1:3] = y[0] + 0.5 * rng.standard_normal((2, y.shape[1]))
                reached = panel.coverage.copy()
                reached[1:3] = 0.5 * reached[0]
                panel = replace(panel, y=y + effect * reached)
                said.of(effect, synthetic(panel, method).estimated)
                without = leave_one_out(panel, method)
                named.append(bool(without.unit[np.argmax(without.effect)] in (1, 2)))
            clean = effect == 0
            cells += [
                said.coverage(SPILL_OVER, case, NAMES[method], "at_least" if clean else "report", SLACK),
                said.bias(SPILL_OVER, case, NAMES[method], "equal" if clean else "report"),
            ]
            if not clean:
                share = float(np.mean(named))
                quantity = f"{NAMES[method]}: most is found without a donor that was reached"
                cells.append(Cell(SPILL_OVER, case, quantity, share, 0.9, replications, "at_least"))
    return cells
