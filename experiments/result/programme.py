"""What all experiments on a metric did together, and what moves in inputs have been worth (METHODS F1 to F4, E9)."""

from typing import Literal

from pydantic import AwareDatetime

from experiments.result.beliefs import HyperParameter
from experiments.result.elements import Check, Document

type TotalMethod = Literal[
    "full_bayes", "naive_sum", "lee_shen", "lee_shen_posterior", "james_stein", "plug_in", "winners_only"
]


class ShrunkEffect(Document):
    """One experiment: claimed, and believed once all others are known. Log scale; the topline where it is known.

    `share_of_total` is the part of the programme's total that is gone without it, in the sum and in what teaches the
    population (None unless shipped, or where the total is not likely to be good). `chance_positive` is the chance that
    the effect is in the metric's good direction; all other numbers have the signs of the metric.
    """

    experiment_key: str
    name: str
    team: str | None
    variant_key: str
    stopped_at: AwareDatetime
    shipped: bool
    outcome: str | None
    launch_key: str | None
    evidence_grade: str
    topline_source: str
    claimed: float
    claimed_standard_error: float
    shrunk: float
    shrunk_sd: float
    shrunk_lower_80: float
    shrunk_upper_80: float
    shrunk_lower_95: float
    shrunk_upper_95: float
    chance_positive: float
    share_of_total: float | None


class TotalEstimate(Document):
    """The sum of the effects of all shipped experiments by one method, as log and as lift `exp(sum) - 1` (METHODS F2).

    Only `full_bayes` leads. The others are shown because people know them; `note` says what is wrong with each.
    """

    method: TotalMethod
    leads: bool
    log_total: float
    log_sd: float | None
    lift: float
    lower_80: float | None
    upper_80: float | None
    lower_95: float | None
    upper_95: float | None
    note: str


class CumulativePoint(Document):
    """The programme's total after each shipped experiment, in order of decision."""

    at: AwareDatetime
    experiment_key: str
    claimed_lift: float
    lift: float
    lower_80: float
    upper_80: float


class RealisedAgainstClaimed(Document):
    """A holdout: what was realised, what its launches had claimed, and the rate kappa between them (METHODS F3).

    Log scale. The interval of `kappa` is Fieller's: `kappa_unbounded` where the claim may as well be nothing.
    """

    holdout_key: str
    name: str
    launches: int
    share: float
    realised: float | None
    realised_standard_error: float | None
    realised_lower_95: float | None
    realised_upper_95: float | None
    claimed: float | None
    claimed_sd: float | None
    kappa: float | None
    kappa_lower: float | None
    kappa_upper: float | None
    kappa_unbounded: bool
    needed_standard_error: float | None
    checks: list[Check]
    reason: str | None = None


class Completeness(Document):
    """How many of the experiments that ran are in the numbers: who counts winners only, counts too much."""

    started: int
    analysed: int
    share: float | None
    missing: list[dict[str, str]]
    check: Check


class ProgrammeResult(Document):
    """All experiments on a metric: what they did together, corrected for chance and choice (METHODS F1 to F4).

    `mean`, `tau` describe the population of true effects. `wins_for_80` is how many shipped experiments make 80 %
    of the total. `false_sign_rate` is the mean chance that a shipped effect is not positive in the metric's good
    direction, `harmful_ships` how many that makes, `exaggeration` the claimed total over the believed one (type M).
    """

    schema_version: int = 1
    kind: Literal["programme"] = "programme"
    analysis_id: str
    metric_key: str
    metric_name: str
    direction: Literal["increase", "decrease"]
    data_as_of: AwareDatetime
    experiments: int
    shipped: int
    win_rate: float | None
    mean: HyperParameter | None
    tau: HyperParameter | None
    totals: list[TotalEstimate]
    cumulative: list[CumulativePoint]
    effects: list[ShrunkEffect]
    wins_for_80: int | None
    false_sign_rate: float | None
    harmful_ships: float | None
    exaggeration: float | None
    completeness: Completeness
    holdouts: list[RealisedAgainstClaimed]
    assumed_everybody: int
    """Effects without a known share of the company: taken to be about everybody."""
    selection_corrected_by_assumption: bool = False
    checks: list[Check]
    estimable: bool
    reason: str | None = None
    methods: list[str]
    code_version: str


class LinkPoint(Document):
    """One experiment in the scatter of an input against the North Star: log lifts and their errors."""

    experiment_key: str
    name: str
    input_log_lift: float
    input_standard_error: float
    north_star_log_lift: float
    north_star_standard_error: float
    error_correlation: float


class LinkEstimate(Document):
    """What a move of an input has been worth in the North Star (METHODS E9): the slope of log lifts.

    `naive_slope` is that of the raw scatter, which mixes in how users differ from each other; `slope` is corrected for
    the noise that both metrics share: the median of what is believed of the input alone, with what moves beside it.
    `joint_slope` is what it is worth while the other inputs stay where they are. `usable` is false where the
    correlation of true effects is not known to be beyond 0.3, in the direction of the slope, with a chance of 0.9: then
    the input is no proxy, whatever the slope.
    """

    metric_key: str
    naive_slope: float | None
    moment_slope: float | None
    moment_standard_error: float | None
    slope: float | None
    slope_lower_80: float | None
    slope_upper_80: float | None
    slope_lower_95: float | None
    slope_upper_95: float | None
    joint_slope: float | None = None
    joint_slope_lower_80: float | None = None
    joint_slope_upper_80: float | None = None
    joint_slope_lower_95: float | None = None
    joint_slope_upper_95: float | None = None
    correlation: float | None
    correlation_lower_80: float | None
    correlation_upper_80: float | None
    chance_correlation: float | None
    usable: bool
    reason: str | None
    slope_by_team: dict[str, float]
    """Left out one team at a time: a slope that hangs on one surface is no law."""
    points: list[LinkPoint]


class ProxyWeight(Document):
    metric_key: str
    weight: float


class LinksResult(Document):
    """Learned links between inputs and a North Star across experiments (METHODS E9)."""

    schema_version: int = 1
    kind: Literal["links"] = "links"
    analysis_id: str
    north_star_key: str
    north_star_version: int
    metric_key: str
    data_as_of: AwareDatetime
    experiments: int
    links: list[LinkEstimate]
    proxy: list[ProxyWeight]
    """Weights of the input effects that best predict the North Star's, at the typical noise of an experiment.

    Of usable inputs only; where they have no joint slopes it is the best of them alone.
    """
    proxy_correlation: float | None
    """Of the weighted sum, as it would be measured, with the true effect on the North Star."""
    joint_reason: str | None = None
    """Why inputs have no joint slopes: there is one of them, too many, …"""
    engine: Literal["grid", "nuts", "importance", "none"]
    diagnostics: dict[str, float]
    missing: list[dict[str, str]]
    checks: list[Check]
    estimable: bool
    reason: str | None = None
    methods: list[str]
    code_version: str
