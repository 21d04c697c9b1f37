"""North Stars: a metric, its tree of inputs, and a target."""

from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from experiments.definitions.elements import Definition, Key, MetricKey, Stage
from stats.formula import parse


class Omtm(Definition):
    """One Metric That Matters: this input has an owner and an end date."""

    owner: str = Field(min_length=1, max_length=200)
    ends_at: date


class InputMetric(Definition):
    """One input of the metric tree: part of the formula, or a driver beside it whose worth experiments teach."""

    metric_key: MetricKey
    edge: Literal["definitional", "driver"] = "definitional"
    aarrr_stage: Stage | None = None
    owner: str = Field(default="", max_length=200)
    target: float | None = None
    omtm: Omtm | None = None
    series_key: Key | None = Field(default=None, description="Pushed values; without it facts are counted")


class Target(Definition):
    """The level the North Star should reach by a date."""

    value: float
    at: date


class Stock(Definition):
    """A North Star that is a stock (weekly active users, subscribers): `A[t+1] = retention * A[t] + inflow` (E5).

    Both are inputs of the tree, per week: an effect on retention compounds, and arrives late.
    """

    retention_metric_key: MetricKey
    inflow_metric_key: MetricKey


class OutsideInfluence(Definition):
    """A regressor of the ledger: something outside that moves the North Star (METHODS F6).

    It must not be a consequence of launches: spend that reacts to growth would take their credit. `rationale` says why
    it is not.
    """

    series_key: Key
    rationale: str = Field(min_length=10, max_length=2000)


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
    series_key: Key | None = Field(
        default=None, description="Pushed totals of the North Star by day or week; without it facts are counted"
    )
    stock: Stock | None = None
    influences: list[OutsideInfluence] = Field(default_factory=list, max_length=12)

    @model_validator(mode="after")
    def _inputs_are_distinct(self) -> Self:
        keys = [item.metric_key for item in self.input_metrics]
        if len(set(keys)) != len(keys):
            raise ValueError("each input metric may appear once")
        if self.metric_key in keys:
            raise ValueError("the North Star cannot be its own input")
        return self

    @model_validator(mode="after")
    def _flows_are_inputs(self) -> Self:
        keys = {item.metric_key for item in self.input_metrics}
        if self.stock is not None:
            flows = (self.stock.retention_metric_key, self.stock.inflow_metric_key)
            if flows[0] == flows[1] or not set(flows) <= keys:
                raise ValueError("stock: retention and inflow must be two of the input metrics")
        return self

    @model_validator(mode="after")
    def _series_have_one_part(self) -> Self:
        named = [self.series_key, *(item.series_key for item in self.input_metrics)]
        named += [item.series_key for item in self.influences]
        given = [key for key in named if key is not None]
        if len(given) != len(set(given)):
            raise ValueError("series_key, input_metrics, influences: a series can have one part only")
        return self

    @property
    def rests_on_drivers(self) -> bool:
        """Whether a driver is in the formula: then the tree is a statistical relation, and no identity."""
        used = parse(self.formula, [item.metric_key for item in self.input_metrics]).names
        return any(item.edge == "driver" and item.metric_key in used for item in self.input_metrics)
