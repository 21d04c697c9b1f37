"""JSON bodies in pieces: NDJSON as it is, and a JSON array turned into lines while it streams past."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from experiments.errors import BatchRejected

BLOCK = 16 * 1024 * 1024
LONGEST_ROW = 1024 * 1024

_INTERESTING = np.zeros(256, dtype=np.bool_)
_INTERESTING[list(b'"[]{},\n\r')] = True


def lines_of(path: Path) -> Iterator[bytes]:
    """Pieces of a file of about `BLOCK` bytes, each ending with a line's end (the last one maybe not)."""
    with path.open("rb") as file:
        yield from _whole_lines(iter(lambda: file.read(BLOCK), b""))


def lines_of_array(path: Path) -> Iterator[bytes]:
    """The elements of a JSON array, one per line, in pieces. `BatchRejected` when the file is not an array."""
    with path.open("rb") as file:
        yield from _whole_lines(ArrayScanner().lines(file))


def _whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if cut:
            # Not `rest + block`, cut afterwards: these pieces are large, and would be copied twice.
            yield b"".join((rest, memoryview(block)[:cut]))
            rest = block[cut:]
            continue
        rest += block
        if len(rest) > LONGEST_ROW:
            raise BatchRejected(
                f"a row is longer than {LONGEST_ROW} bytes",
                remedy="put one JSON object per line (application/x-ndjson)",
            )
    if rest:
        yield rest


class ArrayScanner:
    """Follows strings and nesting through blocks of a JSON array, and puts line ends between its elements."""

    def __init__(self) -> None:
        self._in_string = False
        self._depth = 0
        self._started = False

    def lines(self, file: BinaryIO) -> Iterator[bytes]:
        held = b""
        while block := file.read(BLOCK):
            data = held + block
            # A backslash at the end may escape what comes next: hold the run back.
            kept = len(data.rstrip(b"\\"))
            data, held = data[:kept], data[kept:]
            if data:
                yield self._convert(data)
        if held or not self._started or self._depth or self._in_string:
            raise _not_an_array()

    def _convert(self, data: bytes) -> bytes:
        raw = np.frombuffer(data, dtype=np.uint8).copy()
        if not self._started:
            first = len(data) - len(data.lstrip(b" \t\r\n\xef\xbb\xbf"))
            if first == len(data):
                return b""
            if raw[first] != ord("["):
                raise _not_an_array()
            raw[:first] = ord(" ")
            self._started = True
        at = np.flatnonzero(_INTERESTING[raw])
        byte = raw[at]
        quote = byte == ord('"')
        if b"\\" in data:
            quote &= ~_escaped(raw, at)
        strings = np.cumsum(quote) + self._in_string
        structural = (strings % 2 == 0) & ~quote
        self._in_string = bool(strings[-1] % 2) if len(strings) else self._in_string
        at, byte = at[structural], byte[structural]
        steps = ((byte == ord("[")) | (byte == ord("{"))).astype(np.int64)
        steps -= (byte == ord("]")) | (byte == ord("}"))
        depth = np.cumsum(steps) + self._depth
        closed = np.flatnonzero((depth == 0) & (steps < 0))
        opened = np.flatnonzero((depth == 1) & (steps > 0) & (byte == ord("[")))
        if self._depth == 0 and len(opened):
            raw[at[opened[0]]] = ord(" ")
        if (depth < 0).any() or len(closed) > 1 or (self._depth == 0 and not len(opened) and data.strip()):
            raise _not_an_array()
        raw[at[(byte == ord("\n")) | (byte == ord("\r"))]] = ord(" ")
        raw[at[(byte == ord(",")) & (depth == 1)]] = ord("\n")
        self._depth = int(depth[-1]) if len(depth) else self._depth
        if len(closed):
            end = int(at[closed[0]])
            if data[end + 1 :].strip() or data[end : end + 1] != b"]":
                raise _not_an_array()
            raw[end] = ord(" ")
        return raw.tobytes()


def _escaped(raw: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the byte at each position follows an odd run of backslashes."""
    other = np.where(raw != ord("\\"), np.arange(len(raw)), -1)
    last_other = np.maximum.accumulate(other)
    before = np.maximum(at - 1, 0)
    run = before - last_other[before]
    result: NDArray[np.bool_] = (run % 2 == 1) & (at > 0)
    return result


def parse_line(line: bytes) -> object:
    """One JSON value; `ValueError` when it is none."""
    return json.loads(line.decode())


def _not_an_array() -> BatchRejected:
    return BatchRejected(
        "the body is not a JSON array of rows",
        remedy="send [ {…}, {…} ], or one object per line with the content type application/x-ndjson",
    )
