"""Rows of pushed values: what may be said of a series, checked row by row."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from experiments.definitions import Grain, SeriesSpec
from experiments.errors import BatchRejected
from experiments.series_table import start_of_period
from experiments.series_values import Cell, Known
from warehouse.ingest import rejected_batch
from warehouse.report import Refusals
from warehouse.row_lists import digest_of, finite_number, parse_rows, refuse_unknown_fields
from warehouse.rows import RowFault, plain_text, read_time

FIELDS: Final = ("segment", "at", "value", "n", "variance")
ARMS: Final = ("on", "off")
MAX_ROWS: Final = 200_000
LONGEST_SEGMENT: Final = 200
LARGEST: Final = 1e90
"""Sums of cubes of larger values are not finite."""
FIRST_YEAR: Final = 1970
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


class Value(NamedTuple):
    """One checked row."""

    cell: Cell
    value: float | None
    n: int | None
    variance: float | None

    def says(self, known: Known | None) -> bool:
        """Whether this is what is known already; withdrawing what never was changes nothing either."""
        if known is None:
            return self.value is None
        return (self.value, self.n, self.variance) == (known.value, known.n, known.variance)


@dataclass(frozen=True, slots=True)
class Batch:
    """The values of a batch, each cell once, and what tells its content apart from that of others."""

    values: tuple[Value, ...]
    digest: str


def read_batch(body: bytes, content_type: str, spec: SeriesSpec, latest: datetime) -> Batch:
    """The rows of a JSON array or CSV as values of a series. Raises `BatchRejected`, `UnsupportedMediaType`."""
    rows = parse_rows(body, content_type, noun="values")
    if len(rows) > MAX_ROWS:
        raise BatchRejected(f"the batch has {len(rows)} rows", remedy=f"send at most {MAX_ROWS} rows in a batch")
    refusals, values, seen = Refusals(), [], set()
    for number, row in enumerate(rows, start=1):
        try:
            value = _checked(row, spec, latest)
            if value.cell in seen:
                raise RowFault("at", "duplicate_value", f"{_named(value.cell)} is in the batch already")
        except RowFault as fault:
            refusals.add(fault.at(number))
        else:
            seen.add(value.cell)
            values.append(value)
    if refusals.rejected:
        raise rejected_batch(refusals, keepable=False)
    return Batch(tuple(values), digest_of(spec.key, rows))


def _checked(row: Mapping[str, Any], spec: SeriesSpec, latest: datetime) -> Value:
    """One row as a value of the series, or `RowFault` with the first fault found."""
    refuse_unknown_fields(row, FIELDS, noun="values")
    cell = Cell(_segment(row.get("segment"), spec), _start(row.get("at"), spec.grain, latest))
    if "value" not in row:
        raise RowFault("value", "missing_value", "the value is missing")
    value, n, variance = (finite_number(row, name) for name in ("value", "n", "variance"))
    for name, number in (("value", value), ("variance", variance)):
        if number is not None and abs(number) > LARGEST:
            raise RowFault(name, "too_large", f"{number:g} is larger than {LARGEST:g}")
    _check_moments(spec, value, n, variance)
    return Value(cell, value, None if n is None else int(n), variance)


def _segment(value: object, spec: SeriesSpec) -> str:
    text = plain_text(value) if isinstance(value, bool | int | float) and math.isfinite(value) else value
    blank = text is None or (isinstance(text, str) and not text.strip())
    if not spec.dimension:
        if blank:
            return ""
        raise RowFault("segment", "unexpected_segment", f"the series has no dimension that {str(text)[:60]!r} is in")
    if blank or not isinstance(text, str):
        raise RowFault("segment", "missing_segment", f"the row names no {spec.dimension}")
    if len(text.encode(errors="surrogatepass")) > LONGEST_SEGMENT:
        raise RowFault("segment", "too_long", f"the segment is longer than {LONGEST_SEGMENT} bytes")
    if any(c == "\x00" or "\ud800" <= c <= "\udfff" for c in text):
        raise RowFault("segment", "malformed_row", "the segment has characters that cannot be stored")
    if spec.dimension == "arm" and text not in ARMS:
        raise RowFault("segment", "unknown_arm", f"{text[:60]!r} is neither of the arms {' and '.join(ARMS)}")
    return text


def _start(value: object, grain: Grain, latest: datetime) -> datetime:
    """The start of a period; days and weeks may be named by their date alone."""
    if grain != "hour" and isinstance(value, str) and _DATE.fullmatch(value.strip()):
        value = value.strip() + "T00:00:00Z"
    at = read_time(value, "at", latest)
    if at.year < FIRST_YEAR:
        raise RowFault("at", "invalid_timestamp", f"{at.isoformat()} lies before {FIRST_YEAR}")
    start = start_of_period(at, grain)
    if at != start:
        raise RowFault("at", "not_a_period_start", f"{_iso(at)} lies within the {grain} that starts at {_iso(start)}")
    return at


def _check_moments(spec: SeriesSpec, value: float | None, n: float | None, variance: float | None) -> None:
    for name, number in (("n", n), ("variance", variance)):
        if number is None:
            continue
        if spec.aggregation != "mean" and spec.dimension != "arm":
            raise RowFault(name, "unexpected_moment", f"the series is of totals, which have no {name}")
        if value is None:
            raise RowFault("value", "missing_value", f"there is {name} without a value")
    if n is not None and (n < 0 or n != math.floor(n) or n > 2**53):
        raise RowFault("n", "invalid_count", f"{n:g} is not a number of units")
    if n == 0:
        raise RowFault("n", "no_units", "a mean of no units is not a value")
    if variance is not None and n is None:
        raise RowFault("n", "missing_count", "there is a variance without the number of units")
    if variance is not None and variance < 0:
        raise RowFault("variance", "negative_variance", f"{variance:g} is below 0")


def _named(cell: Cell) -> str:
    return f"{cell.segment}, {_iso(cell.at)}" if cell.segment else _iso(cell.at)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
