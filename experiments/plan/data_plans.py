"""The plans that are about data in the store."""

from typing import Literal

from pydantic import AwareDatetime, Field

from experiments.definitions import (
    Confounder,
    DeclaredShare,
    Definition,
    Direction,
    Eligible,
    Estimation,
    ExposureSource,
    FactSourceSpec,
    LaunchMeasurement,
    MetricSpec,
    NorthStarSpec,
    Role,
    RolloutStep,
    SeriesSpec,
    Trigger,
    Variant,
)


class PlannedPrior(Definition):
    """A learned prior as it was when the plan was frozen (METHODS C3): a mixture of normals on the log lift.

    `components` are (weight, mean, sd); `prior_id` is the analysis that learned it, from so many past `experiments`:
    those of one team where teams differ (`stratum`), never the experiment itself.
    """

    prior_id: str
    version: int
    experiments: int
    mean: float
    scale: float
    components: list[tuple[float, float, float]]
    stratum: str | None = None


class PlannedMetric(Definition):
    """A metric as planned: its use and the very version of its definition."""

    metric_key: str
    version: int
    role: Role
    direction: Direction
    mde: float | None
    non_inferiority_margin: float | None
    spec: MetricSpec
    prior: PlannedPrior | None = None


class TreeGap(Definition):
    """By how much a past experiment's direct estimate exceeded the tree's, on the log scale (METHODS E8).

    `variance` is the sampling variance of the gap.
    """

    experiment_key: str
    gap: float
    variance: float


class PlannedNorthStar(Definition):
    """The North Star as it was defined when the plan was frozen. Its metrics are among `AnalysisPlan.metrics`.

    `past_gaps` teach how far the tree of driver edges can be trusted; a definitional tree needs none.
    """

    version: int
    spec: NorthStarSpec
    past_gaps: list[TreeGap] = Field(default_factory=list)


class AnalysisPlan(Definition):
    """What will be analysed and how. `metrics` holds every metric needed: those of the team, then those the North Star

    tree and formula metrics need (role `monitor`), each once. `variants` has the control first.
    """

    kind: Literal["experiment"] = "experiment"
    schema_version: int = 1
    experiment_key: str
    unit_type: str
    data: Literal["events", "summary"]
    variants: list[Variant]
    metrics: list[PlannedMetric]
    fact_sources: list[FactSourceSpec]
    north_star: PlannedNorthStar | None
    segments: list[str]
    purpose: Literal["test", "aa", "holdout"] = "test"
    coverage: float = 1.0
    north_star_share: DeclaredShare | None = None
    cluster: str | None = None
    trigger: Trigger | None = None
    exposures: ExposureSource | None = None
    two_way_segments: list[tuple[str, str]] = Field(default_factory=list)
    planned_units: int | None
    planned_end_at: AwareDatetime | None
    estimation: Estimation


class NorthStarPlan(Definition):
    """A weekly series of a North Star and its inputs."""

    kind: Literal["north_star"] = "north_star"
    schema_version: int = 1
    north_star: PlannedNorthStar
    metrics: list[PlannedMetric]
    fact_sources: list[FactSourceSpec]
    weeks: int = 52


class BaselinePlan(Definition):
    """History of metrics for planning: per-unit mean and variance, and how fast units accumulate (METHODS A14)."""

    kind: Literal["baseline"] = "baseline"
    schema_version: int = 1
    unit_type: str
    metrics: list[PlannedMetric]
    fact_sources: list[FactSourceSpec]
    weeks: int = 8


class PlannedSeries(Definition):
    """A series as planned: the very version of its definition, and of its metric where it has one.

    `metrics` is not empty for a series from facts: its metric first, then those that a formula metric needs.
    """

    version: int
    spec: SeriesSpec
    metrics: list[PlannedMetric] = Field(default_factory=list)


class MeasuredBefore(Definition):
    """What the linked experiment measured on the metric of a series, with the facts that its grade rests on (D7)."""

    metric_key: str
    experiment_key: str
    variant_key: str
    analysis_id: str
    verdict: str
    log_lift: float
    standard_error: float
    days: float
    failed_checks: list[str]
    warned_checks: list[str]
    amended: bool
    stopped_early: bool
    peeked: bool
    clusters: int | None
    triggered: bool


class PlannedMeasurement(Definition):
    """What a launch is measured on: the outcome, what else moves it, and what the metric's effects usually are.

    `prior` is that of the metric when the plan was frozen: what is believed of a launch that cannot be measured.
    `beside` are other launches on the same outcome at about the same time.
    """

    options: LaunchMeasurement
    outcome: PlannedSeries
    regressors: list[PlannedSeries]
    controls: list[PlannedSeries]
    experiment: MeasuredBefore | None = None
    prior: PlannedPrior | None = None
    beside: list[Confounder] = Field(default_factory=list)


class LaunchPlan(Definition):
    """Measuring a launch (METHODS D): its recorded path, and its measurements. `measured_since` is when the present

    measurements were written down: after the first step, the plan knew what had happened.
    """

    kind: Literal["launch"] = "launch"
    schema_version: int = 1
    launch_key: str
    rollout: list[RolloutStep]
    eligible: Eligible | None
    announced_at: AwareDatetime | None
    confounders: list[Confounder]
    measured_since: AwareDatetime
    measurements: list[PlannedMeasurement]
    fact_sources: list[FactSourceSpec]
