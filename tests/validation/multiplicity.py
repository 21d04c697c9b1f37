"""A11, B5: false claims among twenty tests, independent and dependent, of which none, two or ten have an effect."""

from __future__ import annotations

import numpy as np
import scipy.special as sc

from stats.always_valid import log_e_value
from stats.moments import Bools, Floats
from stats.multiplicity import adjusted, e_bh, fcr_level
from tests.validation.cells import Cell, scaled

SEED = 20270
TESTS = 20
REPLICATIONS = 5_000
EFFECT = 3.0
ALPHA = 0.05
TABLE = "A11 multiplicity"


def false_claims(part: float = 1.0) -> list[Cell]:
    cells = []
    reps = scaled(REPLICATIONS, part, 300)
    for dependence in (0.0, 0.5, 0.9):
        for nulls in (0.5, 0.9, 1.0):
            rng = np.random.default_rng([SEED, round(10 * dependence), round(10 * nulls)])
            z = np.sqrt(dependence) * rng.standard_normal((reps, 1))
            z = z + np.sqrt(1 - dependence) * rng.standard_normal((reps, TESTS))
            null = np.arange(TESTS) < round(nulls * TESTS)
            truth = np.where(null, 0.0, EFFECT)
            z = z + truth
            p = 2 * sc.ndtr(-np.abs(z))
            case = {"dependence": f"{dependence:g}", "true nulls": f"{nulls:.0%}"}
            holm = adjusted(p, "holm") <= ALPHA
            any_false = (holm & null).any(axis=1).mean()
            cells.append(Cell(TABLE, case, "Holm: any false claim", float(any_false), ALPHA, reps, "at_most"))
            rejected = {
                "Benjamini-Hochberg": adjusted(p, "benjamini_hochberg") <= ALPHA,
                "Benjamini-Yekutieli": adjusted(p, "benjamini_yekutieli") <= ALPHA,
                "e-BH": e_bh(log_e_value(z, 1.0, 1.0, 9.0), ALPHA)[0],
            }
            for name, found in rejected.items():
                cells.append(
                    Cell(
                        TABLE,
                        case,
                        f"{name}: false discovery rate",
                        _fdr(found, null),
                        ALPHA,
                        reps,
                        "at_most",
                        slack=0.01,
                    )
                )
            chosen = rejected["Benjamini-Hochberg"]
            half = sc.ndtri(0.5 + fcr_level(chosen, 1 - ALPHA) / 2)[:, None]
            missed = (np.abs(z - truth) > half) & chosen
            rate = missed.sum(axis=1) / np.maximum(chosen.sum(axis=1), 1)
            cells.append(
                Cell(
                    TABLE,
                    case,
                    "intervals of the selected: false coverage rate",
                    float(rate.mean()),
                    ALPHA,
                    reps,
                    "at_most",
                    slack=0.01,
                )
            )
    return cells


def _fdr(rejected: Bools, null: Bools) -> float:
    false: Floats = (rejected & null).sum(axis=1) / np.maximum(rejected.sum(axis=1), 1)
    return float(false.mean())
