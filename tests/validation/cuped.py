"""A7: how much variance covariates take away, against theory, and whether the adjusted test keeps its size.

Theory: the variance that is left is 1 - R^2, with R^2 of the covariates that there are. Units without history hold 0
and an indicator; with a share `missing` of them the covariate explains rho^2 (1 - missing) of the metric (history is
missing at random, so the indicator itself explains nothing).
"""

from __future__ import annotations

import numpy as np

from stats.difference import difference
from stats.estimate import estimate
from stats.metric_shape import MetricShape
from stats.moments import Floats, Moments
from tests.validation.cells import Cell, scaled, share
from tests.validation.sampling import arms, gathered

SEED = 20264
UNITS, TREATED = 2_000, 400
REPLICATIONS = 4_000
TABLE = "A7 variance ratio"


def variance_ratios(part: float = 1.0) -> list[Cell]:
    cells = []
    for kind in ("mean", "ratio"):
        for rho in (0.0, 0.3, 0.7):
            for missing in (0.0, 0.25, 0.5):
                cells += _one(kind, rho, missing, 1, part)
        for covariates in (2, 3, 5):
            cells += _one(kind, 0.7, 0.0, covariates, part)
    return cells


def _one(kind: str, rho: float, missing: float, covariates: int, part: float) -> list[Cell]:
    """Several covariates are equally good noisy copies of what predicts the metric, so that R^2 is `rho`^2 in all."""
    rng = np.random.default_rng([SEED, kind == "ratio", round(10 * rho), round(100 * missing), covariates])
    reps = scaled(REPLICATIONS, part, 200)
    gone = missing > 0
    columns = covariates + gone + 1 + (kind == "ratio")

    def draw(r: int) -> list[Floats]:
        known = rng.standard_normal((r, UNITS))
        noise = rng.standard_normal((covariates, r, UNITS)) if covariates > 1 else np.zeros((1, r, UNITS))
        noise -= noise.mean(axis=0)
        history = [known + noise[i] for i in range(covariates)]
        y = rho * known + np.sqrt(1 - rho**2) * rng.standard_normal((r, UNITS))
        absent = rng.random((r, UNITS)) < missing
        if gone:
            history = [np.where(absent, 0.0, h + 5) for h in history] + [absent.astype(np.float64)]
        if kind == "mean":
            return [5 + y, *history]
        sessions = rng.integers(1, 6, (r, UNITS)).astype(np.float64)
        return [2 * sessions + y, sessions, *history]

    segments: Moments = gathered(reps, UNITS, [TREATED, UNITS], [0.0] * columns, draw)
    pair = arms(segments, 1)
    first = 2 if kind == "ratio" else 1
    found = tuple(range(first, first + covariates))
    shape = MetricShape(
        "y",
        "ratio" if kind == "ratio" else "mean",
        0,
        1 if kind == "ratio" else None,
        covariates=found,
        indicators=(first + covariates,) if gone else (),
    )
    adjusted, raw = difference(estimate(pair, [shape])), difference(estimate(pair, [shape], adjust=False))
    explained = rho**2 * (1 - missing)
    case = {"metric": kind, "rho": f"{rho:g}", "missing": f"{missing:.0%}", "covariates": str(covariates)}
    true = float(np.var(adjusted.value) / np.var(raw.value))
    told = float(np.mean(adjusted.standard_error**2) / np.mean(raw.standard_error**2))
    theory = 1 - explained
    # A ratio of two variances of correlated normals with correlation sqrt(theory).
    chance = 3 * theory * 2 * np.sqrt(explained / reps)
    return [
        Cell(TABLE, case, "variance ratio, observed", true, theory, reps, within=0.05 * theory + float(chance)),
        Cell(TABLE, case, "variance ratio, as reported", told, theory, reps, within=0.05 * theory),
        Cell(TABLE, case, "size", share(adjusted.p_value < 0.05), 0.05, reps),
    ]
