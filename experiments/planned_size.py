"""What planning answers: units and days, metric by metric, and the curve over days (METHODS A14)."""

from typing import Literal

from experiments.result import Document

type Monitoring = Literal["fixed", "always_valid", "group_sequential"]


class VariantSize(Document):
    variant_key: str
    units: int
    clusters: int | None = None


class UsualEffects(Document):
    """The spread `tau` of true effects (log lifts) in past experiments, with a 90 % interval."""

    experiments: int
    tau: float | None
    lower: float | None
    upper: float | None
    reason: str | None


class MetricSize(Document):
    """What one metric needs. `effect` is the lift (primary) or the margin (guardrail) it is planned for."""

    metric_key: str
    role: str
    test: Literal["superiority", "non_inferiority", "equivalence"]
    effect: float | None
    baseline_mean: float | None
    baseline_sd: float | None
    variance_reduction: float | None
    units: int | None
    days: float | None
    reason: str | None = None
    decides: bool = True
    """Whether the experiment is sized for it."""
    smallest_effect: float | None = None
    """Lift or margin that the planned units would show with the same power (A10: the smallest margin to offer)."""
    topline_effect: float | None = None
    """`effect` over everybody, where only a share of the units is triggered, if those are average users (E5)."""
    usual_effects: UsualEffects | None = None
    unusual: bool | None = None
    """The planned lift is above twice the usual scale: a coin toss, because such effects hardly ever happen."""


class CurvePoint(Document):
    """After `day` days, were they the end: units so far, and what they show of each metric."""

    day: int
    units: int
    mde: dict[str, float | None]
    """Smallest lift detected (or ruled out, for equivalence), of primary metrics."""
    margin: dict[str, float | None]
    """Smallest harm ruled out, of guardrails."""
    power: dict[str, float | None]
    """Power of each metric's test for what it is planned for."""


class SampleSize(Document):
    """How many units and days the experiment needs; null with a `reason` when it cannot be said."""

    units: int | None
    days: float | None
    variants: list[VariantSize]
    limiting_metric: str | None
    metrics: list[MetricSize]
    curve: list[CurvePoint]
    alpha: float
    power: float
    power_per_test: float
    comparisons: int
    monitoring: Monitoring
    coverage: float
    reason: str | None = None
    alpha_per_test: float
    """Two-sided, of one comparison of one primary metric."""
    inflation: float
    """Units over those of a single look at the end."""
    looks: list[float]
    """Group-sequential: shares of the units at which one looks; the last is 1."""
    clusters: int | None = None
    design_effect: float = 1.0
    triggered_share: float = 1.0
    enrolled: int | None = None
    """Units to enrol so that `units` are triggered."""
