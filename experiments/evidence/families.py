"""Families of effects that are shrunk together: arms of a metric, metrics of an arm, replications (METHODS C4, H5).

They take the estimates that the rows show, whatever made those: covariates, strata, clusters, quantiles.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np
import scipy.special as sc

from experiments.definitions import Direction, Role
from experiments.evidence.arms import joint_estimates
from experiments.evidence.beliefs import metric_prior
from experiments.evidence.best_variants import arm_log_means
from experiments.evidence.contract import Block, EvidenceContext, PastReplication
from experiments.evidence.effects import Effects
from experiments.evidence.fitted import EffectAsked, ModelRequest
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan, PlannedMetric
from experiments.types import finite
from stats.bayes.models.arms import ArmsQuestion
from stats.bayes.models.metrics import MetricsQuestion
from stats.bayes.models.replications import ReplicationsQuestion
from stats.bayes.prior import Family, Prior
from stats.lift import lift, log_lift_covariance
from stats.moments import Bools, Floats

FEWEST_ARMS: Final = 3
"""Treatments: two have little to tell each other."""
FEWEST_METRICS: Final = 4
OWN_SHARE: Final = 0.05
"""A metric whose errors others explain up to this share is taken for a copy of them."""
_ROLES: Final = (Role.PRIMARY, Role.GUARDRAIL, Role.SECONDARY, Role.MONITOR)


def arms_requests(plan: AnalysisPlan, shapes: BlockShapes, head: Effects) -> Iterator[ModelRequest]:
    """All arms of each primary metric, where there are many. The cells of `head` are (1 + segments,)."""
    for m, metric in enumerate(shapes.metrics):
        value, error = head.lift.log_value[0, :, m], head.lift.log_standard_error[0, :, m]
        known = _usable(value, error)
        if metric.role is not Role.PRIMARY or known.sum() < FEWEST_ARMS:
            continue
        means, errors = arm_log_means(head, m)
        there = np.concatenate([[True], known])
        keys = [variant.key for variant, usable in zip(plan.variants[1:], known, strict=True) if usable]
        yield ModelRequest(
            purpose="arms",
            metric_key=metric.metric_key,
            variant_key=None,
            question=ArmsQuestion(
                means[there],
                errors[there],
                metric_prior(plan, metric),
                direction=metric.direction.value,
                rope=plan.estimation.rope,
                level=plan.estimation.ci_level,
            ),
            effects=_asked([(metric.metric_key, key, None) for key in keys], value[known], error[known], plan),
            arms=(plan.variants[0].key, *keys),
        )


def metrics_requests(
    plan: AnalysisPlan, block: Block, shapes: BlockShapes, withheld: Collection[str]
) -> Iterator[ModelRequest]:
    """All metrics of each treatment, where there are enough; none of summaries, which say nothing of their covariance.

    Metrics that are only monitored are left out, and those that others already say: see `_distinct`.
    """
    if plan.data == "summary":
        return
    asked = np.array(
        [metric.role is not Role.MONITOR and metric.metric_key not in withheld for metric in shapes.metrics],
        dtype=np.bool_,
    )
    if asked.sum() < FEWEST_METRICS:
        return
    estimates = joint_estimates(shapes, block.moments, plan.estimation.cuped)
    values, covariances = lift(estimates).log_value, log_lift_covariance(estimates)
    scales = np.array([_oriented_scale(plan, metric) for metric in shapes.metrics])
    for v, variant in enumerate(plan.variants[1:]):
        errors = np.sqrt(np.maximum(np.nan_to_num(np.diagonal(covariances[v])), 0.0))
        usable = np.flatnonzero(asked & _usable(values[v], errors)).tolist()
        pick = _distinct(sorted(usable, key=lambda m: _ROLES.index(shapes.metrics[m].role)), covariances[v])
        if len(pick) < FEWEST_METRICS:
            continue
        copies = [shapes.metrics[m].spec.name for m in usable if m not in pick]
        yield ModelRequest(
            purpose="metrics",
            metric_key=None,
            variant_key=variant.key,
            question=MetricsQuestion(
                values[v, pick],
                covariances[v][np.ix_(pick, pick)],
                scales[pick],
                rope=plan.estimation.rope,
                level=plan.estimation.ci_level,
            ),
            effects=_asked(
                [(shapes.metrics[m].metric_key, variant.key, None) for m in pick], values[v, pick], errors[pick], plan
            ),
            notes=(f"Left out, because the others already say it: {', '.join(copies)}.",) if copies else (),
        )


def _distinct(candidates: Sequence[int], covariance: Floats) -> list[int]:
    """In plan order, the metrics whose errors the ones before them do not explain.

    A metric that is a formula of others, or nearly a copy of one, leaves a combination of estimates without any error,
    which the model would take for proof that effects are tiny: it holds effects to be alike, not to add up.
    """
    chosen: list[int] = []
    for m in candidates:
        own = covariance[m, m]
        among = covariance[np.ix_(chosen, chosen)]
        explained = covariance[m, chosen] @ np.linalg.lstsq(among, covariance[chosen, m])[0] if chosen else 0.0
        if own - explained > OWN_SHARE * own:
            chosen.append(m)
    return sorted(chosen)


def replications_requests(
    plan: AnalysisPlan, shapes: BlockShapes, head: Effects, context: EvidenceContext
) -> Iterator[ModelRequest]:
    """Each primary metric and treatment with what other experiments on the same hypothesis found, this one first."""
    for m, metric in enumerate(shapes.metrics):
        if metric.role is not Role.PRIMARY:
            continue
        for v, variant in enumerate(plan.variants[1:]):
            past = _counterparts(plan, metric, variant.key, context.replications)
            value = np.array([head.lift.log_value[0, v, m], *(item.log_lift for item in past)])
            error = np.array([head.lift.log_standard_error[0, v, m], *(item.standard_error for item in past)])
            if not past or not _usable(value, error).all():
                continue
            found_by = [(variant.key, plan.experiment_key), *((p.variant_key, p.experiment_key) for p in past)]
            yield ModelRequest(
                purpose="replications",
                metric_key=metric.metric_key,
                variant_key=variant.key,
                question=ReplicationsQuestion(
                    value,
                    error,
                    metric_prior(plan, metric),
                    direction=metric.direction.value,
                    rope=plan.estimation.rope,
                    level=plan.estimation.ci_level,
                ),
                effects=_asked([(metric.metric_key, key, label) for key, label in found_by], value, error, plan),
                notes=_CIRCULAR if metric_prior(plan, metric).family is Family.LEARNED else (),
            )


_CIRCULAR: Final = (
    "The prior was learned from past experiments, and the replications may be among them: they then count a little "
    "more than once.",
)


def _counterparts(
    plan: AnalysisPlan, metric: PlannedMetric, variant: str, replications: Sequence[PastReplication]
) -> list[PastReplication]:
    """What other experiments say about this treatment: theirs of the same key, or their only one where this has one."""
    of_metric = [item for item in replications if item.metric_key == metric.metric_key]
    found = []
    for key in dict.fromkeys(item.experiment_key for item in of_metric):
        theirs = [item for item in of_metric if item.experiment_key == key]
        same = [item for item in theirs if item.variant_key == variant]
        alone = theirs if len(theirs) == len(plan.variants) - 1 == 1 else []
        found += same or alone
    return found


def _usable(value: Floats, error: Floats) -> Bools:
    return np.asarray(np.isfinite(value) & np.isfinite(error) & (error > 0))


def _oriented_scale(plan: AnalysisPlan, metric: PlannedMetric) -> float:
    """The prior's standard deviation, negative where less is better; a flat prior knows no scale, the default does."""
    prior = metric_prior(plan, metric)
    if prior.is_flat:
        prior = Prior.default()
    sd = prior.scale * (np.sqrt(2.0) if prior.family is Family.STUDENT_T4 else 1.0)
    return float(sd if metric.direction is Direction.INCREASE else -sd)


def _asked(
    names: Sequence[tuple[str, str, str | None]], value: Floats, error: Floats, plan: AnalysisPlan
) -> tuple[EffectAsked, ...]:
    """(metric, variant, label) of each effect with the estimate that goes in and its interval."""
    reach = float(sc.ndtri(0.5 + plan.estimation.ci_level / 2)) * error
    raw = np.expm1(np.stack([value, value - reach, value + reach], axis=-1)).tolist()
    return tuple(EffectAsked(*name, *map(finite, numbers)) for name, numbers in zip(names, raw, strict=True))
