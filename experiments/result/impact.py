"""What an experiment did to the North Star."""

from typing import Literal

from experiments.result.elements import Check, Document


class InputEffect(Document):
    """One input of the tree: its effect and its share of the North Star's (log scale contribution)."""

    metric_key: str
    edge: Literal["definitional", "driver"]
    elasticity: float | None
    lift: float | None
    ci_lower: float | None
    ci_upper: float | None
    contribution: float | None
    contribution_standard_error: float | None
    reason: str | None = None


class TreeEstimate(Document):
    lift: float | None
    standard_error: float | None
    ci_lower: float | None
    ci_upper: float | None
    chance_to_win: float | None
    estimable: bool
    reason: str | None = None


class NorthStarEffect(Document):
    """The experiment's North Star lift, direct and through the tree (METHODS E1, E2), per variant."""

    north_star_key: str
    north_star_version: int
    metric_key: str
    variant_key: str
    direct: TreeEstimate
    tree: TreeEstimate
    coherence: Check
    inputs: list[InputEffect]
