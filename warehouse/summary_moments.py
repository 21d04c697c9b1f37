"""Summary input to moments: joint ones where the covariances of all pairs were sent, else one block per metric."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import numpy as np

from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from stats.moments import Moments
from warehouse.joint_summaries import covariance_matrix


class SummaryRow(Protocol):
    """Cumulative moments of one metric in one variant, as `experiments.tables.Summary` keeps them."""

    metric_key: str
    variant_key: str
    as_of: datetime
    n: int
    mean: float
    variance: float
    covariances: Mapping[str, float] | None


def extract_summaries(plan: AnalysisPlan, summaries: Sequence[SummaryRow]) -> list[tuple[tuple[str, ...], MomentSet]]:
    """(metric keys, moments of their columns, named by them) of the planned metrics that have summaries, in order.

    One block with all of them where every variant has a covariance for every pair at every look; else one block per
    metric, whose looks are its own. A variant without a row at a look is as it was at its latest earlier row (summaries
    are cumulative), or empty before its first. Third moments are unknown and zero.
    """
    arms = {variant.key: i for i, variant in enumerate(plan.variants)}
    by_metric: dict[str, list[SummaryRow]] = {}
    for row in summaries:
        if row.variant_key in arms:
            by_metric.setdefault(row.metric_key, []).append(row)
    keys = tuple(metric.metric_key for metric in plan.metrics if metric.metric_key in by_metric)
    rows = [row for key in keys for row in by_metric[key]]
    joint = _moments(keys, rows, arms) if len(keys) > 1 else None
    if joint is not None:
        return [(keys, joint)]
    alone = (((key,), _moments((key,), by_metric[key], arms)) for key in keys)
    return [(key, moments) for key, moments in alone if moments is not None]


def _moments(keys: tuple[str, ...], rows: Sequence[SummaryRow], arms: dict[str, int]) -> MomentSet | None:
    """None where a variant has rows of some of the metrics at some look, but not all that makes them joint."""
    at = {look: i for i, look in enumerate(sorted({row.as_of for row in rows}))}
    groups: dict[tuple[datetime, str], dict[str, SummaryRow]] = {}
    for row in rows:
        groups.setdefault((row.as_of, row.variant_key), {})[row.metric_key] = row
    shape, k = (len(at), len(arms)), len(keys)
    count = np.zeros(shape, dtype=np.int64)
    mean, comoment = np.zeros((*shape, k)), np.zeros((*shape, k, k))
    for (as_of, variant), group in sorted(groups.items()):
        matrix = covariance_matrix(keys, group)
        if matrix is None:
            return None
        n = group[keys[0]].n
        cell = (slice(at[as_of], None), arms[variant])
        count[cell] = n
        mean[cell] = [group[key].mean for key in keys] if n > 0 else 0.0
        comoment[cell] = (n - 1) * matrix if n > 1 else 0.0
    return MomentSet(
        columns=keys,
        variants=tuple(arms),
        looks=tuple(at),
        overall=Moments(count, mean, comoment, np.zeros((*shape, k))),
        segments=(),
        by_segment=Moments.empty((0, len(arms)), k),
        exposures=count,
    )
