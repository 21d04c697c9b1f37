"""Where each metric of a plan finds its columns in a block of moments, as the shapes the estimators take.

Formula metrics become functions of columns by the chain rule through the metrics they name (METHODS §1, E1), so their
variance carries every covariance between those metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.columns import layout
from experiments.definitions import MetricSpec
from experiments.evidence.contract import Block
from experiments.plan import AnalysisPlan, PlannedMetric
from stats.estimate import MetricShape
from stats.formula import Formula, parse
from stats.moment_set import MomentSet
from stats.moments import Floats

NO_DATA = "no_data"
NO_JOINT_MOMENTS = "no_joint_moments"


@dataclass(frozen=True, slots=True)
class BlockShapes:
    """The metrics of one block: definitions and shapes in step, and columns that must not be used (index to reason).

    Summaries carry no third moments, so their skewness is unknown rather than zero.
    """

    metrics: tuple[PlannedMetric, ...]
    shapes: tuple[MetricShape, ...]
    invalid: dict[int, str]
    third_moments: bool = True

    def position(self, metric_key: str) -> int | None:
        """Index of a metric in this block."""
        return next((i for i, metric in enumerate(self.metrics) if metric.metric_key == metric_key), None)


def block_shapes(plan: AnalysisPlan, block: Block) -> BlockShapes:
    """Shapes of the block's metrics, in the plan's order. Raises `KeyError` for a column that was not extracted."""
    wanted = [metric for metric in plan.metrics if metric.metric_key in block.metric_keys]
    if plan.data == "summary":
        # A summary gives the mean and variance of one value per unit, whatever recipe produced that value.
        kinds: dict[bool, Literal["mean", "proportion"]] = {True: "proportion", False: "mean"}
        shapes = tuple(MetricShape(m.metric_key, kinds[m.spec.kind == "proportion"], value=0) for m in wanted)
        return BlockShapes(tuple(wanted), shapes, _refused(block.moments), third_moments=False)
    return joint_shapes(plan.metrics, wanted, block.moments)


def joint_shapes(metrics: Sequence[PlannedMetric], wanted: Sequence[PlannedMetric], moments: MomentSet) -> BlockShapes:
    """Shapes of the `wanted` among `metrics`, whose columns `experiments.columns.layout` put into `moments`."""
    specs = {metric.metric_key: metric.spec for metric in metrics}
    places = layout([metric.spec for metric in metrics])
    index = [moments.column(name) for name in places.names]
    direct = {
        key: MetricShape(
            key,
            where.kind,
            value=index[where.value],
            denominator=None if where.denominator is None else index[where.denominator],
            covariates=tuple(index[c] for c in where.covariates),
            indicators=() if where.no_history is None else (index[where.no_history],),
        )
        for key, where in places.metrics.items()
    }
    shapes = tuple(direct.get(m.metric_key) or formula_shape(m.spec, specs, direct) for m in wanted)
    return BlockShapes(tuple(wanted), shapes, _refused(moments))


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
    return {
        metric.metric_key: NO_JOINT_MOMENTS if plan.data == "summary" and metric.spec.kind == "formula" else NO_DATA
        for metric in plan.metrics
        if metric.metric_key not in served
    }
