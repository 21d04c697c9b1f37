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
from warehouse.compile.statement import cell_keys
from warehouse.compile.values import REFUSED_ANSWER
from warehouse.engines.contract import Table
from warehouse.values import NON_FINITE
from warehouse.wanted import Caps

ROUNDING: Final = 1e-15
"""Of a sum of squares, relative, for each digit that a sum of n numbers may lose."""
DIGITS: Final = 1e-8
"""A spread that is known to this, relative, has enough digits: twice as many as anybody reads of its root."""
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
        self.take(result)

    def take(self, result: Table) -> None:
        """More lines. Moments of cells that are there already take their place."""
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

    @cached_property
    def keys(self) -> list[str]:
        """The keys of moments."""
        return cell_keys(self.question)[0]

    def _by_cell(self, part: int) -> dict[tuple[float, ...], Floats]:
        """The numbers of lines by their keys and arm."""
        size = len(self.keys)
        return {(*line.v[:size].tolist(), line.arm): line.v[size:] for line in self.of(part)}

    def without_digits(self) -> list[tuple[str, ...]]:
        """The sets of keys with a cell whose sums, about the centre of all, have lost the digits of a spread.

        Units that entered by a look are one cell. A column that has one value there has no spread to lose.
        """
        k, size = self.k, len(self.keys)
        squares = size + 2 * k + np.flatnonzero(np.equal(*np.triu_indices(k)))
        ranges = self._by_cell(lines.RANGES)
        cells: dict[tuple[tuple[str, ...], tuple[float, ...]], list[tuple[float, int, Floats, Floats, Floats]]] = {}
        for line in self.of(lines.MOMENTS):
            at = dict(zip(self.keys, line.v[:size].tolist(), strict=True))
            grouped = tuple(key for key in self.keys if at[key] != -1)
            others = tuple(value for key, value in at.items() if key != "entry")
            found = line.v[size : size + k], line.v[squares], ranges[(*at.values(), line.arm)]
            cells.setdefault((grouped, (*others, line.arm)), []).append((at.get("entry", 0.0), line.n, *found))
        lost = dict.fromkeys(grouped for (grouped, _), found in cells.items() if _loses(found, k))
        return list(lost)

    def moments(
        self,
        wanted: Sequence[str],
        cells: tuple[int, ...],
        given: Mapping[str, int] = MappingProxyType({}),
    ) -> Moments:
        """Cells (..., V) of the lines that are grouped by the `wanted` of the keys, others being as `given`."""
        k, arms, keys = self.k, self.question.arms, self.keys
        chosen = [keys.index(key) for key in wanted]
        others = [(i, given.get(key, -1)) for i, key in enumerate(keys) if i not in chosen]
        shape = (*cells, arms)
        count = np.zeros(shape, dtype=np.int64)
        sums, cubes, products = np.zeros((*shape, k)), np.zeros((*shape, k)), np.zeros((*shape, k, k))
        centre, lowest, highest = np.empty((*shape, k)), np.zeros((*shape, k)), np.zeros((*shape, k))
        centre[:] = self.summary[2]
        own, ranges = self._by_cell(lines.CENTRES), self._by_cell(lines.RANGES)
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
            place = (*at.tolist(), line.arm)
            centre[cell] = own.get(place, centre[cell])
            lowest[cell], highest[cell] = np.split(ranges.get(place, np.repeat((0.0, 1.0), k)), 2)
        below = np.tril_indices(k, -1)
        products[..., below[0], below[1]] = products[..., below[1], below[0]]
        found = Moments.from_shifted_sums(count, centre, sums, products, cubes)
        return _exact(found, products, centre, lowest, highest)

    def by_arm(self, part: int) -> Ints:
        """(V,) units."""
        found = np.zeros(self.question.arms, dtype=np.int64)
        for line in self.of(part):
            found[line.arm] += line.n
        return found


def _loses(entering: list[tuple[float, int, Floats, Floats, Floats]], k: int) -> bool:
    """Whether any of the unions of the first units to enter has a spread below the rounding of its sums."""
    _, n, sums, squares, ranges = zip(*sorted(entering, key=lambda one: one[0]), strict=True)
    count = np.cumsum(n)[:, None]
    total, square = np.cumsum(sums, axis=0), np.cumsum(squares, axis=0)
    lowest = np.minimum.accumulate(np.array(ranges)[:, :k])
    highest = np.maximum.accumulate(np.array(ranges)[:, k:])
    left = square - total**2 / count
    unknown = ROUNDING * np.sqrt(count) * square > DIGITS * left
    return bool(((count > 1) & (lowest < highest) & unknown).any())


def _exact(moments: Moments, products: Floats, centre: Floats, lowest: Floats, highest: Floats) -> Moments:
    """Exactly no spread where all units of a cell have one value, and exactly that mean.

    No spread either where the sums have no digit of it: such cells are only read merged with others. And no mean where
    it is only the rounding of a centre that others have: nobody may divide by that.
    """
    squares = np.diagonal(products, axis1=-2, axis2=-1)
    left = np.diagonal(moments.comoment, axis1=-2, axis2=-1)
    n = moments.count[..., None]
    constant: Bools = lowest == highest
    spread = (n > 1) & ~constant & (left > ROUNDING * np.sqrt(n) * squares)
    nothing = np.abs(moments.mean) <= LAST_BITS * np.abs(centre)
    return Moments(
        moments.count,
        np.where(constant, lowest, np.where(nothing, 0.0, moments.mean)),
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
