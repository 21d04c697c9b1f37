"""The tables. They never parse input (see `definitions`); documents are canonical JSON, states are plain strings."""

from experiments.tables.access import ApiKey, AuditEvent, BrowserSession, IdempotentRequest
from experiments.tables.definitions import (
    FactSource,
    GrowthReview,
    Holdout,
    Launch,
    Metric,
    MetricVersion,
    NorthStar,
    NorthStarVersion,
    RolloutStepRow,
    Series,
    SeriesVersion,
)
from experiments.tables.experiments import Amendment, Decision, Experiment, Phase
from experiments.tables.fields import metadata
from experiments.tables.runs import (
    Analysis,
    IngestBatch,
    LaunchEffect,
    LedgerRow,
    ProgrammeRow,
    Result,
    ResultRow,
    SeriesValue,
    Summary,
)

__all__ = [
    "Amendment",
    "Analysis",
    "ApiKey",
    "AuditEvent",
    "BrowserSession",
    "Decision",
    "Experiment",
    "FactSource",
    "GrowthReview",
    "Holdout",
    "IdempotentRequest",
    "IngestBatch",
    "Launch",
    "LaunchEffect",
    "LedgerRow",
    "Metric",
    "MetricVersion",
    "NorthStar",
    "NorthStarVersion",
    "Phase",
    "ProgrammeRow",
    "Result",
    "ResultRow",
    "RolloutStepRow",
    "Series",
    "SeriesValue",
    "SeriesVersion",
    "Summary",
    "metadata",
]
