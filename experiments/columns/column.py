"""Columns of the joint moment matrix, and where metrics find theirs."""

from dataclasses import dataclass, replace
from typing import Literal

from experiments.definitions import Cap, FunnelStep, Measure

CLUSTER_SIZE = "cluster_size"
"""Name of the column that counts a cluster's units; it comes last, and only with clustered randomisation (A5)."""

type Content = Literal[
    "value", "indicator", "score", "answers", "responded", "no_history", "returned", "step", "days_share"
]


@dataclass(frozen=True, slots=True)
class Column:
    """One number per unit.

    `period="outcome"`: facts in [exposed_at + delay_days, exposed_at + delay_days + window_days), or until the look
    when `window_days` is None. `period="pre"`: facts in [exposed_at - pre_period_days, exposed_at).

    `content`: what becomes of the facts. "value": the measure's aggregate. "indicator": 1 if the aggregate is > 0, else
    0 (proportions). "score": the sum of the survey answers after `scale`, "answers": how many there are, "responded":
    1 if there is any. "no_history": 1 if the unit has no fact at all of any of `sources` in the pre-period (METHODS A7:
    new units have no covariate, which is not the same as a covariate of 0).
    "returned": 1 if there is a fact of `measure` in [s + delay_days, s + delay_days + window_days), s being the first
    fact of `start` in [exposed_at, exposed_at + start_within_days); 0 without one.
    "step": 1 if there are facts f1 < ... < f_step in the period, f_i of `steps[i - 1].measure`, each at most
    `within_days` of its step after the one before (any such sequence counts, not only the earliest facts).
    "days_share": the number of different days, floor((time - exposed_at) / 24 h), with a fact of `measure` in the
    period, over the length of the period in whole days (rounded up).
    `measure` is None only for "no_history" and "step". `cap` winsorises the values (METHODS A9); a column without a cap
    is as it is. A covariate's cap is a quantile of its own values.
    """

    name: str
    measure: Measure | None
    period: Literal["outcome", "pre"]
    window_days: float | None
    delay_days: float
    pre_period_days: float
    content: Content = "value"
    scale: Literal["score", "nps"] = "score"
    cap: Cap | None = None
    sources: tuple[str, ...] = ()
    start: Measure | None = None
    start_within_days: float = 0.0
    steps: tuple[FunnelStep, ...] = ()
    step: int = 0

    @property
    def complete_after_days(self) -> float | None:
        """Days after exposure at which the value can change no more; None for an open window, 0 for a pre-period."""
        if self.period == "pre":
            return 0.0
        return None if self.window_days is None else self.start_within_days + self.delay_days + self.window_days

    @property
    def reads(self) -> tuple["Column", ...]:
        """The plain columns whose facts an engine has to read for this one: itself, or how many facts each of `sources`

        has, or those of every step, or the start and whatever may be the return.
        """
        if self.content == "step":
            plain = replace(self, content="value", steps=(), step=0)
            return tuple(replace(plain, measure=step.measure) for step in self.steps[: self.step])
        if self.content == "returned":
            assert self.window_days is not None
            plain = replace(self, content="value", start=None, start_within_days=0.0)
            begin = replace(plain, measure=self.start, delay_days=0.0, window_days=self.start_within_days)
            return begin, replace(plain, window_days=self.start_within_days + self.window_days)
        if self.content != "no_history":
            return (self,)
        measures = [Measure(fact_source=source, aggregation="count") for source in self.sources]
        return tuple(replace(self, measure=measure, content="value", sources=()) for measure in measures)


@dataclass(frozen=True, slots=True)
class MetricColumns:
    """Where a metric finds its columns: positions in `ColumnLayout.columns`.

    Mean and proportion: `value`. Ratio: `value` = numerator, and `denominator`. Survey: a ratio of scores to answers,
    `responded` marks who answered. Retention and funnel: a proportion, or of those who started a ratio of two
    indicators. `steps` of a funnel: who took the first, who got to the second, ..., who got to the last. Participation:
    a mean of shares. `covariates` are what the metric was before exposure (one column, or
    those of both parts of a ratio), then those that the metric names; empty without a pre-period. `no_history` is the
    indicator that goes with them. A capped metric has its columns before the cap in `uncapped` (value, and denominator
    of a ratio).
    """

    metric_key: str
    kind: Literal["mean", "proportion", "ratio"]
    value: int
    denominator: int | None
    covariates: tuple[int, ...] = ()
    no_history: int | None = None
    uncapped: tuple[int, ...] = ()
    responded: int | None = None
    steps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class QuantileColumn:
    """A quantile metric (METHODS A6): of the units' values in `column`, or of its single facts (`of="event"`).

    Its column is not part of the moments. Only units with facts count, or their facts: no fact is no value (a latency
    that nobody measured is not 0). Of single facts the measure's column is the value, whatever the aggregation.
    """

    metric_key: str
    column: Column
    probability: float
    of: Literal["unit", "event"]


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """All columns of a joint moment matrix and every metric's place in it.

    Formula metrics have no columns of their own, quantile metrics are in `quantiles`.
    """

    columns: tuple[Column, ...]
    metrics: dict[str, MetricColumns]
    quantiles: tuple[QuantileColumn, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order; unique."""
        return tuple(column.name for column in self.columns)

    @property
    def longest_window_days(self) -> float | None:
        """Days until a unit's last closed window is complete; None when every window is open-ended."""
        every = (*self.columns, *(quantile.column for quantile in self.quantiles))
        return max((days for c in every if c.period == "outcome" and (days := c.complete_after_days)), default=None)
