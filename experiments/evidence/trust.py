"""Trust checks: may these numbers be believed, and if not, what to do (METHODS A1, A7, A12, H2).

A failed check makes the verdict `unreliable`; a warning is shown beside it. Every check says what was found with its
numbers, and every check that does not pass says what to do in one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.definitions import Role
from experiments.evidence.contract import Block, EvidenceContext
from experiments.evidence.effects import Effects
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import Check
from stats import sample_ratio
from stats.covariate import covariate_balance
from stats.moments import Ints
from stats.reasons import CovariateNote, Reason
from stats.skewness import too_skewed

CROSSOVER_WARN, CROSSOVER_FAIL = 0.001, 0.01
BALANCE_ALPHA = 0.001
STALE_LOOKS = 2

type Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What the checks look at. `exposures` (looks, V) come from the block with the most units; `heads` are the effects

    over everybody (cells (1,)), one per block, in step with `blocks` and `shapes`.
    """

    plan: AnalysisPlan
    context: EvidenceContext
    blocks: Sequence[Block]
    shapes: Sequence[BlockShapes]
    heads: Sequence[Effects]
    exposures: Ints
    crossover: int
    absent: dict[str, str]


def checks(facts: Facts) -> list[Check]:
    """All checks, in the order in which a reader should worry about them."""
    return [check for rule in _RULES for check in [rule(facts)] if check is not None]


def _check(name: str, status: Status, detail: str, remedy: str = "", p_value: float | None = None) -> Check:
    return Check(name=name, status=status, detail=detail, remedy="" if status == "pass" else remedy, p_value=p_value)


def _empty_arm(facts: Facts) -> Check:
    exposed = facts.exposures[-1] if len(facts.exposures) else np.zeros(len(facts.plan.variants), dtype=np.int64)
    empty = [variant.key for variant, n in zip(facts.plan.variants, exposed.tolist(), strict=True) if n == 0]
    if not empty:
        return _check("empty_arm", "pass", "Every variant has units.")
    return _check(
        "empty_arm",
        "fail",
        f"No unit was exposed to {', '.join(empty)}.",
        "Check that assignment logs every variant under its key.",
    )


def _sample_ratio(facts: Facts) -> Check | None:
    if not len(facts.exposures) or not facts.exposures[-1].sum():
        return None
    threshold = facts.plan.estimation.srm_threshold
    observed = facts.exposures[-1]
    weights = [variant.weight for variant in facts.plan.variants]
    test = sample_ratio.chi_square(observed, weights)
    p = float(test.p_value)
    split = " : ".join(f"{n:,}" for n in observed.tolist())
    plan = " : ".join(f"{weight:g}" for weight in weights)
    detail = f"Exposures are {split}, configured {plan} (chi-square p = {p:.2g}, threshold {threshold:g})."
    failed = p < threshold or bool(test.unexpected)
    return _check("sample_ratio", "fail" if failed else "pass", detail, _SRM_REMEDY, p)


def _sequential_sample_ratio(facts: Facts) -> Check | None:
    if not len(facts.exposures) or not facts.exposures[-1].sum():
        return None
    weights = [variant.weight for variant in facts.plan.variants]
    test = sample_ratio.sequential(facts.exposures, weights)
    p = float(test.p_value[-1])
    if test.first_crossing is None:
        detail = f"No daily look contradicts the configured split (sequential p = {p:.2g})."
        return _check("sample_ratio_sequential", "pass", detail, p_value=p)
    detail = (
        f"The split left its configuration by look {test.first_crossing + 1} of {len(facts.exposures)} "
        f"(sequential p = {p:.2g}, threshold {test.alpha:g})."
    )
    return _check("sample_ratio_sequential", "fail", detail, _SRM_REMEDY, p)


def _crossover(facts: Facts) -> Check:
    exposed = int(facts.exposures[-1].sum()) if len(facts.exposures) else 0
    share = facts.crossover / max(exposed + facts.crossover, 1)
    status: Status = "fail" if share > CROSSOVER_FAIL else "warn" if share > CROSSOVER_WARN else "pass"
    detail = f"{facts.crossover:,} units ({share:.2%}) were exposed to more than one variant and are excluded."
    return _check("crossover", status, detail, "Make assignment sticky per unit, and check how units are identified.")


def _data_arriving(facts: Facts) -> Check | None:
    if not len(facts.exposures):
        return None
    looks = _main(facts).moments.looks
    if not facts.context.running or len(looks) <= STALE_LOOKS:
        return _check("data_freshness", "pass", f"Data up to {looks[-1]:%Y-%m-%d %H:%M} UTC.")
    new = int((facts.exposures[-1] - facts.exposures[-1 - STALE_LOOKS]).sum())
    detail = f"{new:,} new units since {looks[-1 - STALE_LOOKS]:%Y-%m-%d %H:%M} UTC."
    return _check(
        "data_freshness",
        "pass" if new else "warn",
        detail,
        "Check that exposures still arrive, or stop the experiment.",
    )


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
        return _check("metrics_estimable", "pass", "Every metric could be estimated.")
    return _check(
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
        return _check("zero_variance", "pass", "Every metric varies between units in every variant.")
    detail = f"The same value for every unit of some variant: {', '.join(flat)}."
    return _check(
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
    if not worst:
        return _check("skewness", "pass", "Differences are close enough to normal (standardised skewness below 0.1).")
    return _check(
        "skewness",
        "warn",
        f"Differences are too skewed for normal theory: {', '.join(worst)}; errors fall on one side (A1).",
        "Collect more units, use equal weights, or cap the metric before the next experiment.",
    )


def _balance(facts: Facts) -> Check | None:
    for block, shapes in zip(facts.blocks, facts.shapes, strict=True):
        columns = sorted({c for shape in shapes.shapes for c in shape.covariates if c not in shapes.invalid})
        if not columns or not block.moments.last.count.all():
            continue
        test = covariate_balance(block.moments.last, columns)
        p = float(test.p_value)
        detail = f"{len(columns)} pre-exposure measures compared between variants (joint p = {p:.2g}, warns at 0.001)."
        remedy = "Look for a carry-over from an earlier experiment, or for a pre-period that overlaps the exposure."
        return _check("pre_period_balance", "warn" if p < BALANCE_ALPHA else "pass", detail, remedy, p)
    return None


def _covariates(facts: Facts) -> Check | None:
    notes = [
        f"{metric.metric_key} ({note})"
        for shapes, head in zip(facts.shapes, facts.heads, strict=True)
        for m, metric in enumerate(shapes.metrics)
        for note in [str(head.estimates.note[0, m])]
        if note not in ("", CovariateNote.NONE)
    ]
    if not notes or not facts.plan.estimation.cuped:
        return None
    return _check(
        "covariate_adjustment",
        "warn",
        f"Adjusted with fewer covariates than planned, or not at all: {', '.join(notes)}.",
        "Check the pre-period facts; a covariate must vary and must not be the metric itself.",
    )


def _full_week(facts: Facts) -> Check:
    days = (facts.context.exposed_until - facts.context.started_at).total_seconds() / 86400
    detail = f"{max(days, 0):.1f} days of exposure."
    enough = facts.context.full_weeks >= 1
    return _check("full_week", "pass" if enough else "warn", detail, "Run for at least one full week: weekdays differ.")


def _sample_size(facts: Facts) -> Check:
    planned = facts.plan.planned_units
    exposed = int(facts.exposures[-1].sum()) if len(facts.exposures) else 0
    if planned is None:
        return _check(
            "planned_sample",
            "warn",
            f"No planned sample size: always-valid intervals are tuned at the {exposed:,} units observed so far (B1).",
            "Plan the next experiment with a sample size, so that its intervals are tightest where you decide.",
        )
    return _check("planned_sample", "pass", f"{exposed:,} of {planned:,} planned units ({exposed / planned:.0%}).")


def _planned_end(facts: Facts) -> Check | None:
    if facts.context.running or facts.plan.planned_end_at is not None:
        return None
    return _check(
        "planned_end",
        "warn",
        "The experiment was stopped without a planned end, and fixed-horizon intervals decide.",
        "Trust them only if the stop did not depend on the results; plan an end next time.",
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
        return _check("monitoring_started", "pass", "Always-valid monitoring has begun for all deciding metrics.")
    return _check(
        "monitoring_started",
        "warn",
        f"No always-valid interval yet for {', '.join(waiting)}: too few units or conversions, or too much skew (B1).",
        "Keep running; monitoring begins with 100 units and 25 conversions per variant and little skew.",
    )


def _amendments(facts: Facts) -> Check:
    made = facts.context.amendments
    if not made:
        return _check("amendments", "pass", "The plan is the one frozen at the start.")
    changed = ", ".join(sorted({path for note in made for path in note.changed}))
    return _check(
        "amendments",
        "warn",
        f"The plan was amended {len(made)} times after the start: {changed}.",
        "Read the reasons; evidence from an amended plan is graded B at best (H1).",
    )


def _first(codes: np.ndarray) -> str:
    return next((str(code) for code in codes.tolist() if code), "")


def _main(facts: Facts) -> Block:
    return max(facts.blocks, key=lambda block: int(block.moments.exposures[-1].sum()))


_SRM_REMEDY = "Do not decide on these numbers: find out why units are missing or doubled in one variant, then restart."
_RULES: tuple[Callable[[Facts], Check | None], ...] = (
    _empty_arm,
    _sample_ratio,
    _sequential_sample_ratio,
    _crossover,
    _analysed,
    _data_arriving,
    _full_week,
    _variance,
    _skewness,
    _balance,
    _covariates,
    _monitoring,
    _sample_size,
    _planned_end,
    _amendments,
)
