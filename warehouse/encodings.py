"""Compressed bodies: undone from file to file in pieces, and never larger than what a body may be."""

import hashlib
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa

from experiments.errors import BatchRejected, PayloadTooLarge, UnsupportedMediaType

type Encoding = Literal["gzip", "zstd"]

_ENCODINGS: Final[dict[str, Encoding]] = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}
_PIECE: Final = 1 << 20


def encoding_of(header: str) -> Encoding | None:
    """The compression that a Content-Encoding header names, None for none. Raises `UnsupportedMediaType`."""
    name = header.strip().lower()
    if name in ("", "identity"):
        return None
    if name not in _ENCODINGS:
        raise UnsupportedMediaType(
            f"bodies cannot be sent with the content encoding {header[:60]!r}",
            remedy="send the body as it is, or with Content-Encoding: gzip or zstd",
        )
    return _ENCODINGS[name]


def decode(encoded: Path, plain: Path, encoding: Encoding, *, limit: int) -> tuple[str, int]:
    """Write the body behind a compressed file: its SHA-256 and its size.

    Raises `PayloadTooLarge` beyond `limit` bytes and `BatchRejected` when the file is not what its encoding says.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with plain.open("wb") as target, pa.CompressedInputStream(pa.OSFile(str(encoded), "rb"), encoding) as source:
            while piece := source.read(_PIECE):
                size += len(piece)
                if size > limit:
                    raise PayloadTooLarge(
                        f"The body is larger than {limit:,} bytes once it is unpacked; nothing was stored",
                        remedy="Send it in smaller batches, each with its own batch id.",
                    )
                digest.update(piece)
                target.write(piece)
    except (pa.ArrowInvalid, pa.ArrowException) as error:
        raise _damaged(encoding) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(encoding) from error
    return digest.hexdigest(), size


def _damaged(encoding: str) -> BatchRejected:
    return BatchRejected(
        f"the body is not complete {encoding}", remedy="send the whole body again, or correct the Content-Encoding"
    )
