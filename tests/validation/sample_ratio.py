"""A12: the sequential sample ratio test may be read every day; how often does it alarm although traffic is fine?

1,000 units a day. Looking daily at the chi-square with 5 % is shown beside it. The last rows are true mismatches.
"""

from __future__ import annotations

import numpy as np

from stats.sample_ratio import SEQUENTIAL_ALPHA, chi_square, sequential
from tests.validation.cells import Cell, scaled, share

SEED = 20265
DAILY = 1_000
LOOKS = (1, 7, 28, 100)
SPLITS = {"50/50": (0.5, 0.5), "90/10": (0.9, 0.1), "five arms": (0.2,) * 5}
TABLE = "A12 sample ratio"


def false_alarms(part: float = 1.0) -> list[Cell]:
    cells = []
    reps = scaled(20_000, part, 500)
    for number, (name, weights) in enumerate(SPLITS.items()):
        rng = np.random.default_rng([SEED, number])
        daily = rng.multinomial(DAILY, weights, (reps, max(LOOKS))).astype(np.int64)
        counts = np.cumsum(daily, axis=1)
        peaks = np.stack([np.maximum.accumulate(sequential(path, weights).log_e) for path in counts])
        fixed = np.minimum.accumulate(chi_square(counts, weights).p_value, axis=1)
        for looks in LOOKS:
            case = {"arms": name, "looks": str(looks)}
            for alpha in (0.05, SEQUENTIAL_ALPHA):
                crossed = share(peaks[:, looks - 1] >= -np.log(alpha))
                cells.append(
                    Cell(TABLE, case, f"e-process alarms at {alpha:g}", crossed, alpha, reps, "at_most", slack=0.0)
                )
            cells.append(
                Cell(
                    TABLE,
                    case,
                    "daily chi-square p < 0.05 (not used)",
                    share(fixed[:, looks - 1] < 0.05),
                    0.05,
                    reps,
                    "report",
                )
            )
    return cells


def detection(part: float = 1.0) -> list[Cell]:
    """A true 52/48 split is caught in eleven days at the median (METHODS A12)."""
    reps = scaled(2_000, part, 200)
    rng = np.random.default_rng([SEED, 9])
    counts = np.cumsum(rng.multinomial(DAILY, (0.52, 0.48), (reps, 60)), axis=1)
    days = [sequential(path, (0.5, 0.5)).first_crossing for path in counts]
    median = float(np.median([61 if day is None else day + 1 for day in days]))
    return [
        Cell(
            TABLE,
            {"arms": "52/48 instead of 50/50", "looks": "60"},
            "median day of the alarm",
            median,
            11.0,
            reps,
            within=1.0,
        )
    ]
