"""Segment effects for the hierarchical model (METHODS A15, C4): what the model needs, and its answer as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import scipy.special as sc

from experiments.definitions import Role
from experiments.evidence.beliefs import metric_prior
from experiments.evidence.contract import Block, SegmentRequest
from experiments.evidence.effects import Effects
from experiments.evidence.rows import nulls
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan, PlannedMetric
from experiments.result import SegmentEffect, SegmentModel
from stats.bayes.models.fit import ModelFit
from stats.bayes.models.segments import SegmentsQuestion
from stats.moments import Floats

MODELLED = (Role.PRIMARY, Role.GUARDRAIL)


def is_modelled(plan: AnalysisPlan, metric: PlannedMetric) -> bool:
    """Primary metrics, guardrails and the North Star are looked at by segment as a whole, not only level by level."""
    star = plan.north_star.spec.metric_key if plan.north_star else None
    return metric.role in MODELLED or metric.metric_key == star


def segment_requests(plan: AnalysisPlan, block: Block, shapes: BlockShapes, effects: Effects) -> list[SegmentRequest]:
    """One request per modelled metric (primary, guardrail, the North Star), treatment and dimension of the plan.

    Cells of `effects` are (1 + segments,), everybody first. Dimensions come in the plan's order. A request with fewer
    than two levels is still made, so that the document can say that there was nothing to compare.
    """
    found: list[SegmentRequest] = []
    units = effects.estimates.count[:, 1:] + effects.estimates.count[:, :1]
    for m, metric in enumerate(shapes.metrics):
        if not is_modelled(plan, metric):
            continue
        for v, variant in enumerate(plan.variants[1:]):
            value, error = effects.lift.log_value[:, v, m], effects.lift.log_standard_error[:, v, m]
            known = np.isfinite(value) & np.isfinite(error) & (error > 0)
            for dimension in plan.segments:
                cells = [
                    i for i, (name, _) in enumerate(block.moments.segments, start=1) if name == dimension and known[i]
                ]
                found.append(
                    SegmentRequest(
                        metric_key=metric.metric_key,
                        variant_key=variant.key,
                        dimension=dimension,
                        levels=tuple(block.moments.segments[i - 1][1] for i in cells),
                        log_lifts=value[cells],
                        standard_errors=error[cells],
                        units=units[cells, v],
                        ci_level=plan.estimation.ci_level,
                        prior=metric_prior(plan, metric),
                    )
                )
    return found


def segment_question(request: SegmentRequest) -> SegmentsQuestion:
    """What the model is asked (METHODS C4)."""
    return SegmentsQuestion(request.log_lifts, request.standard_errors, request.prior, request.ci_level)


def segment_model(request: SegmentRequest, fit: ModelFit) -> SegmentModel:
    """The document of a fit of `segment_question`. The estimates going in are shown also where it came out unusable."""
    numbers: dict[str, Sequence[float | None]] = {}
    mean = tau = None
    if fit.status == "ok" and fit.effects is not None:
        numbers = {
            "lift": nulls(fit.effects.lift),
            "hdi_lower": nulls(fit.effects.hdi_lower),
            "hdi_upper": nulls(fit.effects.hdi_upper),
            "probability_sign_differs": nulls(fit.effects.sign_differs),
        }
        mean, tau = float(np.expm1(fit.hyper["mean"][0])), fit.hyper["between"][0]
    seen = fit.diagnostics
    return SegmentModel(
        metric_key=request.metric_key,
        variant_key=request.variant_key,
        dimension=request.dimension,
        status=fit.status,
        reason=fit.reason or None,
        effects=_effects(request, numbers),
        mean_lift=mean,
        tau=tau,
        r_hat=nulls(seen.r_hat) if seen else None,
        ess_bulk=nulls(seen.ess_bulk) if seen else None,
        ess_tail=nulls(seen.ess_tail) if seen else None,
        divergences=int(seen.divergences) if seen else None,
    )


def model_without_numbers(
    request: SegmentRequest, status: Literal["unreliable", "not_estimable"], reason: str
) -> SegmentModel:
    """The document of a model that could not be fitted or must not be trusted; raw estimates remain visible."""
    return SegmentModel(
        metric_key=request.metric_key,
        variant_key=request.variant_key,
        dimension=request.dimension,
        status=status,
        reason=reason,
        effects=_effects(request, {}),
        mean_lift=None,
        tau=None,
        r_hat=None,
        ess_bulk=None,
        ess_tail=None,
        divergences=None,
    )


def _effects(request: SegmentRequest, numbers: Mapping[str, Sequence[float | None]]) -> list[SegmentEffect]:
    z = float(sc.ndtri(0.5 + request.ci_level / 2))
    half: Floats = z * request.standard_errors
    raw = [nulls(np.expm1(a)) for a in (request.log_lifts, request.log_lifts - half, request.log_lifts + half)]
    names = ("lift", "hdi_lower", "hdi_upper", "probability_sign_differs")
    return [
        SegmentEffect(
            segment=level,
            raw_lift=raw[0][i],
            raw_ci_lower=raw[1][i],
            raw_ci_upper=raw[2][i],
            **{name: numbers[name][i] if name in numbers else None for name in names},
            n=int(request.units[i]),
        )
        for i, level in enumerate(request.levels)
    ]
