"""Experiments: variants, metrics in their roles, and the options of the analysis."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from experiments.definitions.elements import Definition, Direction, Key, MetricKey, Moment
from experiments.definitions.estimation import Estimation
from experiments.definitions.filters import Filter


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


class Trigger(Definition):
    """What makes a unit count: its first such fact after it was assigned (METHODS A12).

    With a trigger the exposures that are sent are assignments; a unit is exposed, and its windows begin, at its first
    trigger. Units without one are counted as assigned and not analysed. Pre-periods end at the assignment.
    """

    fact_source: Key
    filters: list[Filter] = Field(default_factory=list, max_length=20)


class ExposureSource(Definition):
    """Exposures that are rows of a fact source instead of being sent: its unit and time, and the named columns.

    `variant_column` holds variant keys; rows with another text count as an arm that is not in the plan, rows without a
    variant or a unit do not count. `filters` pick the rows of this experiment. `segments` name, for each segment, the
    column with its level; null and the empty text are no level. Numbers are read as text: 30, not 30.0.
    """

    fact_source: Key
    variant_column: str = Field(min_length=1, max_length=200)
    filters: list[Filter] = Field(default_factory=list, max_length=20)
    segments: dict[
        Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(min_length=1, max_length=200)]
    ] = Field(default_factory=dict, max_length=50)

    @model_validator(mode="after")
    def _segments_differ(self) -> Self:
        if len({name.lower() for name in self.segments}) != len(self.segments):
            raise ValueError("segments: names that differ in their case only are the same segment")
        return self


class DeclaredShare(Definition):
    """How much of the North Star comes from those who could be exposed, where the data cannot say (METHODS E5)."""

    value: float = Field(gt=0, le=1)
    standard_error: float = Field(default=0.0, ge=0, le=1)


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
    purpose: Literal["test", "aa", "holdout"] = Field(
        default="test",
        description="`aa`: the variants are the same on purpose; the pipeline is tested. `holdout`: the control "
        "is kept from everything that ships, the treatment is everybody else",
    )
    north_star_share: DeclaredShare | None = Field(
        default=None,
        description="For summaries: share of the North Star of those who could be exposed",
    )
    cluster: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None,
        description="Segment of the exposures that names the cluster (account, store) whose units share a variant",
    )
    trigger: Trigger | None = None
    exposures: ExposureSource | None = Field(
        default=None, description="Where exposures are read; without it they are sent to /v1/ingest/exposures"
    )
    segments: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(default_factory=list, max_length=10)
    two_way_segments: list[tuple[str, str]] = Field(
        default_factory=list, max_length=5, description="Pairs of `segments` to break down together"
    )
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
        for first, second in self.two_way_segments:
            if first == second or not {first, second} <= set(self.segments):
                raise ValueError("two_way_segments: each pair names two different ones of `segments`")
        if self.data == "summary" and (self.cluster is not None or self.trigger is not None):
            raise ValueError("summaries carry neither clusters nor triggers: use data = events")
        if self.data == "summary" and self.exposures is not None:
            raise ValueError("summaries have no exposures: use data = events")
        if self.data == "events" and self.north_star_share is not None:
            raise ValueError("north_star_share: is measured where there are exposures and events")
        if self.purpose == "holdout" and len(self.variants) != 2:
            raise ValueError("variants: a holdout has two, those who are kept back (control) and everybody else")
        if (self.parent_key is None) != (self.relation is None):
            raise ValueError("parent_key and relation go together")
        return self

    @property
    def control(self) -> Variant:
        """The control variant."""
        return next(variant for variant in self.variants if variant.is_control)
