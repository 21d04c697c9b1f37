"""The road from moments to the document, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.evidence.beliefs import DECIDING, block_beliefs, prior_sensitivity, prior_uses
from experiments.evidence.best_variants import best_variants
from experiments.evidence.contract import Block, EvidenceContext, SegmentRequest
from experiments.evidence.corrections import arm_variances, correct
from experiments.evidence.densities import block_densities
from experiments.evidence.details import details
from experiments.evidence.draft import Draft
from experiments.evidence.effects import Effects, current_effects, effects_over_time, planned_pairs
from experiments.evidence.facts import Facts
from experiments.evidence.impact import coherence_check, north_star_effects
from experiments.evidence.joint_effects import joint_effects
from experiments.evidence.judging import Judging
from experiments.evidence.levels import Levels
from experiments.evidence.looks import block_looks
from experiments.evidence.magnitudes import within_range
from experiments.evidence.models import model_requests
from experiments.evidence.monitors import monitors
from experiments.evidence.persistence import Fits, persistence_fits, persistence_of
from experiments.evidence.projection import projected_impact
from experiments.evidence.recommendation import errors_of, forecast, north_star_check, standing_of
from experiments.evidence.rows import RowDraft, Segment, absent_drafts, block_drafts, validated
from experiments.evidence.safety import add_safety
from experiments.evidence.screening import screening
from experiments.evidence.segments import segment_requests
from experiments.evidence.shapes import BlockShapes, absent, block_shapes
from experiments.evidence.topline import company_of, topline_impact
from experiments.evidence.trust import checks
from experiments.evidence.waiting import waiting_values
from experiments.plan import AnalysisPlan
from experiments.result import (
    BestVariant,
    Density,
    ExperimentResult,
    Exposures,
    Look,
    NorthStarEffect,
    PriorSensitivity,
    ProjectedImpact,
    Row,
    ToplineImpact,
    VariantExposures,
)
from experiments.verdict import Situation
from stats.moments import Ints


@dataclass(frozen=True, slots=True, eq=False)
class _BlockEvidence:
    """What one block contributes."""

    drafts: list[RowDraft]
    looks: list[Look]
    densities: list[Density]
    sensitivity: list[PriorSensitivity]
    best: list[BestVariant]
    requests: list[SegmentRequest]


def build(plan: AnalysisPlan, blocks: Sequence[Block], context: EvidenceContext) -> Draft:
    """The draft of the result of one analysis: a pure function of the plan, the moments and the circumstances.

    Raises `ValueError` where a block's variants are not the plan's (control first) and `KeyError` where a column of
    the plan was not extracted: faults of the caller, not of the data. Everything that data can do wrong ends in the
    document, as a null with a reason or as a check.
    """
    _require_variants(plan, blocks)
    blocks = [replace(block, moments=within_range(block.moments)) for block in blocks]
    shapes = [block_shapes(plan, block) for block in blocks]
    main = max(blocks, key=lambda block: int(block.moments.exposures[-1].sum()), default=None)
    exposures: Ints = main.moments.exposures if main else np.zeros((0, len(plan.variants)), dtype=np.int64)
    observed = int(exposures[-1].sum()) if len(exposures) else 0
    planned = planned_pairs(plan, observed)
    heads = [current_effects(plan, s, b.moments, planned) for b, s in zip(blocks, shapes, strict=True)]
    courses = [effects_over_time(plan, s, b.moments, planned) for b, s in zip(blocks, shapes, strict=True)]
    times = [block.moments.looks for block in blocks]
    errors = errors_of(plan)
    followed = monitors(plan, context, list(zip(shapes, courses, times, strict=True)), errors)
    standing = standing_of(plan, context, followed)
    parts = [
        _block_evidence(plan, block, known, head, course, standing)
        for block, known, head, course in zip(blocks, shapes, heads, courses, strict=True)
    ]
    missing = absent(plan, shapes)
    drafts = [draft for part in parts for draft in part.drafts]
    for metric in plan.metrics:
        if metric.metric_key in missing:
            drafts += absent_drafts(plan, metric, missing[metric.metric_key])
    correct(
        plan,
        drafts,
        Levels(heads, errors.alpha),
        standing,
        scheduled=followed,
        arm_variance=arm_variances(shapes, heads),
    )
    place = {metric.metric_key: i for i, metric in enumerate(plan.metrics)}
    rows = validated(sorted(drafts, key=lambda draft: place[draft["metric_key"]]))
    impact = north_star_effects(plan, rows, blocks, shapes, context)
    company = company_of(plan, rows, blocks, shapes, context)
    topline = topline_impact(plan, rows, blocks, company)
    joint, fits = joint_effects(plan, blocks, shapes), persistence_fits(plan, blocks)
    facts = Facts(
        plan=plan,
        context=context,
        blocks=blocks,
        shapes=shapes,
        heads=heads,
        exposures=exposures,
        crossover=max((block.moments.crossover for block in blocks), default=0),
        absent=missing,
    )
    beside = screening(facts, rows)
    found = [*checks(facts), *coherence_check(impact), *north_star_check(plan), *beside.checks]
    sound = all(check.status != "fail" for check in found)
    projected = projected_impact(plan, rows, topline, company, fits, joint, context, sound=sound)
    looks = main.moments.looks if main else ()
    ahead = forecast(plan, context, rows, looks, exposures, errors, followed)
    worth = waiting_values(
        plan,
        context,
        rows,
        looks,
        exposures,
        standing=standing,
        errors=errors,
        courses=followed,
        impact=impact,
    )
    judging = Judging(plan, tuple(found), standing, ahead, tuple(impact), tuple(worth))
    document = ExperimentResult(
        analysis_id=context.analysis_id,
        experiment_key=plan.experiment_key,
        plan_hash=context.plan_hash,
        data_as_of=context.data_as_of,
        seed=context.seed,
        code_version=context.code_version,
        amendments=list(context.amendments),
        decision_interval=standing.interval,
        decision_errors=errors,
        checks=found,
        exposures=_exposures(plan, main, facts.crossover),
        rows=rows,
        looks=[look for part in parts for look in part.looks],
        densities=[density for part in parts for density in part.densities],
        segment_models=[],
        north_star=impact,
        joint_effects=joint,
        topline=topline,
        persistence=persistence_of(fits),
        projected=projected,
        sequential=[course.document for course in followed.values()],
        heterogeneity=beside.heterogeneity,
        interactions=beside.interactions,
        age_curves=beside.age_curves,
        priors=prior_uses(plan),
        prior_sensitivity=[item for part in parts for item in part.sensitivity],
        best_variants=[arm for part in parts for arm in part.best],
        waiting=worth,
        methods=sorted(
            {
                *_methods(plan, rows, impact=bool(impact), waiting=bool(worth)),
                *beside.methods,
                *_methods_of_impact(impact, topline, fits, projected),
            }
        ),
        **judging.fields(rows),
    )
    asked = model_requests(plan, blocks, shapes, heads, rows, context, standing)
    return Draft(document, tuple(request for part in parts for request in part.requests), *asked, judging)


def _require_variants(plan: AnalysisPlan, blocks: Sequence[Block]) -> None:
    keys = tuple(variant.key for variant in plan.variants)
    for block in blocks:
        if block.moments.variants != keys:
            raise ValueError(f"the moments are of variants {block.moments.variants}, the plan's are {keys}")
        if not block.moments.looks:
            raise ValueError("a block needs at least one look")


def _block_evidence(
    plan: AnalysisPlan, block: Block, shapes: BlockShapes, now: Effects, over_time: Effects, standing: Situation
) -> _BlockEvidence:
    """`now` has cells (1 + segments,), everybody first, `over_time` has cells (looks,)."""
    moments = block.moments
    segments: list[Segment] = [None, *moments.segments]
    head = slice(0, 1)
    drafts = block_drafts(
        plan,
        shapes,
        now,
        block_beliefs(plan, shapes, now.lift, standing),
        segments,
        standing.margins,
        details(plan, shapes, moments),
    )
    add_safety(plan, shapes, now, drafts, standing)
    followed = block_beliefs(plan, shapes, over_time.lift, standing, roles=DECIDING)
    return _BlockEvidence(
        drafts=drafts,
        looks=block_looks(plan, shapes, over_time, followed, moments.looks),
        densities=block_densities(plan, shapes, block_beliefs(plan, shapes, now.lift, standing, head)),
        sensitivity=prior_sensitivity(plan, shapes, now.lift, standing),
        best=best_variants(plan, shapes, now, standing),
        requests=segment_requests(plan, block, shapes, now),
    )


def _exposures(plan: AnalysisPlan, block: Block | None, crossover: int) -> Exposures:
    keys = [variant.key for variant in plan.variants]
    exposed = block.moments.exposures.tolist() if block else []
    analysed = block.moments.last.count.tolist() if block else [0] * len(keys)
    looks = block.moments.looks if block else ()
    last = exposed[-1] if exposed else [0] * len(keys)
    return Exposures(
        variants=[
            VariantExposures(variant_key=v.key, weight=v.weight, exposures=last[i], analysed=analysed[i])
            for i, v in enumerate(plan.variants)
        ],
        crossover=crossover,
        daily=[
            {"at": at.isoformat(), **dict(zip(keys, counts, strict=True))}
            for at, counts in zip(looks, exposed, strict=True)
        ],
    )


def _methods(plan: AnalysisPlan, rows: Sequence[Row], *, impact: bool, waiting: bool) -> list[str]:
    """METHODS ids behind the numbers of the document."""
    used = {part for row in rows for part in row.method.split("+")} | {"A11", "A12", "H2"}
    if any(row.always_valid_p_value is not None for row in rows):
        used.add("B1")
    if any(row.non_inferior is not None or row.equivalent is not None for row in rows):
        used.add("A10")
    if any(row.chance_to_win is not None for row in rows):
        used.add("C1")
    if any(row.sequential_p_value is not None for row in rows):
        used.add("B2")
    if plan.estimation.exploratory_correction == "e_bh":
        used.add("B5")
    if plan.estimation.engine != "frequentist":
        used |= {"C3", "C5", "H3"}
    if waiting:
        used.add("H4")
    if impact:
        used |= {"E1", "E2"}
    return sorted(used)


def _methods_of_impact(
    impact: Sequence[NorthStarEffect],
    topline: Sequence[ToplineImpact],
    fits: Fits,
    projected: Sequence[ProjectedImpact],
) -> set[str]:
    """METHODS ids behind what is said of the company."""
    used = {"E5": any(each.estimable for each in topline), "E6": any(not fit.reason for fit in fits.values())}
    used |= {"E7": any(each.estimable for each in projected), "E8": any(each.gap is not None for each in impact)}
    return {name for name, there in used.items() if there}
