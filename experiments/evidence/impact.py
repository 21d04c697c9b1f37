"""What the experiment did to the North Star: directly, through the metric tree, and both blended (METHODS E1, E2, E8).

Both are shown with the estimates of the rows (covariate-adjusted where the plan says so). Their coherence is judged
before adjustment, where a definitional tree must reproduce the direct estimate to 1e-8: afterwards inputs and North
Star are adjusted by slopes of their own and differ by noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.special as sc

from experiments.definitions import NorthStarSpec
from experiments.evidence.arms import joint_estimates
from experiments.evidence.beliefs import metric_prior
from experiments.evidence.contract import Block, EvidenceContext
from experiments.evidence.rows import nulls
from experiments.evidence.shapes import NO_JOINT_MOMENTS, BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import Check, InputEffect, NorthStarEffect, Row, TreeEstimate
from experiments.types import finite
from stats.bayes.normal import posterior
from stats.blend import blend
from stats.estimate import Estimates
from stats.formula import Formula, parse
from stats.lift import lift, log_lift_covariance
from stats.moments import Floats
from stats.tree import Coherence, EdgeType, Propagation, coherence, propagate

COHERENCE = "north_star_coherence"
_ROUNDING = 1e-8  # what is left between equal log lifts in floating point


def north_star_effects(
    plan: AnalysisPlan,
    rows: Sequence[Row],
    blocks: Sequence[Block],
    shapes: Sequence[BlockShapes],
    context: EvidenceContext,
) -> list[NorthStarEffect]:
    """One entry per treatment; empty when the plan has no North Star."""
    if plan.north_star is None:
        return []
    spec = plan.north_star.spec
    overall = {(row.metric_key, row.variant_key): row for row in rows if row.segment is None}
    formula = parse(spec.formula, [item.metric_key for item in spec.input_metrics])
    home = next(
        (
            (block, known)
            for block, known in zip(blocks, shapes, strict=True)
            if all(known.position(key) is not None for key in formula.names)
        ),
        None,
    )
    through = _through(plan, spec, formula, *home, context) if home else None
    found: list[NorthStarEffect] = []
    for v, variant in enumerate(plan.variants[1:]):
        direct = overall.get((spec.metric_key, variant.key))
        inputs = [
            _input(overall.get((item.metric_key, variant.key)), item.metric_key, item.edge, through, formula, v)
            for item in spec.input_metrics
        ]
        found.append(
            NorthStarEffect(
                north_star_key=spec.key,
                north_star_version=plan.north_star.version,
                metric_key=spec.metric_key,
                variant_key=variant.key,
                direct=_direct(direct),
                tree=_tree(plan, spec, through, v),
                coherence=_check(spec, through, variant.key, v),
                inputs=inputs,
                **_blended(plan, spec, through, v, direct),
            )
        )
    return found


def coherence_check(effects: Sequence[NorthStarEffect]) -> list[Check]:
    """The worst of the variants' coherence checks, for the list of trust checks."""
    order = {"fail": 0, "warn": 1, "pass": 2}
    return sorted((effect.coherence for effect in effects), key=lambda check: order[check.status])[:1]


@dataclass(frozen=True, slots=True, eq=False)
class _Through:
    """The tree's arithmetic for all treatments of one block: (V-1,) arrays inside.

    `direct` (V-1,) is the North Star's log lift by the very estimates that the tree starts from, `errors` (V-1, 2, 2)
    the covariance of the errors of both.
    """

    propagation: Propagation
    agreement: Coherence | None = None
    direct: Floats | None = None
    errors: Floats | None = None


def _through(
    plan: AnalysisPlan,
    spec: NorthStarSpec,
    formula: Formula,
    block: Block,
    known: BlockShapes,
    context: EvidenceContext,
) -> _Through:
    positions = [known.position(key) for key in formula.names]
    pick = np.array([p for p in positions if p is not None], dtype=np.int64)
    estimates = joint_estimates(known, block.moments, plan.estimation.cuped)
    propagation = _propagate(formula, estimates, pick, context.seed)
    star = known.position(spec.metric_key)
    if star is None:
        return _Through(propagation)
    both = np.zeros((len(propagation.log_lift), 2, len(known.shapes)))
    both[:, 0, star] = 1.0
    both[:, 1, pick] = np.nan_to_num(propagation.elasticities)
    errors = both @ np.nan_to_num(log_lift_covariance(estimates)) @ np.swapaxes(both, -1, -2)
    raw = joint_estimates(known, block.moments, False)
    plain = _propagate(formula, raw, pick, context.seed)
    direct = lift(raw).log_value[:, star]
    # (direct - tree) is a contrast of log lifts: 1 for the North Star, minus the elasticities for its inputs.
    contrast = np.zeros((len(direct), len(known.shapes)))
    contrast[:, pick] = -np.nan_to_num(plain.elasticities)
    contrast[:, star] += 1.0
    spread = np.nan_to_num(log_lift_covariance(raw))
    variance = np.einsum("vm,vmn,vn->v", contrast, spread, contrast)
    edges = [EdgeType(item.edge) for item in spec.input_metrics if item.metric_key in formula.names]
    agreement = coherence(direct, plain.log_lift, np.maximum(variance, 0.0), edges)
    return _Through(propagation, agreement, lift(estimates).log_value[:, star], errors)


def _propagate(formula: Formula, estimates: Estimates, pick: Sequence[int] | np.ndarray, seed: int) -> Propagation:
    control = np.asarray(estimates.unadjusted[0, pick])
    effects = lift(estimates).log_value[:, pick]
    spread = log_lift_covariance(estimates)[:, pick][:, :, pick]
    return propagate(formula, np.broadcast_to(control, effects.shape), effects, spread, seed=seed)


def _direct(row: Row | None) -> TreeEstimate:
    if row is None:
        return _nothing("no_data")
    return TreeEstimate(
        lift=row.lift,
        standard_error=row.standard_error,
        ci_lower=row.ci_lower,
        ci_upper=row.ci_upper,
        chance_to_win=row.chance_to_win,
        estimable=row.lift is not None,
        reason=row.reason,
    )


def _nothing(reason: str) -> TreeEstimate:
    return TreeEstimate(
        lift=None, standard_error=None, ci_lower=None, ci_upper=None, chance_to_win=None, estimable=False, reason=reason
    )


def _tree(plan: AnalysisPlan, spec: NorthStarSpec, through: _Through | None, v: int) -> TreeEstimate:
    """Delta method with the second-order term of E2; the same prior as the rows, so both chances compare."""
    if through is None:
        return _nothing(NO_JOINT_MOMENTS if plan.data == "summary" else "no_data")
    found = through.propagation
    if not found.estimable[v]:
        return _nothing(str(found.reason[v]))
    value, error = float(found.log_lift[v]), float(found.standard_error[v])
    z = float(sc.ndtri(0.5 + plan.estimation.ci_level / 2))
    return _estimate(plan, spec, value, error, (value - z * error, value + z * error))


def _estimate(
    plan: AnalysisPlan, spec: NorthStarSpec, value: float, error: float, ends: tuple[float, float]
) -> TreeEstimate:
    """A log lift with its interval as a lift, under the prior of the North Star's rows."""
    chance: float | None = None
    if plan.estimation.engine != "frequentist" and error > 0:
        star = next(m for m in plan.metrics if m.metric_key == spec.metric_key)
        belief = posterior(np.array(value), np.array(error), metric_prior(plan, star), direction=star.direction.value)
        chance = finite(float(belief.chance_to_win))
    return TreeEstimate(
        lift=finite(float(np.expm1(value))),
        standard_error=finite(float(np.exp(value)) * error),
        ci_lower=finite(float(np.expm1(ends[0]))),
        ci_upper=finite(float(np.expm1(ends[1]))),
        chance_to_win=chance,
        estimable=True,
    )


def _blended(
    plan: AnalysisPlan, spec: NorthStarSpec, through: _Through | None, v: int, row: Row | None
) -> dict[str, Any]:
    """Direct and tree weighed by their errors and the tree's likely bias (METHODS E8), and the gap between them.

    A definitional tree is the direct measurement over again: there is nothing to blend.
    """
    direct = _direct(row)
    if through is None or through.direct is None or through.errors is None or not direct.estimable:
        return {}
    if not spec.rests_on_drivers:
        return {"blended": direct}
    measured, tree = float(through.direct[v]), float(through.propagation.log_lift[v])
    if not (through.propagation.estimable[v] and np.isfinite(measured)):
        return {}
    assert plan.north_star is not None
    past = plan.north_star.past_gaps
    found = blend(
        measured,
        tree,
        through.errors[v],
        [each.gap for each in past],
        [each.variance for each in past],
        level=plan.estimation.ci_level,
    )
    contrast = np.array([1.0, -1.0])
    return {
        "blended": _estimate(plan, spec, found.value, found.standard_error, (found.lower, found.upper)),
        "tree_bias_sd": finite(found.tree_bias),
        "blended_from": found.experiments,
        "gap": finite(measured - tree),
        "gap_standard_error": finite(float(np.sqrt(max(contrast @ through.errors[v] @ contrast, 0.0)))),
    }


def _input(
    row: Row | None,
    key: str,
    edge: Literal["definitional", "driver"],
    through: _Through | None,
    formula: Formula,
    v: int,
) -> InputEffect:
    numbers: Mapping[str, float | None] = {}
    reason = row.reason if row is not None else "no_data"
    if key not in formula.names:
        reason = reason or "not_in_formula"
    elif through is None:
        reason = reason or NO_JOINT_MOMENTS
    else:
        at = formula.names.index(key)
        found = through.propagation
        elasticity, part, error = (
            nulls(a[v])[at] for a in (found.elasticities, found.contributions, found.contribution_errors)
        )
        numbers = {"elasticity": elasticity, "contribution": part, "contribution_standard_error": error}
        reason = reason or (str(found.reason[v]) or None)
    return InputEffect(
        metric_key=key,
        edge=edge,
        elasticity=numbers.get("elasticity"),
        lift=row.lift if row else None,
        ci_lower=row.ci_lower if row else None,
        ci_upper=row.ci_upper if row else None,
        contribution=numbers.get("contribution"),
        contribution_standard_error=numbers.get("contribution_standard_error"),
        reason=reason,
    )


def _check(spec: NorthStarSpec, through: _Through | None, variant: str, v: int) -> Check:
    if through is None or through.agreement is None or through.agreement.status[v] == "not_estimable":
        why = NO_JOINT_MOMENTS if through is None else "estimate_missing"
        return Check(
            name=COHERENCE,
            status="warn",
            detail=f"The tree of {spec.name} cannot be compared with its direct measurement for {variant} ({why}).",
            remedy="Measure the North Star and all its inputs on the same units in one experiment.",
        )
    status, gap = str(through.agreement.status[v]), float(through.agreement.difference[v])
    z = finite(float(through.agreement.z[v]))
    p = None if z is None else float(2 * sc.ndtr(-abs(z)))
    if status == "pass":
        apart = "to the last digits" if abs(gap) <= _ROUNDING else f"log lifts differ by {gap:.2g}"
        detail = (
            f"The tree of {spec.name} agrees with its direct measurement for {variant} "
            f"(compared without covariates: {apart})."
        )
        return Check(name=COHERENCE, status="pass", p_value=p, detail=detail)
    if status == "warn":
        return Check(
            name=COHERENCE,
            status="warn",
            p_value=p,
            detail=f"The tree of {spec.name} misses a channel for {variant}: direct minus tree is {gap:+.4f} "
            f"on the log scale, {abs(z or 0):.1f} standard errors.",
            remedy="Look for an effect that no input of the tree captures, and add that input.",
        )
    return Check(
        name=COHERENCE,
        status="fail",
        p_value=p,
        detail=f"The tree of {spec.name} is declared an identity but differs from its direct measurement for {variant} "
        f"by {gap:+.2g} on the log scale.",
        remedy="Give the North Star and its inputs the same facts, filters and windows, or mark the edges as drivers.",
    )
