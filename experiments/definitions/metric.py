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


class MetricSpec(Definition):
    """A recipe over facts per unit (METHODS A1, A4; windows per B4)."""

    key: MetricKey
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    kind: Literal["mean", "proportion", "ratio", "formula"]
    direction: Direction = Direction.INCREASE
    unit: str = Field(default="", max_length=32, description="Unit of display: orders, EUR, %, …")
    owner: str = Field(default="", max_length=200)
    aarrr_stage: Stage | None = None
    measure: Measure | None = Field(default=None, description="Without it the metric can only be fed by summaries")
    numerator: Measure | None = None
    denominator: Measure | None = None
    formula: str | None = Field(default=None, max_length=500)
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
        }[self.kind]
        for field in ("measure", "numerator", "denominator", "formula"):
            present = getattr(self, field) is not None
            if present and field not in wanted:
                raise ValueError(f"a {self.kind} metric must not have `{field}`")
            if not present and field in wanted and field != "measure":
                raise ValueError(f"a {self.kind} metric needs `{field}`")
        if self.covariate is not None and self.kind not in ("mean", "proportion"):
            raise ValueError("an explicit `covariate` is for mean and proportion metrics")
        return self
