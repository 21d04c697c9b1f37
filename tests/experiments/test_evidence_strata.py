"""Everybody is compared within strata where the plan has some, looks included (METHODS A8); the jackknife (A4)."""

import numpy as np
import pytest

from experiments.definitions import Estimation
from experiments.evidence.strata import uneven
from stats.estimate import MetricShape
from stats.lift import lift
from stats.moment_set import HashBuckets
from stats.moments import Moments
from stats.stratification import estimate_stratified
from tests.experiments.evidence_cases import document, moment_set, north_star, plan_of, planned, row_of, spec

N = 8000


@pytest.fixture(scope="module")
def ramp() -> dict[str, np.ndarray]:
    """A ramp from 10 to 50 % while the metric falls over time: pooled, the treatment looks bad; it adds 0.2."""
    rng = np.random.default_rng(5)
    stage = np.arange(N) * 2 // N
    arm = (rng.random(N) < np.where(stage == 0, 0.1, 0.5)).astype(int)
    return {"stage": stage, "arm": arm, "value": 10 - 2.0 * stage + 0.2 * arm + rng.normal(0, 1, N)}


def test_a_ramp_is_compared_within_its_stages(ramp):
    plan = plan_of([planned(spec("m"), "primary")])
    whole = document(plan, moment_set(plan, ramp["value"][:, None], ramp["arm"], stratum=ramp["stage"]))
    pooled = document(plan, moment_set(plan, ramp["value"][:, None], ramp["arm"]))
    row, wrong = row_of(whole, "m"), row_of(pooled, "m")
    assert row.method == "A1+A8+A3"
    parts = []
    for stage in (0, 1):
        at = [ramp["value"][(ramp["stage"] == stage) & (ramp["arm"] == a)] for a in (0, 1)]
        parts.append(at[1].mean() - at[0].mean())
    assert row.difference == pytest.approx(np.mean(parts), rel=1e-10)
    assert row.difference_ci_lower < 0.2 < row.difference_ci_upper
    assert wrong.difference < 0 and wrong.p_value < 1e-6, "Simpson's paradox is what strata are for"
    assert {"A8"} <= set(whole.methods)


def test_looks_are_stratified_and_the_last_one_is_the_row(ramp):
    plan = plan_of([planned(spec("m"), "primary")], segments=["country"])
    look, segment = np.arange(N) * 4 // N, np.arange(N) % 2
    moments = moment_set(plan, ramp["value"][:, None], ramp["arm"], look=look, segment=segment, stratum=ramp["stage"])
    result = document(plan, moments)
    row = row_of(result, "m")
    assert (result.looks[-1].lift, result.looks[-1].ci_upper) == (row.lift, row.ci_upper)
    shapes = [MetricShape("m", "mean", 0)]
    assert moments.by_stratum is not None
    third = lift(estimate_stratified(moments.by_stratum[2], shapes))
    assert result.looks[2].lift == pytest.approx(float(third.value[0, 0]), rel=1e-12)
    assert row_of(result, "m", segment="s0").method == "A1+A3"


def test_covariates_work_within_strata(ramp):
    rng = np.random.default_rng(6)
    plan = plan_of([planned(spec("m", pre_period_days=14), "primary")], estimation=Estimation(cuped=True))
    before = ramp["value"] - 0.2 * ramp["arm"] + rng.normal(0, 0.5, N)
    values = np.column_stack([ramp["value"], before])
    row = row_of(document(plan, moment_set(plan, values, ramp["arm"], stratum=ramp["stage"])), "m")
    assert row.method == "A1+A8+A3+A7"
    assert row.variance_reduction is not None and row.variance_reduction > 0.5
    assert row.difference_ci_lower < 0.2 < row.difference_ci_upper


def test_the_tree_is_compared_within_strata_too(ramp):
    """Value = units x value per unit is an identity; pooled over the ramp, the tree would tell another story."""
    metrics = [planned(spec("m"), "primary"), planned(spec("n")), planned(spec("rate", "ratio"))]
    plan = plan_of(metrics, north_star=north_star("m", "n * rate", ["n", "rate"]))
    count = np.random.default_rng(2).poisson(5, N) + 1.0
    columns = ["m", "n", "rate.numerator", "rate.denominator"]
    values = np.column_stack([ramp["value"], count, ramp["value"], count])
    moments = moment_set(plan, values, ramp["arm"], stratum=ramp["stage"], columns=columns)
    effect = document(plan, moments).north_star[0]
    assert effect.coherence.status == "pass"
    assert effect.tree.lift == pytest.approx(effect.direct.lift, rel=1e-8)
    assert effect.direct.lift > 0


def test_one_stratum_is_none(ramp):
    plan = plan_of([planned(spec("m"), "primary")])
    plain = moment_set(plan, ramp["value"][:, None], ramp["arm"])
    alone = moment_set(plan, ramp["value"][:, None], ramp["arm"], stratum=np.zeros(N, dtype=int))
    one, other = (row_of(document(plan, moments), "m") for moments in (plain, alone))
    assert other.method == one.method == "A1+A3"
    assert other.p_value == pytest.approx(one.p_value, rel=1e-9)


def test_few_successes_are_exact_unless_the_arms_hold_different_strata():
    plan = plan_of([planned(spec("bought", "proportion"), "primary")])
    bought = np.zeros(400)
    bought[[0, 2, 5, 7, 9, 13, 200, 201]] = 1
    stratum = (np.arange(400) // 2) % 2
    even, odd = np.arange(400) % 2, (np.arange(400) % 10 < np.where(stratum, 3, 7)).astype(int)
    rows = [
        row_of(document(plan, moment_set(plan, bought[:, None], arm, stratum=stratum)), "bought") for arm in (even, odd)
    ]
    plain = row_of(document(plan, moment_set(plan, bought[:, None], even)), "bought")
    assert rows[0].method.startswith("A2") and rows[0].p_value == plain.p_value
    assert rows[1].method.startswith("A1+A8")


def test_arms_of_one_mixture_are_even_and_a_ramp_is_not(ramp):
    cell = ramp["stage"] * 2 + ramp["arm"]
    strata = Moments.from_rows(ramp["value"][:, None], cell, (2, 2))
    assert bool(uneven(strata))
    rng = np.random.default_rng(1)
    same = Moments.from_rows(ramp["value"][:, None], ramp["stage"] * 2 + rng.integers(0, 2, N), (2, 2))
    assert not bool(uneven(same))
    assert not bool(uneven(Moments.empty((3, 2), 1)))


def vague_ratio(**extra):
    """Clicks over views where few units have any view: the denominator is known to 13 %."""
    rng = np.random.default_rng(8)
    n = 2000
    arm, views = np.arange(n) % 2, rng.poisson(0.06, n) * rng.integers(1, 6, n)
    clicks = rng.binomial(views, 0.4)
    bucket = rng.integers(0, 100, n)
    plan = plan_of([planned(spec("rate", "ratio"), "primary"), planned(spec("views"))])
    values = np.column_stack([clicks, views, views]).astype(float)
    cells = Moments.from_rows(values, bucket * 2 + arm, (100, 2))
    fields = {"buckets": HashBuckets(cells.count, cells.mean)} | extra
    return document(plan, moment_set(plan, values, arm, look=np.arange(n) // 1000, **fields)), clicks, views, arm


def test_a_ratio_that_the_delta_method_refuses_has_the_jackknife_at_the_last_look():
    result, clicks, views, arm = vague_ratio()
    row = row_of(result, "rate")
    assert row.method == "A4j+A3" and row.estimable
    plain = [clicks[arm == a].sum() / views[arm == a].sum() for a in (0, 1)]
    assert row.mean_control == pytest.approx(plain[0], rel=0.05)
    assert row.df is not None and row.df < 200
    looks = [look for look in result.looks if look.metric_key == "rate"]
    assert (looks[0].lift, looks[1].lift) == (None, row.lift)
    assert "A4j" in result.methods


def test_without_buckets_such_a_ratio_stays_refused():
    result, *_ = vague_ratio(buckets=None)
    row = row_of(result, "rate")
    assert (row.p_value, row.reason, row.method) == (None, "denominator_near_zero", "A4")
    assert row.ratio is not None and row.ratio.denominator.mean_control is not None
