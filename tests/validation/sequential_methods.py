"""B3: which method when. Type-I error, power and mean duration of a design with 80 % power at its planned end.

Expected numbers of group-sequential designs are computed (power of the looks, expected information); those of mixtures
and of Bonferroni are the ones METHODS prints, to its two decimals.
"""

from __future__ import annotations

import numpy as np
import scipy.special as sc

from stats import always_valid
from stats.group_sequential import BEYOND, SpendingDesign, boundaries, expected_information, inflation
from stats.moments import Floats
from stats.power import Design, achieved_power
from tests.validation.cells import Cell, scaled, share

SEED = 20267
ALPHA = 0.05
TABLE = "B3 methods"
PRINTED = {
    (14, "mixture, N* = N"): (0.49, 0.83),
    (28, "mixture, N* = N"): (0.50, 0.81),
    (14, "mixture, N* = N / 200"): (0.26, 0.9),
    (28, "mixture, N* = N / 200"): (0.28, 0.9),
    (14, "Bonferroni over looks"): (0.55, 0.8),
    (28, "Bonferroni over looks"): (0.48, 0.8),
}


def methods(part: float = 1.0) -> list[Cell]:
    cells = []
    reps = scaled(20_000, part, 500)
    drift = float(sc.ndtri(1 - ALPHA / 2) + sc.ndtri(0.8))
    for looks in (14, 28):
        rng = np.random.default_rng([SEED, looks])
        t = np.arange(1, looks + 1) / looks
        walk = np.cumsum(rng.standard_normal((2, reps, looks)) / np.sqrt(looks), axis=2)
        null, effect = walk[0] / np.sqrt(t), (walk[1] + drift * t) / np.sqrt(t)
        z = float(sc.ndtri(1 - ALPHA / 2))
        four = np.isin(np.arange(1, looks + 1), np.rint(np.arange(1, 5) * looks / 4))
        designs = {
            "OBF daily": ("obrien_fleming", np.ones(looks, dtype=bool)),
            "OBF, 4 looks": ("obrien_fleming", four),
            "Pocock daily": ("pocock", np.ones(looks, dtype=bool)),
        }
        bounds: dict[str, Floats] = {
            "z test, peek daily": np.full(looks, z),
            "z test at end only": np.where(t == 1, z, BEYOND),
        }
        expected: dict[str, tuple[float, float]] = {"z test at end only": (0.8, 1.0)}
        for name, (spending, at) in designs.items():
            design = SpendingDesign(ALPHA, spending, planned=tuple(t[at]))  # type: ignore[arg-type]
            bounds[name] = np.full(looks, BEYOND)
            bounds[name][at] = boundaries(design, t[at]).upper
            power = float(achieved_power(Design(monitoring="group_sequential", spending=design), drift, 1.0))
            expected[name] = power, expected_information(design, drift) / inflation(design)
        bounds["mixture, N* = N"] = always_valid.multiplier(t, 1.0, ALPHA)
        bounds["mixture, N* = N / 200"] = always_valid.multiplier(t, 1 / 200, ALPHA)
        bounds["Bonferroni over looks"] = np.full(looks, float(sc.ndtri(1 - ALPHA / 2 / looks)))
        for name, bound in bounds.items():
            cells += _method(name, looks, bound, null, effect, t, expected.get(name))
    return cells


def _method(
    name: str, looks: int, bound: Floats, null: Floats, effect: Floats, t: Floats, expected: tuple[float, float] | None
) -> list[Cell]:
    case, reps = {"method": name, "looks": str(looks)}, len(null)
    peek = name.startswith("z test, peek")
    wrong = share((np.abs(null) >= bound).any(axis=1))
    cells = [Cell(TABLE, case, "type-I", wrong, ALPHA, reps, "report" if peek else "at_most", slack=0.003)]
    if peek:
        return cells
    crossed = np.abs(effect) >= bound
    stopped = np.where(crossed.any(axis=1), crossed.argmax(axis=1), looks - 1)
    found, duration = share(crossed.any(axis=1)), float(t[stopped].mean())
    if expected is not None:
        cells.append(Cell(TABLE, case, "power", found, expected[0], reps, slack=0.003))
        cells.append(Cell(TABLE, case, "mean duration", duration, expected[1], reps, within=0.01))
    else:
        printed = PRINTED[looks, name]
        cells.append(Cell(TABLE, case, "power", found, printed[0], reps))
        cells.append(Cell(TABLE, case, "mean duration", duration, printed[1], reps, within=0.05))
    return cells
