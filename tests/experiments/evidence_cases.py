"""Plans and moments for tests of the evidence: from unit rows, as a data engine would deliver them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from experiments.columns import CLUSTER_SIZE, layout
from experiments.definitions import Estimation, InputMetric, Measure, MetricSpec, NorthStarSpec, Role, Variant
from experiments.evidence import Block, Draft, EvidenceContext, build
from experiments.plan import AnalysisPlan, PlannedMetric, PlannedNorthStar
from experiments.result import ExperimentResult, Row
from experiments.types import canonical_json
from stats.moment_set import ClusterTable, MomentSet, QuantileCells
from stats.moments import Moments
from stats.quantile import summarise

START = datetime(2026, 1, 5, tzinfo=UTC)
END = START + timedelta(days=28)


def column(name: str) -> Measure:
    return Measure(fact_source="facts", aggregation="sum", column=name)


def spec(key: str, kind: str = "mean", *, pre_period_days: float = 0, **extra: Any) -> MetricSpec:
    """A metric whose columns are named after it: `key`, or `key.numerator` and `key.denominator`."""
    recipe: dict[str, Any] = {}
    if kind == "ratio":
        recipe = {"numerator": column(f"{key}_n"), "denominator": column(f"{key}_d")}
    elif kind not in ("formula", "funnel"):
        recipe = {"measure": column(key)}
    return MetricSpec.model_validate(
        {"key": key, "name": key, "kind": kind, "pre_period_days": pre_period_days} | recipe | extra
    )


def planned(spec: MetricSpec, role: str = "secondary", **extra: Any) -> PlannedMetric:
    use = {"mde": None, "non_inferiority_margin": None, "direction": spec.direction} | extra
    return PlannedMetric(metric_key=spec.key, version=1, role=Role(role), spec=spec, **use)


def variants(count: int = 2, weights: Sequence[float] | None = None) -> list[Variant]:
    shares = list(weights or [1 / count] * count)
    return [
        Variant(key="control" if i == 0 else f"v{i}", weight=share, is_control=i == 0) for i, share in enumerate(shares)
    ]


def plan_of(metrics: Sequence[PlannedMetric], arms: Sequence[Variant] | None = None, **extra: Any) -> AnalysisPlan:
    fields: dict[str, Any] = {
        "experiment_key": "checkout",
        "unit_type": "user",
        "data": "events",
        "variants": list(arms or variants()),
        "metrics": list(metrics),
        "fact_sources": [],
        "north_star": None,
        "segments": [],
        "planned_units": None,
        "planned_end_at": END,
        "estimation": Estimation(cuped=False),
    }
    return AnalysisPlan(**(fields | extra))


def north_star(metric_key: str, formula: str, inputs: Sequence[str], edge: str = "definitional") -> PlannedNorthStar:
    items = [InputMetric.model_validate({"metric_key": key, "edge": edge}) for key in inputs]
    spec = NorthStarSpec(key="star", name="Star", metric_key=metric_key, formula=formula, input_metrics=items)
    return PlannedNorthStar(version=1, spec=spec)


def columns_of(plan: AnalysisPlan) -> tuple[str, ...]:
    names = layout([metric.spec for metric in plan.metrics]).names
    return (*names, CLUSTER_SIZE) if plan.cluster else names


def with_history(names: Sequence[str], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values with a column of zeros wherever `names` has an indicator of units without history."""
    if values.shape[1] == len(names):
        return values
    full, given = np.zeros((len(values), len(names))), iter(values.T)
    for position, name in enumerate(names):
        if not name.startswith("no_history."):
            full[:, position] = next(given)
    return full


def moment_set(
    plan: AnalysisPlan,
    values: ArrayLike,
    arm: ArrayLike,
    *,
    look: ArrayLike | None = None,
    segment: ArrayLike | None = None,
    stratum: ArrayLike | None = None,
    dimension: str = "country",
    columns: Sequence[str] | None = None,
    **extra: Any,
) -> MomentSet:
    """Moments of rows: `values` (n, k); `arm`, `look` of its entry, `segment` and `stratum` of each are (n,).

    Where `values` lack the indicators of units without history, every unit has one.
    """
    names = tuple(columns or columns_of(plan))
    rows, where = with_history(names, np.asarray(values, dtype=np.float64)), np.asarray(arm, dtype=np.int64)
    arms, entered = len(plan.variants), np.zeros(len(rows), np.int64) if look is None else np.asarray(look)
    looks = int(entered.max(initial=0)) + 1
    if not rows.shape[1]:
        rows, names = np.zeros((len(rows), 1)), ("nothing",)
    fresh = Moments.from_rows(rows, entered * arms + where, (looks, arms))
    seen = [fresh[: i + 1].merge_axis(0) for i in range(looks)]
    overall = Moments(*(np.stack([getattr(m, f) for m in seen]) for f in ("count", "mean", "comoment", "third")))
    levels = 0 if segment is None else int(np.asarray(segment).max()) + 1
    by_segment = (
        Moments.empty((0, arms), rows.shape[1])
        if segment is None
        else Moments.from_rows(rows, np.asarray(segment) * arms + where, (levels, arms))
    )
    strata: dict[str, Any] = {}
    if stratum is not None:
        groups = int(np.asarray(stratum).max()) + 1
        cell = (entered * groups + np.asarray(stratum)) * arms + where
        each = Moments.from_rows(rows, cell, (looks, groups, arms))
        so_far = [each[: i + 1].merge_axis(0) for i in range(looks)]
        by_stratum = Moments(
            *(np.stack([getattr(m, f) for m in so_far]) for f in ("count", "mean", "comoment", "third"))
        )
        strata = {"strata": tuple(f"g{i}" for i in range(groups)), "by_stratum": by_stratum}
    fields: dict[str, Any] = strata | {
        "columns": names,
        "variants": tuple(variant.key for variant in plan.variants),
        "looks": tuple(END - timedelta(days=looks - 1 - i) for i in range(looks)),
        "overall": overall,
        "segments": tuple((dimension, f"s{i}") for i in range(levels)),
        "by_segment": by_segment,
        "exposures": overall.count,
    }
    return MomentSet(**(fields | extra))


def cluster_set(
    plan: AnalysisPlan,
    values: ArrayLike,
    cluster: ArrayLike,
    arm: ArrayLike,
    *,
    look: ArrayLike | None = None,
    segment: ArrayLike | None = None,
    **extra: Any,
) -> MomentSet:
    """Moments of clusters from unit rows: `values` (n, k), each with the `cluster` it belongs to, `arm` (G,) of those.

    A unit enters at its `look` (n,); in a segment, a cluster is its units of that level.
    """
    names, arms, of = columns_of(plan), len(plan.variants), np.asarray(arm, dtype=np.int64)
    rows = with_history(names[:-1], np.asarray(values, dtype=np.float64))
    where, groups = np.asarray(cluster, dtype=np.int64), len(of)
    entered = np.zeros(len(rows), np.int64) if look is None else np.asarray(look)
    level = np.zeros(len(rows), np.int64) if segment is None else np.asarray(segment)

    def totals(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        columns = [np.bincount(where[chosen], weights=column[chosen], minlength=groups) for column in rows.T]
        return np.column_stack([*columns, np.bincount(where[chosen], minlength=groups)])

    def moments(chosen: NDArray[np.bool_]) -> Moments:
        found = totals(chosen)
        there = found[:, -1] > 0
        return Moments.from_rows(found[there], of[there], (arms,))

    def stacked(parts: Sequence[Moments]) -> Moments:
        if not parts:
            return Moments.empty((0, arms), len(names))
        return Moments(*(np.stack([getattr(m, f) for m in parts]) for f in ("count", "mean", "comoment", "third")))

    looks, levels = int(entered.max(initial=0)) + 1, 0 if segment is None else int(level.max()) + 1
    overall = stacked([moments(entered <= i) for i in range(looks)])
    final = totals(entered >= 0)
    there = final[:, -1] > 0
    fields: dict[str, Any] = {
        "columns": names,
        "variants": tuple(variant.key for variant in plan.variants),
        "looks": tuple(END - timedelta(days=looks - 1 - i) for i in range(looks)),
        "overall": overall,
        "segments": tuple(("country", f"s{i}") for i in range(levels)),
        "by_segment": stacked([moments(level == i) for i in range(levels)]),
        "exposures": overall.count,
        "clusters": ClusterTable(final[there], of[there]),
    }
    return MomentSet(**(fields | extra))


def quantile_cells(
    probability: float,
    values: ArrayLike,
    unit: ArrayLike,
    arm: ArrayLike,
    *,
    arms: int = 2,
    look: ArrayLike | None = None,
    segment: ArrayLike | None = None,
) -> QuantileCells:
    """Quantile summaries of events: `values` (n,), each with its `unit`, and that one's `arm`, `look` and `segment`."""
    x, who, where = np.asarray(values, dtype=np.float64), np.asarray(unit), np.asarray(arm, dtype=np.int64)
    entered = np.zeros(len(x), dtype=np.int64) if look is None else np.asarray(look)
    looks = int(entered.max(initial=0)) + 1
    again = [(entered <= i).nonzero()[0] for i in range(looks)]
    pick = np.concatenate(again)
    cell = np.repeat(np.arange(looks), [len(a) for a in again]) * arms + where[pick]
    levels = 0 if segment is None else int(np.asarray(segment).max()) + 1
    level_cell = np.full(len(x), -1) if segment is None else np.asarray(segment) * arms + where
    return QuantileCells(
        summarise(x[pick], who[pick], cell, (looks, arms), probability),
        summarise(x, who, level_cell, (levels, arms), probability),
    )


def context(**extra: Any) -> EvidenceContext:
    fields: dict[str, Any] = {
        "analysis_id": "a1",
        "data_as_of": END + timedelta(days=7),
        "seed": 7,
        "code_version": "test",
        "plan_hash": "0" * 64,
        "started_at": START,
        "stopped_at": END,
    }
    return EvidenceContext(**(fields | extra))


def draft(plan: AnalysisPlan, moments: MomentSet, **extra: Any) -> Draft:
    return build(plan, [Block(tuple(m.metric_key for m in plan.metrics), moments)], context(**extra))


def document(plan: AnalysisPlan, moments: MomentSet, **extra: Any) -> ExperimentResult:
    """The result, after the round trip through canonical JSON that storing it makes."""
    result = draft(plan, moments, **extra).finish()
    return ExperimentResult.model_validate_json(canonical_json(result.model_dump(mode="json")))


def summary_blocks(
    plan: AnalysisPlan, snapshots: dict[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]
) -> list[Block]:
    """One block per metric from cumulative (n, mean, variance), each (looks, V)."""
    blocks = []
    for key, (n, mean, variance) in snapshots.items():
        count = np.asarray(n, dtype=np.int64)
        co = (np.maximum(count - 1, 0) * np.asarray(variance, float))[..., None, None]
        overall = Moments(count, np.asarray(mean, float)[..., None], co, np.zeros((*count.shape, 1)))
        empty = Moments.empty((0, count.shape[1]), 1)
        looks = tuple(END - timedelta(hours=len(count) - 1 - i) for i in range(len(count)))
        names = tuple(variant.key for variant in plan.variants)
        blocks.append(Block((key,), MomentSet((key,), names, looks, overall, (), empty, count)))
    return blocks


def row_of(result: ExperimentResult, metric: str, variant: str = "v1", segment: str | None = None) -> Row:
    return next(
        row for row in result.rows if (row.metric_key, row.variant_key, row.segment) == (metric, variant, segment)
    )


def check_of(result: ExperimentResult, name: str) -> str:
    return next(check.status for check in result.checks if check.name == name)
