"""The answers of an engine as the parts of a pass."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stats.moments import Moments
from warehouse.answered_products import products_of
from warehouse.cells import OverLooks, join, reshape
from warehouse.clusters import FEW_CLUSTERS, ClusterTotals, cluster_totals
from warehouse.compile import lines
from warehouse.compile.clusters import LOOKS
from warehouse.engine_answers import Answer, caps_of, withheld
from warehouse.experiment_moments import Parts
from warehouse.hash_buckets import BUCKETS, BucketSums
from warehouse.populations import ANALYSED, ASSIGNED, EXPOSED, WITH_OUTCOME, WITHOUT_CLUSTER, Counts


class Snapshot(NamedTuple):
    """An earlier look: cells (V,) and (strata, V), and the columns withheld there."""

    overall: Moments
    by_stratum: Moments | None
    withheld: Mapping[int, str]


def snapshot_of(answer: Answer) -> Snapshot:
    """The cells at an earlier look, and columns withheld there."""
    return Snapshot(*_at_look(answer, answer.question.look), withheld(answer))


def _at_look(answer: Answer, look: int) -> tuple[Moments, Moments | None]:
    """Cells (V,) and (strata, V) of an answer with the totals, or all units, of a look."""
    strata = answer.question.work.strata
    size = 0 if strata is None else len(strata.names)
    given = {"dimension": LOOKS, "level": look} if answer.question.work.clustered else {}
    within = None if strata is None else answer.moments(["stratum"], (size,), given)
    return answer.moments([], (), given), within


def parts_of(answer: Answer, snapshots: Sequence[Snapshot] = ()) -> Parts:
    """The last look's answer, with the snapshots of the looks before where values change with the look."""
    work = answer.question.work
    overall, by_stratum = _over_looks(answer, snapshots)
    invalid: dict[int, str] = {}
    for snapshot in snapshots:
        invalid = {**snapshot.withheld, **invalid}
    caps = caps_of(answer)
    return Parts(
        overall,
        reshape(join(_by_segment(answer), answer.k), (sum(len(s.groups) for s in work.segments), answer.question.arms)),
        counts_of(answer),
        answer.crossover,
        {**invalid, **caps.refused, **withheld(answer)},
        products_of(answer, caps),
        by_stratum=by_stratum,
        buckets=_buckets(answer),
        clusters=_clusters(answer) if work.clustered else None,
    )


def _over_looks(answer: Answer, snapshots: Sequence[Snapshot]) -> tuple[OverLooks, OverLooks | None]:
    work = answer.question.work
    size, strata = len(work.looks), work.strata
    if work.clustered:
        own = [size - 1] if work.has_open_columns else range(size)
        at = [*((one.overall, one.by_stratum) for one in snapshots), *(_at_look(answer, look) for look in own)]
        within = tuple(found for _, found in at if found is not None)
        return OverLooks(None, tuple(found for found, _ in at)), OverLooks(None, within) if within else None
    overall = OverLooks(answer.moments(["entry"], (size,)), tuple(one.overall for one in snapshots))
    if strata is None:
        return overall, None
    entering = answer.moments(["entry", "stratum"], (size, len(strata.names)))
    within = tuple(one.by_stratum for one in snapshots if one.by_stratum is not None)
    return overall, OverLooks(entering, within)


def _by_segment(answer: Answer) -> list[Moments]:
    """Cells (groups, V) of each breakdown."""
    work = answer.question.work
    if work.clustered:
        return [
            answer.moments(["level"], (len(segment.groups),), {"dimension": i + 1})
            for i, segment in enumerate(work.segments)
        ]
    return [answer.moments([f"group_{i}"], (len(segment.groups),)) for i, segment in enumerate(work.segments)]


def _clusters(answer: Answer) -> ClusterTotals:
    if answer.units > FEW_CLUSTERS:
        return ClusterTotals(None)
    found = answer.of(lines.CLUSTERS)
    values = np.array([line.v for line in found], dtype=np.float64).reshape(len(found), answer.k)
    return cluster_totals(values, np.array([line.arm for line in found], dtype=np.int64))


def counts_of(answer: Answer) -> Counts:
    """How many units there are of what kind; none are analysed where nobody asked."""
    work, arms, size = answer.question.work, answer.question.arms, len(answer.question.work.looks)
    daily = np.zeros((size + 1, arms), dtype=np.int64)
    for line in answer.of(lines.EXPOSURES):
        daily[int(line.v[0]), line.arm] = line.n
    exposures = np.cumsum(daily[:size], axis=0)
    active = np.zeros(arms, dtype=np.int64)
    for line in answer.of(lines.POPULATIONS):
        active[line.arm] = int(line.v[0])
    named = {EXPOSED: exposures[-1], ANALYSED: answer.by_arm(lines.POPULATIONS), WITH_OUTCOME: active}
    if answer.question.plan.trigger is not None:
        named = {ASSIGNED: answer.by_arm(lines.ASSIGNED), **named}
    if work.clustered:
        named[WITHOUT_CLUSTER] = answer.by_arm(lines.ALONE)
    sizes = [len(segment.groups) for segment in work.segments]
    levels = [np.zeros((groups, arms), dtype=np.int64) for groups in sizes]
    for line in answer.of(lines.EXPOSED_BY_GROUP):
        (at,) = np.flatnonzero(line.v != -1)
        levels[at][int(line.v[at]), line.arm] = line.n
    by_segment = np.concatenate(levels) if levels else np.zeros((0, arms), dtype=np.int64)
    return Counts(exposures, named, by_segment)


def _buckets(answer: Answer) -> BucketSums:
    arms = answer.question.arms
    count = np.zeros((BUCKETS, arms), dtype=np.int64)
    sums = np.zeros((BUCKETS, arms, answer.k))
    for line in answer.of(lines.BUCKETS):
        at = (int(line.v[0]), line.arm)
        count[at], sums[at] = line.n, line.v[1:]
    return BucketSums(count, sums)
