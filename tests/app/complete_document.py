"""A result document with one of everything that the complete engine can say."""

import math
from datetime import timedelta
from typing import Any

from experiments.result import (
    AgeCurve,
    AgePoint,
    CapEffect,
    Check,
    DecisionErrors,
    ExperimentResult,
    FunnelStepEffect,
    Heterogeneity,
    Interaction,
    PartEffect,
    RatioParts,
    Recommendation,
    Row,
    SegmentEffect,
    SequentialLook,
    SequentialMonitor,
    StepShare,
    SurveyEffect,
)
from tests.app.complete_beliefs import beliefs
from tests.app.documents import NOT_ESTIMABLE, START, result, row

HOSTILE_LEVEL = "<script>IT"


def step_share(control: float, treatment: float, **changes: Any) -> StepShare:
    """A share of 0 to 1 in both arms, with intervals of four points."""
    values: dict[str, Any] = {"difference": treatment - control, "lift": treatment / control - 1 if control else None}
    for name, value in (("control", control), ("treatment", treatment)):
        values |= {name: value, f"{name}_lower": max(0.0, value - 0.02), f"{name}_upper": value + 0.02}
    values |= {"difference_ci_lower": -0.01, "difference_ci_upper": 0.08, "ci_lower": -0.02, "ci_upper": 0.21}
    return StepShare(**values | changes)


def judged(metric_key: str, name: str, **changes: Any) -> Row:
    """A primary that won at a scheduled look, unless changed."""
    values: dict[str, Any] = {
        "family": "success",
        "correction": "holm (intervals: bonferroni)",
        "p_value_adjusted": 0.0052,
        "ci_lower_adjusted": 0.0077,
        "ci_upper_adjusted": 0.0528,
        "difference_ci_lower_adjusted": 0.015,
        "difference_ci_upper_adjusted": 0.105,
        "df": 20_040.0,
        "skewness": 0.02,
        "harm_p_value": 0.9,
        "decision_lower": 0.0055,
        "decision_upper": 0.0551,
        "decision_p_value": 0.012,
        "significant": True,
        **changes,
    }
    return row(metric_key, name, **values)


def rows() -> list[Row]:
    """Every role, a ratio, a cap, a survey, a metric without a lift, one without anything, and rows of segments."""
    guardrail: dict[str, Any] = {
        "role": "guardrail",
        "family": "guardrail",
        "correction": None,
        "p_value_adjusted": None,
    }
    guardrail |= {"ci_lower_adjusted": None, "ci_upper_adjusted": None}
    exploratory: dict[str, Any] = {"role": "secondary", "family": "exploratory"}
    exploratory |= {"correction": "benjamini_hochberg (intervals: false coverage rate)", "sequential_lower": None}
    unselected: dict[str, Any] = {"ci_lower_adjusted": None, "ci_upper_adjusted": None, "significant": False}
    absolute = {
        "lift": None,
        "standard_error": None,
        "ci_lower": None,
        "ci_upper": None,
        "always_valid_lower": None,
        "always_valid_upper": None,
        "interval_kind": "none",
        "reason": "baseline_not_distinguishable_from_zero",
    }
    segments = {
        "role": "primary",
        "family": "segments",
        "correction": "benjamini_hochberg (intervals: false coverage rate)",
        "significant": None,
        "decision_lower": None,
        "decision_upper": None,
        "decision_p_value": None,
        "segment_dimension": "country",
    }
    return [
        judged(
            "orders",
            "Orders per user",
            mde=0.03,
            p_value_adjusted=0.0026,
            ci_lower_adjusted=0.0105,
            ci_upper_adjusted=0.0498,
            sequential_lower=0.0055,
            sequential_upper=0.0551,
            sequential_p_value=0.006,
            log_e_value=3.1,
        ),
        judged("orders", "Orders per user", segment="DE", p_value_adjusted=0.03, **segments),
        judged(
            "orders",
            "Orders per user",
            segment="MT",
            **{**segments, **NOT_ESTIMABLE},
            estimable=False,
            reason="too_few_units",
            difference=None,
            p_value_adjusted=None,
        ),
        judged(
            "refund_rate",
            "Refund rate",
            **guardrail,
            direction="decrease",
            lift=-0.004,
            ci_lower=-0.021,
            ci_upper=0.013,
            always_valid_lower=-0.034,
            always_valid_upper=0.026,
            non_inferiority_margin=0.05,
            non_inferior=True,
            non_inferiority_p_value=0.0004,
            p_value=0.64,
            significant=False,
        ),
        judged(
            "orders_per_session",
            "Orders per session",
            **{**exploratory, **unselected},
            lift=0.012,
            ci_lower=-0.004,
            ci_upper=0.028,
            always_valid_lower=-0.015,
            always_valid_upper=0.04,
            p_value=0.14,
            p_value_adjusted=0.28,
            method="A4+A3+A7",
            ratio=RatioParts(
                numerator=PartEffect(mean_control=2.0, mean_treatment=2.06, lift=0.03, ci_lower=0.01, ci_upper=0.05),
                denominator=PartEffect(
                    mean_control=4.0, mean_treatment=4.07, lift=0.0175, ci_lower=-0.001, ci_upper=0.036
                ),
            ),
            funnel=[
                FunnelStepEffect(step=1, name="Basket", of="units", reached=step_share(0.55, 0.56)),
                FunnelStepEffect(
                    step=2,
                    name=HOSTILE_LEVEL,
                    of="first_step",
                    reached=step_share(0.3, 0.36),
                    passed=step_share(0.0, 0.04, lift=None, ci_lower=None, ci_upper=None, reason="zero_variance"),
                ),
            ],
        ),
        judged(
            "revenue",
            "Revenue per user",
            **exploratory,
            unit="EUR",
            mean_control=81.4,
            mean_treatment=84.6,
            method="A1+A9+A3+A7",
            cap=CapEffect(
                cap=1250.0,
                share_control=0.021,
                share_treatment=0.024,
                uncapped_lift=0.051,
                uncapped_ci_lower=-0.012,
                uncapped_ci_upper=0.114,
            ),
        ),
        judged(
            "satisfaction",
            "Satisfaction",
            **exploratory,
            unit="points",
            direction="increase",
            lift=-0.021,
            ci_lower=-0.034,
            ci_upper=-0.008,
            ci_lower_adjusted=-0.037,
            ci_upper_adjusted=-0.005,
            always_valid_lower=-0.041,
            always_valid_upper=-0.001,
            difference=-0.16,
            method="A4+A13+A3",
            survey=SurveyEffect(
                response_rate_control=0.31,
                response_rate_treatment=0.27,
                response_p_value=0.0004,
                bound_lower=-0.9,
                bound_upper=0.4,
            ),
        ),
        judged(
            "referrals",
            "Referrals per user",
            **{**exploratory, **unselected, **absolute, "role": "monitor"},
            difference=0.0004,
            difference_ci_lower=-0.0011,
            difference_ci_upper=0.0019,
            unit="invites",
        ),
        judged(
            "page_load",
            "Page load time, 90th percentile",
            **{**exploratory, **NOT_ESTIMABLE, "role": "monitor", "significant": None, "p_value_adjusted": None},
            method="A6",
            interval_kind="none",
            estimable=False,
            difference=None,
            difference_ci_lower=None,
            difference_ci_upper=None,
            reason="tail_too_thin",
        ),
    ]


def monitor(**changes: Any) -> SequentialMonitor:
    """Five weekly looks, stopped for efficacy at the fourth."""
    bounds = (None, 4.56, 3.23, 2.63, 2.28)
    futility = (None, -0.6, 0.5, 1.2, 2.28)
    seen = (0.7, 1.6, 2.4, 2.9)
    looks = [
        SequentialLook(
            at=START + timedelta(days=7 * (i + 1)) if i < len(seen) else None,
            information_fraction=0.2 * (i + 1),
            alpha_spent=(0.0, 0.0001, 0.0008, 0.0094, 0.025)[i],
            upper=bounds[i],
            futility=futility[i],
            z=seen[i] if i < len(seen) else None,
            lift_lower=None
            if bounds[i] is None or i >= len(seen)
            else 0.03 - 0.01 * (bounds[i] or 0) / math.sqrt(i + 1),
            lift_upper=None
            if bounds[i] is None or i >= len(seen)
            else 0.03 + 0.01 * (bounds[i] or 0) / math.sqrt(i + 1),
        )
        for i in range(5)
    ]
    values: dict[str, Any] = {
        "metric_key": "orders",
        "variant_key": "treatment",
        "spending": "obrien_fleming",
        "futility": "non_binding",
        "maximum_information": 12_000.0,
        "looks": looks,
        "stopped_for": "efficacy",
        "stopped_at": looks[3].at,
        "estimate": 0.0289,
        "ci_lower": 0.0071,
        "ci_upper": 0.0492,
        "p_value": 0.009,
        **changes,
    }
    return SequentialMonitor(**values)


def heterogeneity(**changes: Any) -> Heterogeneity:
    """A breakdown by country and platform whose effects differ, with a level that is no pair."""
    lifts = {"DE": (0.05, 0.02), "FR": (0.01, -0.02), HOSTILE_LEVEL: (0.03, 0.0)}
    effects = [
        SegmentEffect(
            segment=f"{country} × {platform}",
            raw_lift=1.3 * lift,
            raw_ci_lower=1.3 * lift - 0.03,
            raw_ci_upper=1.3 * lift + 0.03,
            lift=lift,
            hdi_lower=lift - 0.018,
            hdi_upper=lift + 0.018,
            probability_sign_differs=0.1,
            n=4000,
        )
        for country, pair in lifts.items()
        for platform, lift in zip(("android", "ios"), pair, strict=True)
    ]
    effects.append(
        SegmentEffect(
            segment="(other)",
            raw_lift=None,
            raw_ci_lower=None,
            raw_ci_upper=None,
            lift=0.02,
            hdi_lower=-0.05,
            hdi_upper=0.09,
            probability_sign_differs=0.2,
            n=40,
        )
    )
    values: dict[str, Any] = {
        "metric_key": "orders",
        "variant_key": "treatment",
        "dimension": "country × platform",
        "levels": 7,
        "q": 21.3,
        "p_value": 0.0016,
        "p_value_adjusted": 0.0064,
        "i_squared": 0.72,
        "tau": 0.02,
        "reversed": False,
        "effects": effects,
        **changes,
    }
    return Heterogeneity(**values)


def age_curve(**changes: Any) -> AgeCurve:
    """An effect that wears off over two weeks."""
    points = [
        AgePoint(
            age_days=day,
            difference=0.02 * math.exp(-day / 6) + 0.01,
            ci_lower=0.02 * math.exp(-day / 6) - 0.003,
            ci_upper=0.02 * math.exp(-day / 6) + 0.023,
            lift=0.05 * math.exp(-day / 6) + 0.02,
            lift_ci_lower=0.05 * math.exp(-day / 6) - 0.01,
            lift_ci_upper=0.05 * math.exp(-day / 6) + 0.05,
        )
        for day in range(14)
    ]
    values: dict[str, Any] = {
        "metric_key": "orders",
        "variant_key": "treatment",
        "points": points,
        "slope": -0.003,
        "slope_standard_error": 0.0008,
        "p_value": 0.002,
        **changes,
    }
    return AgeCurve(**values)


def interactions() -> list[Interaction]:
    """One that is reported and one that is not."""
    shared: dict[str, Any] = {"variant_key": "treatment", "other_variant_key": "on", "metric_key": "orders"}
    return [
        Interaction(
            **shared,
            experiment_key="search-ranking",
            interaction=0.004,
            standard_error=0.03,
            ci_lower=-0.05,
            ci_upper=0.058,
            p_value=0.89,
            p_value_adjusted=0.89,
            reported=False,
        ),
        Interaction(
            **shared,
            experiment_key="wallet",
            interaction=-0.11,
            standard_error=0.03,
            ci_lower=-0.165,
            ci_upper=-0.055,
            p_value=0.0002,
            p_value_adjusted=0.0004,
            reported=True,
        ),
    ]


def checks() -> list[Check]:
    """Of every group, of every status."""
    return [
        Check(name="sample_ratio", status="pass", p_value=0.62, detail="Exposures are 10,400 : 10,460."),
        Check(name="sample_ratio_segments", status="pass", p_value=0.31, detail="Of 4 segment levels MT departs most."),
        Check(name="data_freshness", status="pass", detail="Facts arrived until an hour ago."),
        Check(
            name="survey_response",
            status="warn",
            p_value=0.0004,
            detail="31 % of the control and 27 % of the treatment answered Satisfaction.",
            remedy="Read the bounds, not the difference.",
        ),
        Check(
            name="novelty",
            status="warn",
            p_value=0.0002,
            detail="Effects change with the days since exposure.",
            remedy="Run on until the curve is flat.",
        ),
        Check(name="skewness", status="pass", detail="No metric is too skewed for its interval."),
    ]


def complete(**changes: Any) -> ExperimentResult:
    """A group-sequential experiment that crossed its efficacy bound, with everything beside it."""
    orders_by_country = heterogeneity(
        dimension="country", levels=4, q=1.9, p_value=0.59, p_value_adjusted=0.6, i_squared=0.0, effects=[]
    )
    document: dict[str, Any] = {
        "decision_interval": "group_sequential",
        "verdict_reasons": [
            "Orders per user is better than control: lift +3.00 %, 95 % repeated interval +0.55 % to +5.51 %."
        ],
        "recommendation": Recommendation(
            action="ship",
            variant_key="treatment",
            rule=3,
            reasons=[
                "Orders per user is better than control: lift +3.00 %, 95 % repeated interval +0.55 % to +5.51 %.",
                "Orders per user is a driver of the North Star whose pass-through is not proven.",
            ],
            tags=["unproven_link"],
            predictive_power=0.93,
            expected_days=6.4,
        ),
        "decision_errors": DecisionErrors(
            alpha=0.05,
            alpha_per_success_test=0.05,
            power=0.8,
            power_per_test=0.9,
            success_tests=1,
            guardrails=1,
        ),
        "checks": checks(),
        "rows": rows(),
        **beliefs(),
        "sequential": [monitor()],
        "heterogeneity": [heterogeneity(), orders_by_country],
        "interactions": interactions(),
        "age_curves": [age_curve()],
        "methods": [
            "A1",
            "A3",
            "A4",
            "A7",
            "A9",
            "A10",
            "A11",
            "A13",
            "A15",
            "A16",
            "B1",
            "B2",
            "C2",
            "C3",
            "C5",
            "E6",
            "H2",
            "H3",
            "H4",
        ],
        **changes,
    }
    return result(**document)
