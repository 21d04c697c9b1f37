"""Definitions as people write them (JSON or YAML): fact sources, metrics, North Stars, experiments, launches.

These models validate input and are what is stored, versioned and hashed. Tables keep them as canonical JSON.
"""

import re
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

KEY_PATTERN = r"^[a-z0-9][a-z0-9_\-]{0,62}$"
Key = Annotated[str, Field(pattern=KEY_PATTERN, description="Human slug: lower-case letters, digits, - and _")]
_IDENTIFIER = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def _formula_name(key: str) -> str:
    if not _IDENTIFIER.match(key):
        raise ValueError(
            "a metric key is used as a name in formulas: letters, digits and _ only, not starting with a digit"
        )
    return key


def _within_history(moment: datetime) -> datetime:
    if not 1970 <= moment.year < 2200:
        raise ValueError("the year must be between 1970 and 2199")
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_within_history)]
"""A time with its offset, kept in UTC. The limits keep every conversion to UTC possible."""

MetricKey = Annotated[str, Field(pattern=KEY_PATTERN), AfterValidator(_formula_name)]


class Definition(BaseModel):
    """Base of all definitions: unknown fields are faults, numbers are finite, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _texts_can_be_stored(self) -> Self:
        for value in self.__dict__.values():
            texts = value if isinstance(value, list) else (value,)
            if any(isinstance(text, str) and "\x00" in text for text in texts):
                raise ValueError("texts cannot contain the character U+0000")
        return self


class Direction(StrEnum):
    INCREASE = "increase"
    DECREASE = "decrease"


class Stage(StrEnum):
    """AAARRR funnel stage of a metric."""

    AWARENESS = "awareness"
    ACQUISITION = "acquisition"
    ACTIVATION = "activation"
    RETENTION = "retention"
    REVENUE = "revenue"
    REFERRAL = "referral"


class EventSource(Definition):
    """Rows of one ingested event name."""

    kind: Literal["events"] = "events"
    key: Key
    name: str = Field(default="", max_length=200)
    unit_type: str = Field(default="user", min_length=1, max_length=64)
    event: str = Field(min_length=1, max_length=200)


class FileSource(Definition):
    """A CSV or Parquet file below the configured folder."""

    kind: Literal["file"]
    key: Key
    name: str = Field(default="", max_length=200)
    unit_type: str = Field(default="user", min_length=1, max_length=64)
    path: str = Field(min_length=1, max_length=1000)
    unit_column: str = Field(min_length=1, max_length=200)
    timestamp_column: str = Field(min_length=1, max_length=200)


class DuckDBSource(Definition):
    """A table or view in a DuckDB database file below the configured folder."""

    kind: Literal["duckdb"]
    key: Key
    name: str = Field(default="", max_length=200)
    unit_type: str = Field(default="user", min_length=1, max_length=64)
    path: str = Field(min_length=1, max_length=1000)
    table: str = Field(min_length=1, max_length=200)
    unit_column: str = Field(min_length=1, max_length=200)
    timestamp_column: str = Field(min_length=1, max_length=200)


FactSourceSpec = Annotated[EventSource | FileSource | DuckDBSource, Field(discriminator="kind")]


class Filter(Definition):
    """Keep only facts for which `column op value` holds. Structured, so no user text reaches SQL."""

    column: str = Field(min_length=1, max_length=200)
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in"] = "="
    value: str | float | bool | list[str] | list[float]


class Measure(Definition):
    """A number per unit: an aggregation of one column of a fact source. Units without facts count as 0."""

    fact_source: Key
    aggregation: Literal["sum", "count", "max", "distinct_days", "any"] = "count"
    column: str = Field(
        default="value", min_length=1, max_length=200, description="Ignored by count, any, distinct_days"
    )
    filters: list[Filter] = Field(default_factory=list, max_length=20)


class MetricSpec(Definition):
    """A recipe over facts per unit (METHODS A1, A4; windows per B4)."""

    key: MetricKey
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    kind: Literal["mean", "proportion", "ratio", "formula"]
    direction: Direction = Direction.INCREASE
    unit: str = Field(default="", max_length=32, description="Unit of display: orders, EUR, %, …")
    owner: str = Field(default="", max_length=200)
    aarrr_stage: Stage | None = None
    measure: Measure | None = Field(default=None, description="Without it the metric can only be fed by summaries")
    numerator: Measure | None = None
    denominator: Measure | None = None
    formula: str | None = Field(default=None, max_length=500)
    covariate: Measure | None = Field(
        default=None, description="CUPED covariate; default: the measure itself, before exposure"
    )
    window_days: float | None = Field(default=7, gt=0, le=365, description="Closed cohort window; null: until the look")
    delay_days: float = Field(default=0, ge=0, le=365)
    pre_period_days: float = Field(default=14, ge=0, le=365, description="0 turns CUPED off for this metric")
    always_positive: bool = Field(
        default=False, description="The mean over units is never zero, so that formulas may divide by this metric"
    )

    @model_validator(mode="after")
    def _recipe_matches_kind(self) -> Self:
        wanted = {
            "mean": ("measure",),
            "proportion": ("measure",),
            "ratio": ("numerator", "denominator"),
            "formula": ("formula",),
        }[self.kind]
        for field in ("measure", "numerator", "denominator", "formula"):
            present = getattr(self, field) is not None
            if present and field not in wanted:
                raise ValueError(f"a {self.kind} metric must not have `{field}`")
            if not present and field in wanted and field != "measure":
                raise ValueError(f"a {self.kind} metric needs `{field}`")
        if self.covariate is not None and self.kind not in ("mean", "proportion"):
            raise ValueError("an explicit `covariate` is for mean and proportion metrics")
        return self


class Omtm(Definition):
    """One Metric That Matters: this input has an owner and an end date."""

    owner: str = Field(min_length=1, max_length=200)
    ends_at: date


class InputMetric(Definition):
    """One input of the metric tree."""

    metric_key: MetricKey
    edge: Literal["definitional", "driver"] = "definitional"
    aarrr_stage: Stage | None = None
    owner: str = Field(default="", max_length=200)
    target: float | None = None
    omtm: Omtm | None = None


class Target(Definition):
    """The level the North Star should reach by a date."""

    value: float
    at: date


class NorthStarSpec(Definition):
    """A North Star Metric and its tree: `formula` over the inputs gives the NSM (METHODS E1)."""

    key: Key
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    metric_key: MetricKey
    formula: str = Field(min_length=1, max_length=500)
    input_metrics: list[InputMetric] = Field(min_length=1, max_length=30)
    owner: str = Field(default="", max_length=200)
    target: Target | None = None

    @model_validator(mode="after")
    def _inputs_are_distinct(self) -> Self:
        keys = [item.metric_key for item in self.input_metrics]
        if len(set(keys)) != len(keys):
            raise ValueError("each input metric may appear once")
        if self.metric_key in keys:
            raise ValueError("the North Star cannot be its own input")
        return self


class Variant(Definition):
    key: Key
    name: str = Field(default="", max_length=200)
    weight: float = Field(gt=0, le=1)
    is_control: bool = False


class Role(StrEnum):
    PRIMARY = "primary"
    SECONDARY = "secondary"
    GUARDRAIL = "guardrail"
    MONITOR = "monitor"


class PlanMetric(Definition):
    """A metric's use in a plan. A guardrail needs a margin (METHODS A10); without one use the role `monitor`."""

    metric_key: MetricKey
    role: Role = Role.SECONDARY
    direction: Direction | None = Field(default=None, description="Default: the metric's own")
    mde: float | None = Field(default=None, gt=0, le=10, description="Smallest relative lift worth detecting")
    non_inferiority_margin: float | None = Field(
        default=None, gt=0, le=1, description="Largest tolerated relative harm"
    )

    @model_validator(mode="after")
    def _guardrails_have_margins(self) -> Self:
        if self.role is Role.GUARDRAIL and self.non_inferiority_margin is None:
            raise ValueError("a guardrail needs `non_inferiority_margin`; without a margin use the role `monitor`")
        return self


class Estimation(Definition):
    """Options of the analysis, frozen with the plan."""

    engine: Literal["frequentist", "bayesian", "both"] = "both"
    ci_level: float = Field(default=0.95, gt=0.5, lt=1)
    cuped: bool = True
    prior_mean: float = Field(default=0.0, ge=-1, le=1, description="Prior mean of the log lift (METHODS C3)")
    prior_scale: float = Field(default=0.05, gt=0, le=5, description="Prior sd of the log lift (METHODS C3)")
    rope: float = Field(
        default=0.0, ge=0, le=1, description="Half-width of the region of practical equivalence, log lift"
    )
    srm_threshold: float = Field(default=0.0005, gt=0, lt=0.1)
    seed: int = Field(default=20260101, ge=0, le=2**31 - 1)


class ExperimentSpec(Definition):
    """Everything a team writes down before the first exposure."""

    key: Key
    name: str = Field(min_length=1, max_length=200)
    hypothesis: str = Field(default="", max_length=4000)
    owner: str = Field(default="", max_length=200)
    team: str = Field(default="", max_length=200)
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(default_factory=list, max_length=20)
    unit_type: str = Field(default="user", min_length=1, max_length=64)
    data: Literal["events", "summary"] = Field(
        default="events", description="Unit-level exposures, or per-variant summaries"
    )
    variants: list[Variant] = Field(min_length=2, max_length=20)
    metrics: list[PlanMetric] = Field(default_factory=list, max_length=200)
    north_star_key: Key | None = None
    segments: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(default_factory=list, max_length=10)
    coverage: float = Field(default=1.0, gt=0, le=1, description="Share of eligible traffic enrolled")
    planned_units: int | None = Field(default=None, ge=1, description="Planned sample over all variants")
    planned_end_at: Moment | None = None
    estimation: Estimation = Estimation()
    parent_key: Key | None = None
    relation: Literal["iterates", "replicates", "contradicts"] | None = None

    @model_validator(mode="after")
    def _arms_are_well_formed(self) -> Self:
        keys = [variant.key for variant in self.variants]
        if len(set(keys)) != len(keys):
            raise ValueError("variants: every variant needs its own key")
        if sum(variant.is_control for variant in self.variants) != 1:
            raise ValueError("variants: exactly one variant must have is_control = true")
        total = sum(variant.weight for variant in self.variants)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"variants: the weights must sum to 1, they sum to {total:g}")
        metric_keys = [metric.metric_key for metric in self.metrics]
        if len(set(metric_keys)) != len(metric_keys):
            raise ValueError("metrics: each metric may appear once")
        if (self.parent_key is None) != (self.relation is None):
            raise ValueError("parent_key and relation go together")
        return self

    @property
    def control(self) -> Variant:
        """The control variant."""
        return next(variant for variant in self.variants if variant.is_control)


class RolloutStep(Definition):
    """From `at` on, `coverage` of the eligible population has the change, chosen by `mechanism` (METHODS D6)."""

    at: Moment
    coverage: float = Field(ge=0, le=1)
    mechanism: Literal["random", "ordered", "all_at_once"]


class LaunchSpec(Definition):
    """Something that shipped, with or without an experiment behind it."""

    key: Key
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    owner: str = Field(default="", max_length=200)
    experiment_key: Key | None = None
    shipped_variant: Key | None = None
    rollout: list[RolloutStep] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _steps_are_ordered(self) -> Self:
        times: list[datetime] = [step.at for step in self.rollout]
        if times != sorted(set(times)):
            raise ValueError("rollout: the steps must be in order of time, one step per time")
        return self


class DecisionSpec(Definition):
    """What people chose, and what they learned."""

    outcome: Literal["ship", "roll_back", "iterate", "extend"]
    shipped_variant: Key | None = None
    reason: str = Field(min_length=1, max_length=4000)
    learnings: str = Field(default="", max_length=20000, description="Markdown")

    @model_validator(mode="after")
    def _ships_name_a_variant(self) -> Self:
        if (self.outcome == "ship") != (self.shipped_variant is not None):
            raise ValueError("`shipped_variant` is needed for the outcome `ship`, and only for it")
        return self
