"""Holdouts: people who got nothing new, so that everything that shipped can be measured at once (METHODS F3)."""

from typing import Self

from pydantic import Field, model_validator

from experiments.definitions.elements import Definition, Key, MetricKey, Moment


class HoldoutSpec(Definition):
    """A group that is kept from launches, and the experiment that measures it.

    `experiment_key` is an experiment of the purpose `holdout`: its control is the group, its treatment everybody else.
    `launch_keys` are the launches that the group was kept from; empty means every launch of the time. Nobody should be
    held out for more than two quarters: `released_at` ends it.
    """

    key: Key
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    owner: str = Field(default="", max_length=200)
    experiment_key: Key
    metric_key: MetricKey
    started_at: Moment
    released_at: Moment | None = None
    launch_keys: list[Key] = Field(default_factory=list, max_length=1000)

    @model_validator(mode="after")
    def _released_after_it_started(self) -> Self:
        if self.released_at is not None and self.released_at <= self.started_at:
            raise ValueError("released_at: must be later than started_at")
        return self
