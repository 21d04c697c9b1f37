"""A6: quantiles of events with about five events per user, users randomised: size of the test of no difference.

"events alone" treats events as independent, which the engine never does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.special as sc

from stats.difference import welch
from stats.moments import Floats
from stats.quantile import QuantileSummary, quantile_estimates, summarise
from stats.reasons import clear
from tests.validation.cells import Cell, scaled, share
from tests.validation.populations import SIZES, SPLITS, label

SEED = 20263
REPLICATIONS = {200: 4_000, 2_000: 1_000, 20_000: 100}
TABLE = "A6 quantiles"
BLOCK = 500_000


def sizes(part: float = 1.0, units: Sequence[int] = SIZES) -> list[Cell]:
    cells = []
    for probability in (0.5, 0.9):
        for heavy in (False, True):
            for n in units:
                for split in SPLITS:
                    treated = round(n * split)
                    reps = scaled(REPLICATIONS[n], part, 40)
                    rng = np.random.default_rng([SEED, round(100 * probability), heavy, n, treated])
                    name = "lognormal 1.2" if heavy else "normal"
                    case = {"quantile": f"p{round(100 * probability)}", "events": name, **label(n, treated)}
                    cells += _cell(case, rng, probability, heavy, n, treated, reps)
    return cells


def _cell(
    case: dict[str, str],
    rng: np.random.Generator,
    probability: float,
    heavy: bool,
    n: int,
    treated: int,
    replications: int,
) -> list[Cell]:
    size = max(1, BLOCK // (5 * n))
    p, made, naive = [], [], []
    for start in range(0, replications, size):
        r = min(size, replications - start)
        summary = _simulated(rng, probability, heavy, n, treated, r)
        value, variance, reason = quantile_estimates(summary)
        d = welch(
            value[:, 1:] - value[:, :1],
            variance[:, 1:],
            variance[:, :1],
            summary.units[:, 1:],
            summary.units[:, :1],
            np.where(clear(reason[:, :1]), reason[:, 1:], reason[:, :1]),
        )
        p.append(d.p_value[:, 0])
        made.append(d.estimable[:, 0])
        # Independent events would have a share with the variance of a binomial: the interval shrinks by that factor.
        alone = np.sqrt(probability * (1 - probability) / np.maximum(summary.events, 1))
        shrunk = variance * np.where(summary.share_sd > 0, (alone / np.maximum(summary.share_sd, 1e-12)) ** 2, 1.0)
        z = np.abs(value[:, 1] - value[:, 0]) / np.sqrt(np.maximum(shrunk.sum(axis=1), 1e-300))
        naive.append(np.where(d.estimable[:, 0], 2 * sc.ndtr(-z), 1.0))
    there = np.concatenate(made)
    found = np.concatenate(p)[there]
    reps = int(there.sum())
    if reps < 0.05 * replications:
        return [Cell(TABLE, case, "refused", 1 - reps / replications, 1.0, replications, "report")]
    refused = {"refused": 1 - reps / replications}
    cells = [Cell(TABLE, case, "size", share(found < 0.05), 0.05, reps, "at_most", extra=refused)]
    cells.append(
        Cell(
            TABLE,
            case,
            "events alone (not used): size",
            share(np.concatenate(naive)[there] < 0.05),
            0.05,
            reps,
            "report",
        )
    )
    return cells


def _simulated(
    rng: np.random.Generator, probability: float, heavy: bool, n: int, treated: int, replications: int
) -> QuantileSummary:
    """Summaries with cells (replications, 2): users differ as much from each other as their events do."""
    events = rng.integers(1, 10, (replications, n))
    unit = np.repeat(np.arange(replications * n), events.ravel())
    x = np.sqrt(0.5) * (rng.standard_normal(replications * n)[unit] + rng.standard_normal(len(unit)))
    arm = (unit % n < treated).astype(np.int64)
    values: Floats = np.exp(1.2 * x) if heavy else x + 3
    return summarise(values, unit, (unit // n) * 2 + arm, (replications, 2), probability)
