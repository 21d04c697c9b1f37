"""The growth review: one page about a period of a North Star (METHODS H6)."""

from datetime import date
from typing import Literal

from pydantic import AwareDatetime, Field

from experiments.result.elements import Check, Document
from experiments.result.ledger import Ledger
from experiments.result.programme import ProgrammeResult, RealisedAgainstClaimed


class ForecastPoint(Document):
    """A week: observed or forecast, with its 80 % band without further launches."""

    week: AwareDatetime
    observed: float | None
    median: float | None
    lower_80: float | None
    upper_80: float | None


class Lever(Document):
    """What would have to change, alone, for the target to be hit with a chance of 0.8; null: it cannot do it alone."""

    lever: Literal["velocity", "win_rate", "effect_size", "sensitivity"]
    now: float
    needed: float | None


class TargetForecast(Document):
    """Where the North Star is heading, and whether that is enough (METHODS F8).

    `chance_to_hit` is without further launches, `chance_with_programme` with as many as there usually are.
    `experiments_needed` by the target's date give a chance of 0.8.
    """

    target: float | None
    target_at: date | None
    weeks: list[ForecastPoint]
    median_at_target: float | None
    lower_80_at_target: float | None
    upper_80_at_target: float | None
    chance_to_hit: float | None
    chance_with_programme: float | None
    ships_per_quarter: float | None
    experiments_per_quarter: float | None
    experiments_needed: int | None
    levers: list[Lever]
    binding_lever: str | None
    reason: str | None = None


class Stagnation(Document):
    """Whether growth that nothing on record explains is under way or gone (METHODS F7).

    `slope` is the base's growth per week on the log scale. The alarm needs a high `chance_below_floor` in three weeks
    in a row; `surprise` is the tail probability of the last four weeks given all before. `falling_inputs` name the
    inputs that account for it and the experiments that touch them.
    """

    floor: float
    slope: float | None
    slope_lower_80: float | None
    slope_upper_80: float | None
    chances: list[float]
    """The chance below the floor as it was known in each of the last weeks, oldest first."""
    alarm: bool
    surprise: float | None
    changed: bool
    falling_inputs: list[dict[str, str]]
    reason: str | None = None


class AttributionPart(Document):
    """What an input accounts for in the change of the North Star: not what it caused (METHODS E3, E4)."""

    metric_key: str
    name: str
    units: float
    lower_80: float | None
    upper_80: float | None
    covers_zero: bool | None
    log_change: float | None
    before: float | None
    after: float | None


class MixEffect(Document):
    """For one ratio: what changed within segments, and what changed because segments weigh differently."""

    metric_key: str
    dimension: str
    rate: float
    mix: float
    total: float
    reversed: bool
    """The total moved against the segments' rates: Simpson's reversal."""


class Attribution(Document):
    """The observed change of a North Star between two periods, by input (METHODS E3: LMDI, or Shapley)."""

    method: Literal["lmdi", "shapley", "none"]
    begins_at: AwareDatetime
    ends_at: AwareDatetime
    compared_begins_at: AwareDatetime
    compared_ends_at: AwareDatetime
    change: float | None
    parts: list[AttributionPart]
    mix: list[MixEffect] = Field(default_factory=list)
    uncertainty: str
    """How the intervals were made, or why there are none."""
    estimable: bool
    reason: str | None = None


class DecisionWorth(Document):
    """A decision of the period with what it is believed to be worth: log lift of the North Star at full coverage."""

    experiment_key: str
    name: str
    outcome: Literal["ship", "roll_back", "iterate", "extend"]
    decided_at: AwareDatetime
    against_recommendation: bool
    claimed: float | None
    believed: float | None
    believed_lower_80: float | None
    believed_upper_80: float | None
    chance_wrong_sign: float | None
    units_per_week: float | None
    avoided: bool
    """A rolled-back change that is believed harmful: what was avoided."""
    learnings: str


class RunningBet(Document):
    experiment_key: str
    name: str
    verdict: str | None
    recommendation: str | None
    days_left: float | None
    value_of_waiting: float | None
    alarms: list[str]


class FollowUp(Document):
    """A next experiment that the review proposes: opens as a draft. `kind` as in the lineage, or a re-test of a launch.

    `expected_value` orders them: what knowing more is expected to be worth (log lift of the North Star).
    """

    kind: Literal["iterates", "replicates", "retests"]
    experiment_key: str
    name: str
    launch_key: str | None
    reason: str
    expected_value: float | None


class Learning(Document):
    experiment_key: str
    name: str
    at: AwareDatetime
    text: str


class ChangedNumber(Document):
    """A headline number now and in the review before."""

    name: str
    label: str
    before: float | None
    now: float | None
    unit: str


class SourceShown(Document):
    name: str
    analysis_id: str | None
    known_at: AwareDatetime


class GrowthReviewResult(Document):
    """A growth review (METHODS H6). `headline` holds the numbers that reviews are compared by."""

    schema_version: int = 1
    kind: Literal["growth_review"] = "growth_review"
    analysis_id: str
    review_key: str
    name: str
    north_star_key: str
    north_star_version: int
    metric_key: str
    unit: str
    direction: Literal["increase", "decrease"]
    begins_on: date
    ends_on: date
    plan_hash: str
    seed: int
    data_as_of: AwareDatetime
    forecast: TargetForecast
    ledger: Ledger
    stagnation: Stagnation
    attribution: Attribution
    programme: ProgrammeResult
    decisions: list[DecisionWorth]
    decisions_believed: float | None
    """Sum of what the period's ships are believed to be worth, log lift."""
    false_sign_rate: float | None
    running: list[RunningBet]
    holdouts: list[RealisedAgainstClaimed]
    holdout_advice: str
    learnings: list[Learning]
    follow_ups: list[FollowUp]
    headline: dict[str, float | None]
    changes: list[ChangedNumber]
    previous_review_key: str | None
    sources: list[SourceShown]
    checks: list[Check]
    methods: list[str]
    code_version: str
