"""Small batches of aggregates (summaries, values of series): lists of rows that are taken as a whole or not at all."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.errors import BatchRejected, UnsupportedMediaType
from experiments.types import canonical_json
from warehouse.rows import RowFault


def parse_rows(body: bytes, content_type: str, *, noun: str) -> list[dict[str, Any]]:
    """The rows of a JSON array or a CSV, where an empty cell is None. `noun` says in problems what they are.

    Raises `UnsupportedMediaType` or `BatchRejected`.
    """
    kind = content_type.split(";")[0].strip().lower()
    try:
        if kind == "application/json":
            rows = json.loads(body)
        elif kind == "text/csv":
            rows = _csv_rows(body.decode("utf-8-sig"))
        else:
            raise UnsupportedMediaType(f"{noun} cannot be sent as {kind!r}", remedy="send application/json or text/csv")
    except (ValueError, csv.Error, RecursionError) as error:
        raise BatchRejected(f"the body cannot be read: {str(error)[:200]}", remedy=f"send valid {kind}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BatchRejected("the body is not a list of rows", remedy="send [ {…}, {…} ]")
    return rows


def _csv_rows(text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    names = reader.fieldnames or []
    if len(set(names)) != len(names):
        raise ValueError("a name is in the header twice")
    return [{name: value or None for name, value in row.items()} for row in reader]


def refuse_unknown_fields(row: Mapping[str, Any], fields: Sequence[str], *, noun: str) -> None:
    """Raise `RowFault` for the first field that is none of these."""
    for name in row:
        if name not in fields:
            raise RowFault(str(name)[:100], "unknown_field", f"{str(name)[:100]!r} is not a field of {noun}")


def finite_number(row: Mapping[str, Any], name: str) -> float | None:
    """A field as a number, None where it is empty. Raises `RowFault`."""
    value = row.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RowFault(name, "non_numeric_value", f"{str(value)[:60]!r} is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise RowFault(name, "non_numeric_value", f"{str(value)[:60]!r} is not a number") from None
    if not math.isfinite(number):
        raise RowFault(name, "non_finite_value", f"{str(value)[:60]} is not a finite number")
    return number


def digest_of(subject: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """What tells two batches about a subject apart."""
    # NaN cannot be in canonical JSON, but its text can: the row is refused later with a reason.
    plain = [{str(k): v if isinstance(v, str) else repr(v) for k, v in row.items()} for row in rows]
    return hashlib.sha256(canonical_json([subject, plain])).hexdigest()
