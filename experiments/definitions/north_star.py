"""North Stars: a metric, its tree of inputs, and a target."""

from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from experiments.definitions.elements import Definition, Key, MetricKey, Stage


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
