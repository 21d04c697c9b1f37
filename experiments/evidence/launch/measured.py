"""Everything that is known of a launch on one outcome, before it becomes a document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from experiments.evidence.launch.data import LaunchData
from experiments.evidence.launch.estimates import Estimates
from experiments.evidence.launch.grading import Leading, grades
from experiments.evidence.launch.trust import Trust
from experiments.evidence.launch.untouched import Touched
from experiments.evidence.launch.window import ARM
from experiments.plan import LaunchPlan, PlannedMeasurement
from stats.launch.contract import Estimated, Method
from stats.launch.grade import Grade, GradeFacts, evidence_grade
from stats.launch.reasons import LaunchReason


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One measurement with its estimates, what speaks for and against them, and their grades. Picklable.

    `data` are those that were used: without what `touched` left out.
    """

    plan: LaunchPlan
    measurement: PlannedMeasurement
    data: LaunchData
    estimates: Estimates
    trust: Trust
    touched: Touched
    leads: Leading
    grades: Mapping[Method, Grade]

    def graded(self) -> Measured:
        """The same with the grades that its estimates and their support allow."""
        found = grades(self.plan, self.measurement, self.data, self.estimates, self.trust, self.touched, self.leads)
        return replace(self, grades=found)

    @property
    def level(self) -> float:
        """Of all intervals."""
        return self.measurement.options.level

    @property
    def leading(self) -> Estimated | None:
        """The estimate that carries the answer; None where nothing was measured."""
        method = self.leads.method
        return None if method is None or self.grade.letter == "U" else self.estimates.by_method[method]

    @property
    def why_unmeasured(self) -> str:
        """Why nothing leads: the reason of the strongest method that was tried, else that of the data."""
        tried = (str(estimated.reason) for estimated in self.estimates.by_method.values())
        return next((reason for reason in tried if reason), self.data.reason)

    @property
    def by_arm(self) -> bool:
        """Whether the outcome is of units with and without the change, instead of one over time."""
        return self.measurement.outcome.spec.dimension == ARM

    @property
    def grade(self) -> Grade:
        """The grade of the leading estimate; without one, U for the reason that there is none."""
        method = self.leads.method
        if method is not None:
            return self.grades[method]
        tried = self.estimates.by_method.values()
        mismatch = any(estimated.reason == LaunchReason.SAMPLE_RATIO_MISMATCH for estimated in tried)
        facts = GradeFacts(
            design="before_after" if tried else "none",
            effect=float("nan"),
            standard_error=float("nan"),
            planned_before=False,
            days_after=0.0,
            usable=not mismatch,
        )
        return evidence_grade(facts)
