"""Definitions as people write them (JSON or YAML): fact sources, metrics, North Stars, experiments, launches.

These models validate input and are what is stored, versioned and hashed. Tables keep them as canonical JSON.
"""

from experiments.definitions.connection import ConnectionSpec, PostgresConnection, SparkConnection
from experiments.definitions.elements import KEY_PATTERN, Definition, Direction, Key, MetricKey, Moment, Stage
from experiments.definitions.estimation import Beliefs, Estimation, Sequential
from experiments.definitions.experiment import (
    DeclaredShare,
    ExperimentSpec,
    ExposureSource,
    PlanMetric,
    Role,
    Trigger,
    Variant,
)
from experiments.definitions.facts import (
    DuckDBSource,
    EventSource,
    FactSourceSpec,
    FileSource,
    Place,
    TableSource,
    UnitMapping,
    place_of,
)
from experiments.definitions.filters import Filter
from experiments.definitions.growth_review import ReviewSpec
from experiments.definitions.holdout import HoldoutSpec
from experiments.definitions.launch import (
    Confounder,
    DecisionSpec,
    Eligible,
    LaunchMeasurement,
    LaunchSpec,
    Mechanism,
    RolloutStep,
)
from experiments.definitions.metric import Cap, FunnelStep, Measure, MetricKind, MetricSpec
from experiments.definitions.north_star import InputMetric, NorthStarSpec, Omtm, OutsideInfluence, Stock, Target
from experiments.definitions.series import Grain, SeriesSpec

__all__ = [
    "KEY_PATTERN",
    "Beliefs",
    "Cap",
    "Confounder",
    "ConnectionSpec",
    "DecisionSpec",
    "DeclaredShare",
    "Definition",
    "Direction",
    "DuckDBSource",
    "Eligible",
    "Estimation",
    "EventSource",
    "ExperimentSpec",
    "ExposureSource",
    "FactSourceSpec",
    "FileSource",
    "Filter",
    "FunnelStep",
    "Grain",
    "HoldoutSpec",
    "InputMetric",
    "Key",
    "LaunchMeasurement",
    "LaunchSpec",
    "Measure",
    "Mechanism",
    "MetricKey",
    "MetricKind",
    "MetricSpec",
    "Moment",
    "NorthStarSpec",
    "Omtm",
    "OutsideInfluence",
    "Place",
    "PlanMetric",
    "PostgresConnection",
    "ReviewSpec",
    "Role",
    "RolloutStep",
    "Sequential",
    "SeriesSpec",
    "SparkConnection",
    "Stage",
    "Stock",
    "TableSource",
    "Target",
    "Trigger",
    "UnitMapping",
    "Variant",
    "place_of",
]
