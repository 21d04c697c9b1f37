"""Whole columns to the stored form: a chunk without faults is accepted here without looking at single rows.

`rows` holds the rules; this module may only be stricter. It answers with the finished table, or with None when any row
might break a rule, and then every row of the chunk is looked at. Types that do not match also make it None.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from warehouse.engine import epoch_us
from warehouse.rows import (
    ATTRIBUTES,
    FIELDS,
    MAX_NAME,
    MAX_TEXT,
    MAX_UNIT_ID,
    TIME_FIELD,
    Rules,
    Stream,
    attribute_column,
    is_attribute_name,
    plain_text,
)

type Column = Any
"""A pyarrow ChunkedArray. The published stubs give pyarrow's compute functions too narrow types, so they are Any."""
pc: Any = pyarrow.compute

TIME = pa.timestamp("us", tz="UTC")
_FIRST_US = epoch_us(datetime(1, 1, 1, tzinfo=UTC))
"""Times have a year."""
FEW = frozenset({"experiment_key", "variant_key", "event"})
FEW_TEXTS: Any = pa.dictionary(pa.int32(), pa.string())
"""How columns with few different texts (`FEW`) are held: checked and written once per text and not once per row."""
EXACT_INTEGERS = 2**53
MOST_PAIRS = 1 << 24
"""Experiments by variants that a chunk may name, or its rows are looked at one by one."""
# Numbers that a reader of text would take for nothing else; 0123 and 20-digit ids stay text.
PLAIN_NUMBER = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?([eE][-+]?[0-9]{1,2})?$"


class NotUniform(Exception):
    """The chunk cannot be taken as a whole."""


def accept(table: pa.Table, rules: Rules) -> pa.Table | None:
    """The chunk in stored form, or None when its rows must be looked at one by one."""
    try:
        columns = dict(_fields(table, rules))
        _check_subjects(columns, rules)
        if rules.refused is not None and rules.refused.any_of(columns["unit_id"].unique().to_pylist()):
            return None
        columns.update(_attributes(table, rules.stream))
    except (NotUniform, pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return None
    # Not pa.table(columns): that imports pandas, half a second of CPU, only to see that nothing is of pandas.
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def from_rows(rows: list[dict[str, Any]], stream: Stream) -> pa.Table:
    """Rows in normal form (`rows.check_row`) as a table in stored form."""
    types = {
        name: TIME if name == TIME_FIELD[stream] else pa.float64() if name == "value" else pa.string()
        for name in FIELDS[stream]
    }
    columns = {name: pa.array([row[name] for row in rows], type=kind) for name, kind in types.items()}
    columns |= {name: columns[name].cast(FEW_TEXTS) for name in FEW & columns.keys()}
    names = dict.fromkeys(name for row in rows for name in row if name not in types)
    for name in names:
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) > 1:
            values = [value if value is None or isinstance(value, str) else plain_text(value) for value in values]
        columns[name] = pa.array(values)
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def type_texts(table: pa.Table, stream: Stream) -> pa.Table:
    """Properties that arrived as text without types (CSV): numbers and truth values where all texts are such."""
    if stream == "exposures":
        return table
    for i, name in enumerate(table.column_names):
        if name.startswith(ATTRIBUTES[stream][1]):
            table = table.set_column(i, name, _typed(table.column(name)))
    return table


def _fields(table: pa.Table, rules: Rules) -> Iterator[tuple[str, Column]]:
    stream = rules.stream
    for name in FIELDS[stream]:
        if name not in table.column_names:
            if name != "value":
                raise NotUniform
            yield name, pa.chunked_array([pa.nulls(table.num_rows, pa.float64())])
        elif name == "value":
            yield name, _finite(table.column(name))
        elif name == TIME_FIELD[stream]:
            yield name, _times(table.column(name), rules.latest)
        elif name == "unit_id":
            yield name, _units(table.column(name))
        else:
            yield name, _few_texts(table.column(name))


def _units(column: Column) -> Column:
    column = _plain(column)
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    return _names(column, MAX_UNIT_ID)


def _few_texts(column: Column) -> Column:
    """Text with each value once: what holds of the values holds of all rows."""
    if not pa.types.is_dictionary(column.type):
        if not _is_text(column.type) or column.null_count:
            raise NotUniform
        column = column.cast(pa.string()).dictionary_encode()
    if not _is_text(column.type.value_type) or column.null_count:
        raise NotUniform
    column = column.cast(FEW_TEXTS).unify_dictionaries()
    if column.num_chunks:
        _names(column.chunk(0).dictionary, MAX_NAME)
    return column


def _names(column: Column, longest: int) -> Column:
    """Text where none is null, blank, too long, or not UTF-8."""
    if not _is_text(column.type) or column.null_count:
        raise NotUniform
    column = column.cast(pa.string())
    printed = _check_characters(column)
    lengths: dict[str, int] = pc.min_max(pc.binary_length(column)).as_py()
    if len(column) and (lengths["min"] < 1 or lengths["max"] > longest):
        raise NotUniform
    if not printed and pc.any(pc.utf8_is_space(column)).as_py():
        raise NotUniform
    return column


def _times(column: Column, latest: datetime) -> Column:
    column = _plain(column)
    kind = column.type
    if column.null_count or not (_is_text(kind) or (pa.types.is_timestamp(kind) and kind.tz is not None)):
        raise NotUniform
    # Nanoseconds lose digits; whole seconds must not run over into another century.
    times = column.cast(TIME, safe=pa.types.is_timestamp(kind) and kind.unit != "ns")
    bounds = pc.min_max(times.cast(pa.int64())).as_py()
    if len(times) and (bounds["max"] > epoch_us(latest) or bounds["min"] < _FIRST_US):
        raise NotUniform
    return times


def _finite(column: Column) -> Column:
    column = _plain(column)
    if pa.types.is_boolean(column.type):
        raise NotUniform
    if pa.types.is_decimal(column.type):
        # By way of text, which is rounded once: the direct cast makes 19.990000000000002 of 19.99.
        column = column.cast(pa.string())
    numbers = column.cast(pa.float64(), safe=False) if not _is_text(column.type) else column.cast(pa.float64())
    if pc.all(pc.is_finite(numbers)).as_py() is False:
        raise NotUniform
    return numbers


def _check_subjects(columns: Mapping[str, Column], rules: Rules) -> None:
    if rules.stream == "events":
        return
    named, shown = columns["experiment_key"].combine_chunks(), columns["variant_key"].combine_chunks()
    keys, variants = named.dictionary.to_pylist(), shown.dictionary.to_pylist()
    if len(keys) * len(variants) > MOST_PAIRS:
        raise NotUniform
    pairs = shown.indices.to_numpy()
    if len(keys) > 1:
        pairs = named.indices.to_numpy() * np.int32(len(variants)) + pairs
    for pair in numbers_in(pairs, len(keys) * len(variants)):
        key, variant = keys[pair // len(variants)], variants[pair % len(variants)]
        known = rules.experiments.get(key)
        if known is None or not (known.started and known.takes_exposures) or variant not in known.variants:
            raise NotUniform
    if rules.crossed:
        units = pa.array(list({unit for _, unit in rules.crossed}))
        if pc.any(pc.is_in(columns["unit_id"], value_set=units)).as_py():
            raise NotUniform


def numbers_in(codes: NDArray[np.int32], size: int) -> list[int]:
    """Which of the numbers below `size` are among these, in order; not by sorting, as there are few."""
    if size <= 1:
        return [0][: len(codes)]
    if size < 1 << 4:
        narrow = codes.astype(np.uint8)
        return [number for number in range(size) if (narrow == number).any()]
    there = np.zeros(size, np.bool_)
    there[codes] = True
    return [int(number) for number in np.flatnonzero(there)]


def _attributes(table: pa.Table, stream: Stream) -> Iterator[tuple[str, Column]]:
    nested, prefix = ATTRIBUTES[stream]
    seen: set[str] = set()
    for name, column in _named(table, stream):
        stored = attribute_column(name, stream)
        if stored in seen or not is_attribute_name(name):
            raise NotUniform
        seen.add(stored)
        value = _scalar(_plain(column), as_text=stream == "exposures")
        if value is not None:
            yield stored, value
    known = {*FIELDS[stream], nested}
    if any(name not in known and not name.startswith(prefix) for name in table.column_names):
        raise NotUniform


def _named(table: pa.Table, stream: Stream) -> Iterator[tuple[str, Column]]:
    nested, prefix = ATTRIBUTES[stream]
    for name in table.column_names:
        column = table.column(name)
        if name == nested and not pa.types.is_null(column.type):
            if not pa.types.is_struct(column.type):
                raise NotUniform
            flat = pa.Table.from_arrays([column], names=[nested]).flatten()
            yield from ((full.removeprefix(nested + "."), flat.column(full)) for full in flat.column_names)
        elif name.startswith(prefix):
            yield name.removeprefix(prefix), column


def _scalar(column: Column, *, as_text: bool) -> Column | None:
    """A segment or property in stored form: DOUBLE, BOOLEAN or text; None when nobody has it."""
    kind = column.type
    if column.null_count == len(column):
        return None
    if pa.types.is_boolean(kind):
        return column.cast(pa.string()) if as_text else column
    if _is_text(kind):
        column = column.cast(pa.string())
        _check_characters(column)
        lengths = pc.min_max(pc.binary_length(column)).as_py()
        if lengths["max"] > MAX_TEXT:
            raise NotUniform
        if lengths["min"] == 0:
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
        return column if column.null_count < len(column) else None
    if pa.types.is_integer(kind):
        bounds = pc.min_max(column).as_py()
        if as_text:
            return column.cast(pa.string())
        if max(abs(bounds["min"]), abs(bounds["max"])) > EXACT_INTEGERS:
            raise NotUniform
        return column.cast(pa.float64())
    if (pa.types.is_floating(kind) or pa.types.is_decimal(kind)) and not as_text:
        numbers = _finite(column)
        if pc.max(pc.abs(numbers)).as_py() > EXACT_INTEGERS:
            raise NotUniform
        return numbers
    raise NotUniform


def _check_characters(column: Column) -> bool:
    """Text must be UTF-8 (`ArrowInvalid`), and without U+0000, which databases and many readers of Parquet refuse.

    Whether it is plain ASCII without any white space, as ids are, so that nothing else has to be asked of it.
    """
    lowest, highest = 0x7F, 0
    chunks: Any = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    for chunk in chunks:
        _, offsets, characters = chunk.buffers()
        if len(chunk) and offsets is not None and characters is not None and characters.size:
            first, last = np.frombuffer(offsets, np.int32)[[chunk.offset, chunk.offset + len(chunk)]]
            if last > first:
                found = np.frombuffer(characters, np.uint8)[first:last]
                lowest, highest = min(lowest, int(found.min())), max(highest, int(found.max()))
    if lowest == 0:
        raise NotUniform
    if highest > 0x7F:
        column.validate(full=True)
    return lowest > 0x20 and highest < 0x7F


def _typed(column: Column) -> Column:
    if not _is_text(column.type):
        return column
    if pc.all(pc.match_substring_regex(column, PLAIN_NUMBER)).as_py():
        return column.cast(pa.float64())
    if pc.all(pc.is_in(column, value_set=pa.array(["true", "false"]))).as_py() and not column.null_count:
        return pc.equal(column, "true")
    if pc.all(pc.is_in(column.drop_null(), value_set=pa.array(["true", "false"]))).as_py():
        return pc.if_else(pc.is_null(column), pa.scalar(None, pa.bool_()), pc.equal(column, "true"))
    return column


def _plain(column: Column) -> Column:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
