"""What the document says is what numpy, scipy and statsmodels compute from the unit rows."""

import numpy as np
import pytest
import scipy.stats as sps
import statsmodels.api as sm
from statsmodels.stats.proportion import proportions_chisquare

from experiments.definitions import Estimation
from stats.bayes.normal import posterior
from stats.bayes.prior import Prior
from tests.experiments.evidence_cases import (
    check_of,
    document,
    draft,
    moment_set,
    north_star,
    plan_of,
    planned,
    row_of,
    spec,
    variants,
)

N = 6000


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture(scope="module")
def rows(rng: np.random.Generator) -> dict[str, np.ndarray]:
    arm = rng.integers(0, 2, N)
    sessions = rng.poisson(4, N) + 1.0
    orders = rng.binomial(sessions.astype(int), 0.2 + 0.02 * arm).astype(float)
    before = rng.gamma(2, 2, N)
    spend = 5 + 1.5 * before + 0.4 * arm + rng.normal(0, 2, N)
    return {"arm": arm, "sessions": sessions, "orders": orders, "before": before, "spend": spend}


def split(rows: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    return rows[name][rows["arm"] == 0], rows[name][rows["arm"] == 1]


def test_a_mean_is_welchs_test_and_the_log_delta_lift(rows):
    plan = plan_of([planned(spec("spend"), "primary")])
    row = row_of(document(plan, moment_set(plan, rows["spend"][:, None], rows["arm"])), "spend")
    c, t = split(rows, "spend")
    test = sps.ttest_ind(t, c, equal_var=False)
    low, high = test.confidence_interval(0.95)
    assert row.p_value == pytest.approx(test.pvalue, rel=1e-9)
    assert [row.difference_ci_lower, row.difference_ci_upper] == pytest.approx([low, high], rel=1e-9)
    log_se = np.sqrt(t.var(ddof=1) / len(t) / t.mean() ** 2 + c.var(ddof=1) / len(c) / c.mean() ** 2)
    log_lift = np.log(t.mean() / c.mean())
    z = sps.norm.ppf(0.975)
    assert row.interval_kind == "log_delta"
    assert row.lift == pytest.approx(t.mean() / c.mean() - 1, rel=1e-10)
    assert [row.ci_lower, row.ci_upper] == pytest.approx(
        [np.expm1(log_lift - z * log_se), np.expm1(log_lift + z * log_se)], rel=1e-9
    )
    believed = posterior(np.array(log_lift), np.array(log_se), Prior.default(), rope=0.0)
    assert row.chance_to_win == pytest.approx(float(believed.chance_to_win), rel=1e-9)
    assert row.prior_source == Prior.default().source


def test_a_ratio_is_the_delta_method_on_linearised_units(rows):
    plan = plan_of([planned(spec("rate", "ratio"), "primary")])
    values = np.column_stack([rows["orders"], rows["sessions"]])
    row = row_of(document(plan, moment_set(plan, values, rows["arm"])), "rate")
    value, variance = [], []
    for orders, sessions in zip(split(rows, "orders"), split(rows, "sessions"), strict=True):
        ratio = orders.mean() / sessions.mean()
        value.append(ratio)
        variance.append(((orders - ratio * sessions) / sessions.mean()).var(ddof=1) / len(orders))
    assert row.method == "A4+A3"
    assert row.difference == pytest.approx(value[1] - value[0], rel=1e-9)
    assert row.difference_standard_error == pytest.approx(np.sqrt(sum(variance)), rel=1e-9)


def test_cuped_is_lins_regression_and_the_lift_keeps_the_unadjusted_baseline(rows):
    plan = plan_of([planned(spec("spend", pre_period_days=14), "primary")], estimation=Estimation(cuped=True))
    values = np.column_stack([rows["spend"], rows["before"]])
    row = row_of(document(plan, moment_set(plan, values, rows["arm"])), "spend")
    centred = rows["before"] - rows["before"].mean()
    design = sm.add_constant(np.column_stack([rows["arm"], centred]))
    fit = sm.OLS(rows["spend"], design).fit(cov_type="HC2")
    assert row.method == "A1+A3+A7"
    assert row.difference == pytest.approx(fit.params[1], rel=2e-3)
    assert row.difference_standard_error == pytest.approx(fit.bse[1], rel=5e-3)
    assert row.variance_reduction == pytest.approx(np.corrcoef(rows["spend"], rows["before"])[0, 1] ** 2, abs=0.02)
    control = rows["spend"][rows["arm"] == 0].mean()
    assert row.mean_control == pytest.approx(control, rel=1e-12)
    assert row.difference is not None and row.lift == pytest.approx(row.difference / control, rel=1e-9)


def test_a_formula_metric_equals_the_ratio_metric_it_spells(rows):
    metrics = [
        planned(spec("orders"), "primary"),
        planned(spec("sessions")),
        planned(spec("per_session", "formula", formula="orders / sessions")),
        planned(spec("twice", "formula", formula="2 * per_session")),
    ]
    plan = plan_of(metrics)
    values = np.column_stack([rows["orders"], rows["sessions"]])
    result = document(plan, moment_set(plan, values, rows["arm"]))
    ratio_plan = plan_of([planned(spec("rate", "ratio"), "primary")])
    direct = row_of(document(ratio_plan, moment_set(ratio_plan, values, rows["arm"])), "rate")
    for key, factor in (("per_session", 1), ("twice", 2)):
        row = row_of(result, key)
        assert row.lift == pytest.approx(direct.lift, rel=1e-9)
        assert row.standard_error == pytest.approx(direct.standard_error, rel=1e-9)
        assert row.mean_control == pytest.approx(factor * (direct.mean_control or 0), rel=1e-12)


def test_a_proportions_p_value_is_close_to_the_chi_square_and_the_split_is_tested(rows):
    plan = plan_of([planned(spec("bought", "proportion"), "primary")], variants(2, (0.5, 0.5)))
    bought = (rows["orders"] > 0).astype(float)
    result = document(plan, moment_set(plan, bought[:, None], rows["arm"]))
    count = [int(bought[rows["arm"] == a].sum()) for a in (1, 0)]
    sizes = [int((rows["arm"] == a).sum()) for a in (1, 0)]
    assert row_of(result, "bought").p_value == pytest.approx(proportions_chisquare(count, sizes)[1], rel=0.02)
    split_check = next(check for check in result.checks if check.name == "sample_ratio")
    assert split_check.p_value == pytest.approx(sps.chisquare(sizes).pvalue, rel=1e-9)


def test_looks_are_cumulative_and_the_last_one_is_the_row(rows):
    plan = plan_of([planned(spec("spend"), "primary")], planned_units=N)
    look = np.arange(N) % 7
    result = document(plan, moment_set(plan, rows["spend"][:, None], rows["arm"], look=look))
    row = row_of(result, "spend")
    assert [entry.n for entry in result.looks] == [int((look <= i).sum()) for i in range(7)]
    last = result.looks[-1]
    assert (last.lift, last.ci_lower, last.always_valid_upper) == (row.lift, row.ci_lower, row.always_valid_upper)
    for entry in result.looks:
        assert entry.always_valid_lower < entry.ci_lower < entry.lift < entry.ci_upper < entry.always_valid_upper


def test_a_definitional_tree_equals_the_direct_measurement(rows):
    """Orders = orders per session x sessions, on the same units: an identity, so the two agree to 1e-8."""
    metrics = [
        planned(spec("orders"), "primary"),
        planned(spec("sessions")),
        planned(spec("rate", "ratio")),
    ]
    star = north_star("orders", "sessions * rate", ["sessions", "rate"])
    plan = plan_of(metrics, north_star=star)
    values = {
        "orders": rows["orders"],
        "sessions": rows["sessions"],
        "rate.numerator": rows["orders"],
        "rate.denominator": rows["sessions"],
    }
    columns = list(values)
    moments = moment_set(plan, np.column_stack([values[c] for c in columns]), rows["arm"], columns=columns)
    effect = document(plan, moments).north_star[0]
    assert effect.coherence.status == "pass"
    assert effect.tree.lift == pytest.approx(effect.direct.lift, rel=1e-8)
    assert effect.tree.standard_error == pytest.approx(effect.direct.standard_error, rel=1e-8)
    assert [effect.tree.ci_lower, effect.tree.ci_upper] == pytest.approx(
        [effect.direct.ci_lower, effect.direct.ci_upper], rel=1e-7
    )
    assert effect.tree.chance_to_win == pytest.approx(effect.direct.chance_to_win, rel=1e-7)
    parts = [item.contribution or 0.0 for item in effect.inputs]
    assert sum(parts) == pytest.approx(np.log1p(effect.direct.lift or 0), rel=1e-7)
    assert [item.elasticity for item in effect.inputs] == pytest.approx([1, 1])


def test_an_identity_that_does_not_hold_is_a_data_bug_and_blocks_the_verdict(rows):
    metrics = [planned(spec("orders"), "primary"), planned(spec("sessions")), planned(spec("rate", "ratio"))]
    plan = plan_of(metrics, north_star=north_star("orders", "sessions * rate", ["sessions", "rate"]))
    wrong = rows["orders"] * (1 + 0.1 * rows["arm"])
    columns = ["orders", "sessions", "rate.numerator", "rate.denominator"]
    values = np.column_stack([rows["orders"], rows["sessions"], wrong, rows["sessions"]])
    result = document(plan, moment_set(plan, values, rows["arm"], columns=columns))
    assert check_of(result, "north_star_coherence") == "fail"
    assert result.verdict == "unreliable"
    assert any("windows" in reason for reason in result.verdict_reasons)


def test_a_driver_tree_that_misses_a_channel_only_warns(rows):
    metrics = [planned(spec("spend"), "primary"), planned(spec("sessions"))]
    plan = plan_of(metrics, north_star=north_star("spend", "2 * sessions", ["sessions"], edge="driver"))
    values = np.column_stack([rows["spend"], rows["sessions"]])
    result = document(plan, moment_set(plan, values, rows["arm"]))
    assert check_of(result, "north_star_coherence") == "warn"
    assert result.verdict != "unreliable"


def test_segment_requests_carry_the_log_lifts_of_the_segment_rows(rows):
    metrics = [planned(spec("spend"), "primary"), planned(spec("orders"))]
    plan = plan_of(metrics, segments=["country"])
    country = np.arange(N) % 4
    values = np.column_stack([rows["spend"], rows["orders"]])
    made = draft(plan, moment_set(plan, values, rows["arm"], segment=country))
    (request,) = made.segment_requests
    assert (request.metric_key, request.dimension, request.levels) == ("spend", "country", ("s0", "s1", "s2", "s3"))
    for level, value, units in zip(request.levels, request.log_lifts, request.units, strict=True):
        row = row_of(made.document, "spend", segment=level)
        assert np.expm1(value) == pytest.approx(row.lift, rel=1e-10)
        assert units == row.n_control + row.n_treatment
