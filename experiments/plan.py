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


class PlannedPrior(Definition):
    """A learned prior as it was when the plan was frozen (METHODS C3): a mixture of normals on the log lift.

    `components` are (weight, mean, sd); `prior_id` is the analysis that learned it, from so many past `experiments`:
    those of one team where teams differ (`stratum`), never the experiment itself.
    """

    prior_id: str
    version: int
    experiments: int
    mean: float
    scale: float
    components: list[tuple[float, float, float]]
    stratum: str | None = None


class PlannedMetric(Definition):
    """A metric as planned: its use and the very version of its definition."""

    metric_key: str
    version: int
    role: Role
    direction: Direction
    mde: float | None
    non_inferiority_margin: float | None
    spec: MetricSpec
    prior: PlannedPrior | None = None


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


class PriorEvidence(Definition):
    """What one past experiment measured: the input of a learned prior. `stratum` is the team that ran it."""

    experiment_key: str
    variant_key: str
    stratum: str | None
    log_lift: float
    standard_error: float


class PriorPlan(Definition):
    """Learning the prior of a metric from all past experiments, shipped or not (METHODS C3)."""

    kind: Literal["prior"] = "prior"
    schema_version: int = 1
    metric_key: str
    version: int
    effects: list[PriorEvidence]


type DataPlan = AnalysisPlan | NorthStarPlan | BaselinePlan
"""The plans that are about data in the store."""
type Plan = DataPlan | PriorPlan


def document(plan: Plan) -> dict[str, Any]:
    """The plan as stored: JSON-compatible, complete (defaults included)."""
    return plan.model_dump(mode="json")


def plan_hash(plan_document: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(plan_document)).hexdigest()


def load(plan_document: dict[str, Any]) -> Plan:
    """The plan behind a stored document."""
    models: dict[str, type[AnalysisPlan] | type[NorthStarPlan] | type[BaselinePlan] | type[PriorPlan]] = {
        "experiment": AnalysisPlan,
        "north_star": NorthStarPlan,
        "baseline": BaselinePlan,
        "prior": PriorPlan,
    }
    return models[plan_document["kind"]].model_validate(plan_document)
