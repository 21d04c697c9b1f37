"""/v1/sample-size: what history says about an experiment to come."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final, Literal

import anyio.to_thread
from fastapi import Body
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from app.api import examples
from app.api.deps import ReadSession
from app.api.parameters import Input
from app.api.problems import problems
from app.api.routing import PlainRoute, api_router
from app.api.security import Reader
from experiments import metric, stored_result
from experiments.definitions import ExperimentSpec, PlanMetric, Role, Sequential, Variant
from experiments.effect_history import past_effects
from experiments.errors import FieldError, InvalidDefinition, NotFound
from experiments.planning import SampleSize, sample_size
from experiments.result import BaselineResult, MetricBaseline
from experiments.validation import parse
from stats.cluster_design import ClusterDesign

router = api_router("planning", "/sample-size", PlainRoute)
_EXAMPLE: Final[dict[str, Any]] = {
    "unit_type": "user",
    "variants": examples.EXPERIMENT["variants"],
    "metrics": examples.EXPERIMENT["metrics"],
    "power": 0.8,
    "coverage": 1,
}


class ClustersIn(Input):
    """Clusters of units that share a variant. `design_effect` replaces `size_cv` and `icc` where it was measured."""

    size: float = Field(ge=1, le=1e6, description="Mean number of units in a cluster")
    size_cv: float = Field(default=0.0, ge=0, le=100, description="Standard deviation of cluster sizes over their mean")
    icc: float = Field(default=0.0, ge=0, le=1, description="Intraclass correlation of the metrics")
    design_effect: float | None = Field(default=None, gt=0, le=1e6)


class AssumedBaseline(Input):
    """What to assume of a metric instead of its history: of triggered units, or where there is no history yet."""

    metric_key: str = Field(min_length=1, max_length=63)
    mean: float
    sd: float = Field(gt=0, description="Standard deviation of a unit's influence on the metric")
    cuped_r_squared: float = Field(default=0.0, ge=0, lt=1)


class SampleSizeIn(Input):
    """An experiment to come."""

    unit_type: str = Field(default="user", min_length=1, max_length=64)
    variants: list[Variant] = Field(min_length=2, max_length=20)
    metrics: list[PlanMetric] = Field(min_length=1, max_length=200)
    alpha: float = Field(default=0.05, ge=1e-6, lt=0.5, description="Two-sided, for the primary metrics together")
    power: float = Field(default=0.8, ge=0.5, le=0.9999, description="Of the whole decision (METHODS A11)")
    coverage: float = Field(default=1.0, gt=0, le=1)
    cuped: bool = True
    monitoring: Literal["fixed", "always_valid", "group_sequential"] = "fixed"
    sequential: Sequential | None = Field(
        default=None,
        description="Spending, futility and days between looks of `group_sequential` (`method` is not used)",
    )
    correction: Literal["holm", "bonferroni", "dunnett", "none"] = Field(
        default="bonferroni", description="Over primary metrics and variants; Holm is planned as Bonferroni"
    )
    decision_rule: Literal["superiority", "do_no_harm"] = Field(
        default="superiority", description="`do_no_harm`: shipping needs no win, so primary metrics do not decide"
    )
    equivalence: list[str] = Field(
        default_factory=list, max_length=200, description="Primary metrics that are to show no change beyond their mde"
    )
    anticipated: dict[str, Annotated[float, Field(gt=-1, lt=1)]] = Field(
        default_factory=dict,
        max_length=200,
        description="True lift expected, in the good direction, of guardrails and of metrics in `equivalence`",
    )
    clusters: ClustersIn | None = None
    triggered_share: float = Field(default=1.0, gt=0, le=1, description="Share of enrolled units that count")
    assumed: list[AssumedBaseline] = Field(default_factory=list, max_length=200)


@router.post("", summary="How many units and days an experiment needs", responses=problems(NotFound))
async def plan_sample_size(
    caller: Reader,
    session: ReadSession,
    wanted: Annotated[SampleSizeIn, Body(openapi_examples=examples.example(_EXAMPLE))],
) -> SampleSize:
    """From the latest baseline of the unit type; changes nothing."""
    document = wanted.model_dump(mode="json", include={"variants", "metrics", "coverage", "unit_type"})
    spec = parse(ExperimentSpec, {"key": "planned", "name": "planned", **document})
    _check(wanted)
    known = await metric.all_known(session)
    baselines = await _baselines(session, wanted)
    past = await past_effects(session, metric_keys=[item.metric_key for item in spec.metrics])
    clusters = wanted.clusters
    plan = partial(
        sample_size,
        variants=spec.variants,
        metrics=[_directed(item, known) for item in spec.metrics],
        baselines=baselines,
        alpha=wanted.alpha,
        power=wanted.power,
        coverage=wanted.coverage,
        cuped=wanted.cuped,
        monitoring=wanted.monitoring,
        sequential=wanted.sequential,
        correction=wanted.correction,
        decision_rule=wanted.decision_rule,
        equivalence=wanted.equivalence,
        anticipated=wanted.anticipated,
        clusters=ClusterDesign(clusters.size, clusters.size_cv, clusters.icc, clusters.design_effect)
        if clusters
        else None,
        triggered_share=wanted.triggered_share,
        assumed=[MetricBaseline(n=0, **assumption.model_dump()) for assumption in wanted.assumed],
        past=past,
    )
    # Bounds for daily looks take a second to find.
    return await anyio.to_thread.run_sync(plan)


def _check(wanted: SampleSizeIn) -> None:
    """What names metrics must name metrics of the plan that are tested that way. Raises `InvalidDefinition`."""
    roles = {item.metric_key: item.role for item in wanted.metrics}
    faults = [
        FieldError(f"/equivalence/{i}", f"`{key}` is not a primary metric of this plan")
        for i, key in enumerate(wanted.equivalence)
        if roles.get(key) is not Role.PRIMARY
    ]
    faults += [
        FieldError(f"/anticipated/{key}", f"`{key}` is neither a guardrail of this plan nor tested for equivalence")
        for key in wanted.anticipated
        if roles.get(key) is not Role.GUARDRAIL and key not in wanted.equivalence
    ]
    faults += [
        FieldError(f"/assumed/{i}/metric_key", f"`{assumption.metric_key}` is not a metric of this plan")
        for i, assumption in enumerate(wanted.assumed)
        if assumption.metric_key not in roles
    ]
    if wanted.sequential is not None and wanted.monitoring != "group_sequential":
        faults.append(FieldError("/sequential", "belongs to `monitoring` = `group_sequential`"))
    if faults:
        raise InvalidDefinition(
            "The plan names what it does not have",
            remedy="Name metrics of `metrics`, in the roles they have there.",
            errors=faults,
        )


def _directed(item: PlanMetric, known: Mapping[str, metric.Known]) -> PlanMetric:
    """With the metric's own direction, where the plan gives none: it decides how far a harm is on the log scale."""
    if item.direction is not None or item.metric_key not in known:
        return item
    return item.model_copy(update={"direction": known[item.metric_key].spec.direction})


async def _baselines(session: AsyncSession, wanted: SampleSizeIn) -> BaselineResult | None:
    """The latest stored ones. Raises `NotFound` without any, unless every metric comes with an assumption."""
    assumed = {assumption.metric_key for assumption in wanted.assumed}
    tested = {item.metric_key for item in wanted.metrics if item.role in (Role.PRIMARY, Role.GUARDRAIL)}
    result = await stored_result.latest_id(session, kind="baseline", subject_key=wanted.unit_type)
    if result is None and tested <= assumed:
        return None
    found = await stored_result.latest(session, kind="baseline", subject_key=wanted.unit_type)
    return BaselineResult.model_validate_json(found.body)
