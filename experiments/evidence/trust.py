"""Trust checks: may these numbers be believed, and if not, what to do (METHODS A1, A7, A12, H2).

A failed check makes the verdict `unreliable`; a warning is shown beside it. Every check says what was found with its
numbers, and every check that does not pass says what to do in one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.special as sc

from experiments.definitions import Role
from experiments.evidence import measurement, populations, traffic
from experiments.evidence.facts import Facts, check
from experiments.result import Check
from stats.covariate import covariate_balance
from stats.moment_set import MomentSet
from stats.reasons import CovariateNote, Reason
from stats.skewness import too_skewed

BALANCE_ALPHA = 0.001
SMALLEST_STRATUM = 20


def checks(facts: Facts) -> list[Check]:
    """All checks, in the order in which a reader should worry about them."""
    return [found for rule in _RULES for found in [rule(facts)] if found is not None]


def _analysed(facts: Facts) -> Check | None:
    thin = [
        f"{metric.metric_key} ({code})"
        for shapes, head in zip(facts.shapes, facts.heads, strict=True)
        for m, metric in enumerate(shapes.metrics)
        for code in [_first(head.difference.reason[0, :, m])]
        if code and code != Reason.ZERO_VARIANCE
    ]
    thin += [f"{key} ({reason})" for key, reason in facts.absent.items()]
    if not thin:
        return check("metrics_estimable", "pass", "Every metric could be estimated.")
    return check(
        "metrics_estimable",
        "warn",
        f"Not estimable: {', '.join(thin)}.",
        "Check the facts of these metrics, or wait until measurement windows are complete.",
    )


def _variance(facts: Facts) -> Check:
    flat = [
        metric.metric_key
        for shapes, head in zip(facts.shapes, facts.heads, strict=True)
        for m, metric in enumerate(shapes.metrics)
        if (head.estimates.reason[0, :, m] == Reason.ZERO_VARIANCE).any()
    ]
    if not flat:
        return check("zero_variance", "pass", "Every metric varies between units in every variant.")
    detail = f"The same value for every unit of some variant: {', '.join(flat)}."
    return check(
        "zero_variance", "warn", detail, "Check that facts are matched to units and not constant by definition."
    )


def _skewness(facts: Facts) -> Check:
    worst = [
        f"{metric.metric_key} ({value:.2f})"
        for shapes, head in zip(facts.shapes, facts.heads, strict=True)
        for m, metric in enumerate(shapes.metrics)
        if too_skewed(head.skewness[0, :, m]).any()
        for value in [float(np.nanmax(np.abs(head.skewness[0, :, m])))]
    ]
    if not any(shapes.third_moments for shapes in facts.shapes):
        return check("skewness", "pass", "Summaries do not tell how skewed a metric is; nothing could be checked.")
    if not worst:
        return check("skewness", "pass", "Differences are close enough to normal (standardised skewness below 0.1).")
    return check(
        "skewness",
        "warn",
        f"Differences are too skewed for normal theory: {', '.join(worst)}; errors fall on one side (A1).",
        "Collect more units, use equal weights, or cap the metric before the next experiment.",
    )


def _balance(facts: Facts) -> Check | None:
    for block, shapes in zip(facts.blocks, facts.shapes, strict=True):
        used = {c for shape in shapes.shapes if shape.covariates for c in (*shape.covariates, *shape.indicators)}
        columns = sorted(used - set(shapes.invalid))
        if not columns or not block.moments.last.count.all():
            continue
        p = _balance_p(block.moments, columns)
        if p is None:
            continue
        detail = f"{len(columns)} pre-exposure measures compared between variants (joint p = {p:.2g}, warns at 0.001)."
        remedy = "Look for a carry-over from an earlier experiment, or for a pre-period that overlaps the exposure."
        return check("pre_period_balance", "warn" if p < BALANCE_ALPHA else "pass", detail, remedy, p)
    return None


def _balance_p(moments: MomentSet, columns: Sequence[int]) -> float | None:
    """Within strata where there are any: stages of a ramp attract different units in different shares (A8)."""
    if moments.by_stratum is None:
        return float(covariate_balance(moments.last, columns).p_value)
    strata = moments.by_stratum[-1]
    test = covariate_balance(strata, columns)
    large = (strata.count >= SMALLEST_STRATUM).all(axis=-1) & (test.df > 0)
    return float(sc.chdtrc(test.df[large].sum(), test.statistic[large].sum())) if large.any() else None


def _covariates(facts: Facts) -> Check | None:
    notes = [
        f"{metric.metric_key} ({note})"
        for shapes, head in zip(facts.shapes, facts.heads, strict=True)
        for m, metric in enumerate(shapes.metrics)
        for note in [str(head.estimates.note[0, m])]
        if note not in ("", CovariateNote.NONE)
        # Sizes of clusters are covariates too, and none that is missed where all clusters have the same.
        if note != CovariateNote.PARTLY_CONSTANT or shapes.cluster_size is None
    ]
    if not notes or not facts.plan.estimation.cuped:
        return None
    return check(
        "covariate_adjustment",
        "warn",
        f"Adjusted with fewer covariates than planned, or not at all: {', '.join(notes)}.",
        "Check the pre-period facts; a covariate must vary and must not be the metric itself.",
    )


def _monitoring(facts: Facts) -> Check | None:
    waiting = [
        metric.metric_key
        for shapes, head in zip(facts.shapes, facts.heads, strict=True)
        for m, metric in enumerate(shapes.metrics)
        if metric.role in (Role.PRIMARY, Role.GUARDRAIL) and not head.always.begun[0, :, m].all()
    ]
    if not facts.context.running:
        return None
    if not waiting:
        return check("monitoring_started", "pass", "Always-valid monitoring has begun for all deciding metrics.")
    return check(
        "monitoring_started",
        "warn",
        f"No always-valid interval yet for {', '.join(waiting)}: too few units or conversions, or too much skew (B1).",
        "Keep running; monitoring begins with 100 units and 25 conversions per variant and little skew.",
    )


def _amendments(facts: Facts) -> Check:
    made = facts.context.amendments
    if not made:
        return check("amendments", "pass", "The plan is the one frozen at the start.")
    changed = ", ".join(sorted({path for note in made for path in note.changed}))
    return check(
        "amendments",
        "warn",
        f"The plan was amended {len(made)} times after the start: {changed}.",
        "Read the reasons; evidence from an amended plan is graded B at best (H1).",
    )


def _first(codes: np.ndarray) -> str:
    return next((str(code) for code in codes.tolist() if code), "")


_RULES: tuple[Callable[[Facts], Check | None], ...] = (
    traffic.empty_arm,
    populations.sample_ratio,
    populations.sequential_sample_ratio,
    populations.triggered,
    populations.by_day,
    populations.by_segment,
    populations.analysed,
    populations.with_outcome,
    populations.without_cluster,
    traffic.crossover,
    traffic.erased_units,
    _analysed,
    traffic.data_arriving,
    traffic.full_week,
    traffic.open_windows,
    measurement.responses,
    measurement.missing_values,
    measurement.unit_mapping,
    measurement.caps,
    measurement.tied_quantiles,
    measurement.few_clusters,
    measurement.small_segments,
    _variance,
    _skewness,
    _balance,
    measurement.history,
    _covariates,
    measurement.trigger_timing,
    _monitoring,
    traffic.sample_size,
    traffic.planned_end,
    _amendments,
)
