"""The documents: what workers store, the API serves as bytes and the pages draw."""

from typing import Literal

from pydantic import AwareDatetime, Field

from experiments.result.beliefs import (
    Agreement,
    BestVariant,
    EngineDecision,
    FittedModel,
    LearnedStratum,
    PastEffectShown,
    PriorSensitivity,
    PriorUse,
    WaitingValue,
)
from experiments.result.effects import Density, Look, Row, SegmentModel
from experiments.result.elements import Check, Document
from experiments.result.findings import (
    AgeCurve,
    DecisionErrors,
    Heterogeneity,
    Interaction,
    Recommendation,
    SequentialMonitor,
)
from experiments.result.impact import JointEffects, NorthStarEffect, Persistence, ProjectedImpact, ToplineImpact

type DecisionInterval = Literal["fixed", "always_valid", "group_sequential"]


class VariantExposures(Document):
    variant_key: str
    weight: float
    exposures: int
    analysed: int


class Exposures(Document):
    """Who was exposed, who is analysed (window complete), who was dropped as `crossover`."""

    variants: list[VariantExposures]
    crossover: int
    daily: list[dict[str, int | str]]
    """[{"at": iso, "<variant_key>": cumulative exposures, …}] for the exposure chart."""


class AmendmentNote(Document):
    at: AwareDatetime
    actor: str
    reason: str
    changed: list[str]


class ExperimentResult(Document):
    """The result of one analysis of one experiment."""

    schema_version: int = 4
    kind: Literal["experiment"] = "experiment"
    analysis_id: str
    experiment_key: str
    plan_hash: str
    data_as_of: AwareDatetime
    seed: int
    code_version: str
    amendments: list[AmendmentNote]
    verdict: Literal["better", "worse", "equivalent", "inconclusive", "unreliable"]
    verdict_variant: str | None
    verdict_reasons: list[str]
    decision_interval: DecisionInterval
    recommendation: Recommendation | None = None
    decision_errors: DecisionErrors | None = None
    checks: list[Check]
    exposures: Exposures
    rows: list[Row]
    looks: list[Look]
    densities: list[Density]
    segment_models: list[SegmentModel]
    north_star: list[NorthStarEffect]
    joint_effects: list[JointEffects] = Field(default_factory=list)
    topline: list[ToplineImpact] = Field(default_factory=list)
    persistence: list[Persistence] = Field(default_factory=list)
    projected: list[ProjectedImpact] = Field(default_factory=list)
    sequential: list[SequentialMonitor] = Field(default_factory=list)
    heterogeneity: list[Heterogeneity] = Field(default_factory=list)
    interactions: list[Interaction] = Field(default_factory=list)
    age_curves: list[AgeCurve] = Field(default_factory=list)
    priors: list[PriorUse] = Field(default_factory=list)
    prior_sensitivity: list[PriorSensitivity] = Field(default_factory=list)
    best_variants: list[BestVariant] = Field(default_factory=list)
    models: list[FittedModel] = Field(default_factory=list)
    waiting: list[WaitingValue] = Field(default_factory=list)
    decisions: list[EngineDecision] = Field(default_factory=list)
    """One per engine of the plan; the one that leads is the verdict and the recommendation."""
    agreement: Agreement | None = None
    monitoring: str | None = None
    """Why Bayesian numbers may not decide yet, or are withheld (METHODS C5); null when they may."""
    methods: list[str]


class SeriesPoint(Document):
    week: AwareDatetime
    value: float | None
    inputs: dict[str, float | None]
    complete: bool


class WithoutUnits(Document):
    """The weekly values without one part of the units, totals made up for it: what sampling errors are made from."""

    value: list[float | None]
    inputs: dict[str, list[float | None]]


class NorthStarSeries(Document):
    """Weekly values of a North Star and its inputs; `without` has them once more for each part of the units (E4)."""

    schema_version: int = 1
    kind: Literal["north_star"] = "north_star"
    analysis_id: str
    north_star_key: str
    north_star_version: int
    data_as_of: AwareDatetime
    points: list[SeriesPoint]
    without: list[WithoutUnits] = Field(default_factory=list)
    code_version: str


class MetricBaseline(Document):
    """History of one metric for planning. `sd` is the sd of influence values per unit (METHODS A14)."""

    metric_key: str
    n: int
    mean: float | None
    sd: float | None
    cuped_r_squared: float | None
    reason: str | None = None


class BaselineResult(Document):
    """Baselines of all metrics of a unit type and the cumulative curve of unique units."""

    schema_version: int = 1
    kind: Literal["baseline"] = "baseline"
    analysis_id: str
    unit_type: str
    data_as_of: AwareDatetime
    metrics: list[MetricBaseline]
    cumulative_units: list[int]
    """Unique active units by the end of day 1, 2, … of the history window."""
    code_version: str


class LearnedPriorResult(Document):
    """The prior on a metric's log lift learned from its past experiments, winners and losers (METHODS C3).

    `strata` has all experiments together first; strata of their own follow where effects differ between them. `version`
    counts the priors learned for this metric.
    """

    schema_version: int = 1
    kind: Literal["prior"] = "prior"
    analysis_id: str
    metric_key: str
    version: int
    data_as_of: AwareDatetime
    strata: list[LearnedStratum]
    stratified: bool
    """Whether strata differ enough that a new experiment takes the prior of its own."""
    chance_strata_differ: float | None
    effects: list[PastEffectShown]
    methods: list[str]
    code_version: str
