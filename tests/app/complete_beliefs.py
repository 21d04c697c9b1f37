"""What the Bayesian engine adds to a complete document: every field of it, and models of every kind and fate."""

import math
from datetime import timedelta
from typing import Any

from experiments.result import (
    Agreement,
    BestVariant,
    Density,
    EngineDecision,
    FittedModel,
    GuardrailChance,
    HyperParameter,
    LearnedPriorResult,
    LearnedStratum,
    Look,
    ModelArm,
    ModelCheck,
    ModelDiagnostics,
    ModelEffect,
    PastEffectShown,
    PriorAlternative,
    PriorSensitivity,
    PriorUse,
    WaitingPoint,
    WaitingValue,
)
from tests.app.documents import START, result

MONITORING = (
    "Chances to win may be read, but do not ship before the planned end: Refund rate has a stated prior, and stopping "
    "on a posterior is calibrated only under a prior learned from past experiments."
)
ABOUT: dict[str, Any] = {"metric_key": "orders", "variant_key": "treatment"}


def decisions() -> list[EngineDecision]:
    """Intervals ship; beliefs do not, because shipping could lose too much."""
    return [
        EngineDecision(
            engine="frequentist",
            leads=True,
            outcome="better",
            action="ship",
            variant_key="treatment",
            rule=3,
            reasons=[
                "Orders per user is better than control: lift +3.00 %, 95 % repeated interval +0.55 % to +5.51 %."
            ],
        ),
        EngineDecision(
            engine="bayesian",
            leads=False,
            outcome="inconclusive",
            action="keep_running",
            variant_key=None,
            rule=5,
            reasons=["Orders per user is undecided: chance to win 93.1 %, at least 95 % and at most 0.1 % are asked."],
            chance_to_win=0.931,
            expected_loss=0.00142,
            loss_threshold=0.001,
            loss_unit="north_star",
            expected_loss_per_thousand=2.84,
            guardrails=[
                GuardrailChance(
                    metric_key="refund_rate", variant_key="treatment", non_inferiority_margin=0.05, chance=0.991
                )
            ],
        ),
    ]


def disagreement() -> Agreement:
    """Why the two decisions differ."""
    return Agreement(
        agrees=False,
        reasons=[
            "The prior of Orders per user (learned from 24 experiments) expects smaller effects: measured +3.00 %, "
            "after the prior +1.80 %, which leaves a chance to win of 93.1 % where 95 % are asked."
        ],
    )


def priors() -> list[PriorUse]:
    """One of each family."""
    return [
        PriorUse(
            metric_key="orders",
            family="learned",
            mean=0.001,
            scale=0.021,
            source="learned from 24 experiments (version 3)",
            prior_id="0190f0c4-0000-7000-8000-000000000007",
            prior_version=3,
            experiments=24,
        ),
        PriorUse(
            metric_key="refund_rate",
            family="normal",
            mean=0.0,
            scale=0.05,
            source="default: Normal(0, 0.05) on the log lift",
        ),
        PriorUse(
            metric_key="revenue",
            family="student_t4",
            mean=0.0,
            scale=0.03,
            source="plan: Student-t4(0, 0.03) on the log lift",
        ),
        PriorUse(metric_key="satisfaction", family="flat", mean=0.0, scale=0.0, source="none"),
    ]


def alternatives(**changes: Any) -> PriorSensitivity:
    """The same data under six priors, on both sides of what shipping asks for."""
    rows = (
        ("as planned", 0.018, 0.931),
        ("half as wide", 0.009, 0.881),
        ("twice as wide", 0.025, 0.979),
        ("fat tails", 0.021, 0.952),
        ("default", 0.026, 0.982),
        ("no prior", 0.03, 0.9987),
    )
    values: dict[str, Any] = {
        **ABOUT,
        "alternatives": [
            PriorAlternative(
                prior=name,
                posterior_lift=lift,
                hdi_lower=lift - 0.012,
                hdi_upper=lift + 0.021,
                chance_to_win=chance,
                expected_loss=0.002 * (1 - chance),
            )
            for name, lift, chance in rows
        ],
        "robust": False,
        **changes,
    }
    return PriorSensitivity(**values)


def waiting(**changes: Any) -> WaitingValue:
    """Three weeks more are worth their days."""
    values: dict[str, Any] = {
        **ABOUT,
        "predictive_power": 0.97,
        "predictive_power_with_prior": 0.93,
        "evsi": 1.9,
        "net_gain": 1.4,
        "days_worth_waiting": 21.0,
        "horizon_days": 365.0,
        "curve": [
            WaitingPoint(days=float(day), net_gain=1.4 - 1.4 * ((day - 21) / 21) ** 2 * (1 if day < 21 else 0.1))
            for day in range(0, 91, 3)
        ],
        **changes,
    }
    return WaitingValue(**values)


def best() -> list[BestVariant]:
    """Three arms, of which the likeliest is not the one that loses least."""
    rows = (("control", 0.02, 0.031), ("treatment", 0.45, 0.0019), ("other", 0.53, 0.0042))
    return [
        BestVariant(metric_key="orders", variant_key=arm, chance_to_be_best=chance, expected_loss=loss)
        for arm, chance, loss in rows
    ]


def believed_looks() -> list[Look]:
    """The looks of every result, with beliefs from the third on."""
    looks = []
    for day, look in enumerate(result().looks, start=1):
        if day > 2:
            loss = 0.02 * math.exp(-day / 5)
            look = look.model_copy(
                update={
                    "posterior_lift": 0.018,
                    "hdi_lower": -0.05 / math.sqrt(day),
                    "hdi_upper": 0.09 / math.sqrt(day),
                    "chance_to_win": 0.5 + 0.015 * day,
                    "expected_loss": loss,
                    "expected_loss_of_not_shipping": 0.012 + loss / 3,
                }
            )
        looks.append(look)
    return looks


def model(**changes: Any) -> FittedModel:
    """The units of one metric, described in every respect that was checked."""
    values: dict[str, Any] = {
        "model": "hurdle_lognormal",
        "model_version": 1,
        "purpose": "likelihood",
        "metric_key": "orders",
        "variant_key": None,
        "status": "ok",
        "reason": None,
        "method": "nuts",
        "seed": 5,
        "used": True,
        "effects": [effect("treatment", 0.024)],
        "arms": [
            ModelArm(variant_key="control", mean=2.0, hdi_lower=1.96, hdi_upper=2.04, chance_to_be_best=0.03),
            ModelArm(variant_key="treatment", mean=2.05, hdi_lower=2.01, hdi_upper=2.09, chance_to_be_best=0.97),
        ],
        "hyper_parameters": [
            HyperParameter(name="sigma[0]", mean=0.81, lower=0.79, upper=0.83),
            HyperParameter(name="rate_lift[1]", mean=0.021, lower=0.002, upper=0.041),
            HyperParameter(name="order_lift[1]", mean=0.003, lower=-0.012, upper=0.018),
        ],
        "checks": [check("arithmetic_mean", "control"), check("percentile_99", "treatment", observed=412.0)],
        "prior_sensitivity": 0.02,
        "densities": [],
        "diagnostics": ModelDiagnostics(
            r_hat=1.0012, ess_bulk=2140.0, ess_tail=1875.0, divergences=0, chains=4, draws=1000
        ),
        "notes": ["Values above the cap of 1250 count as the cap."],
        **changes,
    }
    return FittedModel(**values)


def effect(variant_key: str, lift: float, **changes: Any) -> ModelEffect:
    values: dict[str, Any] = {
        "metric_key": "orders",
        "variant_key": variant_key,
        "lift": lift,
        "hdi_lower": lift - 0.018,
        "hdi_upper": lift + 0.018,
        "chance_to_win": 0.97,
        "expected_loss": 0.0002,
        "expected_loss_of_not_shipping": 0.02,
        "rope_probability": 0.01,
        "monte_carlo_error": 0.0002,
        **changes,
    }
    return ModelEffect(**values)


def check(statistic: str, variant_key: str = "", **changes: Any) -> ModelCheck:
    values: dict[str, Any] = {
        "statistic": statistic,
        "variant_key": variant_key,
        "observed": 40.2,
        "expected": 40.1,
        "p_value": 0.47,
        "passed": True,
        **changes,
    }
    return ModelCheck(**values)


def models() -> list[FittedModel]:
    """Every purpose and every fate: used, not used and why, unreliable, not estimable."""
    family: dict[str, Any] = {"model": "exchangeable", "used": False, "arms": [], "notes": [], "checks": []}
    none: dict[str, Any] = {"effects": [], "arms": [], "hyper_parameters": [], "checks": [], "notes": []}
    none |= {"used": False, "prior_sensitivity": None, "diagnostics": None}
    spread = [
        HyperParameter(name="mean", mean=0.012, lower=-0.004, upper=0.027),
        HyperParameter(name="between", mean=0.009, lower=0.001, upper=0.024),
    ]
    raw = {"raw_lift": 0.03, "raw_ci_lower": 0.0105, "raw_ci_upper": 0.0498}
    return [
        model(),
        model(
            model="negative_binomial",
            metric_key="refund_rate",
            used=False,
            reason="The model and its prior do not describe these units: share of zeros in control is 0.91, and 0.88 "
            "would be expected (p = 0.0004). The rows keep the normal log lift.",
            effects=[effect("treatment", -0.006, metric_key="refund_rate")],
            checks=[check("events", "control"), check("share of zeros", "control", passed=False, p_value=0.0004)],
            hyper_parameters=[HyperParameter(name="dispersion", mean=0.42, lower=0.4, upper=0.45)],
            prior_sensitivity=0.12,
        ),
        model(
            model="student_t",
            metric_key="page_load",
            status="unreliable",
            reason="R-hat 1.09 is above 1.01",
            **{
                **none,
                "diagnostics": ModelDiagnostics(
                    r_hat=1.09, ess_bulk=80.0, ess_tail=60.0, divergences=12, chains=4, draws=1000
                ),
            },
        ),
        model(
            model="beta_binomial",
            metric_key="satisfaction",
            status="not_estimable",
            reason="no_single_units",
            **none,
        ),
        model(
            **family,
            purpose="metrics",
            metric_key=None,
            variant_key="treatment",
            hyper_parameters=[*spread, HyperParameter(name="common", mean=0.4, lower=0.02, upper=0.94)],
            effects=[
                effect("treatment", 0.024, **raw),
                effect("treatment", 0.01, metric_key="revenue", raw_lift=0.039, raw_ci_lower=-0.02, raw_ci_upper=0.1),
            ],
            method="grid",
            diagnostics=None,
        ),
        model(
            **{**family, "checks": [check("largest_standardised_residual", observed=1.4, expected=1.2)]},
            purpose="replications",
            variant_key="treatment",
            hyper_parameters=[
                *spread,
                HyperParameter(name="next", mean=0.012, lower=-0.019, upper=0.044),
                HyperParameter(name="next_same_sign", mean=0.88, lower=0.6, upper=1.0),
            ],
            effects=[
                effect("treatment", 0.021, label="scheduled", **raw),
                effect("treatment", 0.008, label="wallet", raw_lift=-0.01, raw_ci_lower=-0.05, raw_ci_upper=0.03),
            ],
            method="grid",
            diagnostics=None,
        ),
    ]


def beliefs() -> dict[str, Any]:
    """All of it, as fields of a document."""
    density = result().densities[0]
    flat = density.model_copy(update={"metric_key": "satisfaction", "prior": [0.0] * len(density.lift)})
    return {
        "decisions": decisions(),
        "agreement": disagreement(),
        "monitoring": MONITORING,
        "priors": priors(),
        "prior_sensitivity": [
            alternatives(),
            alternatives(metric_key="refund_rate", robust=True),
        ],
        "waiting": [waiting()],
        "best_variants": best(),
        "looks": believed_looks(),
        "densities": [density, Density(**flat.model_dump())],
        "models": models(),
    }


def learned_prior(effects: int = 9, **changes: Any) -> LearnedPriorResult:
    """A prior of so many experiments, the first the most surprising; none without 8 of them."""
    whole = LearnedStratum(
        stratum=None,
        experiments=effects,
        mean=HyperParameter(name="mean", mean=0.002, lower=-0.006, upper=0.011),
        tau=HyperParameter(name="tau", mean=0.018, lower=0.006, upper=0.041),
        prior_mean=0.002,
        prior_scale=0.021,
        components=[(0.6, 0.002, 0.014), (0.4, 0.002, 0.029)],
    )
    values: dict[str, Any] = {
        "analysis_id": "0190f0c4-0000-7000-8000-000000000007",
        "metric_key": "orders",
        "version": 3,
        "data_as_of": START + timedelta(days=20),
        "strata": [
            whole,
            whole.model_copy(update={"stratum": "Checkout", "experiments": 8, "prior_mean": 0.01}),
        ],
        "stratified": True,
        "chance_strata_differ": 0.93,
        "effects": [
            PastEffectShown(
                experiment_key=f"past-{position}",
                variant_key="treatment",
                stratum="Checkout" if position else None,
                log_lift=0.08 / (position + 1) - 0.02,
                standard_error=0.03,
                shrunk_log_lift=None if position == 8 else 0.02 / (position + 1) - 0.005,
                shrunk_sd=None if position == 8 else 0.012,
            )
            for position in range(effects)
        ],
        "methods": ["C3"],
        "code_version": "0.1.0",
        **changes,
    }
    return LearnedPriorResult(**values)
