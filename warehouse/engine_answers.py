"""What an engine answered: the lines of a compiled statement (`warehouse.compile.lines`), their caps and moments."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from stats.moments import Bools, Floats, Ints, Moments
from warehouse.answers import INVALID_ANSWERS
from warehouse.caps import CAP_IS_ZERO
from warehouse.compile import lines
from warehouse.compile.asked import Asked
from warehouse.compile.capping import known_cap
from warehouse.compile.question import Question
from warehouse.compile.values import REFUSED_ANSWER
from warehouse.engines.contract import Table
from warehouse.values import NON_FINITE
from warehouse.wanted import Caps

ROUNDING: Final = 1e-15
"""Of a sum of squares, relative, for each digit that a sum of n numbers may lose."""
LAST_BITS: Final = 2.0**-50
"""Of a number, relative, that it may lose when a constant is taken from it and added again."""


class Line(NamedTuple):
    """A line: the arm, how many units, and its numbers."""

    arm: int
    n: int
    v: Floats


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

    @property
    def crossover(self) -> int:
        """Units in two arms."""
        return self.of(lines.CROSSED)[0].n

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
        centre = self.summary[2]
        return _without_noise(Moments.from_shifted_sums(count, centre, sums, products, cubes), products, centre)

    def by_arm(self, part: int) -> Ints:
        """(V,) units."""
        found = np.zeros(self.question.arms, dtype=np.int64)
        for line in self.of(part):
            found[line.arm] += line.n
        return found


def _without_noise(moments: Moments, products: Floats, centre: Floats) -> Moments:
    """Exactly no spread where all units of a cell have one value: what is left of the sums then is their rounding.

    And exactly no mean where they have nothing: nobody may divide by the rounding of a centre that others have.
    """
    squares = np.diagonal(products, axis1=-2, axis2=-1)
    left = np.diagonal(moments.comoment, axis1=-2, axis2=-1)
    n = moments.count[..., None]
    noise: Bools = (n <= 1) | (left <= ROUNDING * np.sqrt(n) * squares)
    spread = ~noise
    nothing = np.abs(moments.mean) <= LAST_BITS * np.abs(centre)
    return Moments(
        moments.count,
        np.where(nothing, 0.0, moments.mean),
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


def withheld(answer: Answer) -> dict[int, str]:
    bad, _, _ = answer.summary
    reasons = {i: NON_FINITE if why != REFUSED_ANSWER else INVALID_ANSWERS for i, why in bad.items() if why}
    return {i: reason for i, reason in reasons.items() if i < answer.asked.k}
