"""Documents outside experiments: the weekly series of a North Star and baselines; and what a result costs."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pytest

from experiments.evidence import baseline_result, model_without_numbers, north_star_series, segment_model
from experiments.evidence.segments import segment_question
from experiments.plan import BaselinePlan, NorthStarPlan
from experiments.types import canonical_json
from stats.bayes.models.exchangeable import pool_questions
from stats.moment_set import MomentSet
from stats.moments import Moments
from tests.experiments.evidence_cases import (
    END,
    START,
    column,
    draft,
    moment_set,
    north_star,
    plan_of,
    planned,
    row_of,
    spec,
    variants,
)


@dataclass(frozen=True)
class Totals:
    weeks: tuple[datetime, ...]
    columns: tuple[str, ...]
    by_bucket: np.ndarray
    complete: tuple[bool, ...]

    @property
    def totals(self) -> np.ndarray:
        return self.by_bucket.sum(axis=0)


def test_the_weekly_series_has_totals_units_ratios_and_formulas():
    metrics = [
        planned(spec("orders")),
        planned(spec("active", "proportion")),
        planned(spec("per_session", "ratio")),
        planned(spec("orders_per_active", "formula", formula="orders / active")),
    ]
    star = north_star("orders", "active * per_session", ["active", "per_session", "orders_per_active"])
    plan = NorthStarPlan(north_star=star, metrics=metrics, fact_sources=[])
    names = ("orders", "active", "per_session.numerator", "per_session.denominator")
    totals = np.array([[100, 40, 100, 50], [0, 0, 0, 0], [60, 30, 60, 20]], dtype=float)
    weeks = tuple(START + timedelta(weeks=i) for i in range(3))
    by_bucket = np.stack([0.25 * totals, 0.75 * totals])
    series = Totals(weeks, names, by_bucket, (True, True, False))
    found = north_star_series(plan, series, analysis_id="s", data_as_of=END, code_version="test")
    canonical_json(found.model_dump(mode="json"))
    assert [point.value for point in found.points] == [100, 0, 60]
    assert found.points[0].inputs == {"active": 40, "per_session": 2, "orders_per_active": 2.5}
    assert found.points[1].inputs == {"active": 0, "per_session": None, "orders_per_active": None}
    assert [point.complete for point in found.points] == [True, True, False]
    # Half of the units leaves, the rest counts twice: totals change with who left, ratios only if they differ.
    assert [each.value for each in found.without] == [[150, 0, 90], [50, 0, 30]]
    assert found.without[0].inputs["per_session"] == [2, None, 3]


def test_baselines_give_influence_sds_and_what_the_pre_period_explains():
    rng = np.random.default_rng(1)
    n = 5000
    before = rng.gamma(2, 2, n)
    orders = before + rng.normal(0, 1, n)
    clicks, views = rng.poisson(3, n), 1.0 + rng.poisson(4, n)
    metrics = [
        planned(spec("orders", pre_period_days=14)),
        planned(spec("rate", "ratio")),
        planned(spec("flat", measure=column("flat"))),
    ]
    plan = BaselinePlan(unit_type="user", metrics=metrics, fact_sources=[])
    names = ("orders", "orders.pre", "no_history.14d", "rate.numerator", "rate.denominator", "flat")
    values = np.column_stack([orders, before, np.zeros(n), clicks, views, np.ones(n)])
    overall = Moments.from_rows(values, np.zeros(n, dtype=int), (1, 1))
    empty = Moments.empty((0, 1), len(names))
    moments = MomentSet(names, ("all",), (END,), overall, (), empty, overall.count)
    found = baseline_result(plan, moments, [100, 150], analysis_id="b", data_as_of=END, code_version="test")
    canonical_json(found.model_dump(mode="json"))
    first, rate, flat = found.metrics
    assert first.sd == pytest.approx(orders.std(ddof=1), rel=1e-9)
    assert first.cuped_r_squared == pytest.approx(np.corrcoef(orders, before)[0, 1] ** 2, rel=1e-6)
    ratio = clicks.mean() / views.mean()
    assert rate.sd == pytest.approx(((clicks - ratio * views) / views.mean()).std(ddof=1), rel=1e-9)
    assert (flat.mean, flat.sd, flat.reason) == (1, None, "zero_variance")
    assert found.cumulative_units == [100, 150]


def segmented(levels: int = 5):
    rng = np.random.default_rng(2)
    n = 4000
    plan = plan_of([planned(spec("m"), "primary")], segments=["country"])
    moments = moment_set(plan, rng.normal(10, 2, (n, 1)), np.arange(n) % 2, segment=(np.arange(n) // 2) % levels)
    return draft(plan, moments)


def test_a_fitted_segment_model_joins_the_document_with_raw_and_shrunken_lifts():
    made = segmented()
    (request,) = made.segment_requests
    (fit,) = pool_questions([segment_question(request)])
    result = made.finish([segment_model(request, fit)])
    canonical_json(result.model_dump(mode="json"))
    (model,) = result.segment_models
    assert (model.status, model.reason, len(model.effects)) == ("ok", None, 5)
    for effect in model.effects:
        row = row_of(result, "m", segment=effect.segment)
        assert effect.raw_lift == pytest.approx(row.lift)
        assert abs(effect.lift or 0) <= abs(effect.raw_lift or 0) + abs(model.mean_lift or 0) + 1e-9
    assert {"A15", "C4"} <= set(result.methods)


def test_a_model_that_cannot_be_trusted_keeps_only_the_raw_lifts():
    made = segmented()
    (request,) = made.segment_requests
    result = made.finish([model_without_numbers(request, "unreliable", "3 divergent transitions")])
    (model,) = result.segment_models
    assert (model.status, model.tau, model.effects[0].lift) == ("unreliable", None, None)
    assert model.effects[0].raw_lift is not None
    assert "C4" not in result.methods


def test_the_same_inputs_give_the_same_bytes_and_a_result_takes_well_under_a_second():
    """3 variants x 10 metrics x 28 looks and 20 segments: some 40 ms on one core; the limit is for busy machines."""
    rng = np.random.default_rng(3)
    n = 6000
    metrics = [planned(spec(f"m{i}", pre_period_days=14), "primary" if i == 0 else "secondary") for i in range(10)]
    plan = plan_of(metrics, variants(3), segments=["country"])
    moments = moment_set(
        plan,
        rng.gamma(2, 1, (n, 20)),
        rng.integers(0, 3, n),
        look=np.arange(n) % 28,
        segment=rng.integers(0, 20, n),
    )
    taken, seen = [], set()
    for _ in range(5):
        start = time.process_time()
        made = draft(plan, moments)
        taken.append(time.process_time() - start)
        seen.add(canonical_json(made.finish().model_dump(mode="json")))
    assert len(seen) == 1
    assert len(made.document.rows) == 2 * 10 * 21 and len(made.document.looks) == 2 * 10 * 28
    assert min(taken) < 0.5
