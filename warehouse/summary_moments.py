"""Summary input to moments: one block per metric, without products between metrics, because nobody sent them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import numpy as np

from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from stats.moments import Moments


class SummaryRow(Protocol):
    """Cumulative n, mean and variance of one metric in one variant, as `experiments.tables.Summary` keeps them."""

    metric_key: str
    variant_key: str
    as_of: datetime
    n: int
    mean: float
    variance: float


def extract_summaries(plan: AnalysisPlan, summaries: Sequence[SummaryRow]) -> list[tuple[str, MomentSet]]:
    """(metric key, moments of its one column) for every planned metric that has summaries, in the plan's order.

    A metric's looks are its distinct times. A variant without a row at a look is as it was at its latest earlier row
    (summaries are cumulative), or empty before its first. Third moments are unknown and zero.
    """
    arms = {variant.key: i for i, variant in enumerate(plan.variants)}
    by_metric: dict[str, list[SummaryRow]] = {}
    for row in summaries:
        if row.variant_key in arms:
            by_metric.setdefault(row.metric_key, []).append(row)
    return [
        (metric.metric_key, _moments(metric.metric_key, by_metric[metric.metric_key], arms))
        for metric in plan.metrics
        if metric.metric_key in by_metric
    ]


def _moments(metric_key: str, rows: Sequence[SummaryRow], arms: dict[str, int]) -> MomentSet:
    looks = tuple(sorted({row.as_of for row in rows}))
    at = {look: i for i, look in enumerate(looks)}
    shape = (len(looks), len(arms))
    count = np.zeros(shape, dtype=np.int64)
    mean, comoment = np.zeros((*shape, 1)), np.zeros((*shape, 1, 1))
    for row in sorted(rows, key=lambda item: item.as_of):
        cell = (slice(at[row.as_of], None), arms[row.variant_key])
        count[cell] = row.n
        mean[cell] = row.mean if row.n > 0 else 0.0
        comoment[cell] = (row.n - 1) * row.variance if row.n > 1 else 0.0
    overall = Moments(count, mean, comoment, np.zeros((*shape, 1)))
    return MomentSet(
        columns=(metric_key,),
        variants=tuple(arms),
        looks=looks,
        overall=overall,
        segments=(),
        by_segment=Moments.empty((0, len(arms)), 1),
        exposures=count,
    )
