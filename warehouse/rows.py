"""The rules for one row. Whole columns are checked first (`vectors`); only rows of faulty chunks are looked at here."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from warehouse.refused_units import ERASED_UNIT, RefusedUnits
from warehouse.report import RowError

type Stream = Literal["exposures", "events"]
type Scalar = str | float | bool

MAX_UNIT_ID = 200
MAX_NAME = 200
MAX_TEXT = 1000
MAX_ATTRIBUTE_NAME = 100
ATTRIBUTES: Mapping[Stream, tuple[str, str]] = {
    "exposures": ("segments", "segment_"),
    "events": ("properties", "p_"),
}
FIELDS: Mapping[Stream, tuple[str, ...]] = {
    "exposures": ("experiment_key", "unit_id", "variant_key", "exposed_at"),
    "events": ("event", "unit_id", "occurred_at", "value"),
}
TIME_FIELD: Mapping[Stream, str] = {"exposures": "exposed_at", "events": "occurred_at"}
SUBJECT_FIELD: Mapping[Stream, str] = {"exposures": "experiment_key", "events": "event"}


@dataclass(frozen=True, slots=True)
class KnownExperiment:
    """What ingest must know about an experiment. With `reads_exposures` they are rows of a fact source."""

    variants: frozenset[str]
    started: bool
    takes_exposures: bool
    reads_exposures: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What a batch is checked against. `crossed` are (experiment, unit) found in two variants of this very batch.

    `refused`: units that were erased and must not come back.
    """

    stream: Stream
    latest: datetime
    experiments: Mapping[str, KnownExperiment]
    crossed: frozenset[tuple[str, str]] = frozenset()
    refused: RefusedUnits | None = None


class RowFault(Exception):
    """A row cannot be taken."""

    def __init__(self, field: str, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.field, self.reason, self.detail = field, reason, detail

    def at(self, row: int) -> RowError:
        return RowError(row, self.field, self.reason, self.detail)


def check_row(record: object, rules: Rules) -> dict[str, Any]:
    """The row in normal form (`segment_x` or `p_x` columns), or `RowFault` with the first fault found."""
    if not isinstance(record, Mapping):
        raise RowFault("", "malformed_row", "the row is not an object")
    fields, attributes = _split(record, rules.stream)
    if rules.refused is not None and rules.refused.refuses(
        str(fields.get(SUBJECT_FIELD[rules.stream])), str(fields.get("unit_id"))
    ):
        # Before anything else: rows that are refused for other reasons are kept, ids and all.
        raise RowFault("unit_id", ERASED_UNIT, "the unit was erased, and its new rows are refused")
    at = read_time(fields.get(TIME_FIELD[rules.stream]), TIME_FIELD[rules.stream], rules.latest)
    unit = _text(fields.get("unit_id"), "unit_id", "missing_unit_id", MAX_UNIT_ID)
    if rules.stream == "exposures":
        experiment = _text(fields.get("experiment_key"), "experiment_key", "missing_experiment", MAX_NAME)
        variant = _text(fields.get("variant_key"), "variant_key", "missing_variant", MAX_NAME)
        _check_experiment(experiment, variant, rules)
        if (experiment, unit) in rules.crossed:
            raise RowFault("variant_key", "unit_in_two_variants", f"unit {unit!r} is in two variants of {experiment!r}")
        normal = {"experiment_key": experiment, "unit_id": unit, "variant_key": variant, "exposed_at": at}
    else:
        event = _text(fields.get("event"), "event", "missing_event", MAX_NAME)
        value = _number(fields.get("value"))
        normal = {"event": event, "unit_id": unit, "occurred_at": at, "value": value}
    return {**normal, **attributes}


def attribute_column(name: str, stream: Stream) -> str:
    """The stored column of a segment or property. The engine ignores case in names: they are kept in lower case."""
    return ATTRIBUTES[stream][1] + name.lower()


def is_attribute_name(name: str) -> bool:
    """Whether a segment or property may have this name."""
    return 0 < len(name) <= MAX_ATTRIBUTE_NAME and all(c.isalnum() or c in " ._-" for c in name)


def _split(record: Mapping[Any, Any], stream: Stream) -> tuple[dict[str, Any], dict[str, Scalar]]:
    nested, prefix = ATTRIBUTES[stream]
    fields: dict[str, Any] = {}
    attributes: dict[str, Scalar] = {}
    clean: Callable[[str, object], Scalar | None] = _segment if stream == "exposures" else _property

    def add(name: str, value: object, place: str) -> None:
        if not is_attribute_name(name):
            raise RowFault(place, "invalid_name", f"{name[:120]!r} is not a name for one of the {nested}")
        column = attribute_column(name, stream)
        if column in attributes:
            raise RowFault(place, "duplicate_field", f"{name!r} is there twice")
        kept = clean(place, value)
        if kept is not None:
            attributes[column] = kept

    for key, value in record.items():
        name = str(key)
        if name in FIELDS[stream]:
            fields[name] = value
        elif name == nested:
            for inner, item in _pairs(value, nested):
                add(inner, item, f"{nested}/{inner}")
        elif name.startswith(prefix):
            add(name.removeprefix(prefix), value, name)
        else:
            raise RowFault(name[:100], "unknown_field", f"{name[:100]!r} is not a field of {stream}")
    return fields, attributes


def _pairs(value: object, nested: str) -> list[tuple[str, object]]:
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [(str(name), item) for name, item in value.items()]
    if isinstance(value, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return [(str(name), item) for name, item in value]  # a Parquet map
    raise RowFault(nested, "invalid_attribute", f"{nested} is not an object")


def _segment(place: str, value: object) -> str | None:
    plain = _property(place, value)
    return plain if plain is None or isinstance(plain, str) else plain_text(plain)


def _property(place: str, value: object) -> Scalar | None:
    if value is None:
        return None
    if isinstance(value, str):
        _check_text(value, place, MAX_TEXT)
        return value or None
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float | Decimal):
        number = float(value)
        if not math.isfinite(number):
            raise RowFault(place, "non_finite_value", f"{value} is not a finite number")
        return number if abs(number) <= 2**53 else str(value)
    raise RowFault(place, "invalid_attribute", f"a {type(value).__name__} is not a plain value")


def plain_text(value: float | bool) -> str:
    """A number or truth value as text: 30 (not 30.0), 30.5, true."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if value == int(value) else repr(value)


def _text(value: object, field: str, missing: str, longest: int) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and field == "unit_id":
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RowFault(field, missing, f"{field} is missing or blank")
    if not isinstance(value, str):
        raise RowFault(field, missing, f"{field} is not text")
    _check_text(value, field, longest)
    return value


def _check_text(value: str, field: str, longest: int) -> None:
    if len(value.encode(errors="surrogatepass")) > longest:
        raise RowFault(field, "too_long", f"{field} is longer than {longest} bytes")
    if "\x00" in value:
        raise RowFault(field, "malformed_row", f"{field} contains the character U+0000")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise RowFault(field, "malformed_row", f"{field} is not valid UTF-8")


def read_time(value: object, field: str, latest: datetime) -> datetime:
    """An aware time not after `latest`, in UTC; `RowFault` otherwise."""
    if value is None or value == "":
        raise RowFault(field, "missing_timestamp", f"{field} is missing")
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value.strip())
        except ValueError:
            raise RowFault(field, "invalid_timestamp", f"{value[:60]!r} is not an ISO-8601 time") from None
    elif isinstance(value, datetime):
        at = value
    else:
        raise RowFault(field, "invalid_timestamp", f"{str(value)[:60]!r} is not an ISO-8601 time")
    if at.tzinfo is None:
        raise RowFault(field, "naive_timestamp", f"{str(value)[:60]!r} has no time zone")
    try:
        at = at.astimezone(UTC)
    except OverflowError:
        raise RowFault(field, "invalid_timestamp", f"{str(value)[:60]!r} is out of range") from None
    if at > latest:
        raise RowFault(field, "future_timestamp", f"{at.isoformat()} lies in the future")
    return at


def _number(value: object) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise RowFault("value", "non_numeric_value", f"{str(value)[:60]!r} is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise RowFault("value", "non_numeric_value", f"{str(value)[:60]!r} is not a number") from None
    if not math.isfinite(number):
        raise RowFault("value", "non_finite_value", f"{str(value)[:60]} is not a finite number")
    return number


def _check_experiment(experiment: str, variant: str, rules: Rules) -> None:
    known = rules.experiments.get(experiment)
    if known is None:
        raise RowFault("experiment_key", "unknown_experiment", f"there is no experiment {experiment!r}")
    if known.reads_exposures:
        detail = f"experiment {experiment!r} reads its exposures from a fact source"
        raise RowFault("experiment_key", "exposures_read_elsewhere", detail)
    if not known.takes_exposures:
        raise RowFault("experiment_key", "summary_experiment", f"experiment {experiment!r} takes summaries")
    if not known.started:
        raise RowFault("experiment_key", "experiment_not_started", f"experiment {experiment!r} has not been started")
    if variant not in known.variants:
        raise RowFault("variant_key", "unknown_variant", f"experiment {experiment!r} has no variant {variant!r}")
