"""Series: the values of a metric by period and segment, and outside influences on it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from experiments.definitions.elements import Definition, Direction, Key, MetricKey

type Grain = Literal["hour", "day", "week"]


class SeriesSpec(Definition):
    """Values by period and by segment: what launches without randomisation are measured on (METHODS D).

    Periods are counted in UTC; weeks begin on Mondays. `dimension` says what the segments are (`country`); without one
    the series has a single segment, the empty text. `arm` is the one dimension with a meaning of its own: its segments
    are `on` and `off`, the units that had a change and those that had not, with one value per stage of a rollout.

    A `pushed` series is sent, and sent again where values were restated. One from `facts` is computed from the facts of
    its metric, whose property `dimension` is the segment. `aggregation` says how segments make a whole: totals add up,
    means do not. A `regressor` is an outside influence (weather, prices, spend) that no launch moves.
    """

    key: Key
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    owner: str = Field(default="", max_length=200)
    role: Literal["outcome", "regressor"] = "outcome"
    grain: Grain = "day"
    dimension: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9_]*$")
    aggregation: Literal["total", "mean"] = "total"
    unit: str = Field(default="", max_length=64)
    direction: Direction = Direction.INCREASE
    metric_key: MetricKey | None = Field(default=None, description="The metric whose values these are")
    source: Literal["pushed", "facts"] = "pushed"

    @model_validator(mode="after")
    def _facts_need_a_metric(self) -> Self:
        if self.source == "facts" and self.metric_key is None:
            raise ValueError("metric_key: a series from facts needs the metric whose facts are read")
        if self.source == "facts" and self.dimension == "arm":
            raise ValueError("dimension: `arm` is for series that are pushed; events do not know who had a change")
        if self.source == "facts" and self.role == "regressor":
            raise ValueError("role: a series from facts is an outcome; push what moves it from outside")
        return self
