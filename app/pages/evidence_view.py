"""A result document as the experiment page shows it. Pure, and kept per result: documents never change."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.charts.exposures import exposures_chart
from app.charts.forest import ROLES, corrected_bounds, forest
from app.charts.numbers import decision_bounds, moved, plain
from app.charts.theme import Spec
from app.pages import formats, words
from app.pages.advice import Advice, advice
from app.pages.beliefs_view import Beliefs, beliefs
from app.pages.engines_view import Engines, engines
from app.pages.funnel_view import Funnel, funnels
from app.pages.health_view import Health, health
from app.pages.impact_view import Impact, impact
from app.pages.models_view import ModelView, models
from app.pages.naming import Names
from app.pages.over_time_view import FEW_LOOKS, Comparison, comparisons
from app.pages.segments_view import Breakdown, breakdown
from experiments.result import ExperimentResult, Row


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """Everything on the page that comes from the document."""

    document: ExperimentResult
    sentence: str
    advice: Advice | None
    engines: Engines | None
    by_beliefs: bool
    headline: Row | None
    groups: Sequence[tuple[str, Sequence[Row]]]
    segment_rows: Sequence[Row]
    forest: Spec | None
    funnels: Sequence[Funnel]
    corrections: str
    any_corrected: bool
    any_sequential: bool
    comparisons: Sequence[Comparison]
    beliefs: Beliefs
    models: Sequence[ModelView]
    segments: Breakdown
    impact: Impact | None
    exposures: Spec | None
    health: Health


@lru_cache(maxsize=64)
def evidence_view(
    result_id: str,
    body: bytes,
    variant_names: tuple[tuple[str, str], ...],
    constant_split: bool = True,
    rope: float = 0.0,
) -> EvidenceView:
    """The view of a stored result. `variant_names` (key, name) has the control first; `constant_split` says that

    single units were split by shares that never changed. `rope` is the plan's, on the log lift.
    """
    document = ExperimentResult.model_validate_json(body)
    variants = dict(variant_names)
    names = Names.of(document, variants)
    overall = [row for row in document.rows if row.segment is None]
    headline = headline_row(document, overall)

    def first(metric_key: str, variant_key: str) -> bool:
        return headline is not None and (metric_key, variant_key) == (headline.metric_key, headline.variant_key)

    # What the verdict is about comes first; the rest keeps its order.
    ordered = sorted(overall, key=lambda row: not first(row.metric_key, row.variant_key))
    return EvidenceView(
        document=document,
        sentence=verdict_sentence(document, headline, variant_names),
        advice=advice(document, variants),
        engines=engines(document, names, variants),
        by_beliefs=by_beliefs(document),
        headline=headline,
        groups=[(role, [row for row in overall if row.role == role]) for role in ROLES],
        segment_rows=[row for row in document.rows if row.segment is not None],
        forest=forest(overall, variants, document.decision_interval) if overall else None,
        funnels=funnels(document, variants),
        corrections=corrections_sentence(document, overall),
        any_corrected=any(corrected_bounds(row) for row in overall),
        any_sequential=any(row.sequential_lower is not None for row in overall),
        comparisons=comparisons(document, ordered, names),
        beliefs=beliefs(document, ordered, names, rope),
        models=models(document, names),
        segments=breakdown(document, names, first, overall[0].ci_level if overall else None),
        impact=impact(document, names, document.verdict_variant or (headline.variant_key if headline else None)),
        exposures=exposures_chart(document.exposures, variants) if len(document.exposures.daily) >= FEW_LOOKS else None,
        health=health(document, variants, constant_split=constant_split),
    )


def headline_row(document: ExperimentResult, overall: Sequence[Row]) -> Row | None:
    """The row the verdict is about: the primary that won, the primary or guardrail that was harmed; otherwise the first

    primary with a number.
    """
    of_variant = [row for row in overall if document.verdict_variant in (None, row.variant_key)]
    roles, wanted = {"better": (("primary",), 1), "worse": (("primary", "guardrail"), -1)}.get(
        document.verdict, ((), 0)
    )
    if document.verdict == "better" and by_beliefs(document):
        believed = [row for row in of_variant if row.role == "primary" and row.chance_to_win is not None]
        if believed:
            return max(believed, key=lambda row: row.chance_to_win or 0.0)
    telling = [row for row in of_variant if row.role in roles and moved(row, document.decision_interval) == wanted]
    if telling:
        return max(telling, key=lambda row: abs(row.lift or 0.0))
    primaries = [row for row in of_variant if row.role == "primary"]
    primaries = primaries or [row for row in overall if row.role == "primary"]
    return next((row for row in primaries if row.lift is not None), next(iter(primaries), None))


def by_beliefs(document: ExperimentResult) -> bool:
    """Whether the Bayesian engine leads."""
    return any(decision.leads and decision.engine == "bayesian" for decision in document.decisions)


def verdict_sentence(document: ExperimentResult, headline: Row | None, variant_names: Sequence[tuple[str, str]]) -> str:
    """The verdict with its main number, as one sentence."""
    names = dict(variant_names)
    control = variant_names[0][1] if variant_names else "control"
    arm = names.get(document.verdict_variant or "", "The treatment")
    opening = {
        "better": f"{arm} is better than {control}",
        "worse": f"{arm} is worse than {control}",
        "equivalent": "There is no difference that matters",
        "inconclusive": "Nothing is decided yet",
        "unreliable": "These numbers cannot be trusted: a check failed",
    }[document.verdict]
    if document.verdict == "unreliable" or headline is None:
        return f"{opening}."
    if headline.lift is None:
        if not headline.estimable or headline.difference is None or headline.difference_ci_lower is None:
            return f"{opening}: the lift of {headline.metric_name} could not be estimated."
        ends = f"{plain(headline.difference_ci_lower)} to {plain(headline.difference_ci_upper)}"
        return (
            f"{opening}: {headline.metric_name} differs by {plain(headline.difference)} "
            f"({formats.share(headline.ci_level)} interval {ends}); it has no relative lift."
        )
    # Harm is shown by bounds, whoever leads.
    if by_beliefs(document) and document.verdict != "worse" and headline.posterior_lift is not None:
        return (
            f"{opening}: {headline.metric_name} {formats.change(headline.posterior_lift)} "
            f"(chance to win {formats.probability(headline.chance_to_win)}, {formats.share(headline.ci_level)} "
            f"credible interval {formats.between(headline.hdi_lower, headline.hdi_upper)})."
        )
    bounds = decision_bounds(headline, document.decision_interval)
    if bounds is None:
        return f"{opening}: {headline.metric_name} {formats.lift_of(headline)} so far, not yet judged."
    # Scheduled looks are about primaries; guardrails are read by what may be read at any time.
    kind = document.decision_interval
    if kind == "group_sequential" and headline.role != "primary":
        kind = "always_valid"
    errors = document.decision_errors
    several = errors is not None and errors.success_tests > 1 and headline.correction is not None
    stopped = _after_stopping(document, headline) if kind == "group_sequential" else ""
    return (
        f"{opening}: {headline.metric_name} {formats.lift_of(headline)} "
        f"({words.INTERVALS[kind]} {formats.share(headline.ci_level)} interval {formats.between(*bounds)}"
        f"{', corrected' if several else ''}).{stopped}"
    )


def _after_stopping(document: ExperimentResult, headline: Row) -> str:
    """Who stops because a bound was crossed saw a lucky number: the estimate that allows for it (METHODS B2)."""
    about = (headline.metric_key, headline.variant_key)
    for monitor in document.sequential:
        if (monitor.metric_key, monitor.variant_key) == about and monitor.estimate is not None:
            interval = formats.between(monitor.ci_lower, monitor.ci_upper)
            return f" Allowing for the stop, the lift is {formats.change(monitor.estimate)} ({interval})."
    return ""


def corrections_sentence(document: ExperimentResult, overall: Sequence[Row]) -> str:
    """What was corrected for what, family by family; empty in documents that are older than corrections."""
    parts = []
    of_family = {family: [row for row in overall if row.family == family] for family in ("success", "exploratory")}
    named = (("success", "Success"), ("exploratory", "Secondary metrics and monitors"))
    for family, title in named:
        rows = of_family[family]
        method = next((row.correction for row in rows if row.correction), None)
        if len(rows) == 1:
            parts.append(f"{title}: one comparison, which needs no correction")
        elif rows and method:
            parts.append(
                f"{title}: corrected over {formats.plural(len(rows), 'comparison')} ({words.correction(method)})"
            )
        elif rows:
            parts.append(f"{title}: not corrected")
    if any(row.family == "guardrail" for row in overall):
        parts.append("guardrails need no correction, because all of them must hold")
    if not parts:
        return ""
    return "; ".join(parts) + "."
