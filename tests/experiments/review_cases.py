"""A North Star with two years of weeks, a dozen experiments, five launches and a holdout, as a review's plan."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from experiments.definitions import Direction, NorthStarSpec, ReviewSpec
from experiments.evidence.review.context import ReviewContext
from experiments.plan import (
    HoldoutEvidence,
    InfluenceWeeks,
    LedgerLaunch,
    PlannedNorthStar,
    PlannedPersistence,
    PreviousReview,
    ProgrammeEffect,
    ProgrammePlan,
    ReviewedDecision,
    ReviewPlan,
    RunningExperiment,
    Source,
)

WEEK = timedelta(weeks=1)
FIRST = datetime(2024, 7, 1, tzinfo=UTC)
WEEKS = 104
QUARTER = 13
LIFT = 0.012
STAR = NorthStarSpec(
    key="weekly_orders",
    name="Weekly orders",
    metric_key="orders",
    formula="buyers * orders_per_buyer",
    input_metrics=[
        {"metric_key": "buyers"},
        {"metric_key": "orders_per_buyer"},
    ],
    target={"value": 13_000, "at": "2026-12-28"},
)


def at_week(week: int) -> datetime:
    return FIRST + week * WEEK


def effect(number: int, *, shipped: bool, log_lift: float, week: int, **fields: Any) -> ProgrammeEffect:
    """An experiment of two weeks that ended at the beginning of `week`, on everybody."""
    document: dict[str, Any] = {
        "experiment_key": f"exp-{number}",
        "name": f"Experiment {number}",
        "team": None,
        "owner": "grace@example.com",
        "variant_key": "treatment",
        "variants": 1,
        "analysis_id": f"analysis-{number}",
        "data_as_of": at_week(week),
        "verdict": "better" if shipped else "inconclusive",
        "log_lift": log_lift,
        "standard_error": 0.006,
        "topline_log_lift": log_lift,
        "topline_standard_error": 0.006,
        "topline_source": "everybody",
        "evidence_grade": "A",
        "bias_sd": 0.0,
        "started_at": at_week(week - 2),
        "stopped_at": at_week(week),
        "outcome": "ship" if shipped else "iterate",
        "decided_at": at_week(week),
        "shipped": shipped,
        "launch_key": f"launch-{number}" if shipped else None,
        **fields,
    }
    return ProgrammeEffect.model_validate(document)


def launch(number: int, week: int, weeks: int, **fields: Any) -> LedgerLaunch:
    """Everything for everybody from the beginning of `week` on."""
    document: dict[str, Any] = {
        "launch_key": f"launch-{number}",
        "name": f"Launch {number}",
        "owner": "grace@example.com",
        "first_at": at_week(week),
        "coverage": [float(t >= week) for t in range(weeks)],
        "experiment_key": f"exp-{number}",
        "evidence_grade": "A",
        "analysis_id": f"analysis-{number}",
        **fields,
    }
    return LedgerLaunch.model_validate(document)


def review_plan(*, weeks: int = WEEKS, seed: int = 5, holdout: bool = False, **review: Any) -> ReviewPlan:
    """The plan at the end of the last week; five launches lift by 1.2 % each, an outside influence moves the weeks."""
    rng = np.random.default_rng(seed)
    begun = {1: 60, 2: 66, 3: 66, 4: 80, 9: 95}
    t = np.arange(weeks)
    outside = rng.standard_normal(weeks)
    level = np.log(10_000) + 0.001 * t + 0.02 * np.sin(2 * np.pi * t / 52.18) + 0.01 * outside
    shipped = sum((LIFT * (t >= week) for week in begun.values()), np.zeros(weeks))
    values = np.exp(level + shipped + 0.008 * rng.standard_normal(weeks))
    buyers = 4000 * np.exp(0.001 * t + 0.005 * rng.standard_normal(weeks))
    effects = [
        effect(
            n,
            shipped=n <= 4,
            log_lift=0.018 if n <= 4 else float(0.004 * rng.standard_normal()),
            week=begun.get(n, 40 + n),
        )
        for n in range(1, 9)
    ]
    effects[0] = effects[0].model_copy(
        update={"persistence": PlannedPersistence(remaining=0.7, log_sd=0.2, half_life_days=14.0)}
    )
    launches = [launch(n, week, weeks) for n, week in begun.items() if week < weeks]
    launches = [
        each
        if each.launch_key != "launch-9"
        else each.model_copy(update={"experiment_key": None, "evidence_grade": "U", "analysis_id": None})
        for each in launches
    ]
    launches = [
        each.model_copy(update={"persistence": effects[0].persistence}) if each.launch_key == "launch-1" else each
        for each in launches
    ]
    end = at_week(weeks)
    held = HoldoutEvidence(
        holdout_key="nobody",
        name="Five per cent",
        experiment_key="holdout",
        share=0.05,
        started_at=at_week(50),
        released_at=None,
        launch_keys=[],
        analysis_id="analysis-holdout",
        log_lift=0.05,
        standard_error=0.01,
        contaminated_share=0.0,
        failed_checks=[],
    )
    spec: dict[str, Any] = {
        "key": "2026-q2",
        "name": "Second quarter",
        "north_star_key": STAR.key,
        "begins_on": (end - QUARTER * WEEK).date(),
        "ends_on": end.date(),
        **review,
    }
    return ReviewPlan(
        review=ReviewSpec.model_validate(spec),
        north_star=PlannedNorthStar(version=1, spec=STAR),
        unit="orders",
        direction=Direction.INCREASE,
        weeks=[at_week(i) for i in range(weeks)],
        values=[float(value) for value in values],
        inputs={
            "buyers": [float(value) for value in buyers],
            "orders_per_buyer": [float(value) for value in values / buyers],
        },
        names={"orders": "Orders", "buyers": "Buyers", "orders_per_buyer": "Orders per buyer"},
        influences=[
            InfluenceWeeks(
                series_key="weather", name="Weather", rationale="Nobody launches weather", values=outside.tolist()
            )
        ],
        programme=ProgrammePlan(
            metric_key="orders",
            metric_name="Orders",
            direction=Direction.INCREASE,
            started=9,
            effects=effects,
            missing=[],
            holdouts=[held] if holdout else [],
        ),
        launches=launches,
        decisions=[
            ReviewedDecision(
                experiment_key=f"exp-{n}",
                name=f"Experiment {n}",
                outcome="ship" if n <= 4 else "roll_back",
                variant_key="treatment",
                decided_at=at_week(95),
                reason="It won." if n <= 4 else "It lost.",
                learnings="Fewer steps help." if n == 4 else "",
                against_recommendation=n == 7,
            )
            for n in (4, 7)
        ],
        running=[
            RunningExperiment(
                experiment_key="exp-10",
                name="Experiment 10",
                analysis_id="analysis-10",
                verdict="inconclusive",
                recommendation="keep_running",
                days_left=9.0,
                value_of_waiting=0.4,
                failed_checks=["sample_ratio"],
            )
        ],
        previous=PreviousReview(
            review_key="2026-q1",
            analysis_id="before",
            data_as_of=at_week(91),
            numbers={"kappa": 0.8, "level": 10_900.0},
        ),
        sources=[Source(name="series orders", analysis_id=None, known_at=end)],
    )


def context(plan: ReviewPlan) -> ReviewContext:
    return ReviewContext(
        analysis_id="00000000-0000-0000-0000-000000000001",
        data_as_of=plan.weeks[-1] + WEEK,
        seed=7,
        code_version="test",
        plan_hash="0" * 64,
    )
