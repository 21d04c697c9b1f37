"""Which questions a result asks the library of models, and which it cannot ask and why (METHODS C2, C4, H5).

Every likelihood that a metric names is about all its arms at once, on everybody, from the statistics that the pass over
the units made. Families of effects (arms, metrics, replications) take the estimates that the rows show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from experiments.definitions import Role
from experiments.evidence.beliefs import metric_prior, withheld_metrics
from experiments.evidence.contract import Block, EvidenceContext
from experiments.evidence.effects import Effects
from experiments.evidence.families import arms_requests, metrics_requests, replications_requests
from experiments.evidence.fitted import EffectAsked, ModelRequest, not_fitted
from experiments.evidence.shapes import BlockShapes
from experiments.evidence.unit_questions import LIKELIHOODS
from experiments.plan import AnalysisPlan, PlannedMetric
from experiments.result import FittedModel, Row
from experiments.verdict import Situation
from stats.unit_summary import UnitSummary

NO_SINGLE_UNITS: Final = "no_single_units"
"""Summaries, or moments made elsewhere: nobody knows what single units did."""
NO_BELIEFS_IN_ROWS: Final = (
    "The rows have no log lift that beliefs could be about, so what this model believes is shown here alone."
)
ADJUSTED_FROM: Final = 0.05
"""A row that its covariates narrow by this share of the variance keeps its own beliefs: the model has no covariates."""


def model_requests(
    plan: AnalysisPlan,
    blocks: Sequence[Block],
    shapes: Sequence[BlockShapes],
    heads: Sequence[Effects],
    rows: Sequence[Row],
    context: EvidenceContext,
    standing: Situation,
) -> tuple[tuple[ModelRequest, ...], tuple[FittedModel, ...]]:
    """The questions, and documents of the models that have none; nothing without the Bayesian engine.

    The cells of `heads` are (1 + segments,), everybody first.
    """
    if plan.estimation.engine == "frequentist":
        return (), ()
    asked: list[ModelRequest] = []
    refused: list[FittedModel] = []
    hidden = withheld_metrics(plan, standing)
    of_metric = {key: block for block in blocks for key in block.metric_keys}
    for metric in plan.metrics:
        if metric.role is Role.MONITOR or metric.metric_key in hidden:
            continue
        likelihood, block = LIKELIHOODS.get(metric.spec.likelihood), of_metric.get(metric.metric_key)
        if likelihood is None or block is None:
            continue
        summary = block.moments.units.get(metric.metric_key)
        reason = NO_SINGLE_UNITS if summary is None else summary.reason
        if summary is None or reason:
            refused.append(
                not_fitted(likelihood.definition, "likelihood", metric.metric_key, None, reason, context.seed)
            )
            continue
        asked.append(_likelihood(plan, metric, summary, rows))
    for block, known, head in zip(blocks, shapes, heads, strict=True):
        families = [
            *arms_requests(plan, known, head),
            *metrics_requests(plan, block, known, hidden),
            *replications_requests(plan, known, head, context),
        ]
        asked += [request for request in families if request.metric_key not in hidden]
    return tuple(asked), tuple(refused)


def _likelihood(plan: AnalysisPlan, metric: PlannedMetric, summary: UnitSummary, rows: Sequence[Row]) -> ModelRequest:
    treatments = [variant.key for variant in plan.variants[1:]]
    mine = [row for row in rows if row.metric_key == metric.metric_key and row.segment_dimension is None]
    notes = () if summary.cap is None else (f"Values above the cap of {summary.cap:g} count as the cap.",)
    return ModelRequest(
        purpose="likelihood",
        metric_key=metric.metric_key,
        variant_key=None,
        question=LIKELIHOODS[summary.likelihood].question(summary, _options(plan, metric)),
        effects=tuple(EffectAsked(metric.metric_key, key) for key in treatments),
        arms=tuple(variant.key for variant in plan.variants),
        aside=_better_without(mine),
        notes=notes,
    )


def _options(plan: AnalysisPlan, metric: PlannedMetric) -> dict[str, Any]:
    """What every question of a metric takes."""
    return {
        "prior": metric_prior(plan, metric),
        "direction": metric.direction.value,
        "rope": plan.estimation.rope,
        "level": plan.estimation.ci_level,
    }


def _better_without(rows: Sequence[Row]) -> str:
    """Why the rows of a metric know more than any model of its units alone, or carry no beliefs; empty otherwise."""
    if all(row.chance_to_win is None for row in rows):
        return NO_BELIEFS_IN_ROWS
    if any("A8" in row.method.split("+") for row in rows):
        return (
            "The rows are adjusted for strata, which this model knows nothing of: they keep the normal log lift. "
            "It takes allocations that stayed the same and no `stratify_by`."
        )
    saved = max((row.variance_reduction or 0.0 for row in rows), default=0.0)
    if saved < ADJUSTED_FROM:
        return ""
    return (
        f"What units did before exposure takes {saved:.0%} off the variance of the rows, and this model knows nothing "
        "of it: they keep the normal log lift. `pre_period_days: 0` lets the model decide."
    )
