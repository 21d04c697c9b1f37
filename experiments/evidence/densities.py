"""Posterior and prior densities of the lifts that people decide on (METHODS C1)."""

from __future__ import annotations

import numpy as np

from experiments.definitions import Direction, Role
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import Density
from stats.bayes.density import density_curves
from stats.bayes.normal import Posterior
from stats.moments import Floats

POINTS = 101
DIGITS = 6


def block_densities(plan: AnalysisPlan, block: BlockShapes, believed: dict[Direction, Posterior]) -> list[Density]:
    """Densities of the metrics that are not merely monitored, and of the North Star. `believed` has one cell.

    Rounded: these are pictures, and full precision would make up most of the document's bytes.
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
            axes = np.stack([curve.lift[0, v, m], curve.posterior[0, v, m], curve.prior[0, v, m]])
            lift, after, before = rounded(axes).tolist()
            found.append(
                Density(metric_key=metric.metric_key, variant_key=variant.key, lift=lift, posterior=after, prior=before)
            )
    return found


def rounded(numbers: Floats) -> Floats:
    """The numbers to six significant digits, each the double closest to that decimal, so that it prints as short.

    A whole number times or over a power of ten up to 1e22 is rounded once: that makes it the closest one.
    """
    with np.errstate(divide="ignore"):
        magnitude = np.where(numbers == 0, 0.0, np.floor(np.log10(np.abs(numbers))))
    places = np.clip(DIGITS - 1 - magnitude, -22, 22)
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    return np.asarray(np.rint(numbers * up / down) * down / up)
