"""Survey answers: scores per unit, and how the answers are distributed over the units of each arm (METHODS A13)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.columns import Column
from stats.moment_set import ResponseTable
from stats.moments import Bools, Floats, Ints
from warehouse.aggregates import sum_per_unit
from warehouse.facts import Numbers

INVALID_ANSWERS = "invalid_answers"
MOST_SCORES = 201
"""A table of answers has no more distinct scores than this; finer ones are rounded to as many even steps."""


def score_answers(column: Column, answers: Numbers, out: Floats, most: int) -> str:
    """Fill `out` (units,) with the sum of scores, the number of answers, or whether there is any.

    A null is no answer. Returns `INVALID_ANSWERS` for scores on the scale `nps` when an answer is not one of 0, 1, ...,
    10: nobody can say whether 8.5 is a promoter.
    """
    if column.content == "responded":
        out[answers.position] = 1.0
    elif column.content == "answers":
        out[:] = np.bincount(answers.position, minlength=len(out))
    else:
        values = answers.values
        if column.scale == "nps":
            # What is not finite is refused as such, by its own reason.
            known = values[np.isfinite(values)]
            if not ((known >= 0) & (known <= 10) & (known == np.rint(known))).all():
                return INVALID_ANSWERS
            values = np.where(np.isfinite(values), nps_scores(values), values)
        out[:] = sum_per_unit(values, answers.position, len(out), most)
    return ""


def nps_scores(answers: Floats) -> Floats:
    """Promoters (9, 10) are 1, passives (7, 8) 0, detractors (0 to 6) -1."""
    return (answers >= 9).astype(np.float64) - (answers <= 6)


@dataclass(frozen=True, slots=True, eq=False)
class Respondents:
    """Units by mean score: `scores` (b,) ascending and distinct, `count` (V, b)."""

    scores: Floats
    count: Ints

    def merge(self, other: "Respondents") -> "Respondents":
        """Both together; they are different units."""
        scores, place = np.unique(np.concatenate([self.scores, other.scores]), return_inverse=True)
        return Respondents(scores, _gather(np.concatenate([self.count, other.count], axis=1), place, len(scores)))

    def table(self) -> ResponseTable:
        """With at most `MOST_SCORES` scores."""
        scores, count = self.scores, self.count
        if len(scores) > MOST_SCORES:
            steps = np.linspace(scores[0], scores[-1], MOST_SCORES)
            place = np.rint((scores - scores[0]) / (scores[-1] - scores[0]) * (MOST_SCORES - 1)).astype(np.int64)
            used, place = np.unique(place, return_inverse=True)
            scores, count = steps[used], _gather(count, place, len(used))
        return ResponseTable(scores, count)


def respondents(score: Floats, answers: Floats, variant: Ints, arms: int, analysed: Bools) -> Respondents:
    """The analysed units that answered, by the mean of their answers; all arrays are (n,)."""
    answered = analysed & (answers > 0)
    scores, place = np.unique(score[answered] / answers[answered], return_inverse=True)
    cell = variant[answered] * len(scores) + place
    return Respondents(scores, np.bincount(cell, minlength=arms * len(scores)).reshape(arms, len(scores)))


def merge_all(one: Mapping[str, Respondents], other: Mapping[str, Respondents]) -> dict[str, Respondents]:
    """Metric by metric; a metric that only one of both knows was withdrawn in the other."""
    return {key: found.merge(other[key]) for key, found in one.items() if key in other}


def _gather(count: Ints, place: Ints, size: int) -> Ints:
    gathered: Ints = np.zeros((len(count), size), dtype=np.int64)
    for row, of_arm in zip(gathered, count, strict=True):
        np.add.at(row, place, of_arm)
    return gathered
