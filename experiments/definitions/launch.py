"""What shipped and what was decided."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from experiments.definitions.elements import Definition, Key, Moment

type Mechanism = Literal["random", "ordered", "all_at_once"]


class RolloutStep(Definition):
    """From `at` on, `coverage` of the eligible population has the change, chosen by `mechanism` (METHODS D6).

    With `segments` (countries, tenants) the step is about these alone: `coverage` is the share of each of them. Chosen
    `random`ly means by chance alone: by a hash of the unit, or segments drawn by lot. A later step with a smaller
    coverage takes the change back.
    """

    at: Moment
    coverage: float = Field(ge=0, le=1)
    mechanism: Mechanism
    segments: list[str] = Field(default_factory=list, max_length=1000)


class Eligible(Definition):
    """Who could get the change at all: these segments of the dimension."""

    dimension: str = Field(min_length=1, max_length=64)
    segments: list[str] = Field(min_length=1, max_length=1000)


class Confounder(Definition):
    """Something else that happened at about the same time and could have moved the metric."""

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    began_at: Moment | None = None
    ended_at: Moment | None = None
    segments: list[str] = Field(default_factory=list, max_length=1000)

    @model_validator(mode="after")
    def _began_before_it_ended(self) -> Self:
        if self.began_at is not None and self.ended_at is not None and self.ended_at <= self.began_at:
            raise ValueError("ended_at: must be later than began_at")
        return self


class LaunchMeasurement(Definition):
    """What to measure a launch on, and what to hold against it. The first measurement is the primary one.

    `regressors` are series of outside influences, `controls` outcomes of something the launch does not touch (another
    product, another company's search volume); segments of the outcome without the launch are donors by themselves
    unless `excluded_segments` names them. `carry_over_periods`: how long a state outlasts its end (METHODS D5).
    """

    series_key: Key
    regressors: list[Key] = Field(default_factory=list, max_length=20)
    controls: list[Key] = Field(default_factory=list, max_length=20)
    excluded_segments: list[str] = Field(default_factory=list, max_length=1000)
    carry_over_periods: int = Field(default=0, ge=0, le=100)
    measure_for_days: int = Field(default=56, ge=1, le=730, description="After the last step")
    history_days: int = Field(default=1095, ge=7, le=3650, description="How far back the series is used")
    level: float = Field(default=0.95, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _series_have_one_part(self) -> Self:
        named = [self.series_key, *self.regressors, *self.controls]
        if len(named) != len(set(named)):
            raise ValueError("series_key, regressors, controls: a series can have one part only")
        return self


class LaunchSpec(Definition):
    """Something that shipped, with or without an experiment behind it."""

    key: Key
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    owner: str = Field(default="", max_length=200)
    experiment_key: Key | None = None
    shipped_variant: Key | None = None
    north_star_key: Key | None = Field(
        default=None, description="What it should move; default: that of its experiment, else every North Star"
    )
    rollout: list[RolloutStep] = Field(min_length=1, max_length=2000)
    eligible: Eligible | None = None
    announced_at: Moment | None = Field(
        default=None, description="When people could first react to it: nothing after this is `before the launch`"
    )
    confounders: list[Confounder] = Field(default_factory=list, max_length=50)
    measurements: list[LaunchMeasurement] = Field(default_factory=list, max_length=10)

    @model_validator(mode="after")
    def _steps_are_ordered(self) -> Self:
        times: list[datetime] = [step.at for step in self.rollout]
        if times != sorted(set(times)):
            raise ValueError("rollout: the steps must be in order of time, one step per time")
        if all(step.coverage == 0 for step in self.rollout):
            raise ValueError("rollout: a launch reaches somebody; every step has coverage 0")
        return self

    @model_validator(mode="after")
    def _announced_before_it_began(self) -> Self:
        if self.announced_at is not None and self.announced_at > self.rollout[0].at:
            raise ValueError("announced_at: lies after the first step; leave it out if nobody knew before")
        return self

    @model_validator(mode="after")
    def _only_eligible_segments_get_it(self) -> Self:
        if self.eligible is not None:
            named = {segment for step in self.rollout for segment in step.segments}
            if strangers := sorted(named - set(self.eligible.segments)):
                raise ValueError(f"rollout: {', '.join(strangers)} is not among the eligible segments")
        return self

    @model_validator(mode="after")
    def _measured_once_per_series(self) -> Self:
        keys = [item.series_key for item in self.measurements]
        if len(keys) != len(set(keys)):
            raise ValueError("measurements: each series can be measured once")
        return self


class DecisionSpec(Definition):
    """What people chose, and what they learned."""

    outcome: Literal["ship", "roll_back", "iterate", "extend"]
    shipped_variant: Key | None = None
    reason: str = Field(min_length=1, max_length=4000)
    learnings: str = Field(default="", max_length=20000, description="Markdown")
    override_reason: str | None = Field(
        default=None,
        min_length=10,
        max_length=4000,
        description="Why, when the outcome contradicts what the latest result recommends",
    )

    @model_validator(mode="after")
    def _ships_name_a_variant(self) -> Self:
        if (self.outcome == "ship") != (self.shipped_variant is not None):
            raise ValueError("`shipped_variant` is needed for the outcome `ship`, and only for it")
        return self
