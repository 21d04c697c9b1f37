"""What else an experiment tells: the course of its looks, who differs, what interferes, and what to do."""

from typing import Literal

from pydantic import AwareDatetime, Field

from experiments.result.effects import SegmentEffect
from experiments.result.elements import Document

type Action = Literal["investigate", "roll_back", "ship", "iterate", "neutral", "keep_running", "extend", "archive"]


class Recommendation(Document):
    """What METHODS H2 says to do; `rule` is the number of its rule that matched. Reasons are one sentence each."""

    action: Action
    variant_key: str | None
    rule: int
    reasons: list[str]
    tags: list[str] = Field(default_factory=list)
    """For example `unproven_link`: the metric that won is not known to move the North Star."""
    predictive_power: float | None = None
    """Of the primary metric at the planned end if the effect is as estimated (METHODS H4)."""
    expected_days: float | None = None
    """Days until the planned sample is complete, at the rate of the last two weeks."""


class SequentialLook(Document):
    """One scheduled look: information, bounds on the z scale, and what was seen. Null where not reached."""

    at: AwareDatetime | None
    information_fraction: float
    alpha_spent: float
    upper: float | None
    """Efficacy bound (two-sided: its mirror image is the lower one); null while it is beyond reach."""
    futility: float | None
    z: float | None
    lift_lower: float | None
    lift_upper: float | None
    """Repeated interval of the lift."""


class SequentialMonitor(Document):
    """A group-sequential design and its course for one primary metric and variant (METHODS B2)."""

    metric_key: str
    variant_key: str
    spending: str
    futility: str
    maximum_information: float
    looks: list[SequentialLook]
    stopped_for: Literal["efficacy", "harm", "futility"] | None
    stopped_at: AwareDatetime | None
    estimate: float | None
    """Median-unbiased lift by stage-wise ordering, once stopped or complete."""
    ci_lower: float | None
    ci_upper: float | None
    p_value: float | None


class Heterogeneity(Document):
    """Whether segments of a dimension differ in effect (METHODS A15)."""

    metric_key: str
    variant_key: str
    dimension: str
    levels: int
    q: float | None
    p_value: float | None
    p_value_adjusted: float | None
    """Corrected over all heterogeneity tests of the result."""
    i_squared: float | None
    tau: float | None
    """Between-segment sd of the log lift (posterior mean over a grid)."""
    reversed: bool
    """Simpson's warning: every level points against the overall effect."""
    reason: str | None = None
    """`no_relative_effect`: tested on differences, because too few levels have a relative effect."""
    trend: float | None = None
    """Change of the log lift from one level to the next, where the levels are ordered (their names are numbers)."""
    trend_p_value: float | None = None
    effects: list[SegmentEffect] = Field(default_factory=list)
    """Shrunken effects of a two-way dimension; those of one-way dimensions are in `segment_models`."""


class Interaction(Document):
    """Whether another experiment changes this one's effect (METHODS A16)."""

    experiment_key: str
    variant_key: str
    other_variant_key: str
    metric_key: str
    interaction: float | None
    """Difference of differences, in units of the metric."""
    standard_error: float | None
    ci_lower: float | None
    ci_upper: float | None
    p_value: float | None
    p_value_adjusted: float | None
    reported: bool
    """Clear of zero after correction (q = 0.1) and above a quarter of the smaller main effect."""
    reason: str | None = None


class AgePoint(Document):
    """The effect on one day after exposure."""

    age_days: int
    difference: float | None
    ci_lower: float | None
    ci_upper: float | None
    lift: float | None
    lift_ci_lower: float | None
    lift_ci_upper: float | None


class AgeCurve(Document):
    """Effects by days since exposure: novelty or learning (METHODS E6). `p_value` tests that all days are equal."""

    metric_key: str
    variant_key: str
    points: list[AgePoint]
    slope: float | None
    """Change of the lift per day since exposure."""
    slope_standard_error: float | None
    p_value: float | None
    reason: str | None = None


class DecisionErrors(Document):
    """What the decision rule risks and needs (METHODS A11)."""

    alpha: float
    alpha_per_success_test: float
    power: float
    power_per_test: float
    success_tests: int
    guardrails: int
