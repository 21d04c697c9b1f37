"""What the Bayesian engine adds to a result: priors, models, losses, and what waiting is worth (METHODS C, H3, H4)."""

from typing import Literal

from pydantic import Field

from experiments.result.effects import Density
from experiments.result.elements import Document


class PriorUse(Document):
    """The prior behind a metric's posteriors, and where it came from (METHODS C3).

    `scale` is the standard deviation, or the scale of a Student-t. `prior_id` and `experiments` belong to learned ones.
    """

    metric_key: str
    family: Literal["normal", "student_t4", "learned", "flat"]
    mean: float
    scale: float
    source: str
    prior_id: str | None = None
    prior_version: int | None = None
    experiments: int | None = None


class PriorAlternative(Document):
    """The same data under another prior; `prior` says which."""

    prior: str
    posterior_lift: float | None
    hdi_lower: float | None
    hdi_upper: float | None
    chance_to_win: float | None
    expected_loss: float | None


class PriorSensitivity(Document):
    """How much the prior matters for one effect: `robust` when no alternative crosses the plan's `chance_to_win`."""

    metric_key: str
    variant_key: str
    alternatives: list[PriorAlternative]
    robust: bool | None


class BestVariant(Document):
    """One arm, control included: the chance that it is the best of all, and what choosing it would lose (log lift)."""

    metric_key: str
    variant_key: str
    chance_to_be_best: float
    expected_loss: float


class ModelEffect(Document):
    """An effect by a model. `raw_*` is the estimate that went in, where there is one. Losses are in log lift."""

    metric_key: str
    variant_key: str
    label: str | None = None
    """What tells effects of one metric and variant apart: for replications, the experiment."""
    lift: float | None
    hdi_lower: float | None
    hdi_upper: float | None
    chance_to_win: float | None
    expected_loss: float | None
    expected_loss_of_not_shipping: float | None
    rope_probability: float | None
    difference: float | None = None
    difference_hdi_lower: float | None = None
    difference_hdi_upper: float | None = None
    monte_carlo_error: float | None = None
    """Of the posterior mean of the log lift."""
    raw_lift: float | None = None
    raw_ci_lower: float | None = None
    raw_ci_upper: float | None = None


class ModelArm(Document):
    """The mean of one arm by a model, in units of the metric."""

    variant_key: str
    mean: float | None
    hdi_lower: float | None
    hdi_upper: float | None
    chance_to_be_best: float | None


class HyperParameter(Document):
    """A parameter above the effects, with its 95 % interval."""

    name: str
    mean: float
    lower: float
    upper: float


class ModelCheck(Document):
    """A posterior-predictive check: the share of replications at least as large as what was observed (METHODS C2)."""

    statistic: str
    variant_key: str
    observed: float
    expected: float
    p_value: float
    passed: bool


class ModelDiagnostics(Document):
    """Whether chains agree: the worst split R-hat and effective sample sizes over everything that is reported (I3)."""

    r_hat: float
    ess_bulk: float
    ess_tail: float
    divergences: int
    chains: int
    draws: int


class FittedModel(Document):
    """A model of the library on this experiment's sufficient statistics. Anything but `ok` comes without numbers.

    `likelihood`: the units of one metric, all arms. `arms`: all variants of one metric, shrunk together. `metrics`: all
    metrics of one variant. `replications`: experiments that test the same hypothesis. `used` says whether the rows and
    the decision carry its numbers; where a likelihood is `ok` and they do not, `reason` says why. `notes` are sentences
    on what went in.
    """

    model: str
    model_version: int
    purpose: Literal["likelihood", "arms", "metrics", "replications"]
    metric_key: str | None
    variant_key: str | None
    status: Literal["ok", "unreliable", "not_estimable"]
    reason: str | None
    method: Literal["nuts", "grid", "closed_form"]
    seed: int
    used: bool = False
    effects: list[ModelEffect]
    arms: list[ModelArm]
    hyper_parameters: list[HyperParameter]
    checks: list[ModelCheck]
    prior_sensitivity: float | None
    """How fast the posterior moves when the prior is scaled; above 0.05 the prior matters."""
    densities: list[Density]
    diagnostics: ModelDiagnostics | None
    notes: list[str] = Field(default_factory=list)


class WaitingPoint(Document):
    """What testing so many days more is expected to gain, net."""

    days: float
    net_gain: float


class WaitingValue(Document):
    """Predictive power and the value of more data for one primary metric and variant (METHODS H4).

    `evsi` and `net_gain` are in days of the metric at its present level: 1 is what one day brings. `net_gain` is that
    of the best number of days, which is `days_worth_waiting`; 0 days when deciding now is best.
    """

    metric_key: str
    variant_key: str
    predictive_power: float | None
    predictive_power_with_prior: float | None
    evsi: float | None
    net_gain: float | None
    days_worth_waiting: float | None
    horizon_days: float
    curve: list[WaitingPoint]
    reason: str | None = None


class GuardrailChance(Document):
    """The posterior chance that a guardrail stays within its margin."""

    metric_key: str
    variant_key: str
    non_inferiority_margin: float
    chance: float | None


class EngineDecision(Document):
    """What one engine makes of the same rows: actions and rules as in `Recommendation` (METHODS H2, H3).

    `expected_loss` and `loss_threshold` are shares of the North Star, or of the metric where `loss_unit` says so;
    `expected_loss_per_thousand` is the same in units of that metric per 1,000 exposed units.
    """

    engine: Literal["frequentist", "bayesian"]
    leads: bool
    outcome: Literal["better", "worse", "equivalent", "inconclusive", "unreliable"]
    action: Literal["investigate", "roll_back", "ship", "iterate", "neutral", "keep_running", "extend", "archive"]
    variant_key: str | None
    rule: int
    reasons: list[str]
    chance_to_win: float | None = None
    expected_loss: float | None = None
    loss_threshold: float | None = None
    loss_unit: Literal["north_star", "metric"] | None = None
    expected_loss_per_thousand: float | None = None
    guardrails: list[GuardrailChance] = Field(default_factory=list)


class Agreement(Document):
    """Whether the engines say the same, and why not."""

    agrees: bool
    reasons: list[str]


class PastEffectShown(Document):
    """One past experiment behind a learned prior: what it measured, and what is believed of it leaving it out."""

    experiment_key: str
    variant_key: str
    stratum: str | None
    log_lift: float
    standard_error: float
    shrunk_log_lift: float | None
    shrunk_sd: float | None
    """Under the prior learned from the others."""


class LearnedStratum(Document):
    """The population of effects in one stratum, or in all of them (`stratum` null)."""

    stratum: str | None
    experiments: int
    mean: HyperParameter | None
    tau: HyperParameter | None
    prior_mean: float | None
    prior_scale: float | None
    components: list[tuple[float, float, float]]
    """The posterior predictive of a new experiment's log lift: (weight, mean, sd)."""
    reason: str | None = None
