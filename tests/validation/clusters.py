"""A5: whole clusters randomised, sizes log-normal (sigma = 1): how often is a true null rejected?

Three ways beside each other. "totals" is what everybody at the last look gets below 40 clusters in an arm (CR2 with
Bell-McCaffrey degrees of freedom, re-randomisation below 12); "moments" is what looks, segments and larger experiments
get, which have no table of totals; "G - 2" is the plain delta method with G - 2 degrees of freedom, which is not used.
"""

from __future__ import annotations

import numpy as np
import scipy.special as sc

from experiments.evidence.cluster_effects import FEW_CLUSTERS, with_cluster_precision
from experiments.evidence.shapes import BlockShapes
from stats.clusters import ClusterInference, cluster_freedom, few_clusters
from stats.difference import difference
from stats.estimate import estimate
from stats.metric_shape import MetricShape
from stats.moment_set import ClusterTable
from stats.moments import Floats
from tests.validation.cells import Cell, Rule, scaled, share
from tests.validation.sampling import segment_moments

SEED = 20262
GRID = (8, 12, 20, 40)
ICCS = (0.01, 0.1, 0.3)
TABLE = "A5 clusters"


def _totals(rng: np.random.Generator, replications: int, clusters: int, icc: float) -> tuple[Floats, Floats]:
    """Totals and sizes (replications, clusters); units have mean 2 and variance 1, of which `icc` is the cluster's."""
    size = np.ceil(20 * rng.lognormal(0, 1, (replications, clusters)))
    own, noise = rng.standard_normal((2, replications, clusters))
    return size * (2 + np.sqrt(icc) * own) + np.sqrt(size * (1 - icc)) * noise, size


def type_one_error(part: float = 1.0) -> list[Cell]:
    cells = []
    shapes = [MetricShape("y", "ratio", 0, 1)]
    block = BlockShapes((), tuple(shapes), {}, cluster_size=1)
    for per_arm in GRID:
        for icc in ICCS:
            case = {"clusters per arm": str(per_arm), "ICC": f"{icc:g}"}
            rng = np.random.default_rng([SEED, per_arm, round(icc * 100)])
            reps = scaled(2_000 if per_arm < 12 else 10_000, part, 150)
            total, size = _totals(rng, reps, 2 * per_arm, icc)
            got = _from_totals(total, size)
            rule: Rule = "at_most" if per_arm < FEW_CLUSTERS else "report"
            unused = "" if per_arm < FEW_CLUSTERS else " (not used)"
            cells.append(Cell(TABLE, case, f"totals{unused}: size", share(got.p_value < 0.05), 0.05, reps, rule))
            outside = (got.ci_lower > 0) | (got.ci_upper < 0)
            cells.append(Cell(TABLE, case, f"totals{unused}: 95 % interval misses", share(outside), 0.05, reps, rule))

            reps = scaled(10_000, part)
            total, size = _totals(rng, reps, 2 * per_arm, icc)
            pair = segment_moments([total, size], [per_arm, 2 * per_arm], [60.0, 30.0])
            plain = estimate(pair, shapes)
            precise = difference(with_cluster_precision(plain, block, pair))
            missing = share(~precise.estimable)
            cells.append(
                Cell(TABLE, case, "moments: size", share(precise.p_value < 0.05), 0.05, reps, "at_most", warned=missing)
            )
            z = difference(plain)
            value = plain.value[:, 1, 0] - plain.value[:, 0, 0]
            t = np.abs(value) / np.sqrt(plain.variance.sum(axis=(1, 2)))
            p = 2 * sc.stdtr(cluster_freedom(pair.count)[:, 0], -t)
            cells.append(
                Cell(
                    TABLE,
                    case,
                    "G - 2 (not used): size",
                    share(p < 0.05),
                    0.05,
                    reps,
                    "report",
                    extra={"refused": share(~z.estimable)},
                )
            )
    return cells


def repeated(part: float = 1.0) -> list[Cell]:
    """With 12 to 40 unequal clusters per arm true sizes are 0.055 to 0.062, within the tolerance of 10,000 replications

    but above 0.05: the cell that is furthest off is made five times over.
    """
    case, reps, sizes = {"clusters per arm": "20", "ICC": "0.3"}, scaled(4_000, part, 150), []
    for run in range(5):
        total, size = _totals(np.random.default_rng([SEED, 20, 30, run]), reps, 40, 0.3)
        sizes.append(share(_from_totals(total, size).p_value < 0.05))
    return [
        Cell(TABLE, case, f"totals: size, largest of five runs of {reps:,}", max(sizes), 0.05, reps, "report"),
        Cell(
            TABLE,
            case,
            f"totals: size, five runs of {reps:,} together",
            float(np.mean(sizes)),
            0.05,
            5 * reps,
            "report",
        ),
    ]


def _from_totals(total: Floats, size: Floats) -> ClusterInference:
    """Every replication (row) as a metric of its own, all with the same arms."""
    reps, clusters = total.shape
    table = ClusterTable(np.concatenate([total, size, size[:1]]).T, np.repeat([0, 1], clusters // 2).astype(np.int64))
    return few_clusters(table, [MetricShape(str(r), "ratio", r, reps + r) for r in range(reps)], 2, seed=SEED)
