"""Clustered plans: rows speak about units, their precision comes from clusters (METHODS A5)."""

import numpy as np
import pytest
import scipy.stats as sps
import statsmodels.api as sm

from experiments.definitions import Estimation
from stats.clusters import few_clusters
from stats.estimate import MetricShape
from tests.experiments.evidence_cases import (
    cluster_set,
    document,
    moment_set,
    plan_of,
    planned,
    quantile_cells,
    row_of,
    spec,
    variants,
)


def company(clusters: int, seed: int = 5, effect: float = 0.0, sigma: float = 1.0, icc: float = 0.3):
    """Accounts of log-normal sizes, their users' values, and the arm of each account."""
    rng = np.random.default_rng(seed)
    arm = np.arange(clusters) % 2
    size = np.exp(rng.normal(2.5, sigma, clusters)).astype(int) + 2
    cluster = np.repeat(np.arange(clusters), size)
    value = 10 + effect * arm[cluster] + rng.normal(0, icc, clusters)[cluster] + rng.normal(0, 1, len(cluster))
    return cluster, arm, value


def clustered(*metrics, **extra):
    return plan_of(metrics, cluster="account", **extra)


def test_a_mean_over_many_clusters_is_the_cluster_robust_regression():
    cluster, arm, value = company(600, effect=0.1)
    plan = clustered(planned(spec("m"), "primary"))
    row = row_of(document(plan, cluster_set(plan, value[:, None], cluster, arm)), "m")
    design = sm.add_constant(arm[cluster].astype(float))
    fit = sm.OLS(value, design).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    assert row.method == "A5+A3"
    assert (row.n_control, row.n_treatment) == (300, 300)
    assert row.mean_control == pytest.approx(value[arm[cluster] == 0].mean(), rel=1e-12)
    assert row.difference == pytest.approx(fit.params[1], rel=1e-10)
    assert row.difference_standard_error == pytest.approx(fit.bse[1], rel=0.02)
    naive = sps.ttest_ind(value[arm[cluster] == 1], value[arm[cluster] == 0])
    assert row.p_value > 10 * naive.pvalue


@pytest.mark.parametrize("clusters", [40, 16])
def test_a_row_of_few_clusters_is_cr2_with_their_degrees_of_freedom(clusters):
    cluster, arm, value = company(clusters, effect=0.2)
    plan = clustered(planned(spec("m"), "primary"))
    moments = cluster_set(plan, value[:, None], cluster, arm)
    row = row_of(document(plan, moments), "m")
    found = few_clusters(moments.clusters, [MetricShape("m", "ratio", 0, 1)], 2, 0.95, plan.estimation.seed)
    assert row.difference_standard_error == pytest.approx(float(found.standard_error[0, 0]), rel=1e-12)
    assert row.df == pytest.approx(float(found.df[0, 0]), rel=1e-12)
    assert row.p_value == pytest.approx(float(found.p_value[0, 0]), rel=1e-12)
    assert [row.difference_ci_lower, row.difference_ci_upper] == pytest.approx(
        [float(found.ci_lower[0, 0]), float(found.ci_upper[0, 0])], rel=1e-10
    )
    assert row.df < clusters - 2


def test_the_lift_of_few_clusters_has_the_reach_of_the_difference():
    cluster, arm, value = company(16, effect=0.2)
    plan = clustered(planned(spec("m"), "primary"))
    row = row_of(document(plan, cluster_set(plan, value[:, None], cluster, arm)), "m")
    # The control mean is known to 1 %: the interval of the lift is nearly that of the difference, over the mean.
    assert row.ci_upper - row.ci_lower == pytest.approx(
        (row.difference_ci_upper - row.difference_ci_lower) / row.mean_control, rel=0.05
    )
    assert row.standard_error == pytest.approx(row.difference_standard_error / row.mean_control, rel=0.05)
    assert row.ci_lower < row.lift < row.ci_upper


def test_cells_without_a_table_are_nearly_as_careful():
    cluster, arm, value = company(24, seed=8)
    plan = clustered(planned(spec("m"), "primary"))
    moments = cluster_set(plan, value[:, None], cluster, arm)
    exact = row_of(document(plan, moments), "m")
    table = few_clusters(moments.clusters, [MetricShape("m", "ratio", 0, 1)], 2)
    bare = cluster_set(plan, value[:, None], cluster, arm, clusters=None)
    row = row_of(document(plan, bare), "m")
    assert row.difference == exact.difference
    assert row.difference_standard_error == pytest.approx(float(table.standard_error[0, 0]), rel=0.35)
    assert row.df is not None and row.df < 22


@pytest.mark.simulation
def test_linearised_clusters_without_a_table_reject_a_true_null_as_often_as_they_say():
    """2000 replications each: three standard errors of 5 % are 1.5 %; the approximation errs on the careful side."""
    for clusters in (8, 16, 24, 40):
        rejected = 0
        plan = clustered(planned(spec("m"), "primary"), estimation=Estimation(engine="frequentist", cuped=False))
        for seed in range(2000):
            cluster, arm, value = company(clusters, seed=seed)
            row = row_of(document(plan, cluster_set(plan, value[:, None], cluster, arm, clusters=None)), "m")
            rejected += row.p_value is not None and row.p_value < 0.05
        assert 0.01 < rejected / 2000 < 0.065, clusters


def test_the_last_look_of_few_clusters_is_the_row_and_segments_are_estimated_too():
    cluster, arm, value = company(60, effect=0.3, sigma=0.3)
    plan = clustered(planned(spec("m"), "primary"), segments=["country"])
    rng = np.random.default_rng(1)
    look, segment = rng.integers(0, 3, len(value)), rng.integers(0, 2, len(value))
    result = document(plan, cluster_set(plan, value[:, None], cluster, arm, look=look, segment=segment))
    row = row_of(result, "m")
    assert (result.looks[-1].lift, result.looks[-1].ci_lower) == (row.lift, row.ci_lower)
    assert len(result.looks) == 3 and all(look.ci_lower is not None for look in result.looks)
    for level in ("s0", "s1"):
        part = row_of(result, "m", segment=level)
        assert part.p_value is not None and part.df is not None and part.df < 58


def test_a_clustered_ratio_stays_a_ratio_and_a_proportion_counts_units():
    cluster, arm, _ = company(400)
    rng = np.random.default_rng(3)
    sessions = rng.poisson(4, len(cluster)) + 1
    orders = rng.binomial(sessions, 0.2)
    plan = clustered(planned(spec("rate", "ratio"), "primary"), planned(spec("bought", "proportion")))
    values = np.column_stack([orders, sessions, orders > 0])
    result = document(plan, cluster_set(plan, values, cluster, arm))
    rate, bought = row_of(result, "rate"), row_of(result, "bought")
    mine = arm[cluster] == 0
    assert rate.method == "A4+A5+A3" and bought.method == "A5+A3"
    assert rate.mean_control == pytest.approx(orders[mine].sum() / sessions[mine].sum(), rel=1e-12)
    assert bought.mean_control == pytest.approx((orders > 0)[mine].mean(), rel=1e-12)
    assert rate.ratio is not None
    assert rate.ratio.denominator.mean_control == pytest.approx(sessions[mine].mean(), rel=1e-12)


def test_covariates_adjust_clusters_only_where_there_are_enough_of_them():
    rng = np.random.default_rng(9)
    rows = []
    for clusters in (600, 60):
        cluster, arm, value = company(clusters, icc=2.0)
        before = value + rng.normal(0, 1, len(value))
        plan = clustered(planned(spec("m", pre_period_days=14), "primary"), estimation=Estimation(cuped=True))
        rows.append(row_of(document(plan, cluster_set(plan, np.column_stack([value, before]), cluster, arm)), "m"))
    many, few = rows
    assert many.method == "A5+A3+A7" and many.variance_reduction is not None and many.variance_reduction > 0.5
    assert few.method == "A5+A3" and few.variance_reduction is None


def test_a_single_cluster_in_an_arm_gives_an_estimate_without_an_interval():
    cluster = np.repeat([0, 1, 2], 50)
    plan = clustered(planned(spec("m"), "primary"))
    value = np.random.default_rng(1).normal(10, 1, 150)
    row = row_of(document(plan, cluster_set(plan, value[:, None], cluster, [0, 1, 1])), "m")
    assert row.difference is not None
    assert (row.p_value, row.ci_lower, row.estimable) == (None, None, False)
    assert row.reason in ("too_few_clusters", "too_few_units")


def test_one_cluster_that_is_nearly_the_whole_arm_is_not_an_experiment():
    cluster = np.repeat(np.arange(6), [100_000, 2, 2, 40, 50, 60])
    plan = clustered(planned(spec("m"), "primary"))
    value = np.random.default_rng(1).normal(10, 1, len(cluster))
    moments = cluster_set(plan, value[:, None], cluster, [0, 0, 0, 1, 1, 1], clusters=None)
    row = row_of(document(plan, moments), "m")
    assert (row.p_value, row.reason) == (None, "too_few_clusters")


def test_quantiles_of_clusters_count_clusters():
    cluster, arm, value = company(120)
    plan = clustered(planned(spec("p50", "quantile", quantile=0.5), "primary"))
    cells = quantile_cells(0.5, value, cluster, arm[cluster])
    moments = cluster_set(plan, np.zeros((len(value), 0)), cluster, arm, quantiles={"p50": cells})
    row = row_of(document(plan, moments), "p50")
    assert (row.method, row.n_control) == ("A6+A5+A3", 60)
    assert row.df is not None and row.df <= 118


def test_always_valid_intervals_of_clusters_count_the_units_that_were_planned():
    cluster, arm, value = company(600, effect=0.1)
    plan = clustered(planned(spec("m"), "primary"), planned_units=len(value))
    free = clustered(planned(spec("m"), "primary"))
    rows = [row_of(document(p, cluster_set(p, value[:, None], cluster, arm)), "m") for p in (plan, free)]
    assert rows[0].always_valid_lower == pytest.approx(rows[1].always_valid_lower, rel=1e-12)
    half = (np.log1p(rows[0].always_valid_upper) - np.log1p(rows[0].always_valid_lower)) / 2
    spread = (np.log1p(rows[0].ci_upper) - np.log1p(rows[0].ci_lower)) / 2
    assert half / spread == pytest.approx(3.035 / 1.96, rel=0.02)


def test_three_arms_of_few_clusters_keep_their_own_comparisons():
    cluster, _, value = company(45, effect=0.5)
    arms = np.arange(45) % 3
    plan = plan_of([planned(spec("m"), "primary")], variants(3), cluster="account")
    moments = cluster_set(plan, value[:, None], cluster, arms)
    result = document(plan, moments)
    found = few_clusters(moments.clusters, [MetricShape("m", "ratio", 0, 1)], 3)
    for v in (1, 2):
        assert row_of(result, "m", f"v{v}").p_value == pytest.approx(float(found.p_value[v - 1, 0]), rel=1e-12)


def test_units_of_an_unclustered_plan_are_not_touched():
    cluster, arm, value = company(60)
    plan = plan_of([planned(spec("m"), "primary")])
    row = row_of(document(plan, moment_set(plan, value[:, None], arm[cluster])), "m")
    plain = sps.ttest_ind(value[arm[cluster] == 1], value[arm[cluster] == 0], equal_var=False)
    assert row.p_value == pytest.approx(plain.pvalue, rel=1e-9)


@pytest.mark.parametrize(("clusters", "status"), [(24, "warn"), (200, "pass")])
def test_few_clusters_are_said_to_make_intervals_a_little_short(clusters, status):
    cluster, arm, value = company(clusters)
    plan = clustered(planned(spec("m"), "primary"))
    found = document(plan, cluster_set(plan, value[:, None], cluster, arm))
    assert next(check for check in found.checks if check.name == "few_clusters").status == status
