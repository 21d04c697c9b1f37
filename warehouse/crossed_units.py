"""Units in two variants of one experiment, within one batch: looked for by hashes, and compared only when these agree.

A batch is held as one number per row: a hash of experiment and unit, and in its last bits the variant. In order, a unit
with several variants is two neighbours that differ in nothing but these bits. So is, once in many batches, a pair of
units with the same hash: what is suspected here must be looked at by name.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

type Words = NDArray[np.uint64]

_VARIANT_BITS: Final = np.uint64(10)
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST_BYTES: Final = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
_ROWS_AT_ONCE: Final = 1 << 14
"""Rows whose working memory stays in a core's cache."""


class VariantsSeen:
    """Which variants the units of a batch are in, as far as hashes tell; 8 bytes per row."""

    def __init__(self) -> None:
        self._keys: list[Words] = []
        self._experiments: dict[str, int] = {}
        self._variants: dict[str, int] = {}

    def add(self, table: pa.Table) -> None:
        """Take note of exposures in stored form."""
        keys = text_hashes(table.column("unit_id"))
        keys ^= _numbered(table, "experiment_key", self._experiments) * _MULTIPLIER
        keys <<= _VARIANT_BITS
        keys |= _numbered(table, "variant_key", self._variants)
        self._keys.append(keys)

    def suspicious(self) -> bool:
        """Whether a unit may be in two variants of an experiment; False is certain."""
        if len(self._variants) > 1 << int(_VARIANT_BITS):
            return True
        if len(self._variants) < 2:
            return False
        keys = np.concatenate(self._keys)
        keys.sort()
        return any(_alike(keys[at : at + _ROWS_AT_ONCE + 1]) for at in range(0, len(keys), _ROWS_AT_ONCE))


def _alike(keys: Words) -> bool:
    """Whether neighbours differ in the bits of the variant alone."""
    differs = keys[1:] ^ keys[:-1]
    differs -= np.uint64(1)  # those that are equal are now the largest
    return bool(differs.size) and int(differs.min()) < (1 << int(_VARIANT_BITS)) - 1


def text_hashes(column: Any) -> Words:
    """A hash (n,) of each text of a pyarrow ChunkedArray of `string` without nulls; the same text has the same hash."""
    blocks = []
    for chunk in column.chunks:
        _, offsets, characters = chunk.buffers()
        if not len(chunk) or characters is None:
            blocks.append(np.zeros(len(chunk), np.uint64))
            continue
        bounds = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        for start in range(0, len(chunk), _ROWS_AT_ONCE):
            blocks.append(_hashes(np.frombuffer(characters, np.uint8), bounds[start : start + _ROWS_AT_ONCE + 1]))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.uint64)


def _hashes(characters: NDArray[np.uint8], bounds: NDArray[np.int32]) -> Words:
    """Eight characters at a time. The last eight are read from the end: some count twice, and none is left out."""
    lengths = np.diff(bounds)
    hashes = lengths.astype(np.uint64)
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest == longest and shortest >= 8:
        for at in (*range(0, shortest - 8, 8), shortest - 8):
            _mix(hashes, np.ndarray(len(hashes), "<u8", characters, int(bounds[0]) + at, (shortest,)))
        return hashes
    characters = characters[bounds[0] : bounds[-1]]
    if shortest < 8:
        characters = np.concatenate([characters, np.zeros(8, np.uint8)])
    # The eight characters from each place on, as a number.
    words: Words = np.ndarray(len(characters) - 7, "<u8", characters, strides=(1,))
    places = (bounds - bounds[0]).astype(np.intp)
    for at in range(0, longest - 8, 8):
        if at + 8 < shortest:
            _mix(hashes, words.take(places[:-1] + at, mode="clip"))
        else:
            rows = np.flatnonzero(lengths > at + 8)
            some = hashes[rows]
            _mix(some, words.take(places[rows] + at, mode="clip"))
            hashes[rows] = some
    if shortest >= 8:
        _mix(hashes, words.take(places[1:] - 8, mode="clip"))
    else:
        last = np.where(lengths < 8, places[:-1], places[1:] - 8)
        _mix(hashes, words.take(last, mode="clip") & _FIRST_BYTES[np.minimum(lengths, 8)])
    return hashes


def _mix(hashes: Words, words: Words) -> None:
    hashes ^= words
    hashes *= _MULTIPLIER
    # A product's low bits know nothing of high ones: turned round, the next one spreads them.
    hashes.byteswap(inplace=True)


def _numbered(table: pa.Table, name: str, known: dict[str, int]) -> Any:
    """The number of each row's text, or of all rows where they have the same."""
    column: Any = table.column(name).combine_chunks()
    texts = column.dictionary.to_pylist()
    numbers = np.array([known.setdefault(text, len(known)) for text in texts], np.uint64)
    if len(texts) == 1:
        return numbers
    codes = column.indices.to_numpy()
    if np.array_equal(numbers, np.arange(len(texts))):
        return codes.astype(np.uint64)
    return numbers.take(codes)
