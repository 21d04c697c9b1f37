"""What a child does for each kind of analysis: data to moments, moments to evidence, evidence to the stored bytes.

Pure functions of their payload: no database and no clock, so that the same job gives the same bytes on every attempt
(to rounding, where so many units are measured in one pass with those of other experiments that it takes buckets).
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

from experiments import launch_effects, ledger_lines, programme_effects
from experiments.connection import Access
from experiments.evidence import (
    Block,
    Draft,
    EvidenceContext,
    LaunchContext,
    LinksContext,
    baseline_result,
    build,
    draft_launch,
    draft_links,
    joined_baselines,
    learned_prior_result,
    model_without_numbers,
    north_star_series,
    programme_result,
    segment_model,
)
from experiments.evidence.review.context import ReviewContext
from experiments.evidence.review.draft import draft_review
from experiments.evidence.segments import segment_question
from experiments.lease import StoredResult
from experiments.plan import (
    AnalysisPlan,
    BaselinePlan,
    LaunchPlan,
    LinksPlan,
    NorthStarPlan,
    PriorPlan,
    ProgrammePlan,
    ReviewPlan,
)
from experiments.result import ExperimentResult, Row
from experiments.result.elements import Document
from experiments.series_table import SeriesTable
from experiments.tables import ResultRow
from stats.bayes.models.fit import ModelFit
from stats.bayes.models.segments import TOO_FEW
from warehouse.extract import (
    DataSlice,
    extract_summaries,
)
from warehouse.segment_series import segment_series
from warehouse.series import weekly_series
from warehouse.together import Together
from workers.child import Channel
from workers.models.messages import ModelQuestion
from workers.reading import Resources, baselines, experiment_moments, totals_of

_ROW_COLUMNS = tuple(name for name in ResultRow.model_fields if name not in ("id", "result_id", "experiment_key"))


@dataclass(slots=True)
class SummaryLine:
    """One row of summary input, detached from its table."""

    metric_key: str
    variant_key: str
    as_of: datetime
    n: int
    mean: float
    variance: float
    covariances: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class ExperimentJob:
    """An experiment's plan, its circumstances, and its data: a slice of the store, summaries, or a warehouse's tables.

    With `access` the facts are there, and `data` only says which period counts. `together` are the experiments that
    may share its pass.
    """

    plan: AnalysisPlan
    context: EvidenceContext
    data: DataSlice | None
    summaries: tuple[SummaryLine, ...]
    resources: Resources
    access: Access | None = None
    together: Together | None = None


@dataclass(frozen=True, slots=True)
class CompanyJob[P: (NorthStarPlan, BaselinePlan)]:
    """A company-wide plan and its data; `access` opens the connections that some of its facts are in."""

    plan: P
    analysis_id: str
    data: DataSlice
    code_version: str
    resources: Resources
    access: tuple[Access, ...] = ()


@dataclass(frozen=True, slots=True)
class PriorJob:
    """What a prior is learned from: all of it is in the plan."""

    plan: PriorPlan
    analysis_id: str
    data_as_of: datetime
    code_version: str


@dataclass(frozen=True, slots=True)
class ReviewJob:
    """A growth review's plan, with all its numbers, and its circumstances."""

    plan: ReviewPlan
    context: ReviewContext


@dataclass(frozen=True, slots=True)
class ProgrammeJob:
    """All experiments on a metric: their effects are in the plan."""

    plan: ProgrammePlan
    analysis_id: str
    data_as_of: datetime
    code_version: str


@dataclass(frozen=True, slots=True)
class LinksJob:
    """The effects that links are learned from: all of them are in the plan."""

    plan: LinksPlan
    context: LinksContext


@dataclass(frozen=True, slots=True)
class LaunchJob:
    """A launch's plan, its circumstances, and its series: those that were pushed, and `data` for those from facts.

    `access` opens the connections that some of these facts are in.
    """

    plan: LaunchPlan
    context: LaunchContext
    tables: Mapping[str, SeriesTable]
    data: DataSlice | None
    resources: Resources
    access: tuple[Access, ...] = ()


def run_experiment(job: ExperimentJob, channel: Channel) -> StoredResult:
    """The result of an experiment."""
    plan = job.plan
    if job.data is None:
        channel.progress("reading", 0.1)
        blocks = [Block(keys, moments) for keys, moments in extract_summaries(plan, job.summaries)]
    else:
        moments = experiment_moments(
            plan,
            job.data,
            job.resources,
            job.access,
            job.together,
            lambda stage, fraction: channel.progress(stage, 0.6 * fraction),
        )
        blocks = [Block(tuple(metric.metric_key for metric in plan.metrics), moments)]
    channel.progress("evidence", 0.6)
    draft = build(plan, blocks, job.context)
    document = _completed(draft, job.context.seed, channel)
    channel.progress("storing", 0.95)
    return stored(document, verdict=document.verdict, rows=_flat(document.experiment_key, document.rows))


def run_north_star(job: CompanyJob[NorthStarPlan], channel: Channel) -> StoredResult:
    """The weekly series of a North Star."""
    with totals_of(job.plan, job.data, job.access, job.resources) as totals:
        series = weekly_series(
            job.plan, job.data.data_as_of, totals, lambda stage, fraction: channel.progress(stage, 0.9 * fraction)
        )
    channel.progress("storing", 0.9)
    return stored(
        north_star_series(
            job.plan,
            series,
            analysis_id=job.analysis_id,
            data_as_of=job.data.data_as_of,
            code_version=job.code_version,
        )
    )


def run_baseline(job: CompanyJob[BaselinePlan], channel: Channel) -> StoredResult:
    """The baselines of all metrics of a unit type."""
    found = baselines(
        job.plan,
        job.data,
        job.access,
        job.resources,
        lambda stage, fraction: channel.progress(stage, 0.9 * fraction),
    )
    channel.progress("storing", 0.9)
    documents = [
        baseline_result(
            plan,
            history.moments,
            history.cumulative_units,
            analysis_id=job.analysis_id,
            data_as_of=job.data.data_as_of,
            code_version=job.code_version,
        )
        for plan, history in found
    ]
    return stored(joined_baselines(job.plan, documents))


def run_prior(job: PriorJob, channel: Channel) -> StoredResult:
    """The prior of a metric, learned from the past effects in its plan."""
    channel.progress("learning", 0.1)
    return stored(
        learned_prior_result(
            job.plan, analysis_id=job.analysis_id, data_as_of=job.data_as_of, code_version=job.code_version
        )
    )


def run_programme(job: ProgrammeJob, channel: Channel) -> StoredResult:
    """What all experiments on a metric did together."""
    channel.progress("evidence", 0.1)
    document = programme_result(
        job.plan, analysis_id=job.analysis_id, data_as_of=job.data_as_of, code_version=job.code_version
    )
    channel.progress("storing", 0.95)
    return stored(document, rows=programme_effects.flat(document))


def run_links(job: LinksJob, channel: Channel) -> StoredResult:
    """What moves in inputs have been worth in a North Star, learned from the effects in its plan."""
    channel.progress("learning", 0.1)
    draft = draft_links(job.plan, job.context)
    fits: list[ModelFit] = []
    if draft.questions:
        fits = channel.ask(ModelQuestion(draft.questions, job.context.seed), stage="models", begin=0.6, end=0.95)
    return stored(draft.finish(fits))


def run_launch(job: LaunchJob, channel: Channel) -> StoredResult:
    """What a launch did."""
    tables = dict(job.tables)
    if job.data is not None:
        with totals_of(job.plan, job.data, job.access, job.resources) as totals:
            tables |= segment_series(
                job.plan, job.data.data_as_of, totals, lambda stage, fraction: channel.progress(stage, 0.3 * fraction)
            )
    channel.progress("evidence", 0.3)
    draft = draft_launch(job.plan, tables, job.context)
    fits: list[ModelFit] = []
    if draft.questions:
        question = ModelQuestion(draft.questions, job.context.seed)
        fits = channel.ask(question, stage="models", begin=0.6, end=0.95)
    document = draft.finish(fits)
    channel.progress("storing", 0.95)
    return stored(document, rows=launch_effects.flat(document))


def run_growth_review(job: ReviewJob, channel: Channel) -> StoredResult:
    """What moved a North Star in a period."""
    channel.progress("evidence", 0.05)
    draft = draft_review(job.plan, job.context)
    fits: list[ModelFit] = []
    if draft.questions:
        question = ModelQuestion(draft.questions, job.context.seed)
        fits = channel.ask(question, stage="models", begin=0.3, end=0.8)
    channel.progress("ledger", 0.8)
    document = draft.finish(fits)
    channel.progress("storing", 0.95)
    return stored(document, rows=ledger_lines.flat(document))


def stored(
    document: Document,
    *,
    verdict: str | None = None,
    rows: Iterable[Mapping[str, Any]] = (),
) -> StoredResult:
    """The bytes of a document, its fields in the order of the model, and their SHA-256, which is its ETag."""
    # Documents refuse numbers that are not finite when they are made, so that none can be written here.
    body = document.model_dump_json().encode()
    return StoredResult(body=body, etag=hashlib.sha256(body).hexdigest(), verdict=verdict, rows=tuple(rows))


def _completed(draft: Draft, seed: int, channel: Channel) -> ExperimentResult:
    """The document with the answers of its models: one question to the worker for all of them."""
    # One level alone cannot be pooled: that needs no model to be said.
    enough = tuple(request for request in draft.segment_requests if len(request.levels) >= 2)
    questions = (*map(segment_question, enough), *(request.question for request in draft.model_requests))
    fits: list[ModelFit] = []
    if questions:
        fits = channel.ask(ModelQuestion(questions, seed), stage="models", begin=0.7, end=0.95)
    of_segments = iter(fits[: len(enough)])
    models = [
        segment_model(request, next(of_segments))
        if len(request.levels) >= 2
        else model_without_numbers(request, "not_estimable", TOO_FEW)
        for request in draft.segment_requests
    ]
    return draft.finish(models, fits[len(enough) :])


def _flat(experiment_key: str, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The columns of `tables.ResultRow`."""
    pick = itemgetter(*_ROW_COLUMNS)
    names = ("experiment_key", *_ROW_COLUMNS)
    return [dict(zip(names, (experiment_key, *pick(row.__dict__)), strict=True)) for row in rows]
