"""Bring a finished experiment in as a user has it: one row per unit in a CSV file, or summaries per variant and day."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from app.cli.client import ApiClient

ROWS_PER_BATCH = 100_000
TRUE, FALSE = {"true", "t", "yes"}, {"false", "f", "no"}


class ImportRefused(ValueError):
    """The file and the options do not fit; the message names the column or row and the remedy."""


def slug(text: str) -> str:
    """A key made of any text."""
    made = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:62]
    if not made:
        raise ImportRefused(f"no key can be made of {text!r}; rename it")
    return made


def number(text: str, *, column: str, line: int) -> float | None:
    """A cell as a number: booleans are 1 and 0, an empty cell is missing."""
    cleaned = text.strip().lower()
    if cleaned in ("", "na", "null"):
        return None
    if cleaned in TRUE or cleaned in FALSE:
        return float(cleaned in TRUE)
    try:
        return float(cleaned)
    except ValueError as error:
        raise ImportRefused(f"line {line}, column {column!r}: {text!r} is not a number") from error


@dataclass(frozen=True, slots=True)
class UnitFile:
    """What the columns of a unit-level file mean."""

    path: Path
    experiment_key: str
    variant_column: str
    control: str
    metrics: tuple[str, ...]
    at: datetime
    """When the units were exposed, for files without a time; outcomes count at that time, covariates a day before."""
    unit_column: str | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)
    """metric column -> column with its value before exposure"""
    only_variants: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Line number and row of every unit that takes part."""
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            wanted = [self.variant_column, *self.metrics, *self.covariates.values()]
            wanted += [self.unit_column] if self.unit_column else []
            missing = [column for column in wanted if column not in (reader.fieldnames or [])]
            if missing:
                raise ImportRefused(f"{self.path.name} has no column {missing[0]!r}; it has {reader.fieldnames}")
            for line, row in enumerate(reader, start=2):
                if not self.only_variants or row[self.variant_column] in self.only_variants:
                    yield line, row


@dataclass(frozen=True, slots=True)
class Profile:
    """What a first pass over the file found."""

    variants: tuple[str, ...]
    """Values of the variant column, the control first."""
    binary: frozenset[str]
    """Metric columns that only hold 0 and 1: proportions."""
    units: int


def profile(file: UnitFile) -> Profile:
    """Read the file once: its variants, which metrics are proportions, how many units."""
    seen: dict[str, int] = {}
    binary = set(file.metrics)
    units = 0
    for line, row in file.rows():
        units += 1
        seen[row[file.variant_column]] = seen.get(row[file.variant_column], 0) + 1
        for column in tuple(binary):
            if number(row[column], column=column, line=line) not in (None, 0.0, 1.0):
                binary.discard(column)
    if file.control not in seen:
        raise ImportRefused(f"no row has the control {file.control!r}; the variants are {sorted(seen)}")
    if len(seen) < 2:
        raise ImportRefused(f"the only variant is {file.control!r}; an experiment has at least two")
    others = sorted(set(seen) - {file.control})
    return Profile((file.control, *others), frozenset(binary), units)


def definitions(file: UnitFile, found: Profile) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Fact source, metrics and experiment as the API takes them."""
    source = {"kind": "events", "key": f"{file.experiment_key}_facts", "event": f"{file.experiment_key}.facts"}
    metrics = [_metric(file, column, binary=column in found.binary) for column in file.metrics]
    equal = 1 / len(found.variants)
    experiment = {
        "key": file.experiment_key,
        "name": f"Imported from {file.path.name}",
        "data": "events",
        "variants": [
            {
                "key": slug(name),
                "name": name,
                "weight": file.weights.get(name, equal),
                "is_control": name == file.control,
            }
            for name in found.variants
        ],
        "metrics": [
            {"metric_key": metric["key"], "role": "primary" if position == 0 else "secondary"}
            for position, metric in enumerate(metrics)
        ],
        "planned_units": found.units,
    }
    return source, metrics, experiment


def _metric(file: UnitFile, column: str, *, binary: bool) -> dict[str, Any]:
    source = f"{file.experiment_key}_facts"
    metric: dict[str, Any] = {
        "key": f"{slug(file.experiment_key)}_{slug(column)}",
        "name": column,
        "kind": "proportion" if binary else "mean",
        "measure": {"fact_source": source, "aggregation": "sum", "column": slug(column)},
        "window_days": None,
        "pre_period_days": 0,
    }
    if column in file.covariates:
        metric["pre_period_days"] = 2
        covariate = slug(file.covariates[column])
        metric["covariate"] = {"fact_source": source, "aggregation": "sum", "column": covariate}
    return metric


def exposures(file: UnitFile) -> Iterator[dict[str, Any]]:
    """One exposure per row."""
    for line, row in file.rows():
        yield {
            "experiment_key": file.experiment_key,
            "unit_id": row[file.unit_column] if file.unit_column else f"row-{line}",
            "variant_key": slug(row[file.variant_column]),
            "exposed_at": file.at.isoformat(),
        }


def facts(file: UnitFile) -> Iterator[dict[str, Any]]:
    """The outcomes at exposure and the covariates a day before; zeros need no fact."""
    event = f"{file.experiment_key}.facts"
    before = (file.at - timedelta(days=1)).isoformat()
    for line, row in file.rows():
        unit = row[file.unit_column] if file.unit_column else f"row-{line}"
        for at, columns in ((file.at.isoformat(), file.metrics), (before, tuple(file.covariates.values()))):
            values = {slug(column): number(row[column], column=column, line=line) for column in columns}
            kept = {name: value for name, value in values.items() if value}
            if kept:
                yield {"event": event, "unit_id": unit, "occurred_at": at, "properties": kept}


def send(client: ApiClient, stream: str, rows: Iterable[Mapping[str, Any]], *, name: str) -> int:
    """Ingest rows as NDJSON in batches named after the import, so that running it again changes nothing."""
    sent = 0
    for position, batch in enumerate(_batches(rows)):
        body = b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in batch)
        client.ingest(stream, body, batch_id=f"import-{name}-{position}", content_type="application/x-ndjson")
        sent += len(batch)
    return sent


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def import_units(client: ApiClient, file: UnitFile) -> str:
    """Register, start, feed and stop the experiment of a unit-level file; returns the id of its analysis."""
    found = profile(file)
    source, metrics, experiment = definitions(file, found)
    client.post("/v1/fact-sources", source)
    for metric in metrics:
        client.post("/v1/metrics", metric)
    client.post("/v1/experiments", experiment)
    client.post(f"/v1/experiments/{file.experiment_key}/start", {"at": file.at.isoformat()})
    send(client, "exposures", exposures(file), name=file.experiment_key)
    send(client, "events", facts(file), name=file.experiment_key)
    stopped_at = file.at + timedelta(days=1)
    client.post(f"/v1/experiments/{file.experiment_key}/stop", {"at": stopped_at.isoformat()})
    analysis = client.post(f"/v1/experiments/{file.experiment_key}/analyses")
    return str(analysis["id"])


def import_summaries(client: ApiClient, experiment_key: str, rows: Sequence[Mapping[str, Any]], *, name: str) -> None:
    """Send cumulative summaries (metric_key, variant_key, as_of, n, mean, variance) of a registered experiment."""
    body = {"batch_id": f"import-{name}", "summaries": list(rows)}
    client.post(f"/v1/experiments/{experiment_key}/summaries", body)
