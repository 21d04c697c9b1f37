"""Where each metric of a plan finds its columns in a block of moments, as the shapes the estimators take.

Formula metrics become functions of columns by the chain rule through the metrics they name (METHODS §1, E1), so their
variance carries every covariance between those metrics. With clustered randomisation the units of the moments are
clusters: a mean or proportion per unit is the ratio of the cluster's total to its size (METHODS A5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from experiments.columns import CLUSTER_SIZE, MetricColumns, layout
from experiments.definitions import MetricSpec
from experiments.evidence.contract import Block
from experiments.plan import AnalysisPlan, PlannedMetric
from stats.estimate import MetricShape
from stats.formula import Formula, parse
from stats.moment_set import MomentSet
from stats.moments import Floats

NO_DATA = "no_data"
NO_JOINT_MOMENTS = "no_joint_moments"
NO_QUANTILES = "no_quantile_of_summaries"


@dataclass(frozen=True, slots=True)
class BlockShapes:
    """The metrics of one block: definitions and shapes in step, and columns that must not be used (index to reason).

    Summaries carry no third moments, so their skewness is unknown rather than zero. A quantile metric has no moments:
    its shape is a placeholder without a value, and its position is in `quantiles`. By position of the metric:
    `uncapped` is a winsorised metric before its cap, `parts` are numerator and denominator per unit of a ratio.
    `responded` are response rates of surveys, `steps` the columns of a funnel's steps.
    `cluster_size` is the column of that name where units are clusters.
    """

    metrics: tuple[PlannedMetric, ...]
    shapes: tuple[MetricShape, ...]
    invalid: dict[int, str]
    third_moments: bool = True
    quantiles: tuple[int, ...] = ()
    uncapped: Mapping[int, MetricShape] = field(default_factory=dict)
    parts: Mapping[int, tuple[MetricShape, MetricShape]] = field(default_factory=dict)
    responded: Mapping[int, MetricShape] = field(default_factory=dict)
    steps: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    cluster_size: int | None = None

    def position(self, metric_key: str) -> int | None:
        """Index of a metric in this block."""
        return next((i for i, metric in enumerate(self.metrics) if metric.metric_key == metric_key), None)


def block_shapes(plan: AnalysisPlan, block: Block) -> BlockShapes:
    """Shapes of the block's metrics, in the plan's order. Raises `KeyError` for a column that was not extracted."""
    wanted = [metric for metric in plan.metrics if metric.metric_key in block.metric_keys]
    if plan.data == "summary":
        # A summary gives the mean and variance of one value per unit, whatever recipe produced that value.
        wanted = [metric for metric in wanted if metric.spec.kind != "quantile"]
        kinds: dict[bool, Literal["mean", "proportion"]] = {True: "proportion", False: "mean"}
        columns = [block.moments.column(metric.metric_key) for metric in wanted]
        shapes = tuple(
            MetricShape(m.metric_key, kinds[m.spec.estimated_as == "proportion"], value=column)
            for m, column in zip(wanted, columns, strict=True)
        )
        return BlockShapes(tuple(wanted), shapes, _refused(block.moments), third_moments=False)
    return joint_shapes(plan.metrics, wanted, block.moments)


def joint_shapes(metrics: Sequence[PlannedMetric], wanted: Sequence[PlannedMetric], moments: MomentSet) -> BlockShapes:
    """Shapes of the `wanted` among `metrics`, whose columns `experiments.columns.layout` put into `moments`.

    The moments are of clusters exactly if they have the column `CLUSTER_SIZE`.
    """
    specs = {metric.metric_key: metric.spec for metric in metrics}
    places = layout([metric.spec for metric in metrics])
    index = [moments.column(name) for name in places.names]
    size = moments.column(CLUSTER_SIZE) if CLUSTER_SIZE in moments.columns else None
    direct = {key: _direct(where, index, size) for key, where in places.metrics.items()}
    direct |= {quantile.metric_key: _valueless(quantile.metric_key) for quantile in places.quantiles}
    placed = [direct.get(m.metric_key) or formula_shape(m.spec, specs, direct) for m in wanted]
    positions = {metric.metric_key: position for position, metric in enumerate(wanted)}
    uncapped: dict[int, MetricShape] = {}
    parts: dict[int, tuple[MetricShape, MetricShape]] = {}
    responded: dict[int, MetricShape] = {}
    steps: dict[int, tuple[int, ...]] = {}
    for key, where in places.metrics.items():
        if key not in positions:
            continue
        shape, position = direct[key], positions[key]
        if where.uncapped:
            before = [index[column] for column in where.uncapped]
            bottom = before[1] if len(before) > 1 else shape.denominator
            uncapped[position] = replace(shape, value=before[0], denominator=bottom)
        if specs[key].estimated_as == "ratio" and where.denominator is not None and where.responded is None:
            parts[position] = _part(shape, shape.value, size), _part(shape, index[where.denominator], size)
        if where.responded is not None:
            responded[position] = _part(shape, index[where.responded], size)
        if where.steps:
            steps[position] = tuple(index[column] for column in where.steps)
    return BlockShapes(
        tuple(wanted),
        tuple(placed),
        _refused(moments),
        quantiles=tuple(i for i, metric in enumerate(wanted) if metric.spec.kind == "quantile"),
        uncapped=uncapped,
        parts=parts,
        responded=responded,
        steps=steps,
        cluster_size=size,
    )


def _direct(where: MetricColumns, index: Sequence[int], size: int | None) -> MetricShape:
    """The shape of a metric with columns of its own; per unit of the cluster where the units are clusters (A5).

    A cluster's mean before exposure is the ratio of its pre-period total to its size: both are covariates (A7).
    """
    covariates: tuple[int, ...] = tuple(index[column] for column in where.covariates)
    indicators: tuple[int, ...] = () if where.no_history is None else (index[where.no_history],)
    denominator = None if where.denominator is None else index[where.denominator]
    kind = where.kind
    if size is not None:
        if denominator is None:
            kind, denominator = "ratio", size
        covariates = (*covariates, size) if covariates else ()
    return MetricShape(
        where.metric_key,
        kind,
        value=index[where.value],
        denominator=denominator,
        covariates=covariates,
        indicators=indicators,
    )


def _part(shape: MetricShape, column: int, size: int | None) -> MetricShape:
    """One part of a ratio as a mean per unit, adjusted by the same covariates."""
    kind: Literal["mean", "ratio"] = "mean" if size is None else "ratio"
    return replace(shape, kind=kind, value=column, denominator=size)


def _valueless(key: str) -> MetricShape:
    """Holds the place of a metric that moments say nothing about."""

    def undefined(means: Floats) -> tuple[Floats, Floats]:
        return np.full(means.shape[:-1], np.nan), np.zeros(means.shape)

    return MetricShape(key, "formula", inputs=(0,), evaluate=undefined)


def _refused(moments: MomentSet) -> dict[int, str]:
    return {moments.column(name): reason for name, reason in moments.invalid.items()}


def formula_shape(spec: MetricSpec, specs: Mapping[str, MetricSpec], direct: Mapping[str, MetricShape]) -> MetricShape:
    """A formula over metrics as a formula over columns. Covariates are those of all metrics it depends on (A7)."""
    leaves = _leaves(spec, specs, direct, (spec.key,))
    columns = tuple(dict.fromkeys(column for leaf in leaves for column in leaf.columns))
    covariates = tuple(dict.fromkeys(column for leaf in leaves for column in leaf.covariates))
    indicators = tuple(dict.fromkeys(column for leaf in leaves for column in leaf.indicators))
    place = {column: position for position, column in enumerate(columns)}

    def of_metric(key: str, means: Floats) -> tuple[Floats, Floats]:
        shape = direct.get(key)
        if shape is None:
            return of_formula(_parsed(specs[key]), means)
        if shape.evaluate is not None:
            return shape.evaluate(means)
        gradient = np.zeros(means.shape)
        top = means[..., place[shape.value]]
        if shape.denominator is None:
            gradient[..., place[shape.value]] = 1.0
            return top, gradient
        bottom = means[..., place[shape.denominator]]
        gradient[..., place[shape.value]] += 1 / bottom
        gradient[..., place[shape.denominator]] -= top / bottom**2
        return top / bottom, gradient

    def of_formula(formula: Formula, means: Floats) -> tuple[Floats, Floats]:
        with np.errstate(all="ignore"):
            parts = {name: of_metric(name, means) for name in formula.names}
            value, slope = formula.value_and_gradient({name: part[0] for name, part in parts.items()})
            rows = np.stack([parts[name][1] for name in formula.names], axis=-2)
            return value, np.einsum("...n,...nc->...c", slope, rows)

    formula = _parsed(spec)
    return MetricShape(
        spec.key,
        "formula",
        covariates=covariates,
        indicators=indicators,
        inputs=columns,
        evaluate=lambda means: of_formula(formula, means),
    )


def _parsed(spec: MetricSpec) -> Formula:
    assert spec.formula is not None
    return parse(spec.formula)


def _leaves(
    spec: MetricSpec, specs: Mapping[str, MetricSpec], direct: Mapping[str, MetricShape], path: Sequence[str]
) -> list[MetricShape]:
    """Column-backed metrics below a formula. Raises `ValueError` when a formula depends on itself."""
    found: list[MetricShape] = []
    for name in _parsed(spec).names:
        if name in path:
            raise ValueError(f"the formula metric {name!r} depends on itself: {' -> '.join([*path, name])}")
        if name in direct:
            found.append(direct[name])
        else:
            found.extend(_leaves(specs[name], specs, direct, (*path, name)))
    return found


def absent(plan: AnalysisPlan, blocks: Sequence[BlockShapes]) -> dict[str, str]:
    """Metrics of the plan that no block serves, with the reason their rows carry."""
    served = {metric.metric_key for block in blocks for metric in block.metrics}
    cannot = {"formula": NO_JOINT_MOMENTS, "quantile": NO_QUANTILES} if plan.data == "summary" else {}
    return {
        metric.metric_key: cannot.get(metric.spec.kind, NO_DATA)
        for metric in plan.metrics
        if metric.metric_key not in served
    }
