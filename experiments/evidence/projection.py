"""What shipping a variant would bring within a year, in units of the North Star (METHODS E7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np

from experiments.columns import company_specs
from experiments.definitions import Stock
from experiments.evidence.contract import EvidenceContext
from experiments.evidence.persistence import Fits
from experiments.evidence.topline import Company, log_lift_of
from experiments.plan import AnalysisPlan
from experiments.result import JointEffects, PersistencePoint, ProjectedImpact, Row, ToplineImpact, UncertaintyShare
from experiments.types import finite
from stats import stock_flow
from stats.moments import Floats
from stats.projection import EffectPaths, Projection, constant_effect, fading_effect, project, stock_effect

HORIZON: Final = 52
DOES_NOT_ADD_UP: Final = "north_star_does_not_add_up"
NO_COMPANY: Final = "no_company_data"
FLOWS_MISSING: Final = "flows_not_estimable"
_SCATTER: Final = 0.1
"""Log sd of a weekly level before the weeks are seen, worth as much as `_SCATTER_WEEKS` of them."""
_SCATTER_WEEKS: Final = 3
_DRAWS: Final = 4000


def projected_impact(
    plan: AnalysisPlan,
    rows: Sequence[Row],
    topline: Sequence[ToplineImpact],
    company: Company | None,
    fits: Fits,
    joint: Sequence[JointEffects],
    context: EvidenceContext,
    *,
    sound: bool,
) -> list[ProjectedImpact]:
    """One entry per variant, with the reason where it has no topline effect. `sound`: no check has failed.

    The baseline is the company's mean week without the change; how far the coming year may be from it is judged by the
    scatter of the weeks. Realisation rate and survival are those of METHODS F6 and E7. A stock follows its flows.
    """
    if plan.north_star is None:
        return []
    key = plan.north_star.spec.metric_key
    overall = {(row.metric_key, row.variant_key): row for row in rows if row.segment is None}
    together = {each.variant_key: each for each in joint}
    found = []
    for impact in topline:
        flows = _flows(plan.north_star.spec.stock, together.get(impact.variant_key), overall, impact.variant_key)
        blank = _blank(key, impact.variant_key, flows, context.seed)
        reason = _refusal(plan, impact, company, flows)
        gain = None
        if company is not None and not reason:
            effect = _effect(overall[key, impact.variant_key], fits, flows, context.seed)
            gain = _gain(effect, impact, company, context, sound=sound)
            reason = gain.reason
        update = {"reason": reason or None} | (_numbers(gain) if gain is not None and gain.estimable else {})
        found.append(blank.model_copy(update=update))
    return found


def _gain(
    effect: EffectPaths, impact: ToplineImpact, company: Company, context: EvidenceContext, *, sound: bool
) -> Projection:
    level, scatter = _baseline(company)
    return project(
        effect,
        baseline=np.full(HORIZON, level),
        baseline_log_sd=scatter,
        share=impact.share or 0.0,
        share_error=impact.share_standard_error or 0.0,
        grade="A" if sound else "U",
        days=(context.exposed_until - context.started_at) / timedelta(days=1),
        seed=context.seed,
    )


def _numbers(gain: Projection) -> dict[str, Any]:
    return {
        "headline": gain.headline,
        "median": finite(gain.median),
        "lower_80": finite(gain.lower_80),
        "upper_80": finite(gain.upper_80),
        "chance_positive": finite(gain.chance_positive),
        "uncertainty": [UncertaintyShare(source=source, share=share) for source, share in gain.shares.items()],
        "estimable": True,
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Flows:
    """A stock's weekly retention and inflow without the change; `changes` (2,) their log effects, with `covariance`."""

    retention: float
    inflow: float
    changes: Floats
    covariance: Floats


def _flows(
    stock: Stock | None, joint: JointEffects | None, overall: Mapping[tuple[str, str], Row], variant_key: str
) -> _Flows | None:
    if stock is None or joint is None:
        return None
    keys = (stock.retention_metric_key, stock.inflow_metric_key)
    at = [joint.metric_keys.index(key) for key in keys]
    means = [overall[key, variant_key].mean_control for key in keys]
    if means[0] is None or means[1] is None:
        return None
    covariance = np.array(joint.covariance)[np.ix_(at, at)]
    return _Flows(means[0], means[1], np.array(joint.log_lifts)[at], covariance)


def _effect(row: Row, fits: Fits, flows: _Flows | None, seed: int) -> EffectPaths:
    """By its flows where the North Star is a stock, by days since exposure where that is known, else as measured."""
    if flows is not None:
        return stock_effect(
            flows.retention, flows.inflow, flows.changes, flows.covariance,
            start=None, weeks=HORIZON, seed=seed, draws=_DRAWS,
        )  # fmt: skip
    fit = fits.get((row.metric_key, row.variant_key))
    if fit is not None and not fit.reason:
        return fading_effect(fit, weeks=HORIZON, seed=seed, draws=_DRAWS)
    return constant_effect(*log_lift_of(row), weeks=HORIZON, seed=seed, draws=_DRAWS)


def _refusal(plan: AnalysisPlan, impact: ToplineImpact, company: Company | None, flows: _Flows | None) -> str:
    """Why there is nothing to project, or weeks do not add up to a year; empty where they do."""
    assert plan.north_star is not None
    if not impact.estimable:
        return impact.reason or NO_COMPANY
    if company is None:
        return NO_COMPANY
    if company_specs(plan)[plan.north_star.spec.metric_key].kind not in ("mean", "proportion"):
        return DOES_NOT_ADD_UP
    return FLOWS_MISSING if plan.north_star.spec.stock is not None and flows is None else ""


def _baseline(company: Company) -> tuple[float, float]:
    """The mean week, and the log sd that the level of a year may be off it."""
    weeks = company.totals[:, 0]
    logs = np.log(weeks[weeks > 0])
    scatter = ((logs - logs.mean()) ** 2).sum() + _SCATTER_WEEKS * _SCATTER**2
    return float(weeks.mean()), float(np.sqrt(scatter / (_SCATTER_WEEKS + max(len(logs) - 1, 0))))


def _blank(metric_key: str, variant_key: str, flows: _Flows | None, seed: int) -> ProjectedImpact:
    """Without a projection yet, but with the course of a stock."""
    steady_state, path = None, list[PersistencePoint]()
    if flows is not None:
        course = stock_flow.course(
            flows.retention, flows.inflow, flows.changes, flows.covariance,
            start=None, periods=HORIZON, seed=seed, draws=_DRAWS,
        )  # fmt: skip
        steady_state = finite(course.steady_state)
        bands = () if course.reason else (course.median.tolist(), course.lower_80.tolist(), course.upper_80.tolist())
        path = [
            PersistencePoint(age_days=7.0 * (week + 1), lift=lift, lower=lower, upper=upper)
            for week, (lift, lower, upper) in enumerate(zip(*bands, strict=True))
        ]
    return ProjectedImpact(
        metric_key=metric_key,
        variant_key=variant_key,
        horizon_weeks=HORIZON,
        headline=False,
        median=None,
        lower_80=None,
        upper_80=None,
        chance_positive=None,
        steady_state_lift=steady_state,
        uncertainty=[],
        stock_path=path,
        estimable=False,
    )
