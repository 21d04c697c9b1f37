"""Posterior and prior densities of the lifts that people decide on (METHODS C1)."""

from __future__ import annotations

from experiments.definitions import Direction, Role
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import Density
from stats.bayes.density import density_curves
from stats.bayes.normal import Posterior

POINTS = 101


def block_densities(plan: AnalysisPlan, block: BlockShapes, believed: dict[Direction, Posterior]) -> list[Density]:
    """Densities of the metrics that are not merely monitored, and of the North Star. `believed` has one cell.

    Six significant digits: these are pictures, and full precision would make up most of the document's bytes.
    """
    shown_for_tree = plan.north_star.spec.metric_key if plan.north_star else None
    curves = {direction: density_curves(belief, points=POINTS) for direction, belief in believed.items()}
    found: list[Density] = []
    for m, metric in enumerate(block.metrics):
        belief = believed.get(metric.direction)
        if belief is None or (metric.role is Role.MONITOR and metric.metric_key != shown_for_tree):
            continue
        curve = curves[metric.direction]
        for v, variant in enumerate(plan.variants[1:]):
            if not belief.estimable[0, v, m]:
                continue
            axes = (curve.lift[0, v, m], curve.posterior[0, v, m], curve.prior[0, v, m])
            lift, after, before = ([float(f"{x:.6g}") for x in axis.tolist()] for axis in axes)
            found.append(
                Density(metric_key=metric.metric_key, variant_key=variant.key, lift=lift, posterior=after, prior=before)
            )
    return found
