"""The document of a measured launch (METHODS D): what happened, what would have, and how much to believe the gap."""

from typing import Literal

from pydantic import AwareDatetime, Field

from experiments.result.elements import Check, Document
from stats.launch.grade import BiasSource, Design, Letter

type LaunchMethod = Literal[
    "experiment",
    "staged",
    "switchback",
    "imputation",
    "group_time",
    "synthetic_did",
    "synthetic_control",
    "augmented_synthetic_control",
    "did",
    "bsts",
    "structural",
    "prior",
]


class LaunchEstimate(Document):
    """What one method says of the launch at full coverage.

    `log_effect`, `standard_error` and `bias_sd` are on the log scale; `lift`, `ci_*` are fractions and hold sampling
    error and bias together (`total_standard_error` squared = standard_error squared + bias_sd squared, METHODS D7).
    `model_lower`, `model_upper` are the method's own interval, which knows no bias. `difference` is per period in units
    of the series, at the coverage of the time; `cumulative` its sum over the periods measured. Where segments have the
    launch, methods that compare them average log effects by the segments' sizes before it: with equal lifts that is the
    lift of their total. The method that was chosen before the data were seen is `leads`.
    """

    method: LaunchMethod
    leads: bool
    estimable: bool
    reason: str | None = None
    log_effect: float | None = None
    standard_error: float | None = None
    bias_sd: float | None = None
    total_standard_error: float | None = None
    lift: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    model_lower: float | None = None
    model_upper: float | None = None
    interval_kind: str = "normal"
    p_value: float | None = None
    difference: float | None = None
    difference_lower: float | None = None
    difference_upper: float | None = None
    cumulative: float | None = None
    cumulative_lower: float | None = None
    cumulative_upper: float | None = None
    notes: list[str] = Field(default_factory=list)


class DesignOption(Document):
    """A design that the recorded facts allow, or why they do not; in order of strength."""

    design: Design
    possible: bool
    chosen: bool
    why: str
    """A code for the pages, with its numbers in `numbers`."""
    numbers: dict[str, float] = Field(default_factory=dict)


class LaunchGrade(Document):
    """How much to believe the effect (METHODS D7). Computed from recorded facts; every `reasons` code lowered it.

    `bias_sd` is the standard deviation of an additive bias on the log scale, `bias_source` where it comes from.
    `raised_by` are codes of what would give a better grade, the most effective first.
    """

    grade: Letter
    reasons: list[str]
    raised_by: list[str]
    bias_sd: float | None
    bias_source: BiasSource
    placebo_runs: int = 0


class PeriodPoint(Document):
    """One period: what was, and what would have been without the launch, in units of the series.

    Before the launch `effect` is what the model did not explain. Bands hold sampling error and bias.
    """

    at: AwareDatetime
    actual: float | None
    counterfactual: float | None = None
    counterfactual_lower: float | None = None
    counterfactual_upper: float | None = None
    effect: float | None = None
    effect_lower: float | None = None
    effect_upper: float | None = None
    cumulative: float | None = None
    cumulative_lower: float | None = None
    cumulative_upper: float | None = None
    coverage: float = 0.0
    excluded: bool = False


class EventPoint(Document):
    """The effect so many periods after a segment's own launch (negative: before it), as a lift.

    Ends of intervals are null where too few comparison segments are left to say anything.
    """

    time: int
    lift: float | None
    ci_lower: float | None
    ci_upper: float | None
    band_lower: float | None = None
    band_upper: float | None = None
    cells: int


class PlaceboRun(Document):
    """The leading method where nothing happened: at another date (`at`), or on a segment without the launch."""

    at: AwareDatetime | None = None
    segment: str | None = None
    lift: float
    standard_error: float | None
    score: float | None


class Placebos(Document):
    """All placebo runs of a kind and the launch's own place among them."""

    kind: Literal["time", "space"]
    method: LaunchMethod
    runs: list[PlaceboRun]
    own_lift: float | None
    own_score: float | None
    p_value: float | None
    rms_effect: float | None
    """Root mean square of the placebo effects on the log scale: what this method finds where there is nothing."""
    rms_standard_error: float | None


class DonorUse(Document):
    """A comparison unit: its weight, and the effect when it is left out."""

    segment: str
    weight: float | None
    lift_without: float | None
    suspect: bool = False
    """Whether it moved at the launch by itself, and was left out for that."""


class DonorFit(Document):
    """How well the weighted donors follow the treated units before the launch, on the log scale."""

    method: LaunchMethod
    pre_rmspe: float | None
    share_of_effect: float | None
    """`pre_rmspe` over the absolute effect; above 0.25 the fit is poor (METHODS D3)."""
    largest_weight: float | None
    good: bool


class PreTrend(Document):
    """Whether the treated moved apart before the launch. Weak evidence when it passes (Roth 2022)."""

    p_value: float | None
    periods: int
    slope: float | None
    """Log points per period."""
    slope_lower: float | None
    slope_upper: float | None
    passed: bool


class SensitivityPoint(Document):
    """The effect's interval when trends may have parted after the launch by `m` times the most that they did before."""

    m: float
    ci_lower: float
    ci_upper: float


class TrendSensitivity(Document):
    """Rambachan & Roth 2023, relative magnitudes: `breakdown` is the largest `m` at which the effect keeps its sign."""

    points: list[SensitivityPoint]
    breakdown: float | None


class ModelParameter(Document):
    name: str
    mean: float
    lower: float
    upper: float


class MeasuredLaunch(Document):
    """A launch on one series. With grade U nothing was measured: `estimates` has what is believed of such launches."""

    series_key: str
    series_name: str
    metric_key: str | None
    unit: str
    grain: Literal["hour", "day", "week"]
    dimension: str
    direction: Literal["increase", "decrease"]
    level: float
    scale: Literal["log", "level"]
    """`level` where values are not all positive: effects are then relative to the mean before the launch."""
    treated: list[str]
    periods_before: int
    periods_after: int
    designs: list[DesignOption]
    grade: LaunchGrade
    estimates: list[LaunchEstimate]
    checks: list[Check]
    periods: list[PeriodPoint]
    event_study: list[EventPoint] = Field(default_factory=list)
    placebos: list[Placebos] = Field(default_factory=list)
    donors: list[DonorUse] = Field(default_factory=list)
    donor_fit: DonorFit | None = None
    pre_trend: PreTrend | None = None
    sensitivity: TrendSensitivity | None = None
    parameters: list[ModelParameter] = Field(default_factory=list)


class LaunchResult(Document):
    """What one analysis says of a launch; the primary measurement first."""

    schema_version: int = 1
    kind: Literal["launch"] = "launch"
    analysis_id: str
    launch_key: str
    plan_hash: str
    data_as_of: AwareDatetime
    seed: int
    code_version: str
    measurements: list[MeasuredLaunch]
    methods: list[str]
