"""The analysis plan: frozen, canonical, hashed. A result is a pure function of it, the data, the seed and the code."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from experiments.plan.company_plans import (
    EvidenceLetter,
    HoldoutEvidence,
    InfluenceWeeks,
    InputNature,
    JointEvidence,
    LedgerLaunch,
    LinksPlan,
    MissingEffect,
    PlannedPersistence,
    PreviousReview,
    PriorEvidence,
    PriorPlan,
    ProgrammeEffect,
    ProgrammePlan,
    ReviewedDecision,
    ReviewPlan,
    RunningExperiment,
    SegmentRates,
    Source,
    ToplineSource,
    WeeksWithout,
)
from experiments.plan.data_plans import (
    AnalysisPlan,
    BaselinePlan,
    LaunchPlan,
    MeasuredBefore,
    NorthStarPlan,
    PlannedMeasurement,
    PlannedMetric,
    PlannedNorthStar,
    PlannedPrior,
    PlannedSeries,
    TreeGap,
)
from experiments.types import canonical_json

__all__ = [
    "AnalysisPlan",
    "BaselinePlan",
    "DataPlan",
    "EvidenceLetter",
    "HoldoutEvidence",
    "InfluenceWeeks",
    "InputNature",
    "JointEvidence",
    "LaunchPlan",
    "LedgerLaunch",
    "LinksPlan",
    "MeasuredBefore",
    "MissingEffect",
    "NorthStarPlan",
    "Plan",
    "PlannedMeasurement",
    "PlannedMetric",
    "PlannedNorthStar",
    "PlannedPersistence",
    "PlannedPrior",
    "PlannedSeries",
    "PreviousReview",
    "PriorEvidence",
    "PriorPlan",
    "ProgrammeEffect",
    "ProgrammePlan",
    "ReviewPlan",
    "ReviewedDecision",
    "RunningExperiment",
    "SegmentRates",
    "Source",
    "ToplineSource",
    "TreeGap",
    "WeeksWithout",
    "document",
    "load",
    "plan_hash",
]

type DataPlan = AnalysisPlan | NorthStarPlan | BaselinePlan | LaunchPlan
"""The plans that are about data in the store."""
type Plan = DataPlan | PriorPlan | ProgrammePlan | LinksPlan | ReviewPlan

_MODELS: Final[
    Mapping[
        str,
        type[AnalysisPlan]
        | type[NorthStarPlan]
        | type[BaselinePlan]
        | type[LaunchPlan]
        | type[PriorPlan]
        | type[ProgrammePlan]
        | type[LinksPlan]
        | type[ReviewPlan],
    ]
] = {
    "experiment": AnalysisPlan,
    "north_star": NorthStarPlan,
    "baseline": BaselinePlan,
    "launch": LaunchPlan,
    "prior": PriorPlan,
    "programme": ProgrammePlan,
    "links": LinksPlan,
    "growth_review": ReviewPlan,
}


def document(plan: Plan) -> dict[str, Any]:
    """The plan as stored: JSON-compatible, complete (defaults included)."""
    return plan.model_dump(mode="json")


def plan_hash(plan_document: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(plan_document)).hexdigest()


def load(plan_document: dict[str, Any]) -> Plan:
    """The plan behind a stored document."""
    model = _MODELS[plan_document["kind"]]
    return model.model_validate(plan_document)
