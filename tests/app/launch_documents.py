"""Valid documents of measured launches written by hand: one of every outcome a page must show."""

import math
from datetime import datetime, timedelta
from typing import Any

from experiments.definitions import Confounder, LaunchMeasurement, LaunchSpec, RolloutStep
from experiments.result import (
    Check,
    DesignOption,
    DonorFit,
    DonorUse,
    EventPoint,
    LaunchEstimate,
    LaunchGrade,
    LaunchResult,
    MeasuredLaunch,
    ModelParameter,
    PeriodPoint,
    PlaceboRun,
    Placebos,
    PreTrend,
    SensitivityPoint,
    TrendSensitivity,
)
from tests.app.documents import START

WHY = {
    "experiment": ("experiment_measured_it", "no_experiment"),
    "staged": ("arms_by_stage", "no_arm_series"),
    "switchback": ("states_by_lot", "not_by_lot"),
    "random_order": ("segments_by_lot", "not_by_lot"),
    "staggered": ("several_waves", "one_wave"),
    "concurrent": ("untreated_segments", "everyone_has_it"),
    "donors": ("control_series", "no_controls"),
    "before_after": ("history_before", "too_little_history"),
    "none": ("nothing_else", "nothing_else"),
}
"""Codes of designs that are possible, and that are not."""
FIRST = START - timedelta(days=42)
BEFORE, AFTER = 60, 42


def launch_spec(**changes: Any) -> LaunchSpec:
    """A rollout to one country after the other, announced three days before the first."""
    return LaunchSpec(
        **{
            "key": "faster-delivery",
            "name": "Delivery on the next day",
            "description": "Orders before noon arrive on the next day.",
            "owner": "Bo",
            "rollout": [
                RolloutStep(at=FIRST, coverage=1, mechanism="ordered", segments=["DE"]),
                RolloutStep(at=FIRST + timedelta(days=14), coverage=1, mechanism="ordered", segments=["FR"]),
            ],
            "announced_at": FIRST - timedelta(days=3),
            "confounders": [Confounder(name="Summer sale", began_at=FIRST - timedelta(days=9), segments=["DE"])],
            "measurements": [LaunchMeasurement(series_key="revenue", regressors=["temperature"])],
            **changes,
        }
    )


def estimate(method: str, lift: float | None, half: float = 0.03, **changes: Any) -> LaunchEstimate:
    """An estimate whose interval is `half` wide to both sides; without a lift one that could not be made."""
    if lift is None:
        return LaunchEstimate(
            **{"method": method, "leads": False, "estimable": False, "reason": "too_few_comparison_units", **changes}
        )
    values: dict[str, Any] = {
        "method": method,
        "leads": False,
        "estimable": True,
        "log_effect": math.log1p(lift),
        "standard_error": half / 2.4,
        "bias_sd": half / 4,
        "total_standard_error": half / 1.96,
        "lift": lift,
        "ci_lower": lift - half,
        "ci_upper": lift + half,
        "model_lower": lift - 0.8 * half,
        "model_upper": lift + 0.8 * half,
        "interval_kind": "bootstrap",
        "p_value": 0.012,
        "difference": 4000 * lift,
        "difference_lower": 4000 * (lift - half),
        "difference_upper": 4000 * (lift + half),
        "cumulative": 4000 * AFTER * lift,
        "cumulative_lower": 4000 * AFTER * (lift - half),
        "cumulative_upper": 4000 * AFTER * (lift + half),
    }
    return LaunchEstimate(**{**values, **changes})


def periods(lift: float, half: float = 0.03) -> list[PeriodPoint]:
    """A weekly wave that the launch lifts; the three announced days are excluded, one day has no value."""
    points: list[PeriodPoint] = []
    total = spread = 0.0
    for day in range(-BEFORE, AFTER):
        expected = 4000 + 3 * day + 260 * math.sin(2 * math.pi * day / 7)
        noise = 35 * math.sin(2.3 * day)
        coverage = 0.0 if day < 0 else 0.5 if day < 14 else 1.0
        actual = None if day == -30 else expected * (1 + lift * coverage) + noise
        effect = None if actual is None else actual - expected
        band = expected * half * (1 if day >= 0 else 0.5)
        if day >= 0 and effect is not None:
            total, spread = total + effect, spread + 0.8 * band
        points.append(
            PeriodPoint(
                at=FIRST + timedelta(days=day),
                actual=actual,
                counterfactual=expected,
                counterfactual_lower=expected - band,
                counterfactual_upper=expected + band,
                effect=effect,
                effect_lower=None if effect is None else effect - band,
                effect_upper=None if effect is None else effect + band,
                cumulative=total if day >= 0 else None,
                cumulative_lower=total - spread if day >= 0 else None,
                cumulative_upper=total + spread if day >= 0 else None,
                coverage=coverage,
                excluded=-3 <= day < 0,
            )
        )
    return points


def designs(chosen: str) -> list[DesignOption]:
    """All designs; those before the chosen one were not possible."""
    names = (
        "experiment",
        "staged",
        "switchback",
        "random_order",
        "staggered",
        "concurrent",
        "donors",
        "before_after",
        "none",
    )
    reached = names.index(chosen)
    return [
        DesignOption(
            design=name,
            possible=position >= reached,
            chosen=name == chosen,
            why=WHY[name][0 if position >= reached else 1],
            numbers={
                "with_it": 2.0,
                "without_it": 3.0,
                "controls": 0.0,
                "segments": 3.0,
                "before": 60.0,
                "after": 42.0,
            },
        )
        for position, name in enumerate(names)
    ]


def placebos_in_time(lift: float = 0.041, runs: int = 18) -> Placebos:
    """The leading method at earlier dates."""
    made = [
        PlaceboRun(
            at=FIRST - timedelta(days=14 + 2 * position),
            lift=0.012 * math.sin(1.7 * position),
            standard_error=0.01,
            score=abs(1.2 * math.sin(1.7 * position)),
        )
        for position in range(runs)
    ]
    return Placebos(
        kind="time",
        method="imputation",
        runs=made,
        own_lift=lift,
        own_score=3.3,
        p_value=1 / (runs + 1),
        rms_effect=0.0085,
        rms_standard_error=0.01,
    )


def placebos_in_space(lift: float = 0.041, runs: int = 9) -> Placebos:
    """The leading method on countries without the launch."""
    made = [
        PlaceboRun(segment=f"country {position}", lift=0.018 * math.cos(2.1 * position), standard_error=None, score=1.0)
        for position in range(runs)
    ]
    return Placebos(
        kind="space",
        method="synthetic_did",
        runs=made,
        own_lift=lift,
        own_score=3.1,
        p_value=1 / (runs + 1),
        rms_effect=0.0128,
        rms_standard_error=None,
    )


def measured(**changes: Any) -> MeasuredLaunch:
    """A staggered rollout with everything: grade C, +4.1 % of revenue."""
    lift = 0.041
    values: dict[str, Any] = {
        "series_key": "revenue",
        "series_name": "Revenue",
        "metric_key": None,
        "unit": "€",
        "grain": "day",
        "dimension": "country",
        "direction": "increase",
        "level": 0.95,
        "scale": "log",
        "treated": ["DE", "FR"],
        "periods_before": BEFORE,
        "periods_after": AFTER,
        "designs": designs("staggered"),
        "grade": LaunchGrade(
            grade="C",
            reasons=[],
            raised_by=["ramp_by_hash", "draw_segments_by_lot"],
            bias_sd=0.006,
            bias_source="placebos_in_time",
            placebo_runs=18,
        ),
        "estimates": [
            estimate("imputation", lift, leads=True),
            estimate("group_time", 0.038, 0.034),
            estimate("synthetic_did", 0.045, 0.038),
            estimate("bsts", 0.029, 0.05, interval_kind="posterior", notes=["sampled"]),
            estimate("structural", 0.06, 0.09),
            estimate("did", None, reason="not_concurrent"),
            estimate("synthetic_control", None),
        ],
        "checks": [
            Check(name="history", status="pass", detail="60 days before the launch."),
            Check(
                name="donors_untouched",
                status="warn",
                detail="NL moved by +6.0 % at the launch and was left out.",
                remedy="Find out what happened in NL.",
            ),
            Check(name="pre_trend", status="pass", p_value=0.41, detail="The segments ran side by side before."),
        ],
        "periods": periods(lift),
        "event_study": [
            EventPoint(
                time=time,
                lift=(0.004 * math.sin(3 * time) if time < 0 else lift) if time != -1 else 0.0,
                ci_lower=(-0.02 if time < 0 else lift - 0.03) if time != -1 else None,
                ci_upper=(0.02 if time < 0 else lift + 0.03) if time != -1 else None,
                band_lower=(-0.028 if time < 0 else lift - 0.042) if time != -1 else None,
                band_upper=(0.028 if time < 0 else lift + 0.042) if time != -1 else None,
                cells=2 if time < 28 else 1,
            )
            for time in range(-14, AFTER)
        ],
        "placebos": [placebos_in_time(), placebos_in_space()],
        "donors": [
            DonorUse(segment="AT", weight=0.46, lift_without=0.035),
            DonorUse(segment="CH", weight=0.31, lift_without=0.046),
            DonorUse(segment="BE", weight=0.23, lift_without=0.040),
            DonorUse(segment="IT", weight=0.0, lift_without=None),
            DonorUse(segment="NL", weight=None, lift_without=None, suspect=True),
        ],
        "donor_fit": DonorFit(
            method="synthetic_did", pre_rmspe=0.007, share_of_effect=0.17, largest_weight=0.46, good=True
        ),
        "pre_trend": PreTrend(
            p_value=0.41, periods=13, slope=0.0001, slope_lower=-0.0004, slope_upper=0.0006, passed=True
        ),
        "sensitivity": TrendSensitivity(
            points=[
                SensitivityPoint(m=m, ci_lower=lift - 0.03 - 0.035 * m, ci_upper=lift + 0.03 + 0.035 * m)
                for m in (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
            ],
            breakdown=0.25,
        ),
        "parameters": [
            ModelParameter(name="sigma_level", mean=0.004, lower=0.002, upper=0.007),
            ModelParameter(name="donor[AT]", mean=0.12, lower=-0.05, upper=0.3),
        ],
    }
    return MeasuredLaunch(**{**values, **changes})


def staged(**changes: Any) -> MeasuredLaunch:
    """Half of the users at random for a week: one stage, measured by arm, grade B."""
    lead = estimate("staged", 0.03, 0.01, leads=True, interval_kind="normal", difference=0.09)
    lead = lead.model_copy(update={"difference_lower": 0.06, "difference_upper": 0.12})
    at = FIRST + timedelta(days=6)
    stage = PeriodPoint(
        at=at,
        actual=3.09,
        counterfactual=3.0,
        counterfactual_lower=2.97,
        counterfactual_upper=3.03,
        effect=0.09,
        effect_lower=0.06,
        effect_upper=0.12,
        cumulative=0.09,
        cumulative_lower=0.06,
        cumulative_upper=0.12,
        coverage=0.5,
    )
    plain = {
        "series_key": "sessions",
        "series_name": "Sessions",
        "unit": "sessions",
        "dimension": "arm",
        "treated": ["on"],
        "designs": designs("staged"),
        "grade": measured().grade.model_copy(update={"grade": "B"}),
        "estimates": [lead],
        "periods": [stage],
        "periods_before": 0,
        "periods_after": 1,
    }
    return before_after(**{**plain, "placebos": [], "parameters": [], **changes})


def before_after(**changes: Any) -> MeasuredLaunch:
    """Everybody at once and nothing beside it: grade D, and an interval that holds zero."""
    lead = estimate("structural", 0.02, 0.05, leads=True, p_value=0.43)
    plain = {
        "series_key": "signups",
        "series_name": "Sign-ups",
        "unit": "",
        "dimension": "",
        "treated": [""],
        "designs": designs("before_after"),
        "grade": LaunchGrade(
            grade="D",
            reasons=[],
            raised_by=["ramp_by_hash", "draw_segments_by_lot", "keep_segments_back"],
            bias_sd=0.02,
            bias_source="at_least_error",
            placebo_runs=24,
        ),
        "estimates": [lead],
        "periods": periods(0.02, 0.05),
        "event_study": [],
        "placebos": [placebos_in_time(0.02).model_copy(update={"method": "structural", "p_value": 0.4})],
        "donors": [],
        "donor_fit": None,
        "pre_trend": None,
        "sensitivity": None,
    }
    return measured(**{**plain, **changes})


def unmeasured(**changes: Any) -> MeasuredLaunch:
    """Nothing to measure it by: grade U, and what is believed of such launches."""
    prior = estimate(
        "prior",
        0.002,
        0.04,
        leads=True,
        p_value=None,
        interval_kind="posterior",
        reason="no_period_after_launch",
        notes=["default_prior"],
        difference=None,
        difference_lower=None,
        difference_upper=None,
        cumulative=None,
        cumulative_lower=None,
        cumulative_upper=None,
    )
    plain = {
        "grade": LaunchGrade(
            grade="U",
            reasons=[],
            raised_by=["measure_on_a_series", "ramp_by_hash", "keep_segments_back"],
            bias_sd=None,
            bias_source="unknown",
        ),
        "designs": designs("none"),
        "estimates": [prior, estimate("structural", None, reason="no_period_after_launch")],
        "periods_after": 0,
        "periods": periods(0.0)[:BEFORE],
        "event_study": [],
        "placebos": [],
        "donors": [],
        "donor_fit": None,
        "pre_trend": None,
        "sensitivity": None,
        "parameters": [],
    }
    return measured(**{**plain, **changes})


def not_estimable(**changes: Any) -> MeasuredLaunch:
    """Every method failed, and nothing is believed of such launches either."""
    plain = {
        "estimates": [
            estimate("structural", None, reason="too_little_history", leads=True),
            estimate("bsts", None, reason="too_little_history"),
            estimate("did", None, reason="no_comparison_units"),
        ],
        "periods_before": 3,
        "periods": [],
        "checks": [
            Check(name="history", status="fail", detail="3 days before the launch.", remedy="Send earlier values.")
        ],
    }
    return unmeasured(**{**plain, **changes})


def launch_result(*measurements: MeasuredLaunch, at: datetime = START, **changes: Any) -> LaunchResult:
    """The document of one analysis."""
    return LaunchResult(
        **{
            "analysis_id": "0190f0c4-0000-7000-8000-0000000000d5",
            "launch_key": "faster-delivery",
            "plan_hash": "ab" * 32,
            "data_as_of": at,
            "seed": 7,
            "code_version": "0.1.0",
            "measurements": list(measurements) or [measured()],
            "methods": ["D2", "D3", "D7"],
            **changes,
        }
    )
