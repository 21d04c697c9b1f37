"""Definitions as code: connections, fact sources, metrics, series, North Stars and launches in a YAML file."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.cli.client import ApiClient, ApiProblem
from experiments.definitions import ConnectionSpec, FactSourceSpec, LaunchSpec, MetricSpec, NorthStarSpec, SeriesSpec

# In the order in which they may refer to each other.
KINDS: tuple[tuple[str, str, TypeAdapter[Any]], ...] = (
    ("connections", "connections", TypeAdapter(ConnectionSpec)),
    ("fact_sources", "fact-sources", TypeAdapter(FactSourceSpec)),
    ("metrics", "metrics", TypeAdapter(MetricSpec)),
    ("series", "series", TypeAdapter(SeriesSpec)),
    ("north_stars", "north-stars", TypeAdapter(NorthStarSpec)),
    ("launches", "launches", TypeAdapter(LaunchSpec)),
)


class DefinitionsUnreadable(ValueError):
    """The file is not what `apply` takes; the message says where."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happened (or would happen) to one definition; `warnings` are what the service thinks is wrong with it."""

    action: Literal["created", "changed", "unchanged"]
    kind: str
    key: str
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.action:9} {self.kind}/{self.key}", *(f"          {text}" for text in self.warnings)])


def read_definitions(path: Path) -> dict[str, list[BaseModel]]:
    """Parse and validate the file completely before anything is sent."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DefinitionsUnreadable(f"{path.name} is not YAML: {error}") from error
    if not isinstance(document, Mapping):
        raise DefinitionsUnreadable(f"{path.name} must hold a mapping with {', '.join(kind for kind, *_ in KINDS)}")
    unknown = sorted(set(document) - {kind for kind, *_ in KINDS})
    if unknown:
        raise DefinitionsUnreadable(f"{path.name}: unknown section {unknown[0]!r}")
    found: dict[str, list[BaseModel]] = {}
    for kind, _, adapter in KINDS:
        found[kind] = []
        items = document.get(kind) or []
        if not isinstance(items, list):
            raise DefinitionsUnreadable(f"{path.name}: `{kind}` must be a list")
        for position, item in enumerate(items):
            try:
                found[kind].append(adapter.validate_python(item))
            except ValidationError as error:
                faults = "; ".join(f"{'/'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
                raise DefinitionsUnreadable(f"{path.name}, {kind}[{position}]: {faults}") from error
        keys = Counter(str(definition.model_dump(include={"key"})["key"]) for definition in found[kind])
        if repeated := [key for key, count in keys.items() if count > 1]:
            raise DefinitionsUnreadable(f"{path.name}, {kind}: the key {repeated[0]!r} appears twice")
    return found


def apply_definitions(
    client: ApiClient, definitions: Mapping[str, list[BaseModel]], *, dry_run: bool = False
) -> Iterator[Change]:
    """Create what is missing and change what differs; what the file does not name stays as it is."""
    for kind, noun, adapter in KINDS:
        # Units are mapped by sources that have no mapping themselves.
        for wanted in sorted(definitions.get(kind, []), key=lambda one: getattr(one, "unit_mapping", None) is not None):
            document = wanted.model_dump(mode="json")
            key = str(document["key"])
            current = _current(client, f"/v1/{noun}/{key}")
            if current is None:
                written = {} if dry_run else client.post(f"/v1/{noun}", document)
                yield Change("created", kind, key, _warnings(written))
            elif _definition(current, document, adapter) == wanted:
                yield Change("unchanged", kind, key)
            else:
                written = {} if dry_run else client.put(f"/v1/{noun}/{key}", document)
                yield Change("changed", kind, key, _warnings(written))


def _warnings(written: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{defect['detail']} {defect['remedy']}" for defect in written.get("defects", ()))


def _current(client: ApiClient, path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.get(path)
    except ApiProblem as problem:
        if problem.status == 404:
            return None
        raise
    return found


def _definition(current: Mapping[str, Any], document: Mapping[str, Any], adapter: TypeAdapter[Any]) -> BaseModel:
    """The definition inside what the API returned, without the fields that the service adds."""
    stored = current.get("definition", current)
    found: BaseModel = adapter.validate_python({name: stored[name] for name in document if name in stored})
    return found
