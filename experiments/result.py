"""The result documents: what workers store, the API serves as bytes and the pages draw.

Numbers that could not be estimated are null and carry a `reason`. Lifts are fractions; times are ISO-8601 UTC.
"""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Check(Document):
    """One trust check. `remedy` is one sentence; empty when the check passes."""

    name: str
    status: Literal["pass", "warn", "fail"]
    p_value: float | None = None
    detail: str
    remedy: str = ""


class VariantExposures(Document):
    variant_key: str
    weight: float
    exposures: int
    analysed: int


class Exposures(Document):
    """Who was exposed, who is analysed (window complete), who was dropped as `crossover`."""

    variants: list[VariantExposures]
    crossover: int
    daily: list[dict[str, int | str]]
    """[{"at": iso, "<variant_key>": cumulative exposures, …}] for the exposure chart."""


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
    estimable: bool
    reason: str | None = None


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


class AmendmentNote(Document):
    at: AwareDatetime
    actor: str
    reason: str
    changed: list[str]


class ExperimentResult(Document):
    """The result of one analysis of one experiment."""

    schema_version: int = 1
    kind: Literal["experiment"] = "experiment"
    analysis_id: str
    experiment_key: str
    plan_hash: str
    data_as_of: AwareDatetime
    seed: int
    code_version: str
    amendments: list[AmendmentNote]
    verdict: Literal["better", "worse", "equivalent", "inconclusive", "unreliable"]
    verdict_variant: str | None
    verdict_reasons: list[str]
    decision_interval: Literal["fixed", "always_valid"]
    checks: list[Check]
    exposures: Exposures
    rows: list[Row]
    looks: list[Look]
    densities: list[Density]
    segment_models: list[SegmentModel]
    north_star: list[NorthStarEffect]
    methods: list[str]


class SeriesPoint(Document):
    week: AwareDatetime
    value: float | None
    inputs: dict[str, float | None]
    complete: bool


class NorthStarSeries(Document):
    """Weekly values of a North Star and its inputs."""

    schema_version: int = 1
    kind: Literal["north_star"] = "north_star"
    analysis_id: str
    north_star_key: str
    north_star_version: int
    data_as_of: AwareDatetime
    points: list[SeriesPoint]
    code_version: str


class MetricBaseline(Document):
    """History of one metric for planning. `sd` is the sd of influence values per unit (METHODS A14)."""

    metric_key: str
    n: int
    mean: float | None
    sd: float | None
    cuped_r_squared: float | None
    reason: str | None = None


class BaselineResult(Document):
    """Baselines of all metrics of a unit type and the cumulative curve of unique units."""

    schema_version: int = 1
    kind: Literal["baseline"] = "baseline"
    analysis_id: str
    unit_type: str
    data_as_of: AwareDatetime
    metrics: list[MetricBaseline]
    cumulative_units: list[int]
    """Unique active units by the end of day 1, 2, … of the history window."""
    code_version: str
