"""Which of several variants is best, control included, by their posteriors (METHODS C5)."""

from __future__ import annotations

from typing import Final

import numpy as np

from experiments.definitions import Role
from experiments.evidence.beliefs import metric_prior, withheld_metrics
from experiments.evidence.effects import Effects
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import BestVariant
from experiments.verdict import Situation
from stats.bayes.best_of_many import best_of_many
from stats.moments import Floats

FEWEST_TREATMENTS: Final = 2
SMALLEST_SHARE: Final = 0.01
"""Of a lift's variance that is the treatment's own, where covariates blur whose it is."""


def arm_log_means(head: Effects, m: int) -> tuple[Floats, Floats]:
    """Log means (V,) of a metric's arms over everybody and their own standard errors, control first; nan if unknown.

    Log lifts share the control, whose own part of their variance is that of its log mean (first order).
    """
    value, error = head.lift.log_value[0, :, m], head.lift.log_standard_error[0, :, m]
    control = float(head.estimates.unadjusted[0, 0, m])
    with np.errstate(invalid="ignore", divide="ignore"):
        shared = np.asarray(head.estimates.variance[0, 0, m] / np.square(control))
        own = np.maximum(error**2 - shared, SMALLEST_SHARE * error**2)
        log_control = np.log(np.abs(control))
        return log_control + np.concatenate([[0.0], value]), np.sqrt(np.concatenate([[shared], own]))


def best_variants(plan: AnalysisPlan, block: BlockShapes, head: Effects, standing: Situation) -> list[BestVariant]:
    """All arms of each primary metric of a plan with several treatments. The cells of `head` are (1 + segments,)."""
    if plan.estimation.engine == "frequentist" or len(plan.variants) <= FEWEST_TREATMENTS:
        return []
    hidden = withheld_metrics(plan, standing)
    found: list[BestVariant] = []
    for m, metric in enumerate(block.metrics):
        if metric.role is not Role.PRIMARY or metric.metric_key in hidden:
            continue
        best = best_of_many(*arm_log_means(head, m), metric_prior(plan, metric), direction=metric.direction.value)
        found += [
            BestVariant(
                metric_key=metric.metric_key,
                variant_key=variant.key,
                chance_to_be_best=float(best.chance_to_be_best[v]),
                expected_loss=float(best.expected_loss[v]),
            )
            for v, variant in enumerate(plan.variants)
            if best.estimable[v]
        ]
    return found
