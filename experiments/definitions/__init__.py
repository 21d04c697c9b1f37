"""Definitions as people write them (JSON or YAML): fact sources, metrics, North Stars, experiments, launches.

These models validate input and are what is stored, versioned and hashed. Tables keep them as canonical JSON.
"""

from experiments.definitions.elements import KEY_PATTERN, Definition, Direction, Key, MetricKey, Moment, Stage
from experiments.definitions.estimation import Beliefs, Estimation, Sequential
from experiments.definitions.experiment import DeclaredShare, ExperimentSpec, PlanMetric, Role, Trigger, Variant
from experiments.definitions.facts import DuckDBSource, EventSource, FactSourceSpec, FileSource
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
from experiments.definitions.metric import Cap, Filter, Measure, MetricSpec
from experiments.definitions.north_star import InputMetric, NorthStarSpec, Omtm, OutsideInfluence, Stock, Target
from experiments.definitions.series import Grain, SeriesSpec

__all__ = [
    "KEY_PATTERN",
    "Beliefs",
    "Cap",
    "Confounder",
    "DecisionSpec",
    "DeclaredShare",
    "Definition",
    "Direction",
    "DuckDBSource",
    "Eligible",
    "Estimation",
    "EventSource",
    "ExperimentSpec",
    "FactSourceSpec",
    "FileSource",
    "Filter",
    "Grain",
    "HoldoutSpec",
    "InputMetric",
    "Key",
    "LaunchMeasurement",
    "LaunchSpec",
    "Measure",
    "Mechanism",
    "MetricKey",
    "MetricSpec",
    "Moment",
    "NorthStarSpec",
    "Omtm",
    "OutsideInfluence",
    "PlanMetric",
    "ReviewSpec",
    "Role",
    "RolloutStep",
    "Sequential",
    "SeriesSpec",
    "Stage",
    "Stock",
    "Target",
    "Trigger",
    "Variant",
]
