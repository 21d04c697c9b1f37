"""The bytes of a frozen program: a JSON header and raw arrays behind a checksum, nothing that runs when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.bayes.sampling.contract import Array, BundleRejected

FORMAT: Final = 1
_MAGIC: Final = b"NLFROZEN"
_DIGEST: Final = hashlib.sha256().digest_size
_LENGTH: Final = 8
_HEAD: Final = len(_MAGIC) + _DIGEST + _LENGTH


@dataclass(frozen=True, slots=True)
class Bundle:
    """`header` is what JSON can say; `parts` are bytes by name: machine code and arrays."""

    header: Mapping[str, Any]
    parts: Mapping[str, bytes]

    def array(self, name: str, shape: tuple[int, ...]) -> Array:
        """A part as float64 of this shape. Raises `BundleRejected` where it is not one."""
        try:
            return np.frombuffer(self.parts[name], dtype="<f8").reshape(shape).astype(np.float64)
        except (KeyError, ValueError) as error:
            raise BundleRejected(f"its {name} are not an array of shape {shape}") from error


def packed(bundle: Bundle) -> bytes:
    """The bundle as bytes."""
    header = {
        "format": FORMAT,
        "header": dict(bundle.header),
        "parts": [[name, len(content)] for name, content in bundle.parts.items()],
    }
    encoded = json.dumps(header, sort_keys=True).encode()
    body = len(encoded).to_bytes(_LENGTH, "big") + encoded + b"".join(bundle.parts.values())
    return _MAGIC + hashlib.sha256(body).digest() + body


def unpacked(content: bytes) -> Bundle:
    """The bundle in these bytes. Raises `BundleRejected` for anything but what `packed` made, whole."""
    if not content.startswith(_MAGIC):
        raise BundleRejected("it is no frozen program")
    digest, body = content[len(_MAGIC) :][:_DIGEST], content[len(_MAGIC) + _DIGEST :]
    if len(content) < _HEAD or hashlib.sha256(body).digest() != digest:
        raise BundleRejected("its checksum is wrong: it is truncated or damaged")
    length = int.from_bytes(body[:_LENGTH], "big")
    header = json.loads(body[_LENGTH : _LENGTH + length])
    if header["format"] != FORMAT:
        raise BundleRejected(f"its format is {header['format']}, this program reads {FORMAT}")
    parts, start = {}, _LENGTH + length
    for name, size in header["parts"]:
        parts[name] = body[start : start + size]
        start += size
    return Bundle(header["header"], parts)


def of_arrays(arrays: Mapping[str, Array], prefix: str = "") -> dict[str, bytes]:
    """Arrays as parts that `Bundle.array` reads."""
    return {prefix + name: np.ascontiguousarray(array, dtype="<f8").tobytes() for name, array in arrays.items()}
