"""The analysis plan: frozen, canonical, hashed. A result is a pure function of it, the data, the seed and the code."""

import hashlib
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from experiments.definitions import (
    Definition,
    Direction,
    Estimation,
    FactSourceSpec,
    MetricSpec,
    NorthStarSpec,
    Role,
    Trigger,
    Variant,
)
from experiments.types import canonical_json


class PlannedMetric(Definition):
    """A metric as planned: its use and the very version of its definition."""

    metric_key: str
    version: int
    role: Role
    direction: Direction
    mde: float | None
    non_inferiority_margin: float | None
    spec: MetricSpec


class PlannedNorthStar(Definition):
    """The North Star as it was defined when the plan was frozen. Its metrics are among `AnalysisPlan.metrics`."""

    version: int
    spec: NorthStarSpec


class AnalysisPlan(Definition):
    """What will be analysed and how. `metrics` holds every metric needed: those of the team, then those the North Star

    tree and formula metrics need (role `monitor`), each once. `variants` has the control first.
    """

    kind: Literal["experiment"] = "experiment"
    schema_version: int = 1
    experiment_key: str
    unit_type: str
    data: Literal["events", "summary"]
    variants: list[Variant]
    metrics: list[PlannedMetric]
    fact_sources: list[FactSourceSpec]
    north_star: PlannedNorthStar | None
    segments: list[str]
    purpose: Literal["test", "aa"] = "test"
    cluster: str | None = None
    trigger: Trigger | None = None
    two_way_segments: list[tuple[str, str]] = Field(default_factory=list)
    planned_units: int | None
    planned_end_at: AwareDatetime | None
    estimation: Estimation


class NorthStarPlan(Definition):
    """A weekly series of a North Star and its inputs."""

    kind: Literal["north_star"] = "north_star"
    schema_version: int = 1
    north_star: PlannedNorthStar
    metrics: list[PlannedMetric]
    fact_sources: list[FactSourceSpec]
    weeks: int = 52


class BaselinePlan(Definition):
    """History of metrics for planning: per-unit mean and variance, and how fast units accumulate (METHODS A14)."""

    kind: Literal["baseline"] = "baseline"
    schema_version: int = 1
    unit_type: str
    metrics: list[PlannedMetric]
    fact_sources: list[FactSourceSpec]
    weeks: int = 8


type Plan = AnalysisPlan | NorthStarPlan | BaselinePlan


def document(plan: Plan) -> dict[str, Any]:
    """The plan as stored: JSON-compatible, complete (defaults included)."""
    return plan.model_dump(mode="json")


def plan_hash(plan_document: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(plan_document)).hexdigest()


def load(plan_document: dict[str, Any]) -> Plan:
    """The plan behind a stored document."""
    models: dict[str, type[AnalysisPlan] | type[NorthStarPlan] | type[BaselinePlan]] = {
        "experiment": AnalysisPlan,
        "north_star": NorthStarPlan,
        "baseline": BaselinePlan,
    }
    return models[plan_document["kind"]].model_validate(plan_document)
