"""Which per-unit columns a set of metrics needs: the one contract between plans, data engines and estimators.

A column is a measure in a period (the outcome window after exposure, or the pre-period before it). Metrics that share a
measure and a window share the column, so one pass over the facts serves them all and their covariance is exact.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from experiments.definitions import Cap, FunnelStep, Measure, MetricSpec, Role
from experiments.plan import AnalysisPlan
from stats.formula import parse

CLUSTER_SIZE = "cluster_size"
"""Name of the column that counts a cluster's units; it comes last, and only with clustered randomisation (A5)."""

MOST_AGED = 4
AGED_DAYS = (2, 28)
"""Curves by age are for the few metrics that matter, with windows of this many whole days."""

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

    Mean and proportion: `value`, and `covariates` = (pre,). Ratio: `value` = numerator, `denominator`, and
    `covariates` = (numerator pre, denominator pre). Survey: a ratio of scores to answers, `responded` marks who
    answered. `covariates` is empty without a pre-period; `no_history` is the indicator that goes with them. A capped
    metric has its columns before the cap in `uncapped` (value, and denominator of a ratio).
    """

    metric_key: str
    kind: Literal["mean", "proportion", "ratio"]
    value: int
    denominator: int | None
    covariates: tuple[int, ...] = ()
    no_history: int | None = None
    uncapped: tuple[int, ...] = ()
    responded: int | None = None


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


def layout(specs: Sequence[MetricSpec]) -> ColumnLayout:
    """The columns these metrics need, each once, in order of first use; metrics without a measure have none."""
    builder = _Builder()
    metrics: dict[str, MetricColumns] = {}
    quantiles: list[QuantileColumn] = []
    for spec in specs:
        if spec.kind == "ratio":
            metrics[spec.key] = builder.ratio(spec)
        elif spec.kind == "survey":
            metrics[spec.key] = builder.survey(spec)
        elif spec.kind in ("mean", "proportion"):
            metrics[spec.key] = builder.value(spec)
        elif spec.kind == "quantile":
            assert spec.measure is not None and spec.quantile is not None
            # What single facts would be aggregated to does not matter, only that they are numbers.
            numbers = {"aggregation": "sum"} if spec.quantile_of == "event" else {}
            column = _column(spec.key, spec.measure.model_copy(update=numbers), spec)
            quantiles.append(QuantileColumn(spec.key, column, spec.quantile, spec.quantile_of))
    return ColumnLayout(*builder.finish(metrics), tuple(quantiles))


class AgedMetric(NamedTuple):
    """A metric to follow over the `days` of its window; `column` is its column in the layout."""

    metric_key: str
    column: Column
    days: int


def aged(plan: AnalysisPlan) -> tuple[AgedMetric, ...]:
    """The metrics whose effect by days since exposure is looked at (METHODS E6), at most `MOST_AGED`.

    The North Star's metric and the primary metrics, where they are means of sums or counts over a closed window of 2 to
    28 whole days. None with clustered randomisation, where a day's mean is a ratio.
    """
    if plan.cluster is not None:
        return ()
    star = plan.north_star.spec.metric_key if plan.north_star is not None else None
    wanted = sorted(
        (metric for metric in plan.metrics if metric.metric_key == star or metric.role == Role.PRIMARY),
        key=lambda metric: metric.metric_key != star,
    )
    places = layout([metric.spec for metric in plan.metrics])
    found = []
    for spec in (metric.spec for metric in wanted):
        summed = spec.kind == "mean" and spec.measure is not None and spec.measure.aggregation in ("sum", "count")
        days = spec.window_days
        if summed and days is not None and days == int(days) and AGED_DAYS[0] <= days <= AGED_DAYS[1]:
            found.append(AgedMetric(spec.key, places.columns[places.metrics[spec.key].value], int(days)))
    return tuple(found[:MOST_AGED])


def company_specs(plan: AnalysisPlan) -> dict[str, MetricSpec]:
    """The North Star's metric as the company counts it, outcomes without caps, and those its formula depends on (E5).

    Empty without a North Star, and where it depends on a quantile, which is no function of totals.
    """
    known = {metric.metric_key: metric.spec for metric in plan.metrics}
    found: dict[str, MetricSpec] = {}
    left = deque([] if plan.north_star is None else [plan.north_star.spec.metric_key])
    while left:
        key = left.popleft()
        spec = known.get(key)
        if spec is None or spec.kind == "quantile":
            return {}
        if key not in found:
            found[key] = spec.model_copy(update={"pre_period_days": 0, "cap": None})
            left += parse(spec.formula).names if spec.formula is not None else ()
    return found


class ModelledMetric(NamedTuple):
    """A metric whose likelihood is about the values of single units; `column` is its column's place in the layout."""

    metric_key: str
    likelihood: str
    column: int


def modelled(plan: AnalysisPlan) -> tuple[ModelledMetric, ...]:
    """The metrics with a likelihood of their own (METHODS C2) that the plan is about: monitors are only watched.

    None without the Bayesian engine, and none in summaries, which know no single units.
    """
    if plan.estimation.engine == "frequentist" or plan.data == "summary":
        return ()
    places = layout([metric.spec for metric in plan.metrics]).metrics
    return tuple(
        ModelledMetric(metric.metric_key, metric.spec.likelihood, places[metric.metric_key].value)
        for metric in plan.metrics
        if metric.spec.likelihood != "lift" and metric.role is not Role.MONITOR
    )


def _cap_before(spec: MetricSpec) -> Cap | None:
    """The cap of a metric's covariates: their own quantile; a fixed value only if they are the metric's own measure."""
    if spec.cap is None or (spec.cap.value is not None and spec.covariate is not None):
        return None
    return spec.cap.model_copy(update={"basis": "pre_period"})


def _column(
    name: str,
    measure: Measure | None,
    spec: MetricSpec,
    *,
    pre: bool = False,
    content: Content = "value",
    cap: Cap | None = None,
) -> Column:
    return Column(
        name=name,
        measure=measure,
        period="pre" if pre else "outcome",
        window_days=spec.window_days,
        delay_days=spec.delay_days,
        pre_period_days=spec.pre_period_days,
        content=content,
        scale=spec.scale,
        cap=cap,
    )


class _Builder:
    """Places columns, each identity once."""

    def __init__(self) -> None:
        self._columns: list[Column] = []
        self._positions: dict[tuple[object, ...], int] = {}
        self._sources: dict[float, set[str]] = {}
        self._indicators: dict[float, int] = {}

    def value(self, spec: MetricSpec) -> MetricColumns:
        """A mean or a proportion."""
        assert spec.measure is not None
        kind: Literal["mean", "proportion"] = "mean" if spec.kind == "mean" else "proportion"
        content: Literal["value", "indicator"] = "value" if kind == "mean" else "indicator"
        value = self._place(_column(spec.key, spec.measure, spec, content=content, cap=spec.cap))
        uncapped: tuple[int, ...] = ()
        if spec.cap is not None:
            uncapped = (self._place(_column(f"{spec.key}.uncapped", spec.measure, spec)),)
        covariates: tuple[int, ...] = ()
        if spec.pre_period_days > 0:
            before = "value" if spec.covariate is not None else content
            measure = spec.covariate or spec.measure
            covariates = (
                self._place(
                    _column(
                        f"{spec.key}.pre",
                        measure,
                        spec,
                        pre=True,
                        content="indicator" if before == "indicator" else "value",
                        cap=_cap_before(spec),
                    )
                ),
            )
        return MetricColumns(
            spec.key, kind, value, None, covariates, self._no_history(spec, covariates), uncapped=uncapped
        )

    def ratio(self, spec: MetricSpec) -> MetricColumns:
        """A ratio of two totals per unit."""
        assert spec.numerator is not None and spec.denominator is not None
        parts = (("numerator", spec.numerator), ("denominator", spec.denominator))
        value, denominator = (
            self._place(_column(f"{spec.key}.{name}", measure, spec, cap=spec.cap)) for name, measure in parts
        )
        uncapped: tuple[int, ...] = ()
        if spec.cap is not None:
            uncapped = tuple(
                self._place(_column(f"{spec.key}.{name}.uncapped", measure, spec)) for name, measure in parts
            )
        covariates: tuple[int, ...] = ()
        if spec.pre_period_days > 0:
            covariates = tuple(
                self._place(_column(f"{spec.key}.{name}.pre", measure, spec, pre=True, cap=_cap_before(spec)))
                for name, measure in parts
            )
        return MetricColumns(
            spec.key, "ratio", value, denominator, covariates, self._no_history(spec, covariates), uncapped=uncapped
        )

    def survey(self, spec: MetricSpec) -> MetricColumns:
        """Mean answer: the sum of scores over the number of answers, per unit."""
        assert spec.measure is not None
        return MetricColumns(
            spec.key,
            "ratio",
            self._place(_column(f"{spec.key}.score", spec.measure, spec, content="score")),
            self._place(_column(f"{spec.key}.answers", spec.measure, spec, content="answers")),
            responded=self._place(_column(f"{spec.key}.responded", spec.measure, spec, content="responded")),
        )

    def finish(self, metrics: dict[str, MetricColumns]) -> tuple[tuple[Column, ...], dict[str, MetricColumns]]:
        """The columns, now that every source of every pre-period is known."""
        columns = list(self._columns)
        for days, position in self._indicators.items():
            columns[position] = replace(columns[position], sources=tuple(sorted(self._sources[days])))
        return tuple(columns), metrics

    def _no_history(self, spec: MetricSpec, covariates: tuple[int, ...]) -> int | None:
        """One indicator per length of pre-period, shared by all metrics."""
        if not covariates:
            return None
        days = spec.pre_period_days
        for position in covariates:
            measure = self._columns[position].measure
            assert measure is not None
            self._sources.setdefault(days, set()).add(measure.fact_source)
        if days not in self._indicators:
            self._indicators[days] = len(self._columns)
            self._columns.append(_column(f"no_history.{days:g}d", None, spec, pre=True, content="no_history"))
        return self._indicators[days]

    def _place(self, column: Column) -> int:
        assert column.measure is not None
        identity = (
            column.measure.model_dump_json(),
            column.period,
            column.pre_period_days if column.period == "pre" else (column.window_days, column.delay_days),
            column.content,
            column.scale if column.content == "score" else "",
            column.cap,
        )
        if identity not in self._positions:
            self._positions[identity] = len(self._columns)
            self._columns.append(column)
        return self._positions[identity]
