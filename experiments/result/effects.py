"""Effects as the document shows them: rows, looks, densities, segment models."""

from typing import Literal

from pydantic import AwareDatetime

from experiments.result.elements import Document


class PartEffect(Document):
    """Lift of one part of a ratio per unit, with its fixed-horizon interval; null with a reason elsewhere."""

    mean_control: float | None
    mean_treatment: float | None
    lift: float | None
    ci_lower: float | None
    ci_upper: float | None


class RatioParts(Document):
    """A ratio's lift may be a fall of its denominator: both parts are always shown (METHODS A4)."""

    numerator: PartEffect
    denominator: PartEffect


class CapEffect(Document):
    """What winsorisation did (METHODS A9): the cap, the share of the mean it cut per arm, and the lift without it."""

    cap: float
    share_control: float | None
    share_treatment: float | None
    uncapped_lift: float | None
    uncapped_ci_lower: float | None
    uncapped_ci_upper: float | None


class SurveyEffect(Document):
    """Who answered (METHODS A13). Where response rates differ, the bounds of Lee (2009) say what selection could do."""

    response_rate_control: float | None
    response_rate_treatment: float | None
    response_p_value: float | None
    bound_lower: float | None
    bound_upper: float | None
    """Bounds of the difference; equal to the difference where response rates do not differ."""


class StepShare(Document):
    """A share of units in both arms, each with its score interval, and what the treatment did to it.

    The shares are as measured. Intervals are at the row's `ci_level`, for a single look. Difference and lift are null
    with a `reason` where they cannot be estimated.
    """

    control: float | None
    control_lower: float | None
    control_upper: float | None
    treatment: float | None
    treatment_lower: float | None
    treatment_upper: float | None
    difference: float | None
    difference_ci_lower: float | None
    difference_ci_upper: float | None
    lift: float | None
    ci_lower: float | None
    ci_upper: float | None
    reason: str | None = None


class FunnelStepEffect(Document):
    """A step of a funnel (METHODS A2, A4): who gets there, and who of those who took the step before.

    `reached` is a share of what `of` says: of all units or, with `funnel_of: first_step`, from the second step on of
    those who took the first. At the last step it is the metric itself. `passed` compares those who got to the step
    before, who are not the same people in both arms once the treatment moves an earlier step: it says where the change
    is, not why. None at the first step.
    """

    step: int
    name: str
    of: Literal["units", "first_step"]
    reached: StepShare
    passed: StepShare | None = None


class Row(Document):
    """One comparison against control: metric x variant x segment x method."""

    metric_key: str
    metric_version: int
    metric_name: str
    unit: str
    variant_key: str
    segment_dimension: str | None = None
    segment: str | None = None
    role: str
    direction: Literal["increase", "decrease"]
    method: str
    """METHODS ids and adjustments used, e.g. `A1+A3`, `A4+A3+A7`."""
    interval_kind: str
    """`log_delta`, `fieller` or `none` for the fixed-horizon interval (METHODS A3)."""
    n_control: int
    n_treatment: int
    mean_control: float | None
    mean_treatment: float | None
    difference: float | None
    difference_standard_error: float | None
    difference_ci_lower: float | None
    difference_ci_upper: float | None
    lift: float | None
    standard_error: float | None
    ci_lower: float | None
    ci_upper: float | None
    ci_level: float
    p_value: float | None
    log10_p_value: float | None
    always_valid_lower: float | None
    always_valid_upper: float | None
    always_valid_p_value: float | None
    variance_reduction: float | None
    chance_to_win: float | None
    expected_loss: float | None
    expected_loss_of_not_shipping: float | None
    rope_probability: float | None
    posterior_lift: float | None
    hdi_lower: float | None
    hdi_upper: float | None
    prior_source: str | None
    non_inferiority_margin: float | None = None
    non_inferior: bool | None = None
    mde: float | None = None
    equivalent: bool | None = None
    """Whether the effect is shown to lie within +-mde (two one-sided tests, METHODS A10); None without an mde."""
    estimable: bool
    reason: str | None = None
    df: float | None = None
    skewness: float | None = None
    """Standardised skewness of the difference (METHODS A1); above 0.1 normal theory is in doubt."""
    family: Literal["success", "guardrail", "exploratory", "segments"] | None = None
    """The comparisons among which this one is corrected (METHODS A11); guardrails need none."""
    correction: str | None = None
    """Method of the adjusted numbers; None where nothing is corrected."""
    p_value_adjusted: float | None = None
    ci_lower_adjusted: float | None = None
    ci_upper_adjusted: float | None = None
    """Of the lift: simultaneous over the family, or at the false-coverage rate (METHODS A11)."""
    difference_ci_lower_adjusted: float | None = None
    difference_ci_upper_adjusted: float | None = None
    log_e_value: float | None = None
    """Natural log of the e-value against no effect (METHODS B1, B5)."""
    sequential_lower: float | None = None
    sequential_upper: float | None = None
    sequential_p_value: float | None = None
    """Repeated interval of the lift at the last scheduled look of a group-sequential plan (METHODS B2)."""
    harm_p_value: float | None = None
    """One-sided always-valid p-value of a move in the bad direction, before correction (METHODS A11, B1)."""
    non_inferiority_p_value: float | None = None
    """One-sided p-value of "the harm is the margin or more", at the interval that safety is shown by (METHODS A10)."""
    decision_lower: float | None = None
    decision_upper: float | None = None
    decision_p_value: float | None = None
    """The interval and p-value that decide, by the result's `decision_interval`; corrected for the family."""
    significant: bool | None = None
    """Whether `decision_p_value` is at most 1 - ci_level; None where there is none."""
    ratio: RatioParts | None = None
    cap: CapEffect | None = None
    survey: SurveyEffect | None = None
    funnel: list[FunnelStepEffect] | None = None
    """Every step of a funnel, in order; of everybody."""


class Look(Document):
    """A cumulative look at one metric and variant, for the lift-over-time chart."""

    metric_key: str
    variant_key: str
    at: AwareDatetime
    n: int
    lift: float | None
    ci_lower: float | None
    ci_upper: float | None
    always_valid_lower: float | None
    always_valid_upper: float | None
    posterior_lift: float | None = None
    hdi_lower: float | None = None
    hdi_upper: float | None = None
    chance_to_win: float | None = None
    expected_loss: float | None = None
    expected_loss_of_not_shipping: float | None = None


class Density(Document):
    """Posterior and prior density of the lift on a grid of lifts."""

    metric_key: str
    variant_key: str
    lift: list[float]
    posterior: list[float]
    prior: list[float]


class SegmentEffect(Document):
    segment: str
    raw_lift: float | None
    raw_ci_lower: float | None
    raw_ci_upper: float | None
    lift: float | None
    hdi_lower: float | None
    hdi_upper: float | None
    probability_sign_differs: float | None
    n: int


class SegmentModel(Document):
    """The hierarchical model over one segment dimension (METHODS A15, C4; PyMC). `unreliable` comes without numbers."""

    metric_key: str
    variant_key: str
    dimension: str
    status: Literal["ok", "unreliable", "not_estimable"]
    reason: str | None
    effects: list[SegmentEffect]
    mean_lift: float | None
    tau: float | None
    r_hat: float | None
    ess_bulk: float | None
    ess_tail: float | None
    divergences: int | None
