"""Bring a finished experiment in as a user has it: a CSV file with one row per unit."""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched
from pathlib import Path
from typing import Any

from app.cli.client import ApiClient

ROWS_PER_BATCH = 100_000
LONGEST_KEY = 63
TRUE, FALSE = {"true", "t", "yes"}, {"false", "f", "no"}
MISSING = {"", "na", "nan", "null", "none"}


class ImportRefused(ValueError):
    """The file and the options do not fit; the message names the column or row and the remedy."""


def slug(text: str) -> str:
    """A key made of any text: lower-case letters, digits and `_`. Raises `ImportRefused` when nothing is left."""
    made = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:LONGEST_KEY]
    if not made:
        raise ImportRefused(f"no key can be made of {text!r}; rename it")
    return made


def slugs(texts: Iterable[str], *, what: str) -> dict[str, str]:
    """Text -> key. Raises `ImportRefused` where two texts would share one."""
    made: dict[str, str] = {}
    for text in texts:
        key = slug(text)
        if other := next((seen for seen, its in made.items() if its == key and seen != text), None):
            raise ImportRefused(f"the {what} {other!r} and {text!r} would both have the key {key!r}; rename one")
        made[text] = key
    return made


def number(text: str, *, column: str, line: int) -> float | None:
    """A cell as a number: booleans are 1 and 0, an empty cell is missing."""
    cleaned = text.strip().lower()
    if cleaned in MISSING:
        return None
    if cleaned in TRUE or cleaned in FALSE:
        return float(cleaned in TRUE)
    try:
        value = float(cleaned)
    except ValueError as error:
        raise ImportRefused(f"line {line}, column {column!r}: {text!r} is not a number") from error
    if not math.isfinite(value):
        raise ImportRefused(f"line {line}, column {column!r}: {text!r} is not a finite number")
    return value


@dataclass(frozen=True, slots=True)
class UnitFile:
    """What the columns of a unit-level file mean."""

    path: Path
    experiment_key: str
    variant_column: str
    control: str
    metrics: tuple[str, ...]
    at: datetime
    """When the experiment began. The file has no times: exposures and outcomes count then, covariates a day before."""
    days: float = 7.0
    """How long it ran, as planned: a verdict needs to know that whole weeks were observed."""
    unit_column: str | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)
    """metric column -> column with its value before exposure"""
    only_variants: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def ended_at(self) -> datetime:
        """When the experiment ended, which is when it was planned to."""
        return self.at + timedelta(days=self.days)

    @property
    def number_columns(self) -> tuple[str, ...]:
        """Outcomes and covariates, each once."""
        return tuple(dict.fromkeys([*self.metrics, *self.covariates.values()]))

    def rows(self) -> Iterator[tuple[int, str, dict[str, str]]]:
        """Line number, unit and cells of every unit that takes part."""
        wanted = [self.variant_column, *self.number_columns, *([self.unit_column] if self.unit_column else [])]
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                columns = list(reader.fieldnames or [])
                for column in wanted:
                    if column not in columns:
                        raise ImportRefused(f"{self.path.name} has no column {column!r}; it has {', '.join(columns)}")
                for row in reader:
                    line = reader.line_num
                    if any(row[column] is None for column in wanted):
                        raise ImportRefused(f"line {line} has fewer cells than the header")
                    if self.only_variants and row[self.variant_column] not in self.only_variants:
                        continue
                    yield line, row[self.unit_column] if self.unit_column else f"line-{line}", row
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ImportRefused(f"{self.path.name} cannot be read as CSV in UTF-8: {error}") from error


@dataclass(frozen=True, slots=True)
class Profile:
    """What a first pass over the file found."""

    variants: tuple[str, ...]
    """Values of the variant column, the control first."""
    binary: frozenset[str]
    """Metric columns that only hold 0 and 1: proportions."""
    units: int
    missing: Mapping[str, int]
    """Column -> empty cells; each counts as 0."""


def profile(file: UnitFile) -> Profile:
    """Read the whole file once, before anything is sent: every cell must be what the options say it is."""
    sizes: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    binary = set(file.metrics)
    seen: dict[str, int] = {}
    for line, unit, row in file.rows():
        sizes[row[file.variant_column]] += 1
        if not unit.strip():
            raise ImportRefused(f"line {line} has no unit in column {file.unit_column!r}")
        if unit in seen:
            raise ImportRefused(f"unit {unit!r} is on line {seen[unit]} and on line {line}; it may have one row")
        seen[unit] = line
        for column in file.number_columns:
            value = number(row[column], column=column, line=line)
            missing[column] += value is None
            if value not in (None, 0.0, 1.0):
                binary.discard(column)
    if file.control not in sizes:
        raise ImportRefused(f"no row has the control {file.control!r}; the variants are {', '.join(sorted(sizes))}")
    if len(sizes) < 2:
        raise ImportRefused(f"the only variant is {file.control!r}; an experiment has at least two")
    for name in (*file.weights, *file.only_variants):
        if name not in sizes:
            raise ImportRefused(f"no row has the variant {name!r}; the variants are {', '.join(sorted(sizes))}")
    variants = (file.control, *sorted(set(sizes) - {file.control}))
    if file.weights and set(file.weights) != set(variants):
        without = next(name for name in variants if name not in file.weights)
        raise ImportRefused(f"the variant {without!r} has no weight; give one to every variant or to none")
    for column in file.covariates:
        if column not in file.metrics:
            raise ImportRefused(f"the covariate of {column!r} has no metric; the metrics are {', '.join(file.metrics)}")
    empty = {column: count for column, count in missing.items() if count}
    return Profile(variants, frozenset(binary), len(seen), empty)


def definitions(file: UnitFile, found: Profile) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Fact source, metrics and experiment as the API takes them."""
    source = {"kind": "events", "key": f"{file.experiment_key}_facts", "event": f"{file.experiment_key}.facts"}
    columns = slugs(file.number_columns, what="columns")
    metrics = [_metric(file, column, columns, binary=column in found.binary) for column in file.metrics]
    equal = 1 / len(found.variants)
    experiment = {
        "key": file.experiment_key,
        "name": f"Imported from {file.path.name}",
        "data": "events",
        "variants": [
            {"key": key, "name": name, "weight": file.weights.get(name, equal), "is_control": name == file.control}
            for name, key in slugs(found.variants, what="variants").items()
        ],
        "metrics": [
            {"metric_key": metric["key"], "role": "primary" if position == 0 else "secondary"}
            for position, metric in enumerate(metrics)
        ],
        "planned_units": found.units,
        "planned_end_at": file.ended_at.isoformat(),
    }
    return source, metrics, experiment


def _metric(file: UnitFile, column: str, columns: Mapping[str, str], *, binary: bool) -> dict[str, Any]:
    source = f"{file.experiment_key}_facts"
    key = f"{slug(file.experiment_key)}_{columns[column]}"
    if len(key) > LONGEST_KEY:
        raise ImportRefused(f"the key {key!r} is longer than {LONGEST_KEY} characters; shorten --experiment")
    metric: dict[str, Any] = {
        "key": key,
        "name": column,
        "kind": "proportion" if binary else "mean",
        "measure": {"fact_source": source, "aggregation": "sum", "column": columns[column]},
        "window_days": None,
        "pre_period_days": 0,
    }
    if column in file.covariates:
        metric["pre_period_days"] = 2
        covariate = columns[file.covariates[column]]
        metric["covariate"] = {"fact_source": source, "aggregation": "sum", "column": covariate}
    return metric


def exposures(file: UnitFile) -> Iterator[dict[str, Any]]:
    """One exposure per row."""
    at = file.at.isoformat()
    for _, unit, row in file.rows():
        yield {
            "experiment_key": file.experiment_key,
            "unit_id": unit,
            "variant_key": slug(row[file.variant_column]),
            "exposed_at": at,
        }


def facts(file: UnitFile) -> Iterator[dict[str, Any]]:
    """The outcomes at exposure and the covariates a day before; empty cells have no fact, nor have outcomes of zero.

    A covariate of zero is known, and a unit without a fact in the pre-period has no history (METHODS A7).
    """
    event = f"{file.experiment_key}.facts"
    outcome, before = file.at.isoformat(), file.at - timedelta(days=1)
    moments = (
        (outcome, file.metrics),
        (before.isoformat(), tuple(dict.fromkeys(file.covariates.values()))),
    )
    names = slugs(file.number_columns, what="columns")
    for line, unit, row in file.rows():
        for at, columns in moments:
            values = {names[column]: number(row[column], column=column, line=line) for column in columns}
            kept = {name: value for name, value in values.items() if value or (value is not None and at != outcome)}
            if kept:
                yield {"event": event, "unit_id": unit, "occurred_at": at, "properties": kept}


def send(client: ApiClient, stream: str, rows: Iterable[Mapping[str, Any]], *, name: str) -> int:
    """Ingest rows as NDJSON in batches named after the import, so that running it again changes nothing."""
    sent = 0
    for position, batch in enumerate(batched(rows, ROWS_PER_BATCH)):
        body = b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in batch)
        client.ingest(stream, body, batch_id=f"import-{name}-{position}", content_type="application/x-ndjson")
        sent += len(batch)
    return sent


def import_units(client: ApiClient, file: UnitFile, found: Profile | None = None) -> str:
    """Register, start, feed and stop the experiment of a unit-level file; returns the id of its analysis.

    An import that was interrupted can be run again with the same file and options. Another file under the same key is
    refused, because its batches have other content.
    """
    source, metrics, experiment = definitions(file, found or profile(file))
    client.ensure("/v1/fact-sources", source)
    for metric in metrics:
        client.ensure("/v1/metrics", metric)
    client.ensure("/v1/experiments", experiment)
    client.move(file.experiment_key, "start", file.at)
    send(client, "exposures", exposures(file), name=file.experiment_key)
    send(client, "events", facts(file), name=file.experiment_key)
    client.move(file.experiment_key, "stop", file.ended_at)
    analysis = client.post(f"/v1/experiments/{file.experiment_key}/analyses")
    return str(analysis["id"])
