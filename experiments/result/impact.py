"""What an experiment did to the North Star, and to the company (METHODS E)."""

from typing import Literal

from pydantic import Field

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
    """The experiment's North Star lift, direct, through the tree and blended (METHODS E1, E2, E8), per variant.

    `blended` weighs the noisy direct estimate and the precise but perhaps biased tree; `tree_bias_sd` is what
    past experiments say of that bias, `blended_from` how many of them there were. `gap` is direct minus tree on the
    log scale with its standard error: what later experiments learn the bias from; null for a definitional tree.
    """

    north_star_key: str
    north_star_version: int
    metric_key: str
    variant_key: str
    direct: TreeEstimate
    tree: TreeEstimate
    coherence: Check
    inputs: list[InputEffect]
    blended: TreeEstimate | None = None
    tree_bias_sd: float | None = None
    blended_from: int = 0
    gap: float | None = None
    gap_standard_error: float | None = None


class JointEffects(Document):
    """Log lifts on the North Star and its inputs with the covariance of their errors, of one variant (METHODS E2, E9).

    `metric_keys` has the North Star first. From the same units: what they share in noise is in `covariance`.
    """

    variant_key: str
    metric_keys: list[str]
    log_lifts: list[float]
    covariance: list[list[float]]


class ReachWeek(Document):
    """Week of the experiment, from 0: the share of the company's North Star in it that comes from people reached.

    At full coverage: exposed people of one arm speak for all who would have been reached by then (METHODS E5).
    """

    week: int
    share: float
    share_standard_error: float


class ToplineImpact(Document):
    """What a variant would do to the company's North Star at full coverage (METHODS E5), on the log scale and as lift.

    `share` is that of the last week of `reach`; `naive_lift` multiplies the lift by the share of people reached instead
    of by their share of the metric: right only if they are average. `source` as in `ToplineSource`.
    """

    metric_key: str
    variant_key: str
    source: Literal["measured", "declared", "everybody"]
    share: float | None
    share_standard_error: float | None
    share_of_units: float | None
    log_lift: float | None
    standard_error: float | None
    lift: float | None
    ci_lower: float | None
    ci_upper: float | None
    ci_level: float
    naive_lift: float | None
    reach: list[ReachWeek]
    estimable: bool
    reason: str | None = None


class PersistencePoint(Document):
    age_days: float
    lift: float
    lower: float
    upper: float


class Persistence(Document):
    """How much of an effect lasts: its start, its long run, and how fast it gets there (METHODS E6).

    Effects are lifts with 80 % intervals. `remaining` is long run / start on the log scale, `lasting` long run / what
    was measured on average, when part had worn off: how much of that number to count on. `transient` says
    that the long run is more likely than not below half of the start: then projections use the long run alone.
    `identified` is false where the data say nothing about the time constant. `curve` is the fitted course with its 80 %
    band.
    """

    metric_key: str
    variant_key: str
    start: float | None
    start_lower: float | None
    start_upper: float | None
    long_run: float | None
    long_run_lower: float | None
    long_run_upper: float | None
    remaining: float | None
    remaining_lower: float | None
    remaining_upper: float | None
    remaining_log_sd: float | None
    lasting: float | None = None
    lasting_log_sd: float | None = None
    half_life_days: float | None
    half_life_lower: float | None
    half_life_upper: float | None
    chance_below_half: float | None
    transient: bool
    identified: bool
    curve: list[PersistencePoint] = Field(default_factory=list)
    estimable: bool
    reason: str | None = None


class UncertaintyShare(Document):
    """How much of a projection's variance is due to one of its sources: effect, reach, persistence, realisation, …"""

    source: str
    share: float


class ProjectedImpact(Document):
    """What a variant would bring over a horizon, in units of the North Star (METHODS E7): median and 80 % interval.

    `headline` is false where no single number may be quoted (less than 14 days, weak evidence): the range is shown with
    the `reason`. `stock_path` has the weekly lift of a North Star that is a stock.
    """

    metric_key: str
    variant_key: str
    horizon_weeks: int
    headline: bool
    median: float | None
    lower_80: float | None
    upper_80: float | None
    chance_positive: float | None
    steady_state_lift: float | None
    uncertainty: list[UncertaintyShare]
    stock_path: list[PersistencePoint] = Field(default_factory=list)
    estimable: bool
    reason: str | None = None
