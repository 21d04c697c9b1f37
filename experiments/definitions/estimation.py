"""Options of the analysis, frozen with the plan."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from experiments.definitions.elements import Definition


class Sequential(Definition):
    """How looks before the end are paid for (METHODS B1, B2).

    `always_valid`: any look may decide. `group_sequential`: looks every `look_every_days` decide by error spending on
    information; it needs a primary metric's `mde` or `planned_units`. `fixed`: only the planned end decides, harm
    excepted.
    """

    method: Literal["always_valid", "group_sequential", "fixed"] = "always_valid"
    spending: Literal["obrien_fleming", "pocock", "power", "hwang_shih_de_cani"] = "obrien_fleming"
    spending_parameter: float | None = Field(
        default=None, ge=-20, le=20, description="Exponent of `power` (default 3), gamma of `hwang_shih_de_cani` (-4)"
    )
    futility: Literal["none", "non_binding", "binding"] = "none"
    look_every_days: int = Field(default=7, ge=1, le=90)

    @model_validator(mode="after")
    def _parameters_fit(self) -> Self:
        if self.spending == "power" and self.spending_parameter is not None and self.spending_parameter <= 0:
            raise ValueError("sequential: the exponent of power spending must be above 0")
        if self.spending in ("obrien_fleming", "pocock") and self.spending_parameter is not None:
            raise ValueError(f"sequential: {self.spending} spending has no parameter")
        if self.futility != "none" and self.method != "group_sequential":
            raise ValueError("sequential: futility bounds belong to `group_sequential`")
        return self


class Beliefs(Definition):
    """Prior and decision rule of the Bayesian engine (METHODS C3, C5, H3, H4).

    `learned`: the distribution of true effects behind the metric's past experiments, as it was known when the plan was
    frozen; where they are too few, the stated one. `stated`: `prior_mean` and `prior_scale`. `flat`: none; it cannot be
    monitored, so it needs a `fixed` plan. Shipping needs `chance_to_win`, an expected loss of at most `expected_loss`
    (as a share of the North Star where the link is known, else of the metric) and every guardrail within its margin
    with `guardrail_chance`.
    """

    prior: Literal["learned", "stated", "flat"] = Field(
        default="learned", description="Where priors come from; `flat` only where nobody looks early (METHODS C5)"
    )
    family: Literal["normal", "student_t4"] = Field(default="normal", description="Shape of the stated prior")
    chance_to_win: float = Field(default=0.95, gt=0.5, lt=1, description="Of a primary that ships, at least")
    expected_loss: float = Field(
        default=0.001, gt=0, le=0.1, description="Of shipping, at most: a share of the North Star, or of the metric"
    )
    guardrail_chance: float = Field(
        default=0.95, gt=0.5, lt=1, description="Of every guardrail to stay within its margin, at least"
    )
    horizon_days: float = Field(default=365, gt=0, le=3650, description="How long a shipped change is worth something")
    waiting_cost: float = Field(
        default=0.0, ge=0, le=1, description="Cost of one more day of testing, as a share of a day's North Star"
    )


class Estimation(Definition):
    """Options of the analysis, frozen with the plan.

    `engine`: who decides. With `both` the frequentist verdict leads and the Bayesian one stands beside it; with
    `bayesian` it leads. Failed checks and harm overrule either.
    """

    engine: Literal["frequentist", "bayesian", "both"] = "both"
    beliefs: Beliefs = Beliefs()
    ci_level: float = Field(default=0.95, gt=0.5, lt=1)
    power: float = Field(default=0.8, gt=0.5, lt=1, description="Of the whole decision (METHODS A11)")
    cuped: bool = True
    stratify_by: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=list, max_length=3, description="Segments to post-stratify by (METHODS A8)"
    )
    sequential: Sequential = Sequential()
    correction: Literal["holm", "bonferroni", "dunnett", "none"] = Field(
        default="holm", description="Over primary metrics and variants (METHODS A11)"
    )
    exploratory_correction: Literal["benjamini_hochberg", "benjamini_yekutieli", "e_bh", "none"] = Field(
        default="benjamini_hochberg", description="Over secondary metrics, and over segments (METHODS A11, B5)"
    )
    decision_rule: Literal["superiority", "do_no_harm"] = Field(
        default="superiority", description="`do_no_harm`: shipping needs no win, only safe guardrails and North Star"
    )
    screen_interactions: bool = Field(default=True, description="Against concurrent experiments (METHODS A16)")
    prior_mean: float = Field(default=0.0, ge=-1, le=1, description="Prior mean of the log lift (METHODS C3)")
    prior_scale: float = Field(default=0.05, gt=0, le=5, description="Prior sd of the log lift (METHODS C3)")
    rope: float = Field(
        default=0.0, ge=0, le=1, description="Half-width of the region of practical equivalence, log lift"
    )
    srm_threshold: float = Field(default=0.0005, gt=0, lt=0.1)
    seed: int = Field(default=20260101, ge=0, le=2**31 - 1)
