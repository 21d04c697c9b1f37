"""Metrics: recipes over facts per unit."""

from typing import Literal, Self

from pydantic import Field, model_validator

from experiments.definitions.elements import Definition, Direction, Key, MetricKey, Stage
from experiments.definitions.filters import Filter

MetricKind = Literal[
    "mean", "proportion", "ratio", "formula", "quantile", "survey", "retention", "funnel", "participation"
]


class Measure(Definition):
    """A number per unit: an aggregation of one column of a fact source. Units without facts count as 0.

    `last` is the value of the latest fact (the largest one where several share that moment).
    """

    fact_source: Key
    aggregation: Literal["sum", "count", "max", "distinct_days", "any", "last"] = "count"
    column: str = Field(
        default="value", min_length=1, max_length=200, description="Ignored by count, any, distinct_days"
    )
    filters: list[Filter] = Field(default_factory=list, max_length=20)


class Cap(Definition):
    """Winsorisation (METHODS A9): larger values count as the cap, the same one in every arm and at every look.

    Either a fixed `value`, or a `quantile` of the pooled units: of their values (`pooled`), or of the same measure
    before exposure (`pre_period`, which the treatment cannot have moved). Ratios cap both parts separately.
    """

    value: float | None = Field(default=None, gt=0)
    quantile: float | None = Field(default=None, gt=0.5, lt=1)
    basis: Literal["pooled", "pre_period"] = "pooled"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.value is None) == (self.quantile is None):
            raise ValueError("cap: give either `value` or `quantile`")
        return self


class FunnelStep(Definition):
    """A step of a funnel: a fact of `measure` (its aggregation and column do not matter).

    It comes later than the fact of the step before, and at most `within_days` after it if that is given.
    """

    measure: Measure
    name: str = Field(default="", max_length=200)
    within_days: float | None = Field(default=None, gt=0, le=365)


class MetricSpec(Definition):
    """A recipe over facts per unit (METHODS A1, A4, A6, A13; windows per B4).

    `retention`: who has a fact of `measure` in the window that begins `delay_days` after exposure; with `start`, after
    the unit's first fact of `start` within `start_within_days` of exposure, among those who have one.
    `funnel`: who has a fact of every one of `steps`, in order, within the window; of all units, or with `funnel_of:
    first_step` of those with a fact of the first step.
    `participation`: the share of the days of the window (24 hours each, from exposure on) with a fact of `measure`.
    `quantile`: the `quantile` of the units' values, or of single facts clustered by unit (`quantile_of: event`).
    `survey`: the mean answer of those who answered; `measure` counts answers, its `column` holds the score.
    """

    key: MetricKey
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    kind: MetricKind
    direction: Direction = Direction.INCREASE
    unit: str = Field(default="", max_length=32, description="Unit of display: orders, EUR, %, …")
    owner: str = Field(default="", max_length=200)
    aarrr_stage: Stage | None = None
    measure: Measure | None = Field(default=None, description="Without it the metric can only be fed by summaries")
    numerator: Measure | None = None
    denominator: Measure | None = None
    formula: str | None = Field(default=None, max_length=500)
    start: Measure | None = Field(default=None, description="Retention: the fact that starts a unit's clock")
    start_within_days: float = Field(default=7, gt=0, le=365)
    steps: list[FunnelStep] = Field(default_factory=list, max_length=10)
    funnel_of: Literal["units", "first_step"] = "units"
    quantile: float | None = Field(default=None, gt=0, lt=1)
    quantile_of: Literal["unit", "event"] = "unit"
    scale: Literal["score", "nps"] = Field(
        default="score", description="Survey: `nps` counts 9-10 as 1, 7-8 as 0 and 0-6 as -1"
    )
    cap: Cap | None = None
    likelihood: Literal[
        "lift", "beta_binomial", "gamma_poisson", "negative_binomial", "hurdle_lognormal", "student_t"
    ] = Field(
        default="lift",
        description="Model of the Bayesian engine (METHODS C1, C2): `lift` takes the log lift as normal and fits any "
        "metric; the others model the units' values",
    )
    covariate: Measure | None = Field(
        default=None, description="CUPED covariate; default: the measure itself, before exposure"
    )
    covariates: list[Measure] = Field(
        default_factory=list, max_length=8, description="Further CUPED covariates: any measures, before exposure"
    )
    window_days: float | None = Field(default=7, gt=0, le=365, description="Closed cohort window; null: until the look")
    delay_days: float = Field(default=0, ge=0, le=365)
    pre_period_days: float = Field(default=14, ge=0, le=365, description="0 turns CUPED off for this metric")
    always_positive: bool = Field(
        default=False, description="The mean over units is never zero, so that formulas may divide by this metric"
    )

    @property
    def estimated_as(self) -> Literal["mean", "proportion", "ratio", "formula", "quantile"]:
        """What the statistics see: retention and funnels are proportions, or ratios if only some units can succeed."""
        match self.kind:
            case "retention":
                return "proportion" if self.start is None else "ratio"
            case "funnel":
                return "proportion" if self.funnel_of == "units" else "ratio"
            case "participation":
                return "mean"
            case "survey":
                return "ratio"
            case _:
                return self.kind

    @property
    def is_share(self) -> bool:
        """Whether its values are parts of one, which people read as percentages."""
        return self.kind in ("proportion", "retention", "funnel", "participation")

    @property
    def adds_up(self) -> bool:
        """Whether the facts of a week make a value of it for a whole company.

        Quantiles do not add up, and retention, funnels and participation are about days since a unit's own beginning.
        """
        return self.kind not in ("quantile", "retention", "funnel", "participation")

    @model_validator(mode="after")
    def _recipe_matches_kind(self) -> Self:
        wanted = {
            "mean": ("measure",),
            "proportion": ("measure",),
            "ratio": ("numerator", "denominator"),
            "formula": ("formula",),
            "quantile": ("measure",),
            "survey": ("measure",),
            "retention": ("measure", "start"),
            "funnel": ("steps",),
            "participation": ("measure",),
        }[self.kind]
        for field in ("measure", "numerator", "denominator", "formula", "start", "steps"):
            present = getattr(self, field) not in (None, [])
            if present and field not in wanted:
                raise ValueError(f"a {self.kind} metric must not have `{field}`")
            if not present and field in wanted and field not in ("measure", "start"):
                raise ValueError(f"a {self.kind} metric needs `{field}`")
        self._check_windows()
        if (self.kind == "quantile") != (self.quantile is not None):
            raise ValueError("a quantile metric, and only a quantile metric, has `quantile`")
        if self.quantile_of == "event" and self.kind != "quantile":
            raise ValueError("`quantile_of` is for quantile metrics")
        if self.scale == "nps" and self.kind != "survey":
            raise ValueError("`scale` is for survey metrics")
        if self.cap is not None and self.kind not in ("mean", "ratio"):
            raise ValueError("a `cap` is for mean and ratio metrics")
        if self.cap is not None and self.cap.basis == "pre_period" and self.pre_period_days == 0:
            raise ValueError("a cap from the pre-period needs `pre_period_days`")
        if self.likelihood == "beta_binomial" and self.estimated_as != "proportion":
            raise ValueError("the likelihood `beta_binomial` is for proportions, and shares of all units")
        if self.likelihood not in ("lift", "beta_binomial") and self.kind != "mean":
            raise ValueError(f"the likelihood `{self.likelihood}` is for means")
        if self.likelihood != "lift" and self.measure is None and not self.steps:
            raise ValueError(f"the likelihood `{self.likelihood}` needs single units: give a `measure`")
        if self.covariate is not None and self.kind not in ("mean", "proportion"):
            raise ValueError("an explicit `covariate` is for mean and proportion metrics")
        if self.covariates and self.kind in ("formula", "quantile", "survey"):
            raise ValueError(f"`covariates` are not for {self.kind} metrics")
        if self.covariates and self.pre_period_days == 0:
            raise ValueError("`covariates` need `pre_period_days`")
        return self

    def _check_windows(self) -> None:
        """Kinds whose question is about a closed window."""
        if self.kind in ("retention", "participation") and self.measure is None:
            raise ValueError(f"a {self.kind} metric needs `measure`")
        if self.kind in ("retention", "funnel", "participation") and self.window_days is None:
            raise ValueError(f"a {self.kind} metric needs a closed window: give `window_days`")
        if self.kind == "retention" and self.start is None and self.delay_days == 0:
            raise ValueError("retention without `start` is about a later window: give `delay_days`")
        if self.kind == "retention" and self.delay_days == 0 and _same_facts(self.start, self.measure):
            raise ValueError("the fact of `start` would be its own return: give `delay_days`, or another `measure`")
        if self.kind == "funnel" and len(self.steps) < 2:
            raise ValueError("a funnel has at least two `steps`")
        if self.kind == "funnel" and self.steps[0].within_days is not None:
            raise ValueError("the first step of a funnel has no step before it: leave out its `within_days`")
        if self.kind != "funnel" and self.funnel_of != "units":
            raise ValueError("`funnel_of` is for funnels")
        if self.kind == "participation" and ((self.window_days or 0) % 1 or self.delay_days % 1):
            raise ValueError("participation counts days: give `window_days` and `delay_days` as whole numbers")


def _same_facts(first: Measure | None, second: Measure | None) -> bool:
    if first is None or second is None:
        return False
    return (first.fact_source, first.filters) == (second.fact_source, second.filters)
