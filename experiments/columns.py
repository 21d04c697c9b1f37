"""Which per-unit columns a set of metrics needs: the one contract between plans, data engines and estimators.

A column is a measure in a period (the outcome window after exposure, or the pre-period before it). Metrics that share a
measure and a window share the column, so one pass over the facts serves them all and their covariance is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.definitions import Measure, MetricSpec


@dataclass(frozen=True, slots=True)
class Column:
    """One number per unit.

    `period="outcome"`: facts in [exposed_at + delay_days, exposed_at + delay_days + window_days), or until the look
    when `window_days` is None. `period="pre"`: facts in [exposed_at - pre_period_days, exposed_at). `indicator`: 1 if
    the aggregate is > 0, else 0 (proportions).
    """

    name: str
    measure: Measure
    period: Literal["outcome", "pre"]
    window_days: float | None
    delay_days: float
    pre_period_days: float
    indicator: bool


@dataclass(frozen=True, slots=True)
class MetricColumns:
    """Where a metric finds its columns: positions in `ColumnLayout.columns`.

    Mean and proportion: `value`, and `covariates` = (pre,). Ratio: `value` = numerator, `denominator`, and
    `covariates` = (numerator pre, denominator pre). `covariates` is empty without a pre-period.
    """

    metric_key: str
    kind: Literal["mean", "proportion", "ratio"]
    value: int
    denominator: int | None
    covariates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """All columns of a joint moment matrix and every metric's place in it. Formula metrics have no columns."""

    columns: tuple[Column, ...]
    metrics: dict[str, MetricColumns]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order; unique."""
        return tuple(column.name for column in self.columns)

    @property
    def longest_window_days(self) -> float | None:
        """Days until a unit's last closed window is complete; None when every window is open-ended."""
        closed = [
            c.delay_days + c.window_days for c in self.columns if c.period == "outcome" and c.window_days is not None
        ]
        return max(closed, default=None)


def layout(specs: Sequence[MetricSpec]) -> ColumnLayout:
    """The columns these metrics need, each once, in order of first use."""
    columns: list[Column] = []
    positions: dict[tuple[object, ...], int] = {}

    def place(name: str, measure: Measure, spec: MetricSpec, *, pre: bool) -> int:
        indicator = spec.kind == "proportion" and not (pre and spec.covariate is not None)
        identity = (
            measure.model_dump_json(),
            pre,
            spec.pre_period_days if pre else (spec.window_days, spec.delay_days),
            indicator,
        )
        if identity not in positions:
            positions[identity] = len(columns)
            columns.append(
                Column(
                    name=name,
                    measure=measure,
                    period="pre" if pre else "outcome",
                    window_days=spec.window_days,
                    delay_days=spec.delay_days,
                    pre_period_days=spec.pre_period_days,
                    indicator=indicator,
                )
            )
        return positions[identity]

    metrics: dict[str, MetricColumns] = {}
    for spec in specs:
        has_pre = spec.pre_period_days > 0
        if spec.kind == "ratio":
            assert spec.numerator is not None and spec.denominator is not None
            value = place(f"{spec.key}.numerator", spec.numerator, spec, pre=False)
            denominator = place(f"{spec.key}.denominator", spec.denominator, spec, pre=False)
            covariates: tuple[int, ...] = ()
            if has_pre:
                covariates = (
                    place(f"{spec.key}.numerator.pre", spec.numerator, spec, pre=True),
                    place(f"{spec.key}.denominator.pre", spec.denominator, spec, pre=True),
                )
            metrics[spec.key] = MetricColumns(spec.key, "ratio", value, denominator, covariates)
        elif spec.kind in ("mean", "proportion"):
            assert spec.measure is not None
            value = place(spec.key, spec.measure, spec, pre=False)
            covariates = (place(f"{spec.key}.pre", spec.covariate or spec.measure, spec, pre=True),) if has_pre else ()
            kind: Literal["mean", "proportion"] = "mean" if spec.kind == "mean" else "proportion"
            metrics[spec.key] = MetricColumns(spec.key, kind, value, None, covariates)
    return ColumnLayout(tuple(columns), metrics)
