"""A result document as the experiment page shows it. Pure, and kept per result: documents never change."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from app.charts.exposures import exposures_chart
from app.charts.forest import ROLES, forest
from app.charts.looks import lift_over_time, look_values
from app.charts.numbers import decision_bounds
from app.charts.posterior import posterior
from app.charts.segments import segments
from app.charts.theme import Spec
from app.pages import formats
from experiments.result import Density, ExperimentResult, Look, NorthStarEffect, Row, SegmentModel

MAX_COMPARISONS: Final = 12
FEW_LOOKS: Final = 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric and arm with its pictures; `looks` and `density` are None where there is nothing to draw."""

    name: str
    row: Row
    looks: Spec | None
    look_rows: Sequence[Look]
    density: Spec | None


@dataclass(frozen=True, slots=True)
class SegmentView:
    """One hierarchical model; `chart` is None when it has no numbers."""

    name: str
    model: SegmentModel
    chart: Spec | None


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """Everything on the page that comes from the document."""

    document: ExperimentResult
    sentence: str
    headline: Row | None
    groups: Sequence[tuple[str, Sequence[Row]]]
    segment_rows: Sequence[Row]
    forest: Spec | None
    comparisons: Sequence[Comparison]
    segments: Sequence[SegmentView]
    impact: NorthStarEffect | None
    exposures: Spec | None
    worst_check: str


@lru_cache(maxsize=64)
def evidence_view(result_id: str, body: bytes, variant_names: tuple[tuple[str, str], ...]) -> EvidenceView:
    """The view of a stored result. `variant_names` (key, name) has the control first."""
    document = ExperimentResult.model_validate_json(body)
    names = dict(variant_names)
    overall = [row for row in document.rows if row.segment is None]
    headline = headline_row(document, overall)
    many_arms = len({row.variant_key for row in overall}) > 1
    return EvidenceView(
        document=document,
        sentence=verdict_sentence(document, headline, variant_names),
        headline=headline,
        groups=[(role, [row for row in overall if row.role == role]) for role in ROLES],
        segment_rows=[row for row in document.rows if row.segment is not None],
        forest=forest(overall, names, document.decision_interval) if overall else None,
        comparisons=_comparisons(document, _headline_first(overall, headline), names, many_arms),
        segments=[
            _segments(model, document.rows, names, many_arms)
            for model in _headline_first(document.segment_models, headline)
        ],
        impact=_impact(document, headline),
        exposures=exposures_chart(document.exposures, names) if len(document.exposures.daily) >= FEW_LOOKS else None,
        worst_check=next(
            (status for status in ("fail", "warn") if any(c.status == status for c in document.checks)), "pass"
        ),
    )


def headline_row(document: ExperimentResult, overall: Sequence[Row]) -> Row | None:
    """The row the verdict is about: the primary that won, the primary or guardrail that was harmed; otherwise the first

    primary with a number.
    """
    of_variant = [row for row in overall if document.verdict_variant in (None, row.variant_key)]
    roles, wanted = {"better": (("primary",), 1), "worse": (("primary", "guardrail"), -1)}.get(
        document.verdict, ((), 0)
    )
    moved = [row for row in of_variant if row.role in roles and _sign(row, document) == wanted]
    if moved:
        return max(moved, key=lambda row: abs(row.lift or 0.0))
    primaries = [row for row in of_variant if row.role == "primary"]
    primaries = primaries or [row for row in overall if row.role == "primary"]
    return next((row for row in primaries if row.lift is not None), next(iter(primaries), None))


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
    bounds = decision_bounds(headline, document.decision_interval)
    if headline.lift is None or bounds is None:
        return f"{opening}: the lift of {headline.metric_name} could not be estimated."
    kind = "always-valid" if document.decision_interval == "always_valid" else "fixed-horizon"
    return (
        f"{opening}: {headline.metric_name} {formats.lift_of(headline)} "
        f"({kind} {formats.share(headline.ci_level)} interval {formats.between(*bounds)})."
    )


def _headline_first[Item: (Row, SegmentModel)](items: Sequence[Item], headline: Row | None) -> list[Item]:
    """What the verdict is about comes first; the rest keeps its order."""

    def elsewhere(item: Item) -> bool:
        return headline is None or (item.metric_key, item.variant_key) != (headline.metric_key, headline.variant_key)

    return sorted(items, key=elsewhere)


def _sign(row: Row, document: ExperimentResult) -> int:
    bounds = decision_bounds(row, document.decision_interval)
    if bounds is None or bounds[0] <= 0 <= bounds[1]:
        return 0
    return 1 if (bounds[0] > 0) == (row.direction == "increase") else -1


def _comparisons(
    document: ExperimentResult, overall: Sequence[Row], names: dict[str, str], many_arms: bool
) -> list[Comparison]:
    densities: dict[tuple[str, str], Density] = {(d.metric_key, d.variant_key): d for d in document.densities}
    found: list[Comparison] = []
    ordered = sorted((row for row in overall if row.role != "monitor"), key=lambda row: ROLES.index(row.role))
    for row in ordered:
        key = (row.metric_key, row.variant_key)
        looks = [look for look in document.looks if (look.metric_key, look.variant_key) == key]
        drawable = look_values(looks, metric_key=row.metric_key, variant_key=row.variant_key)
        density = densities.get(key)
        if len(drawable) < FEW_LOOKS and density is None:
            continue
        found.append(
            Comparison(
                name=_named(row.metric_name, row.variant_key, names, many_arms),
                row=row,
                looks=lift_over_time(
                    looks, metric_key=row.metric_key, variant_key=row.variant_key, metric_name=row.metric_name
                )
                if len(drawable) >= FEW_LOOKS
                else None,
                look_rows=looks,
                density=posterior(density, direction=row.direction, metric_name=row.metric_name) if density else None,
            )
        )
    return found[:MAX_COMPARISONS]


def _segments(model: SegmentModel, rows: Sequence[Row], names: dict[str, str], many_arms: bool) -> SegmentView:
    metric_name = next((row.metric_name for row in rows if row.metric_key == model.metric_key), model.metric_key)
    drawable = model.status == "ok" and bool(model.effects)
    return SegmentView(
        name=f"{_named(metric_name, model.variant_key, names, many_arms)} by {model.dimension}",
        model=model,
        chart=segments(model, metric_name=metric_name) if drawable else None,
    )


def _named(metric_name: str, variant_key: str, names: dict[str, str], many_arms: bool) -> str:
    return f"{metric_name} · {names.get(variant_key, variant_key)}" if many_arms else metric_name


def _impact(document: ExperimentResult, headline: Row | None) -> NorthStarEffect | None:
    wanted = document.verdict_variant or (headline.variant_key if headline else None)
    return next(
        (effect for effect in document.north_star if effect.variant_key == wanted),
        next(iter(document.north_star), None),
    )
