"""Posterior and prior densities of the lifts that people decide on (METHODS C1)."""

from __future__ import annotations

import numpy as np

from experiments.definitions import Role
from experiments.evidence.beliefs import BlockBeliefs
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import Density
from stats.bayes.density import density_curves
from stats.moments import Floats

POINTS = 101
DIGITS = 6


def block_densities(plan: AnalysisPlan, block: BlockShapes, believed: BlockBeliefs) -> list[Density]:
    """Densities of the metrics that are not merely monitored, and of the North Star. `believed` has one cell.

    Rounded: these are pictures, and full precision would make up most of the document's bytes.
    """
    shown_for_tree = plan.north_star.spec.metric_key if plan.north_star else None
    found: dict[int, list[Density]] = {}
    for belief in believed:
        curve = density_curves(belief.posterior, points=POINTS)
        for column, m in enumerate(belief.at):
            metric = block.metrics[m]
            if metric.role is Role.MONITOR and metric.metric_key != shown_for_tree:
                continue
            for v, variant in enumerate(plan.variants[1:]):
                if not belief.posterior.estimable[0, v, column]:
                    continue
                axes = np.stack([a[0, v, column] for a in (curve.lift, curve.posterior, curve.prior)])
                lift, after, before = rounded(axes).tolist()
                found.setdefault(m, []).append(
                    Density(
                        metric_key=metric.metric_key,
                        variant_key=variant.key,
                        lift=lift,
                        posterior=after,
                        prior=before,
                    )
                )
    return [density for m in sorted(found) for density in found[m]]


def rounded(numbers: Floats) -> Floats:
    """The numbers to six significant digits, each the double closest to that decimal, so that it prints as short.

    A whole number times or over a power of ten up to 1e22 is rounded once: that makes it the closest one.
    """
    with np.errstate(divide="ignore"):
        magnitude = np.where(numbers == 0, 0.0, np.floor(np.log10(np.abs(numbers))))
    places = np.clip(DIGITS - 1 - magnitude, -22, 22)
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    return np.asarray(np.rint(numbers * up / down) * down / up)
