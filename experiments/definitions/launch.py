"""What shipped and what was decided."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from experiments.definitions.elements import Definition, Key, Moment


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
