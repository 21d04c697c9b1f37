"""What else a compiled statement answers, as the products of a pass."""

from collections.abc import Mapping

import numpy as np

from stats.moments import Ints
from warehouse.answers import Respondents
from warehouse.compile import lines
from warehouse.compile.capping import capped
from warehouse.engine_answers import Answer
from warehouse.engines.capabilities import QUANTILE_NOT_COMPILED
from warehouse.likelihoods import UnitParts, parts_of_values
from warehouse.products import Products
from warehouse.quantiles import Groups, Rows
from warehouse.values import NON_FINITE
from warehouse.wanted import Caps


def products_of(answer: Answer, caps: Caps) -> Products:
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
