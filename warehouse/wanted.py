"""What a pass makes besides the moments of its columns, as far as the plan asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from experiments.columns import AgedMetric, Column, ColumnLayout, ModelledMetric, QuantileColumn, aged, modelled
from experiments.plan import AnalysisPlan


@dataclass(frozen=True, slots=True)
class Caps:
    """Caps of columns by position (METHODS A9), and why others that should have one cannot."""

    values: Mapping[int, float] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Quantile metrics, surveys (metric key to the columns of scores and answers), metrics to follow by age, and those

    whose units have a model.

    `level` is that of intervals. `caps` are the caps of all units; None where one bucket has all units, which then says
    what they are.
    """

    quantiles: tuple[QuantileColumn, ...] = ()
    surveys: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    ages: tuple[AgedMetric, ...] = ()
    modelled: tuple[ModelledMetric, ...] = ()
    level: float = 0.95
    caps: Caps | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """What has to be read for quantile metrics."""
        return tuple(metric.column for metric in self.quantiles)

    @property
    def width(self) -> int:
        """Numbers per unit that are held at a time besides the columns."""
        return len(self.quantiles) + 2 * max((metric.days for metric in self.ages), default=0)

    def with_caps(self, caps: Caps) -> "Wanted":
        return replace(self, caps=caps)


def wanted(layout: ColumnLayout, plan: AnalysisPlan | None = None) -> Wanted:
    """What the metrics of a layout need; curves by age only for the plan of an experiment."""
    surveys = {
        key: (where.value, where.denominator)
        for key, where in layout.metrics.items()
        if where.responded is not None and where.denominator is not None
    }
    if plan is None:
        return Wanted(layout.quantiles, surveys)
    return Wanted(layout.quantiles, surveys, aged(plan), modelled(plan), plan.estimation.ci_level)
