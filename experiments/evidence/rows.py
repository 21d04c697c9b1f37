"""Effects as rows of the result document: metric x variant x segment, numbers or nulls with a reason.

`mean_control` and `mean_treatment` are what was measured, before covariate adjustment; `difference` and `lift` are
adjusted where `method` contains A7, and the lift is relative to the size of the unadjusted control mean (A3, A7).
Always-valid numbers and non-inferiority belong to decisions about everybody, so rows of segments do not carry them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from experiments.definitions import Direction
from experiments.evidence.effects import Effects, stays_within
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan, PlannedMetric
from experiments.result import DecisionInterval, Row
from stats.bayes.normal import Posterior, posterior
from stats.bayes.prior import Family, Prior
from stats.estimate import Estimates
from stats.lift import Lifts
from stats.moments import Bools

ESTIMATOR = {"mean": "A1", "proportion": "A1", "ratio": "A4", "formula": "E1"}
type Segment = tuple[str, str] | None


def plan_prior(plan: AnalysisPlan) -> Prior:
    """The prior on log lifts that the plan froze (C3)."""
    mean, scale = plan.estimation.prior_mean, plan.estimation.prior_scale
    source = "default" if (mean, scale) == (0.0, 0.05) else "plan"
    return Prior(Family.NORMAL, mean, scale, f"{source}: Normal({mean:g}, {scale:g}) on the log lift")


def posteriors(plan: AnalysisPlan, block: BlockShapes, lifts: Lifts, cells: slice) -> dict[Direction, Posterior]:
    """Posteriors of these cells (C1) for each direction that a metric of the block has; empty when switched off."""
    if plan.estimation.engine == "frequentist":
        return {}
    return {
        direction: posterior(
            lifts.log_value[cells],
            lifts.log_standard_error[cells],
            plan_prior(plan),
            direction=direction.value,
            # The plan's region is on the log lift, the posterior takes a relative change.
            rope=float(np.expm1(plan.estimation.rope)),
            level=plan.estimation.ci_level,
        )
        for direction in sorted({metric.direction for metric in block.metrics})
    }


def nulls(values: ArrayLike) -> Any:
    """Nested lists of an array with None for everything that is not a finite number."""
    array = np.asarray(values, dtype=np.float64)
    good = np.isfinite(array)
    if good.all():
        return array.tolist()
    mixed = array.astype(object)
    mixed[~good] = None
    return mixed.tolist()


def block_rows(
    plan: AnalysisPlan,
    block: BlockShapes,
    effects: Effects,
    believed: dict[Direction, Posterior],
    segments: Sequence[Segment],
    interval: DecisionInterval,
) -> list[Row]:
    """Rows of one block. The cells of `effects` are (1 + segments,): everybody first, then `segments[1:]`."""
    e, d, up, av = effects.estimates, effects.difference, effects.lift, effects.always
    known, relative = d.estimable, up.estimable
    reason = np.where(d.reason != "", d.reason, up.reason)
    valueless = _valueless(block, e)
    columns: dict[str, Any] = {
        "difference": nulls(np.where(valueless[:, 1:] | valueless[:, :1], np.nan, d.value)),
        "difference_standard_error": nulls(d.standard_error),
        "difference_ci_lower": nulls(d.ci_lower),
        "difference_ci_upper": nulls(d.ci_upper),
        "lift": nulls(up.value),
        "standard_error": nulls(up.standard_error),
        "ci_lower": nulls(up.ci_lower),
        "ci_upper": nulls(up.ci_upper),
        "p_value": nulls(d.p_value),
        "log10_p_value": nulls(d.log10_p),
        "interval_kind": up.interval_kind.tolist(),
        "estimable": known.tolist(),
    }
    decision = {
        "always_valid_lower": nulls(av.lower),
        "always_valid_upper": nulls(av.upper),
        "always_valid_p_value": nulls(av.p_value),
    }
    bayes = {direction: _bayes(belief) for direction, belief in believed.items()}
    safe_lower, safe_upper = (
        (av.safe_lower, av.safe_upper) if interval == "always_valid" else (effects.safe.ci_lower, effects.safe.ci_upper)
    )
    means, counts, reduction = (
        nulls(np.where(valueless, np.nan, e.unadjusted)),
        e.count.tolist(),
        nulls(e.variance_reduction),
    )
    level, adjusted = plan.estimation.ci_level, e.adjusted
    found: list[Row] = []
    for m, metric in enumerate(block.metrics):
        common = _identity(metric)
        curves = bayes.get(metric.direction, _NO_BAYES)
        source = believed[metric.direction].prior_source if metric.direction in believed else None
        for cell, segment in enumerate(segments):
            for v, variant in enumerate(plan.variants[1:]):
                numbers = {name: values[cell][v][m] for name, values in columns.items()}
                numbers |= {name: values[cell][v][m] if values else None for name, values in curves.items()}
                if segment is None:
                    numbers |= {name: values[cell][v][m] for name, values in decision.items()}
                    if metric.non_inferiority_margin is not None:
                        bounds = float(safe_lower[cell, v, m]), float(safe_upper[cell, v, m])
                        numbers["non_inferior"] = stays_within(metric.direction, metric.non_inferiority_margin, *bounds)
                else:
                    numbers |= dict.fromkeys(decision)
                found.append(
                    Row(
                        **common,
                        **numbers,
                        variant_key=variant.key,
                        segment_dimension=segment[0] if segment else None,
                        segment=segment[1] if segment else None,
                        method=_method(block.shapes[m].kind, bool(adjusted[cell, m]), bool(relative[cell, v, m])),
                        n_control=counts[cell][0],
                        n_treatment=counts[cell][v + 1],
                        mean_control=means[cell][0][m],
                        mean_treatment=means[cell][v + 1][m],
                        ci_level=level,
                        variance_reduction=reduction[cell][m] if adjusted[cell, m] else None,
                        prior_source=source if curves["chance_to_win"] else None,
                        reason=str(reason[cell, v, m]) or None,
                    )
                )
    return found


def absent_rows(plan: AnalysisPlan, metric: PlannedMetric, reason: str) -> list[Row]:
    """Rows of a metric without data: the comparison was planned, so the document says why it is empty."""
    blank = {name: None for name, field in Row.model_fields.items() if type(None) in get_args(field.annotation)}
    return [
        Row(
            **{
                **blank,
                **_identity(metric),
                "variant_key": variant.key,
                "method": ESTIMATOR[metric.spec.kind],
                "interval_kind": "none",
                "n_control": 0,
                "n_treatment": 0,
                "ci_level": plan.estimation.ci_level,
                "estimable": False,
                "reason": reason,
            }
        )
        for variant in plan.variants[1:]
    ]


def _valueless(block: BlockShapes, estimates: Estimates) -> Bools:
    """(cells, V, M) where there is no number at all: nobody measured, or data that must not be used."""
    refused = np.array([any(column in block.invalid for column in shape.columns) for shape in block.shapes])
    return np.asarray((estimates.count == 0)[..., None] | refused)


def _identity(metric: PlannedMetric) -> dict[str, Any]:
    return {
        "metric_key": metric.metric_key,
        "metric_version": metric.version,
        "metric_name": metric.spec.name,
        "unit": metric.spec.unit,
        "role": metric.role.value,
        "direction": metric.direction.value,
        "non_inferiority_margin": metric.non_inferiority_margin,
        "mde": metric.mde,
    }


def _method(kind: str, adjusted: bool, relative: bool) -> str:
    parts = [ESTIMATOR[kind], *(["A3"] if relative else []), *(["A7"] if adjusted else [])]
    return "+".join(parts)


_BAYES = {
    "chance_to_win": "chance_to_win",
    "expected_loss": "expected_loss",
    "expected_loss_of_not_shipping": "expected_loss_of_not_shipping",
    "rope_probability": "rope_probability",
    "posterior_lift": "lift",
    "hdi_lower": "hdi_lower",
    "hdi_upper": "hdi_upper",
}
_NO_BAYES: dict[str, Any] = dict.fromkeys(_BAYES)


def _bayes(belief: Posterior) -> dict[str, Any]:
    return {name: nulls(getattr(belief, source)) for name, source in _BAYES.items()}
