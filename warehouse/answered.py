"""The lines of a compiled statement (`warehouse.compile.lines`) as the parts of a pass."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from stats.moments import Bools, Floats, Ints, Moments
from warehouse.answers import INVALID_ANSWERS, Respondents
from warehouse.caps import CAP_IS_ZERO
from warehouse.cells import OverLooks, join, reshape
from warehouse.clusters import FEW_CLUSTERS, ClusterTotals, cluster_totals
from warehouse.compile import lines
from warehouse.compile.asked import Asked
from warehouse.compile.capping import capped, known_cap
from warehouse.compile.clusters import LOOKS, total_keys
from warehouse.compile.question import Question
from warehouse.compile.values import REFUSED_ANSWER
from warehouse.engines.capabilities import QUANTILE_NOT_COMPILED
from warehouse.engines.contract import Table
from warehouse.experiment_moments import Parts
from warehouse.hash_buckets import BUCKETS, BucketSums
from warehouse.likelihoods import UnitParts, parts_of_values
from warehouse.populations import ANALYSED, ASSIGNED, EXPOSED, WITH_OUTCOME, WITHOUT_CLUSTER, Counts
from warehouse.products import Products
from warehouse.quantiles import Groups, Rows
from warehouse.values import NON_FINITE
from warehouse.wanted import Caps

_ROUNDING: Final = 1e-15
"""Of a sum of squares, relative, for each digit that a sum of n numbers may lose."""


class Line(NamedTuple):
    """A line: the arm, how many units, and its numbers."""

    arm: int
    n: int
    v: Floats


class Snapshot(NamedTuple):
    """An earlier look: cells (V,) and (strata, V), and the columns withheld there."""

    overall: Moments
    by_stratum: Moments | None
    withheld: Mapping[int, str]


class Answer:
    """What an engine said to a question."""

    def __init__(self, question: Question, asked: Asked, result: Table) -> None:
        self.question = question
        self.asked = asked
        self._lines: dict[int, list[Line]] = {}
        for part, arm, n, v in zip(result["part"], result["arm"], result["n"], result["v"], strict=True):
            numbers = np.array([np.nan if one is None else one for one in _sequence(v)], dtype=np.float64)
            self._lines.setdefault(int(part), []).append(Line(int(arm), int(n), numbers))

    def of(self, part: int) -> list[Line]:
        return self._lines.get(part, [])

    @property
    def k(self) -> int:
        return lines.width(self.question, self.asked)

    @cached_property
    def summary(self) -> tuple[dict[int, int], dict[int, float], Floats]:
        """Why columns of numbers are withheld, caps at quantiles (NaN: none), centres (k,)."""
        (line,) = self.of(lines.SUMMARY)
        values = iter(line.v.tolist())
        bad = {i: 0 if (found := next(values)) != found else int(found) for i in self.asked.numeric}
        caps = {i: next(values) for i in self.asked.base}
        return bad, caps, np.nan_to_num(np.array([next(values) for _ in range(self.k)], dtype=np.float64))

    @property
    def units(self) -> int:
        """How many units count."""
        return self.of(lines.SUMMARY)[0].n

    def moments(
        self,
        keys: Sequence[str],
        wanted: Sequence[str],
        cells: tuple[int, ...],
        given: Mapping[str, int] = MappingProxyType({}),
    ) -> Moments:
        """Cells (..., V) of the lines that are grouped by the `wanted` of the `keys`, others being as `given`."""
        k, arms = self.k, self.question.arms
        chosen = [keys.index(key) for key in wanted]
        others = [(i, given.get(key, -1)) for i, key in enumerate(keys) if i not in chosen]
        shape = (*cells, arms)
        count = np.zeros(shape, dtype=np.int64)
        sums, cubes, products = np.zeros((*shape, k)), np.zeros((*shape, k)), np.zeros((*shape, k, k))
        upper = np.triu_indices(k)
        for line in self.of(lines.MOMENTS):
            at = line.v[: len(keys)]
            if any(at[i] != value for i, value in others) or any(at[i] == -1 for i in chosen):
                continue
            cell = (*(int(at[i]) for i in chosen), line.arm)
            numbers = line.v[len(keys) :]
            count[cell] = line.n
            sums[cell], cubes[cell] = numbers[:k], numbers[k : 2 * k]
            products[cell][upper] = numbers[2 * k :]
        below = np.tril_indices(k, -1)
        products[..., below[0], below[1]] = products[..., below[1], below[0]]
        return _without_noise(Moments.from_shifted_sums(count, self.summary[2], sums, products, cubes), products)

    def by_arm(self, part: int) -> Ints:
        """(V,) units."""
        found = np.zeros(self.question.arms, dtype=np.int64)
        for line in self.of(part):
            found[line.arm] += line.n
        return found


def _without_noise(moments: Moments, products: Floats) -> Moments:
    """Exactly no spread where all units of a cell have one value: what is left of the sums then is their rounding."""
    squares = np.diagonal(products, axis1=-2, axis2=-1)
    left = np.diagonal(moments.comoment, axis1=-2, axis2=-1)
    n = moments.count[..., None]
    noise: Bools = (n <= 1) | (left <= _ROUNDING * np.sqrt(n) * squares)
    spread = ~noise
    return Moments(
        moments.count,
        moments.mean,
        np.where(spread[..., :, None] & spread[..., None, :], moments.comoment, 0.0),
        np.where(spread, moments.third, 0.0),
    )


def _sequence(value: object) -> Sequence[float | None]:
    """Whatever an engine gives for an array."""
    if isinstance(value, np.ma.MaskedArray):
        found: list[float | None] = value.tolist()
        return found
    if isinstance(value, np.ndarray):
        plain: list[float | None] = value.tolist()
        return plain
    assert isinstance(value, list | tuple)
    return value


def caps_of(answer: Answer) -> Caps:
    """The caps that were applied, and why others could not be (as `caps.caps_from`)."""
    work = answer.question.work
    bad, quantiles, _ = answer.summary
    values: dict[int, float] = {}
    refused: dict[int, str] = {}
    for i in range(answer.asked.k):
        fixed = known_cap(answer.question, i)
        if fixed is not None:
            values[i] = fixed
        elif i in answer.asked.base and answer.units:
            if np.isfinite(quantiles[i]):
                values[i] = quantiles[i]
            elif work.columns[i].period == "outcome":
                base = answer.asked.base[i]
                refused[i] = NON_FINITE if bad.get(base) else CAP_IS_ZERO
    return Caps(values, refused)


def snapshot_of(answer: Answer) -> Snapshot:
    """The cells at an earlier look, and columns withheld there."""
    return Snapshot(*_at_look(answer, answer.question.look), _withheld(answer))


def _at_look(answer: Answer, look: int) -> tuple[Moments, Moments | None]:
    """Cells (V,) and (strata, V) of an answer with the totals, or all units, of a look."""
    strata = answer.question.work.strata
    size = 0 if strata is None else len(strata.names)
    if answer.question.work.clustered:
        keys, given = total_keys(answer.question), {"dimension": LOOKS, "level": look}
    else:
        keys, given = tuple(lines.moment_keys(answer.question)[0]), {}
    within = None if strata is None else answer.moments(keys, ["stratum"], (size,), given)
    return answer.moments(keys, [], (), given), within


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
        _counts(answer),
        answer.of(lines.CROSSED)[0].n,
        {**invalid, **caps.refused, **_withheld(answer)},
        _products(answer, caps),
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
    keys, _ = lines.moment_keys(answer.question)
    overall = OverLooks(answer.moments(keys, ["entry"], (size,)), tuple(one.overall for one in snapshots))
    if strata is None:
        return overall, None
    entering = answer.moments(keys, ["entry", "stratum"], (size, len(strata.names)))
    within = tuple(one.by_stratum for one in snapshots if one.by_stratum is not None)
    return overall, OverLooks(entering, within)


def _by_segment(answer: Answer) -> list[Moments]:
    """Cells (groups, V) of each breakdown."""
    work = answer.question.work
    if work.clustered:
        return [
            answer.moments(total_keys(answer.question), ["level"], (len(segment.groups),), {"dimension": i + 1})
            for i, segment in enumerate(work.segments)
        ]
    keys, _ = lines.moment_keys(answer.question)
    return [answer.moments(keys, [f"group_{i}"], (len(segment.groups),)) for i, segment in enumerate(work.segments)]


def _clusters(answer: Answer) -> ClusterTotals:
    if answer.units > FEW_CLUSTERS:
        return ClusterTotals(None)
    found = answer.of(lines.CLUSTERS)
    values = np.array([line.v for line in found], dtype=np.float64).reshape(len(found), answer.k)
    return cluster_totals(values, np.array([line.arm for line in found], dtype=np.int64))


def _withheld(answer: Answer) -> dict[int, str]:
    bad, _, _ = answer.summary
    reasons = {i: NON_FINITE if why != REFUSED_ANSWER else INVALID_ANSWERS for i, why in bad.items() if why}
    return {i: reason for i, reason in reasons.items() if i < answer.asked.k}


def _counts(answer: Answer) -> Counts:
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


def _products(answer: Answer, caps: Caps) -> Products:
    question, asked = answer.question, answer.asked
    work, arms = question.work, question.arms
    above, missing = np.zeros((asked.k, arms), dtype=np.int64), np.zeros((asked.k, arms), dtype=np.int64)
    for line in answer.of(lines.POPULATIONS):
        numbers = iter(line.v[1:].tolist())
        for i in asked.counted:
            missing[i, line.arm] = int(next(numbers))
        for i in capped(question, asked):
            found = next(numbers)
            above[i, line.arm] = int(found) if found == found and i in caps.values else 0
    bad, _, _ = answer.summary
    groups, rows, refused = _quantiles(answer)
    return Products(
        caps=caps,
        units_above=above,
        missing=missing,
        responses=_responses(answer, bad),
        by_age={},
        groups=groups,
        quantiles=rows,
        refused=refused,
        units=_unit_parts(answer),
        sizes=tuple(len(segment.groups) for segment in work.segments),
    )


def _responses(answer: Answer, bad: Mapping[int, int]) -> dict[str, Respondents]:
    found = {}
    for place, (key, columns) in enumerate(answer.question.work.wanted.surveys.items()):
        if any(bad.get(i) for i in columns):
            continue
        chosen = [line for line in answer.of(lines.RESPONSES) if line.v[0] == place]
        scores, at = np.unique([line.v[1] for line in chosen], return_inverse=True)
        count = np.zeros((answer.question.arms, len(scores)), dtype=np.int64)
        for line, score in zip(chosen, at, strict=True):
            count[line.arm, score] += line.n
        found[key] = Respondents(scores, count)
    return found


def _unit_parts(answer: Answer) -> dict[str, UnitParts]:
    """The counted values of modelled metrics as units again."""
    work, arms = answer.question.work, answer.question.arms
    found = {}
    for place, metric in enumerate(work.wanted.modelled):
        chosen = [line for line in answer.of(lines.UNIT_VALUES) if line.v[0] == place]
        times = np.array([line.n for line in chosen], dtype=np.int64)
        values = np.repeat(np.array([line.v[1] for line in chosen], dtype=np.float64), times)
        arm = np.repeat(np.array([line.arm for line in chosen], dtype=np.int64), times)
        found[metric.metric_key] = parts_of_values(metric, values, arm, arms, clustered=work.clustered)
    return found


def _quantiles(answer: Answer) -> tuple[Groups, dict[str, Rows], dict[str, str]]:
    """The counted values as units again; who they were is no matter."""
    question = answer.question
    work, last = question.work, len(question.work.looks) - 1
    bad, _, _ = answer.summary
    compiled = {metric.metric_key: place for place, (metric, _) in enumerate(answer.asked.quantiles)}
    refused = {
        metric.metric_key: QUANTILE_NOT_COMPILED
        for metric in work.wanted.quantiles
        if metric.metric_key not in compiled
    }
    segments = len(work.segments)
    variant: list[Ints] = [np.zeros(0, dtype=np.int64)]
    levels: list[Ints] = [np.zeros((segments, 0), dtype=np.int64)]
    rows: dict[str, Rows] = {}
    units = 0
    for metric, column in answer.asked.quantiles:
        if bad.get(column):
            refused[metric.metric_key] = NON_FINITE
            continue
        chosen = [line for line in answer.of(lines.QUANTILES) if line.v[0] == compiled[metric.metric_key]]
        times = np.array([line.n for line in chosen], dtype=np.int64)
        numbers = np.array([line.v[1:] for line in chosen]).reshape(len(chosen), segments + 2)
        repeated = np.repeat(numbers, times, axis=0)
        n = len(repeated)
        rows[metric.metric_key] = Rows(
            repeated[:, -1],
            np.arange(units, units + n, dtype=np.int32),
            repeated[:, 0].astype(np.int16),
            np.full(n, last, dtype=np.int16),
        )
        variant.append(np.repeat(np.array([line.arm for line in chosen], dtype=np.int64), times))
        levels.append(repeated[:, 1:-1].T.astype(np.int64))
        units += n
    together = Groups(np.concatenate(variant).astype(np.int16), np.concatenate(levels, axis=1).astype(np.int16), None)
    return together, rows, refused
