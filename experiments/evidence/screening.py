"""What an experiment tells beside its rows: who differs, what interferes, what wears off, and what to check then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.evidence.ages import age_curves, novelty_check
from experiments.evidence.facts import Facts
from experiments.evidence.heterogeneity import heterogeneity, reversal_check
from experiments.evidence.identical_variants import no_difference_check
from experiments.evidence.interactions import interaction_checks, screened
from experiments.result import AgeCurve, Check, Heterogeneity, Interaction, Row


@dataclass(frozen=True, slots=True)
class Screening:
    """Lists of the document (METHODS A15, A16, E6) and the checks they give rise to."""

    heterogeneity: list[Heterogeneity]
    interactions: list[Interaction]
    age_curves: list[AgeCurve]
    checks: list[Check]

    @property
    def methods(self) -> set[str]:
        """METHODS ids behind the lists."""
        lists = {"A15": self.heterogeneity, "A16": self.interactions, "E6": self.age_curves}
        return {method for method, found in lists.items() if found}


def screening(facts: Facts, rows: Sequence[Row]) -> Screening:
    """Everything at once, from what the trust checks look at and the finished rows."""
    plan, blocks, shapes = facts.plan, facts.blocks, facts.shapes
    differing = heterogeneity(plan, blocks, shapes, facts.heads)
    interfering = screened(plan, blocks, shapes)
    curves = age_curves(plan, blocks)
    return Screening(
        heterogeneity=differing,
        interactions=interfering,
        age_curves=curves,
        checks=[
            *reversal_check(differing),
            *interaction_checks(plan, blocks, interfering),
            *novelty_check(curves),
            *no_difference_check(plan, rows, running=facts.context.running),
        ],
    )
