"""Valid result documents written by hand: one of every outcome a page must show."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from experiments.result import (
    AmendmentNote,
    Check,
    Density,
    ExperimentResult,
    Exposures,
    InputEffect,
    Look,
    NorthStarEffect,
    NorthStarSeries,
    Row,
    SegmentEffect,
    SegmentModel,
    SeriesPoint,
    TreeEstimate,
    VariantExposures,
)

START = datetime(2026, 9, 7, tzinfo=UTC)


def row(metric_key: str, name: str, **changes: Any) -> Row:
    """A row with a 3 % lift of a metric whose increase is good, unless changed."""
    values: dict[str, Any] = {
        "metric_key": metric_key,
        "metric_version": 1,
        "metric_name": name,
        "unit": "orders",
        "variant_key": "treatment",
        "role": "primary",
        "direction": "increase",
        "method": "A1+A3+A7",
        "interval_kind": "log_delta",
        "n_control": 10_000,
        "n_treatment": 10_050,
        "mean_control": 2.0,
        "mean_treatment": 2.06,
        "difference": 0.06,
        "difference_standard_error": 0.02,
        "difference_ci_lower": 0.021,
        "difference_ci_upper": 0.099,
        "lift": 0.03,
        "standard_error": 0.01,
        "ci_lower": 0.0105,
        "ci_upper": 0.0498,
        "ci_level": 0.95,
        "p_value": 0.0026,
        "log10_p_value": -2.58,
        "always_valid_lower": 0.0012,
        "always_valid_upper": 0.0591,
        "always_valid_p_value": 0.04,
        "variance_reduction": 0.31,
        "chance_to_win": 0.996,
        "expected_loss": 0.00002,
        "expected_loss_of_not_shipping": 0.029,
        "rope_probability": 0.01,
        "posterior_lift": 0.0288,
        "hdi_lower": 0.009,
        "hdi_upper": 0.048,
        "prior_source": "plan",
        "estimable": True,
        **changes,
    }
    return Row(**values)


NOT_ESTIMABLE: dict[str, Any] = dict.fromkeys(
    (
        "lift",
        "standard_error",
        "ci_lower",
        "ci_upper",
        "p_value",
        "log10_p_value",
        "always_valid_lower",
        "always_valid_upper",
        "always_valid_p_value",
        "chance_to_win",
        "expected_loss",
        "expected_loss_of_not_shipping",
        "rope_probability",
        "posterior_lift",
        "hdi_lower",
        "hdi_upper",
    )
)


def result(**changes: Any) -> ExperimentResult:
    """A running experiment with a clear winner, a safe guardrail, a decided harm and a metric without an estimate."""
    rows = [
        row("orders", "Orders per user"),
        row(
            "refund_rate",
            "Refund rate",
            role="guardrail",
            direction="decrease",
            lift=-0.004,
            ci_lower=-0.021,
            ci_upper=0.013,
            always_valid_lower=-0.034,
            always_valid_upper=0.026,
            non_inferiority_margin=0.05,
            non_inferior=True,
        ),
        row(
            "page_load",
            "Page load time",
            role="secondary",
            direction="decrease",
            unit="ms",
            lift=0.021,
            ci_lower=0.012,
            ci_upper=0.03,
            always_valid_lower=0.006,
            always_valid_upper=0.036,
        ),
        row(
            "referrals",
            "Referrals per user",
            role="monitor",
            estimable=False,
            reason="baseline_not_distinguishable_from_zero",
            interval_kind="none",
            **NOT_ESTIMABLE,
        ),
    ]
    looks = [
        Look(
            metric_key="orders",
            variant_key="treatment",
            at=START + timedelta(days=day),
            n=700 * day,
            lift=0.03 + 0.02 * math.cos(day) / day,
            ci_lower=0.03 - 0.11 / math.sqrt(day),
            ci_upper=0.03 + 0.11 / math.sqrt(day),
            always_valid_lower=0.03 - 0.17 / math.sqrt(day),
            always_valid_upper=0.03 + 0.17 / math.sqrt(day),
        )
        for day in range(1, 29)
    ]
    grid = [-0.05 + 0.002 * step for step in range(76)]

    def normal(x: float, mean: float, sd: float) -> float:
        return math.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))

    tree = TreeEstimate(
        lift=0.021, standard_error=0.008, ci_lower=0.005, ci_upper=0.037, chance_to_win=0.995, estimable=True
    )
    document: dict[str, Any] = {
        "analysis_id": "0190f0c4-0000-7000-8000-000000000001",
        "experiment_key": "checkout",
        "plan_hash": "a" * 64,
        "data_as_of": START + timedelta(days=28),
        "seed": 1,
        "code_version": "0.1.0",
        "amendments": [
            AmendmentNote(at=START + timedelta(days=3), actor="ada", reason="Longer run", changed=["/planned_end_at"])
        ],
        "verdict": "better",
        "verdict_variant": "treatment",
        "verdict_reasons": [
            "Orders per user rose by 3.0 % (always-valid 95 % interval 0.1 % to 5.9 %).",
            "Refund rate stays within its margin of 5 %.",
        ],
        "decision_interval": "always_valid",
        "checks": [
            Check(name="sample_ratio", status="pass", p_value=0.62, detail="10,000 to 10,050 units for 50:50."),
            Check(
                name="skewness",
                status="warn",
                detail="Orders per user is skewed (8.1).",
                remedy="Read the interval with care below 40,000 units.",
            ),
        ],
        "exposures": Exposures(
            variants=[
                VariantExposures(variant_key="control", weight=0.5, exposures=10_400, analysed=10_000),
                VariantExposures(variant_key="treatment", weight=0.5, exposures=10_460, analysed=10_050),
            ],
            crossover=12,
            daily=[
                {"at": (START + timedelta(days=day)).isoformat(), "control": 371 * day, "treatment": 374 * day}
                for day in range(1, 29)
            ],
        ),
        "rows": rows,
        "looks": looks,
        "densities": [
            Density(
                metric_key="orders",
                variant_key="treatment",
                lift=grid,
                posterior=[normal(x, 0.0288, 0.01) for x in grid],
                prior=[normal(x, 0, 0.05) for x in grid],
            )
        ],
        "segment_models": [
            SegmentModel(
                metric_key="orders",
                variant_key="treatment",
                dimension="country",
                status="ok",
                reason=None,
                effects=[
                    SegmentEffect(
                        segment=name,
                        raw_lift=raw,
                        raw_ci_lower=None if raw is None else raw - wide,
                        raw_ci_upper=None if raw is None else raw + wide,
                        lift=lift,
                        hdi_lower=lift - 0.02,
                        hdi_upper=lift + 0.02,
                        probability_sign_differs=0.01,
                        n=n,
                    )
                    for name, raw, wide, lift, n in (
                        ("DE", 0.031, 0.02, 0.0305, 9000),
                        ("FR", 0.055, 0.04, 0.035, 4000),
                        ("<script>IT", -0.02, 0.09, 0.024, 800),
                        ("MT", None, 0.0, 0.029, 11),
                    )
                ],
                mean_lift=0.0301,
                tau=0.008,
                r_hat=1.002,
                ess_bulk=1800.0,
                ess_tail=1500.0,
                divergences=0,
            )
        ],
        "north_star": [
            NorthStarEffect(
                north_star_key="weekly_orders",
                north_star_version=1,
                metric_key="orders",
                variant_key="treatment",
                direct=tree.model_copy(update={"lift": 0.03, "ci_lower": 0.0105, "ci_upper": 0.0498}),
                tree=tree,
                coherence=Check(name="tree_coherence", status="pass", p_value=0.4, detail="Direct and tree agree."),
                inputs=[
                    InputEffect(
                        metric_key="active_users",
                        edge="definitional",
                        elasticity=1.0,
                        lift=0.004,
                        ci_lower=-0.01,
                        ci_upper=0.018,
                        contribution=0.004,
                        contribution_standard_error=0.007,
                    ),
                    InputEffect(
                        metric_key="orders_per_session",
                        edge="definitional",
                        elasticity=1.0,
                        lift=0.017,
                        ci_lower=0.003,
                        ci_upper=0.031,
                        contribution=0.0169,
                        contribution_standard_error=0.007,
                    ),
                ],
            )
        ],
        "methods": ["A1", "A3", "A7", "A10", "A12", "B1", "C1", "C4", "E1", "E2"],
        **changes,
    }
    return ExperimentResult(**document)


def series(weeks: int = 30) -> NorthStarSeries:
    """A growing North Star whose last week is not over."""
    points = [
        SeriesPoint(
            week=START + timedelta(weeks=week - weeks),
            value=(12_000 + 130 * week + 400 * math.sin(week)) * (0.4 if week == weeks - 1 else 1),
            inputs={
                "active_users": 4000.0 + 30 * week,
                "sessions_per_active_user": 2.0 + 0.01 * math.sin(week),
                "orders_per_session": None if week == 3 else 1.5,
            },
            complete=week < weeks - 1,
        )
        for week in range(weeks)
    ]
    return NorthStarSeries(
        analysis_id="0190f0c4-0000-7000-8000-000000000002",
        north_star_key="weekly_orders",
        north_star_version=1,
        data_as_of=START,
        points=points,
        code_version="0.1.0",
    )
