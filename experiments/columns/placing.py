"""From metrics to columns: each column once, and every metric's place among them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, assert_never

from experiments.columns.column import Column, ColumnLayout, Content, MetricColumns, QuantileColumn
from experiments.definitions import Cap, FunnelStep, Measure, MetricSpec


def layout(specs: Sequence[MetricSpec]) -> ColumnLayout:
    """The columns these metrics need, each once, in order of first use; metrics without a measure have none."""
    builder = _Builder()
    metrics: dict[str, MetricColumns] = {}
    quantiles: list[QuantileColumn] = []
    for spec in specs:
        match spec.kind:
            case "mean" | "proportion":
                metrics[spec.key] = builder.value(spec)
            case "ratio":
                metrics[spec.key] = builder.ratio(spec)
            case "survey":
                metrics[spec.key] = builder.survey(spec)
            case "retention":
                metrics[spec.key] = builder.retention(spec)
            case "funnel":
                metrics[spec.key] = builder.funnel(spec)
            case "participation":
                metrics[spec.key] = builder.participation(spec)
            case "quantile":
                assert spec.measure is not None and spec.quantile is not None
                # What single facts would be aggregated to does not matter, only that they are numbers.
                numbers = {"aggregation": "sum"} if spec.quantile_of == "event" else {}
                column = _column(spec.key, spec.measure.model_copy(update=numbers), spec)
                quantiles.append(QuantileColumn(spec.key, column, spec.quantile, spec.quantile_of))
            case "formula":
                pass
            case _:
                assert_never(spec.kind)
    return ColumnLayout(*builder.finish(metrics), tuple(quantiles))


def _cap_before(spec: MetricSpec, *, own: bool) -> Cap | None:
    """The cap of a metric's covariates: their own quantile; a fixed value only if they are the metric's own measure."""
    if spec.cap is None or (spec.cap.value is not None and not own):
        return None
    return spec.cap.model_copy(update={"basis": "pre_period"})


def _happened(measure: Measure) -> Measure:
    """Whether there was such a fact, whatever else the measure would make of it."""
    return Measure(fact_source=measure.fact_source, aggregation="any", filters=measure.filters)


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
        before = _column(
            f"{spec.key}.pre",
            spec.covariate or spec.measure,
            spec,
            pre=True,
            content=content if spec.covariate is None else "value",
            cap=_cap_before(spec, own=spec.covariate is None),
        )
        return self._metric(spec, kind, value, None, [before], uncapped)

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
        before = [
            _column(f"{spec.key}.{name}.pre", measure, spec, pre=True, cap=_cap_before(spec, own=True))
            for name, measure in parts
        ]
        return self._metric(spec, "ratio", value, denominator, before, uncapped)

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

    def retention(self, spec: MetricSpec) -> MetricColumns:
        """Who comes back: of all units, or with `start` of those who started. Before exposure: who was active."""
        assert spec.measure is not None and spec.window_days is not None
        activity = _happened(spec.measure)
        if spec.start is None:
            value = self._place(_column(spec.key, activity, spec, content="indicator"))
            before = _column(f"{spec.key}.pre", activity, spec, pre=True, content="indicator")
            return self._metric(spec, "proportion", value, None, [before])
        start = _happened(spec.start)
        returned = _column(f"{spec.key}.returned", activity, spec, content="returned")
        started = _column(f"{spec.key}.started", start, spec, content="indicator")
        value = self._place(replace(returned, start=start, start_within_days=spec.start_within_days))
        denominator = self._place(replace(started, delay_days=0.0, window_days=spec.start_within_days))
        parts = (("returned", activity), ("started", start))
        pre = [_column(f"{spec.key}.{name}.pre", part, spec, pre=True, content="indicator") for name, part in parts]
        return self._metric(spec, "ratio", value, denominator, pre)

    def funnel(self, spec: MetricSpec) -> MetricColumns:
        """Who gets to the last step: of all units, or of those who took the first. Before exposure: the same.

        The steps on the way have columns too, but no history: it is who gets to the end that a metric adjusts.
        """
        steps = tuple(FunnelStep(measure=_happened(s.measure), within_days=s.within_days) for s in spec.steps)

        def reached(name: str, step: int, *, pre: bool) -> Column:
            column = _column(name, None, spec, pre=pre, content="step")
            return replace(column, steps=steps[:step], step=step)

        whole = len(steps)
        of_units = spec.funnel_of == "units"
        value = self._place(reached(spec.key if of_units else f"{spec.key}.completed", whole, pre=False))
        entered = self._place(reached(f"{spec.key}.entered", 1, pre=False))
        between = [self._place(reached(f"{spec.key}.step{step}", step, pre=False)) for step in range(2, whole)]
        if of_units:
            before = [reached(f"{spec.key}.pre", whole, pre=True)]
            found = self._metric(spec, "proportion", value, None, before)
        else:
            parts = (("completed", whole), ("entered", 1))
            before = [reached(f"{spec.key}.{name}.pre", step, pre=True) for name, step in parts]
            found = self._metric(spec, "ratio", value, entered, before)
        return replace(found, steps=(entered, *between, value))

    def participation(self, spec: MetricSpec) -> MetricColumns:
        """The share of days with such a fact, in the window and before exposure."""
        assert spec.measure is not None
        activity = _happened(spec.measure)
        value = self._place(_column(spec.key, activity, spec, content="days_share"))
        before = _column(f"{spec.key}.pre", activity, spec, pre=True, content="days_share")
        return self._metric(spec, "mean", value, None, [before])

    def finish(self, metrics: dict[str, MetricColumns]) -> tuple[tuple[Column, ...], dict[str, MetricColumns]]:
        """The columns, now that every source of every pre-period is known."""
        columns = list(self._columns)
        for days, position in self._indicators.items():
            columns[position] = replace(columns[position], sources=tuple(sorted(self._sources[days])))
        return tuple(columns), metrics

    def _metric(
        self,
        spec: MetricSpec,
        kind: Literal["mean", "proportion", "ratio"],
        value: int,
        denominator: int | None,
        before: Iterable[Column],
        uncapped: tuple[int, ...] = (),
    ) -> MetricColumns:
        """A metric with its covariates: what the metric was `before`, then those that it names, each once."""
        covariates: tuple[int, ...] = ()
        if spec.pre_period_days > 0:
            cap = _cap_before(spec, own=False)
            named = [
                _column(f"{spec.key}.covariate{i}", measure, spec, pre=True, cap=cap)
                for i, measure in enumerate(spec.covariates, 1)
            ]
            covariates = tuple(dict.fromkeys(self._place(column) for column in (*before, *named)))
        no_history = self._no_history(spec, covariates)
        return MetricColumns(spec.key, kind, value, denominator, covariates, no_history, uncapped=uncapped)

    def _no_history(self, spec: MetricSpec, covariates: tuple[int, ...]) -> int | None:
        """One indicator per length of pre-period, shared by all metrics."""
        if not covariates:
            return None
        days = spec.pre_period_days
        sources = self._sources.setdefault(days, set())
        for column in (self._columns[position] for position in covariates):
            sources.update(read.measure.fact_source for read in column.reads if read.measure is not None)
        if days not in self._indicators:
            self._indicators[days] = len(self._columns)
            self._columns.append(_column(f"no_history.{days:g}d", None, spec, pre=True, content="no_history"))
        return self._indicators[days]

    def _place(self, column: Column) -> int:
        identity = (
            column.measure.model_dump_json() if column.measure is not None else "",
            column.period,
            column.pre_period_days if column.period == "pre" else (column.window_days, column.delay_days),
            column.content,
            column.scale if column.content == "score" else "",
            column.cap,
            column.start.model_dump_json() if column.start is not None else "",
            column.start_within_days,
            tuple(step.model_dump_json() for step in column.steps),
        )
        if identity not in self._positions:
            self._positions[identity] = len(self._columns)
            self._columns.append(column)
        return self._positions[identity]
