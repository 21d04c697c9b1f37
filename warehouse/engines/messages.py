"""What engines say went wrong, without what was in anybody's row.

Engines quote the value that they could not read. Definitions are not secret, so faults in the statement (names and
types) keep their words; faults of data keep their code and the words around the value.
"""

import re
from typing import Final

import duckdb

UNREADABLE_VALUES: Final = "make the value columns numbers and the timestamp column times, or correct the definition"
"""The remedy of a fault of data; whoever knows what was read adds where it may be."""
LONGEST: Final = 300
_QUOTES: Final = "'\"‘’‚‛“”„‟«»‹›「」『』"
"""Servers quote in the language that they are set to."""
_QUOTED: Final = re.compile(f"[{_QUOTES}].*[{_QUOTES}]", re.DOTALL)
_NUMBER: Final = re.compile(r"(?<![A-Za-z_0-9])-?\d[\d.,:eE+\-/]*")
_OF_DEFINITIONS: Final = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.IOException,
    duckdb.InterruptException,
    duckdb.NotImplementedException,
    duckdb.OutOfMemoryException,
    duckdb.ParserException,
    duckdb.PermissionException,
    duckdb.SyntaxException,
)
_COLUMN: Final = re.compile(r'when casting from source column ([^\n\'"]+)|when converting column "([^\n"]+)"')


def without_values(message: str) -> str:
    """The first line, with all that stands between the first and the last quote left out, and every number.

    From the first to the last, because a value may itself hold quotes.
    """
    line, below = _first(message)
    quotes = sum(line.count(quote) for quote in _QUOTES)
    # What a value may hold is anything, also line breaks: then its end is below, and the rest of the line is its own.
    if quotes and (quotes % 2 or below):
        line = line[: min(line.index(quote) for quote in _QUOTES if quote in line)] + "…"
    return _NUMBER.sub("…", _QUOTED.sub("…", line))[:LONGEST]


def first_line(message: str, *hidden: str | None) -> str:
    """The first line that says something; `hidden` are secrets that must not be in it."""
    line, _ = _first(message)
    for secret in hidden:
        if secret:
            line = line.replace(secret, "…")
    return line[:LONGEST]


def of_duckdb(error: duckdb.Error) -> str:
    """What DuckDB says, with the column whose value it could not read, where it names one."""
    said = str(error)
    if isinstance(error, _OF_DEFINITIONS):
        return first_line(said)
    columns = [match[1] or match[2] for match in _COLUMN.finditer(said)]
    kind = said.partition(":")[0] if isinstance(error, duckdb.ConversionException) else without_values(said)
    return f"{kind}: a value of the column {columns[-1].strip()!r} is not what it is read as" if columns else kind


def of_condition(error: Exception) -> str:
    """The name of an error's class in words: InvalidTextRepresentation is `invalid text representation`."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()


def _first(message: str) -> tuple[str, bool]:
    """The first line that says something, and whether it goes on in the next one."""
    lines = message.splitlines()
    for i, line in enumerate(lines):
        if line.strip():
            return line.strip(), i + 1 < len(lines) and bool(lines[i + 1].strip())
    return "", False
