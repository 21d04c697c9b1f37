"""Metrics: recipes over facts per unit."""

from typing import Literal, Self

from pydantic import Field, model_validator

from experiments.definitions.elements import Definition, Direction, Key, MetricKey, Stage


class Filter(Definition):
    """Keep only facts for which `column op value` holds. Structured, so no user text reaches SQL."""

    column: str = Field(min_length=1, max_length=200)
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in"] = "="
    value: str | float | bool | list[str] | list[float]


class Measure(Definition):
    """A number per unit: an aggregation of one column of a fact source. Units without facts count as 0."""

    fact_source: Key
    aggregation: Literal["sum", "count", "max", "distinct_days", "any"] = "count"
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


class MetricSpec(Definition):
    """A recipe over facts per unit (METHODS A1, A4, A6, A13; windows per B4).

    `quantile`: the `quantile` of the units' values, or of single facts clustered by unit (`quantile_of: event`).
    `survey`: the mean answer of those who answered; `measure` counts answers, its `column` holds the score.
    """

    key: MetricKey
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    kind: Literal["mean", "proportion", "ratio", "formula", "quantile", "survey"]
    direction: Direction = Direction.INCREASE
    unit: str = Field(default="", max_length=32, description="Unit of display: orders, EUR, %, …")
    owner: str = Field(default="", max_length=200)
    aarrr_stage: Stage | None = None
    measure: Measure | None = Field(default=None, description="Without it the metric can only be fed by summaries")
    numerator: Measure | None = None
    denominator: Measure | None = None
    formula: str | None = Field(default=None, max_length=500)
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
    window_days: float | None = Field(default=7, gt=0, le=365, description="Closed cohort window; null: until the look")
    delay_days: float = Field(default=0, ge=0, le=365)
    pre_period_days: float = Field(default=14, ge=0, le=365, description="0 turns CUPED off for this metric")
    always_positive: bool = Field(
        default=False, description="The mean over units is never zero, so that formulas may divide by this metric"
    )

    @model_validator(mode="after")
    def _recipe_matches_kind(self) -> Self:
        wanted = {
            "mean": ("measure",),
            "proportion": ("measure",),
            "ratio": ("numerator", "denominator"),
            "formula": ("formula",),
            "quantile": ("measure",),
            "survey": ("measure",),
        }[self.kind]
        for field in ("measure", "numerator", "denominator", "formula"):
            present = getattr(self, field) is not None
            if present and field not in wanted:
                raise ValueError(f"a {self.kind} metric must not have `{field}`")
            if not present and field in wanted and field != "measure":
                raise ValueError(f"a {self.kind} metric needs `{field}`")
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
        if self.likelihood == "beta_binomial" and self.kind != "proportion":
            raise ValueError("the likelihood `beta_binomial` is for proportions")
        if self.likelihood not in ("lift", "beta_binomial") and self.kind != "mean":
            raise ValueError(f"the likelihood `{self.likelihood}` is for means")
        if self.likelihood != "lift" and self.measure is None:
            raise ValueError(f"the likelihood `{self.likelihood}` needs single units: give a `measure`")
        if self.covariate is not None and self.kind not in ("mean", "proportion"):
            raise ValueError("an explicit `covariate` is for mean and proportion metrics")
        return self
