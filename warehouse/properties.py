"""Properties of events, whose type may change from batch to batch: one rule for what a value is, whatever others are.

A batch stores a property as numbers, truth values or text. Where batches differ the engine reads all as text, or truth
values as 1 and 0 where the others are numbers. So that a row counts as the same whatever was sent before or after it:
true is 1 and false is 0, also as text; text that is a number counts as that number; other text is no number. A filter
with text compares as text, but orders numbers as numbers; one with a number compares numbers.
"""

from pathlib import Path
from typing import Final

import duckdb

from experiments.errors import SourceUnreadable
from warehouse.parquet import FILE_NAME, bucket_of

_FAULT: Final = "not a number"
_SEPARATOR: Final = "\x1f"


def number_or_null(column: str) -> str:
    """SQL of a text property as DOUBLE; null where it is no number."""
    return f"CASE {column} WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0 ELSE TRY_CAST({column} AS DOUBLE) END"


def number(column: str, name: str) -> str:
    """SQL of a text property as DOUBLE. Text that is no number fails the query: `fault_of` says where it is."""
    found = number_or_null(column)
    # In hexadecimal a name is no text of a user's.
    said = f"'{_FAULT}{_SEPARATOR}{name.encode().hex()}{_SEPARATOR}' || {FILE_NAME} || '{_SEPARATOR}'"
    # The value stays where it is: it may say who somebody is.
    failed = f"CAST(error({said}) AS DOUBLE)"
    return f"CASE WHEN {column} IS NULL THEN NULL WHEN ({found}) IS NOT NULL THEN {found} ELSE {failed} END"


def truth(column: str) -> str:
    """SQL of a text property as 'true' or 'false' where it is a truth value or a number, and as it is otherwise."""
    return f"coalesce(CAST(({number_or_null(column)}) <> 0 AS VARCHAR), lower({column}))"


def compared(column: str, plain: str, symbol: str, text: str, number: str, *, as_numbers: bool) -> str:
    """SQL of `column symbol value`, where the value is text that is a number (or true, which is 1).

    `plain` is the column in its shortest form; `text` and `number` are placeholders of the value. Truth values compare
    as numbers, all numbers where `as_numbers`, the rest as text.
    """
    found = number_or_null(column)
    is_number = f"({found}) IS NOT NULL" if as_numbers else f"{column} IN ('true', 'false')"
    return f"CASE WHEN {is_number} THEN ({found}) {symbol} {number} ELSE {plain} {symbol} {text} END"


def fault_of(key: str, error: duckdb.Error) -> SourceUnreadable | None:
    """The problem behind a query that `number` failed, naming property and batch; None for any other error."""
    _, found, said = str(error).partition(_FAULT + _SEPARATOR)
    if not found:
        return None
    name, file, _ = said.split(_SEPARATOR, 2)
    column, path = bytes.fromhex(name).decode(), Path(file)
    where = "a compacted batch" if bucket_of(path) is not None else f"the batch {path.stem}"
    return SourceUnreadable(
        f"fact source {key!r}: the property {column!r} has text in {where} that is no number",
        remedy="let the metric use a property that holds numbers, or filter it out at the sender; "
        "GET /v1/ingest/batches has the names of batches",
        column=column,
        batch=None if bucket_of(path) is not None else path.stem,
    )
