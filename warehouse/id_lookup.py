"""Rows of a large table by the text of their id: an open-addressed hash table in arrays, built once for many sources.

The engine's join builds its table again for every source, and a probe misses the cache for the slot, the row and the
text. Here a row lies beside its text: reading 100 M facts of 10 M units took 28 seconds of CPU instead of 45. Texts are
compared whole, so ids that share a hash never come together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stats.moments import Bools, Ints

type Hashes = NDArray[np.uint64]
type Texts = pa.Array[Any]
type Words = NDArray[np.uint64]
"""(n, words): texts of one length as whole numbers, zeros behind the last byte."""

type Found = tuple[Bools, NDArray[np.int64]]
"""(n,) which of the ids asked for are known, and (n, payload) what is stored with those; anything for the others."""

_WORD: Final = 8
_OTHER_BITS: Final = np.uint64(0x9E3779B97F4A7C15)
"""A hash times this has its low bits at the top."""


def words_of(length: int) -> int:
    """Whole numbers that a text of so many bytes takes."""
    return max(1, -(-length // _WORD))


def _slot(hashes: Hashes, table: NDArray[np.int32]) -> Ints:
    """(n,) by as many of the highest bits as the table has."""
    return (hashes >> np.uint64(65 - len(table).bit_length())).view(np.int64)


def size_of(ids: Mapping[int, int], payload: int) -> int:
    """Bytes of the table of so many ids by length in bytes, with so many numbers stored with each."""
    return sum(n * (words_of(length) + payload) * 8 + (5 << _bits(n)) for length, n in ids.items())


def _bits(ids: int) -> int:
    """At most half of the slots are taken."""
    return max(4, (2 * ids - 1).bit_length())


@dataclass(slots=True, eq=False)
class _OfOneLength:
    """The ids of one length: `rows` (n, words + payload), and tables with the row of an id at the slot of its hash.

    Of several ids for a slot of a table one is there, and the others are in the tables behind it, by other bits: each
    table has a fifth of the one before. A slot that nobody has is -1.
    """

    length: int
    rows: NDArray[np.int64]
    hashes: Hashes
    filled: int = 0
    tables: list[NDArray[np.int32]] = field(default_factory=list)
    _room: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))

    @property
    def words(self) -> int:
        return words_of(self.length)

    def add(self, words: Words, hashes: Hashes, payload: NDArray[np.int64]) -> None:
        new = slice(self.filled, self.filled + len(words))
        self.rows[new, : self.words] = words.view(np.int64)
        self.rows[new, self.words :] = payload
        self.hashes[new] = hashes
        self.filled += len(words)

    def finish(self) -> None:
        hashes, row = self.hashes[: self.filled], np.arange(self.filled, dtype=np.int32)
        while len(row):
            table = np.full(1 << _bits(len(row)), -1, dtype=np.int32)
            slot = _slot(hashes, table)
            # Of rows for one slot the last one stays there.
            table[slot] = row
            self.tables.append(table)
            others = np.flatnonzero(table.take(slot) != row)
            row, hashes = row[others], hashes[others] * _OTHER_BITS
        self.hashes = self.hashes[:0]

    def find(self, words: Words, hashes: Hashes) -> Found:
        asked = words.view(np.int64)
        row = self.tables[0].take(_slot(hashes, self.tables[0]))
        # Fresh memory for every batch would cost as much as the rows themselves.
        if len(self._room) < len(row):
            self._room = np.empty((len(row), self.rows.shape[1]), dtype=np.int64)
        rows = self._room[: len(row)]
        self.rows.take(row, axis=0, mode="clip", out=rows)
        known = self._same(rows, asked) & (row >= 0)
        left = further = np.flatnonzero(~known & (row >= 0))
        for table in self.tables[1:]:
            if not len(left):
                break
            hashes = hashes.take(further) * _OTHER_BITS
            row = table.take(_slot(hashes, table))
            its = self.rows.take(row, axis=0, mode="clip")
            same = self._same(its, asked.take(left, axis=0)) & (row >= 0)
            hit = np.flatnonzero(same)
            rows[left[hit]], known[left[hit]] = its.take(hit, axis=0), True
            further = np.flatnonzero(~same & (row >= 0))
            left = left[further]
        return known, rows[:, self.words :]

    def _same(self, rows: NDArray[np.int64], words: NDArray[np.int64]) -> Bools:
        same: Bools = rows[:, 0] == words[:, 0]
        for i in range(1, self.words):
            same &= rows[:, i] == words[:, i]
        return same


class IdLookup:
    """Ids with `payload` whole numbers each. `ids` says how many there are by their length in bytes.

    Add all, then `finish`, then `find`. Hashes are whatever the caller takes, as long as it is always the same.
    """

    def __init__(self, ids: Mapping[int, int], payload: int) -> None:
        self._payload = payload
        self._tables = {
            length: _OfOneLength(
                length, np.empty((n, words_of(length) + payload), dtype=np.int64), np.empty(n, dtype=np.uint64)
            )
            for length, n in ids.items()
        }

    def add(self, ids: Texts, hashes: Hashes, payload: NDArray[np.int64]) -> None:
        """Distinct ids (n,) and what is stored with them (n, payload)."""
        for length, these, words in _by_length(ids, self._tables):
            chosen = slice(None) if these is None else these
            self._tables[length].add(words, hashes[chosen], payload[chosen])

    def finish(self) -> Self:
        """Make it ready to be asked."""
        for table in self._tables.values():
            table.finish()
        return self

    def find(self, ids: Texts, hashes: Hashes) -> Found:
        """Which of the ids are known, and what is stored with them, until the next time."""
        known: Bools = np.zeros(len(ids), dtype=np.bool_)
        stored = np.zeros((len(ids), self._payload), dtype=np.int64)
        for length, these, words in _by_length(ids, self._tables):
            if these is None:
                return self._tables[length].find(words, hashes)
            known[these], stored[these] = self._tables[length].find(words, hashes[these])
        return known, stored


def _by_length(ids: Texts, known: Mapping[int, object]) -> Iterator[tuple[int, Ints | None, Words]]:
    """The ids by length in bytes: which they are (None: all of them), and their texts; of lengths that are known."""
    if not len(ids):
        return
    width: np.dtype[Any] = np.dtype("i8" if pa.types.is_large_string(ids.type) else "i4")
    _, offsets, data = ids.buffers()
    ends: Ints = np.frombuffer(offsets or b"", dtype=width, count=len(ids) + 1, offset=ids.offset * width.itemsize)
    text = np.frombuffer(data or b"", dtype=np.uint8)
    lengths = np.diff(ends)
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest == longest:
        if shortest in known:
            together = text[int(ends[0]) : int(ends[-1])].reshape(len(ids), shortest)
            yield shortest, None, _as_words(together, shortest)
        return
    for length in np.flatnonzero(np.bincount(lengths)).tolist():
        if length in known:
            these = np.flatnonzero(lengths == length)
            yield length, these, _as_words(text[ends[these][:, None] + np.arange(length)], length)


def _as_words(text: NDArray[np.uint8], length: int) -> Words:
    padded = np.zeros((len(text), words_of(length) * _WORD), dtype=np.uint8)
    padded[:, :length] = text
    return padded.view(np.uint64)
