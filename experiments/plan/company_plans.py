"""The plans that are about what was found before: priors, programmes, learned links, growth reviews.

They hold the numbers that they start from, so that their results can be computed again whatever becomes of the sources.
"""

from datetime import date, datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from experiments.definitions import Definition, Direction, ReviewSpec
from experiments.plan.data_plans import PlannedNorthStar

type ToplineSource = Literal["measured", "declared", "everybody"]
type EvidenceLetter = Literal["A", "B", "C", "D", "U"]


class PriorEvidence(Definition):
    """What one past experiment measured: the input of a learned prior. `stratum` is the team that ran it."""

    experiment_key: str
    variant_key: str
    stratum: str | None
    log_lift: float
    standard_error: float


class PriorPlan(Definition):
    """Learning the prior of a metric from all past experiments, shipped or not (METHODS C3)."""

    kind: Literal["prior"] = "prior"
    schema_version: int = 1
    metric_key: str
    version: int
    effects: list[PriorEvidence]


class PlannedPersistence(Definition):
    """How much of an effect lasts, as its own experiment measured by days since exposure (METHODS E6).

    `remaining` is the long run over the effect that was measured, on the log scale with the error `log_sd`.
    """

    remaining: float = Field(gt=0)
    log_sd: float = Field(ge=0)
    half_life_days: float | None


class ProgrammeEffect(Definition):
    """What one experiment measured: of the shipped variant, or else of the most precisely measured one.

    `log_lift` is on those who were exposed, `topline_log_lift` on the whole company (METHODS E5): null when not known.
    `topline_source` says whether the share of the company was measured, declared, or taken to be everybody. `shipped`
    is what people decided last; `variants` counts the treatments that this one was chosen from; `replicates` is the key
    of the experiment that tested the same change before.
    """

    experiment_key: str
    name: str
    team: str | None
    owner: str
    variant_key: str
    variants: int
    analysis_id: str
    data_as_of: AwareDatetime
    verdict: str
    log_lift: float
    standard_error: float
    topline_log_lift: float | None
    topline_standard_error: float | None
    topline_source: ToplineSource
    evidence_grade: EvidenceLetter
    bias_sd: float
    started_at: AwareDatetime
    stopped_at: AwareDatetime
    outcome: Literal["ship", "roll_back", "iterate", "extend"] | None
    decided_at: AwareDatetime | None
    shipped: bool
    against_recommendation: bool = False
    launch_key: str | None = None
    persistence: PlannedPersistence | None = None
    replicates: str | None = None


class MissingEffect(Definition):
    """An experiment that ran and has no effect to count: why. `analysis_id` is of its newest result, if it has one."""

    experiment_key: str
    name: str
    reason: str
    analysis_id: str | None = None


class HoldoutEvidence(Definition):
    """What a holdout measured: everything that its launches did together, on the log scale (METHODS F3).

    It was measured up to `measured_at`. `live` is the share of the measured time that a launch was out, by its key; of
    some it may not be known.
    """

    holdout_key: str
    name: str
    experiment_key: str
    share: float
    started_at: AwareDatetime
    released_at: AwareDatetime | None
    launch_keys: list[str]
    analysis_id: str | None
    log_lift: float | None
    standard_error: float | None
    contaminated_share: float | None
    failed_checks: list[str]
    reason: str | None = None
    version: int = 1
    """Of the holdout's definition."""
    measured_at: AwareDatetime | None = None
    live: dict[str, float] = Field(default_factory=dict)

    def kept_from(self, launch_key: str) -> bool:
        """Whether a launch that is named shows in what was measured: not if it only came afterwards."""
        return launch_key in self.launch_keys and self.live.get(launch_key, 1.0) > 0


class ProgrammePlan(Definition):
    """All experiments on a metric together (METHODS F1 to F4).

    `started` counts the experiments on it that ran and have ended: those that run still have nothing to count yet.
    """

    kind: Literal["programme"] = "programme"
    schema_version: int = 1
    metric_key: str
    metric_name: str
    direction: Direction
    started: int
    effects: list[ProgrammeEffect]
    missing: list[MissingEffect]
    holdouts: list[HoldoutEvidence]
    winners_only: bool = False
    """Imported history without its losers: selection has to be corrected by assumption."""


class JointEvidence(Definition):
    """Effects of one experiment on the North Star and its inputs, with what the shared sample makes of their errors.

    `log_lifts` (M + 1) has the North Star first, `covariance` (M + 1, M + 1) is that of their errors.
    """

    experiment_key: str
    name: str
    team: str | None
    variant_key: str
    analysis_id: str
    data_as_of: AwareDatetime
    log_lifts: list[float]
    covariance: list[list[float]]


class LinksPlan(Definition):
    """What moves in the inputs have been worth in the North Star, across experiments (METHODS E9)."""

    kind: Literal["links"] = "links"
    schema_version: int = 1
    north_star: PlannedNorthStar
    effects: list[JointEvidence]
    missing: list[MissingEffect]


class LedgerLaunch(Definition):
    """A launch as the ledger sees it: who had it in each week, and what was measured of it beforehand.

    `coverage` has one number per week of the plan. `experiment_key` names one of the programme's effects; without one
    `log_effect` may come from a series (METHODS D), and without either the launch is blind (grade U).
    """

    launch_key: str
    name: str
    owner: str
    first_at: AwareDatetime
    coverage: list[float]
    experiment_key: str | None
    evidence_grade: EvidenceLetter
    log_effect: float | None = None
    standard_error: float | None = None
    bias_sd: float | None = None
    analysis_id: str | None = None
    persistence: PlannedPersistence | None = None


class InfluenceWeeks(Definition):
    """A regressor of the ledger by week; null where it is not known."""

    series_key: str
    name: str
    rationale: str
    values: list[float | None]


class ReviewedDecision(Definition):
    """A decision of the reviewed period."""

    experiment_key: str
    name: str
    outcome: Literal["ship", "roll_back", "iterate", "extend"]
    variant_key: str | None
    decided_at: AwareDatetime
    reason: str
    learnings: str
    against_recommendation: bool


class RunningExperiment(Definition):
    """An experiment that runs when the review is made, as its newest result sees it; `metric_keys` are the team's."""

    experiment_key: str
    name: str
    analysis_id: str | None
    verdict: str | None
    recommendation: str | None
    days_left: float | None
    value_of_waiting: float | None
    failed_checks: list[str]
    metric_keys: list[str] = Field(default_factory=list)


class PreviousReview(Definition):
    """The headline numbers of the review before this one, to compare with."""

    review_key: str
    analysis_id: str
    data_as_of: AwareDatetime
    numbers: dict[str, float | None]


class Source(Definition):
    """Where numbers of a review come from: a result, or values as they were known at a time."""

    name: str
    analysis_id: str | None
    known_at: AwareDatetime


class WeeksWithout(Definition):
    """The same weeks without one part of the units, made up for it: what sampling errors are made from (METHODS E4)."""

    value: list[float | None]
    inputs: dict[str, list[float | None]]


class SegmentRates(Definition):
    """A mean input by segment in the two periods that are compared: how many units, and their mean (METHODS E3)."""

    metric_key: str
    dimension: str
    segments: list[str]
    units_before: list[float]
    mean_before: list[float]
    units_after: list[float]
    mean_after: list[float]


class InputNature(Definition):
    """What a formula is held to for one of its inputs: where it should go, and whether it doubles with everything."""

    direction: Direction
    counted: bool


class ReviewPlan(Definition):
    """A growth review (METHODS F6 to F8, H6): the weeks of the North Star, all that was done, all that is known of it.

    `weeks` are Mondays without gaps, up to the last whole week before the review was asked for or its period ended;
    `values` are totals of the North Star, null where none is known. `inputs` has the same weeks for each input, and
    `without` once more for each part of the units, where facts are counted. `names` are those of the metrics, `natures`
    those of the inputs.
    """

    kind: Literal["growth_review"] = "growth_review"
    schema_version: int = 1
    review: ReviewSpec
    north_star: PlannedNorthStar
    unit: str
    direction: Direction
    weeks: list[AwareDatetime]
    values: list[float | None]
    inputs: dict[str, list[float | None]]
    without: list[WeeksWithout] = Field(default_factory=list)
    names: dict[str, str] = Field(default_factory=dict)
    natures: dict[str, InputNature] = Field(default_factory=dict)
    segments: list[SegmentRates] = Field(default_factory=list)
    influences: list[InfluenceWeeks]
    programme: ProgrammePlan
    launches: list[LedgerLaunch]
    decisions: list[ReviewedDecision]
    running: list[RunningExperiment]
    previous: PreviousReview | None
    sources: list[Source]

    @property
    def period(self) -> tuple[date, date]:
        """The first day of the period and the first day after it."""
        return self.review.begins_on, self.review.ends_on

    def weeks_of(self, begin: datetime, end: datetime) -> list[int]:
        """Positions of the weeks that begin in [begin, end)."""
        return [i for i, week in enumerate(self.weeks) if begin <= week < end]
