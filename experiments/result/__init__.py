"""The result documents.

Numbers that could not be estimated are null and carry a `reason`. Lifts are fractions; times are ISO-8601 UTC. Fields
added since the first schema have defaults, so that documents stored before remain readable.
"""

from experiments.result.documents import (
    AmendmentNote,
    BaselineResult,
    DecisionInterval,
    ExperimentResult,
    Exposures,
    MetricBaseline,
    NorthStarSeries,
    SeriesPoint,
    VariantExposures,
)
from experiments.result.effects import (
    CapEffect,
    Density,
    Look,
    PartEffect,
    RatioParts,
    Row,
    SegmentEffect,
    SegmentModel,
    SurveyEffect,
)
from experiments.result.elements import (
    Check,
    Document,
)
from experiments.result.findings import (
    Action,
    AgeCurve,
    AgePoint,
    DecisionErrors,
    Heterogeneity,
    Interaction,
    Recommendation,
    SequentialLook,
    SequentialMonitor,
)
from experiments.result.impact import (
    InputEffect,
    NorthStarEffect,
    TreeEstimate,
)

__all__ = [
    "Action",
    "AgeCurve",
    "AgePoint",
    "AmendmentNote",
    "BaselineResult",
    "CapEffect",
    "Check",
    "DecisionErrors",
    "DecisionInterval",
    "Density",
    "Document",
    "ExperimentResult",
    "Exposures",
    "Heterogeneity",
    "InputEffect",
    "Interaction",
    "Look",
    "MetricBaseline",
    "NorthStarEffect",
    "NorthStarSeries",
    "PartEffect",
    "RatioParts",
    "Recommendation",
    "Row",
    "SegmentEffect",
    "SegmentModel",
    "SequentialLook",
    "SequentialMonitor",
    "SeriesPoint",
    "SurveyEffect",
    "TreeEstimate",
    "VariantExposures",
]
