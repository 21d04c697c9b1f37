"""Few clusters: CR2 from totals is CR2 of the individual regression, and too few of them are never called certain."""

from itertools import combinations

import numpy as np
import pytest
import scipy.special as sc
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.clusters import cluster_freedom, few_clusters
from stats.difference import difference
from stats.estimate import MetricShape, estimate
from stats.formula import parse
from stats.moment_set import ClusterTable
from stats.moments import Moments
from stats.reasons import Reason
from stats.rerandomisation import DRAWS
from tests.shared_data import golden
from tests.stats.moment_cases import within

SPEND = MetricShape("spend", "mean", 0)


def collapse(y, cluster, arm) -> ClusterTable:
    """Cluster totals and sizes of individual values."""
    ids, where = np.unique(cluster, return_inverse=True)
    columns = np.column_stack([np.bincount(where, weights=y), np.bincount(where)])
    return ClusterTable(columns, np.array([arm[cluster == i][0] for i in ids]))


def regression(y, cluster, arm) -> dict[str, float]:
    """CR0, CR1 and CR2 of y on (1, arm), the textbook way, with Bell & McCaffrey's degrees of freedom of CR2."""
    n = len(y)
    x = np.column_stack([np.ones(n), arm])
    bread = np.linalg.inv(x.T @ x)
    hat = x @ bread @ x.T
    residual = y - hat @ y
    cr0 = cr2 = 0.0
    directions = []
    for g in np.unique(cluster):
        mine = cluster == g
        roots, vectors = np.linalg.eigh(np.eye(mine.sum()) - hat[np.ix_(mine, mine)])
        adjust = vectors @ np.diag(1 / np.sqrt(roots)) @ vectors.T
        cr0 += (bread[1] @ x[mine].T @ residual[mine]) ** 2
        cr2 += (bread[1] @ x[mine].T @ adjust @ residual[mine]) ** 2
        directions.append((np.eye(n) - hat)[:, mine] @ adjust @ x[mine] @ bread[1])
    product = np.array(directions) @ np.array(directions).T
    clusters = len(np.unique(cluster))
    return {
        "effect": float((bread @ x.T @ y)[1]),
        "cr0": np.sqrt(cr0),
        "cr1": np.sqrt(cr0 * clusters / (clusters - 1) * (n - 1) / (n - 2)),
        "cr2": np.sqrt(cr2),
        "df": np.trace(product) ** 2 / (product**2).sum(),
    }


def sample(rng, per_arm, sigma=0.7, users=12.0, icc=0.2):
    """Individual values in clusters of lognormal sizes: (y, cluster, arm)."""
    arm_of = np.repeat(np.arange(len(per_arm)), per_arm)
    size = np.maximum(np.rint(users * rng.lognormal(0, sigma, len(arm_of))), 1).astype(int)
    cluster = np.repeat(np.arange(len(arm_of)), size)
    y = 3 + np.sqrt(icc) * rng.normal(size=len(arm_of))[cluster] + np.sqrt(1 - icc) * rng.normal(size=len(cluster))
    return y, cluster, arm_of[cluster]


def test_cluster_robust_errors_are_those_of_statsmodels_and_cr2_is_between():
    case = golden("libraries", "clustered_means_ols")
    i, expected = case["inputs"], case["expected"]
    y = np.array(i["control"] + i["treatment"])
    arm = np.repeat([0, 1], [len(i["control"]), len(i["treatment"])])
    cluster = np.array(i["cluster_control"] + i["cluster_treatment"])
    by_hand = regression(y, cluster, arm)
    assert by_hand["cr0"] == pytest.approx(expected["se_cluster_no_correction"], rel=1e-9)
    assert by_hand["cr1"] == pytest.approx(expected["se_CRV1"], rel=1e-9)
    got = few_clusters(collapse(y, cluster, arm), (SPEND,), 2)
    assert got.difference[0, 0] == pytest.approx(expected["effect"], rel=1e-9)
    assert got.standard_error[0, 0] == pytest.approx(by_hand["cr2"], rel=1e-9)
    assert by_hand["cr0"] < got.standard_error[0, 0]


def test_ratios_are_the_event_level_regression():
    case = golden("libraries", "ratio_metric_cluster_robust_ols")
    i, expected = case["inputs"], case["expected"]
    clicks, views = (
        np.array(i[f"{name}_control"] + i[f"{name}_treatment"], dtype=float) for name in ("numer", "denom")
    )
    variant = np.repeat([0, 1], [len(i["numer_control"]), len(i["numer_treatment"])])
    unit = np.repeat(np.arange(len(views)), views.astype(int))
    order = np.arange(len(unit)) - np.repeat(np.cumsum(views) - views, views.astype(int))
    by_hand = regression((order < clicks[unit]).astype(float), unit, variant[unit])
    assert by_hand["cr0"] == pytest.approx(expected["se_cluster_no_correction"], rel=1e-9)
    table = ClusterTable(np.column_stack([clicks, views, np.ones(len(views))]), variant)
    got = few_clusters(table, (MetricShape("ctr", "ratio", 0, 1),), 2)
    assert got.difference[0, 0] == pytest.approx(expected["effect"], rel=1e-9)
    assert got.standard_error[0, 0] == pytest.approx(by_hand["cr2"], rel=1e-9)
    assert got.df[0, 0] <= by_hand["df"] * (1 + 1e-12)
    half = sc.stdtrit(got.df[0, 0], 0.975) * got.standard_error[0, 0]
    assert got.ci_upper[0, 0] - got.difference[0, 0] == pytest.approx(half, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 9), st.floats(0, 1.2))
def test_totals_say_what_the_individual_regression_says(seed, treated, untreated, sigma):
    y, cluster, arm = sample(np.random.default_rng(seed), (untreated, treated), sigma)
    by_hand = regression(y, cluster, arm)
    got = few_clusters(collapse(y, cluster, arm), (SPEND,), 2)
    assert got.difference[0, 0] == pytest.approx(by_hand["effect"], rel=1e-9)
    assert got.standard_error[0, 0] == pytest.approx(by_hand["cr2"], rel=1e-9)
    assert got.df[0, 0] <= by_hand["df"] * (1 + 1e-9)
    assert got.df[0, 0] >= 1 - 1e-9
    assert 0 < got.p_value[0, 0] <= 1
    assert got.ci_lower[0, 0] <= got.difference[0, 0] <= got.ci_upper[0, 0]
    assert got.variance[0, 0] == pytest.approx(got.standard_error[0, 0] ** 2)
    assert got.control[0, 0] == pytest.approx(y[arm == 0].mean())


def test_the_degrees_of_freedom_are_bell_and_mccaffrey_s_when_arms_vary_alike():
    """Mirrored arms: the working model's variances and the estimated ones agree."""
    y, cluster, arm = sample(np.random.default_rng(1), (7,))
    both = np.concatenate([y, y]), np.concatenate([cluster, cluster + 7]), np.concatenate([arm, arm + 1])
    got = few_clusters(collapse(*both), (SPEND,), 2)
    assert got.df[0, 0] == pytest.approx(regression(*both)["df"], rel=1e-9)


def test_clusters_of_equal_size_give_welch_on_their_means():
    rng = np.random.default_rng(2)
    means, size = rng.normal(5, 1, 40), 13.0
    variant = np.repeat([0, 1], [15, 25])
    means[variant == 1] *= 1.5
    got = few_clusters(ClusterTable(np.column_stack([means * size, np.full(40, size)]), variant), (SPEND,), 2)
    welch = difference(estimate(Moments.from_rows(means[:, None], variant, 2), (SPEND,)))
    assert got.standard_error[0, 0] == pytest.approx(welch.standard_error[0, 0], rel=1e-12)
    assert got.df[0, 0] <= welch.df[0, 0] * (1 + 1e-12)
    assert got.df[0, 0] >= 14
    assert not got.rerandomised[0]


def test_many_equal_clusters_agree_with_the_delta_method():
    rng = np.random.default_rng(3)
    y, cluster, arm = sample(rng, (60, 60), sigma=0.2)
    table = collapse(y, cluster, arm)
    got = few_clusters(table, (SPEND,), 2)
    delta = estimate(Moments.from_rows(table.values, table.variant, 2), (MetricShape("spend", "ratio", 0, 1),))
    assert got.standard_error[0, 0] == pytest.approx(np.sqrt(delta.variance.sum()), rel=0.02)


def test_statsmodels_cluster_covariance_is_our_oracle_s():
    y, cluster, arm = sample(np.random.default_rng(4), (8, 11))
    fit = sm.OLS(y, sm.add_constant(arm.astype(float))).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    assert regression(y, cluster, arm)["cr1"] == pytest.approx(fit.bse[1], rel=1e-9)


def test_one_cluster_in_an_arm_is_too_few():
    rng = np.random.default_rng(5)
    y, cluster, arm = sample(rng, (6, 1, 5))
    got = few_clusters(collapse(y, cluster, arm), (SPEND, SPEND), 3)
    assert got.reason[:, 0].tolist() == [Reason.TOO_FEW_CLUSTERS, ""]
    assert np.isfinite(got.difference).all()
    for numbers in (got.standard_error, got.p_value, got.ci_lower, got.ci_upper, got.df):
        assert np.isnan(numbers[0]).all()
        assert np.isfinite(numbers[1]).all()
    missing = few_clusters(collapse(y[arm < 1], cluster[arm < 1], arm[arm < 1]), (SPEND,), 2)
    assert missing.reason[0, 0] == Reason.TOO_FEW_CLUSTERS
    assert np.isnan(missing.difference[0, 0])
    empty_other = ClusterTable(np.array([[3.0, 4], [0, 0], [2, 2], [1, 2]]), np.array([0, 0, 1, 1]))
    assert few_clusters(empty_other, (SPEND,), 2).reason[0, 0] == Reason.TOO_FEW_CLUSTERS


def test_what_cannot_be_estimated_has_a_reason():
    values = np.array([[2.0, 0, 1], [4, 0, 2], [6, 0, 3], [8, 1, 4]])
    table = ClusterTable(values, np.array([0, 0, 1, 1]))
    shapes = (SPEND, MetricShape("per_order", "ratio", 0, 1))
    got = few_clusters(table, shapes, 2)
    assert got.reason[0].tolist() == [Reason.ZERO_VARIANCE, Reason.DENOMINATOR_NEAR_ZERO]
    assert got.difference[0, 0] == 0
    assert np.isnan(got.p_value).all()


def test_formulas_follow_their_gradient():
    rng = np.random.default_rng(6)
    y, cluster, arm = sample(rng, (14, 15))
    table = collapse(y, cluster, arm)
    formula = parse("a / b")

    def quotient(means):
        return formula.value_and_gradient({"a": means[..., 0], "b": means[..., 1]})

    shapes = (SPEND, MetricShape("f", "formula", inputs=(0, 1), evaluate=quotient))
    got = few_clusters(table, shapes, 2)
    few = few_clusters(ClusterTable(table.values[5:25], table.variant[5:25]), shapes, 2)
    for result in (got, few):
        for numbers in (result.difference, result.standard_error, result.p_value, result.ci_lower):
            assert numbers[0, 1] == pytest.approx(numbers[0, 0], rel=1e-9)
    assert few.rerandomised[0]

    def log(means):
        return parse("log(a - 1000000)").value_and_gradient({"a": means[..., 0]})

    undefined = few_clusters(table, (MetricShape("f", "formula", inputs=(0,), evaluate=log),), 2)
    assert undefined.reason[0, 0] == Reason.FORMULA_UNDEFINED


def test_all_assignments_are_tried_when_there_are_few():
    rng = np.random.default_rng(7)
    y, cluster, arm = sample(rng, (4, 3))
    table = collapse(y + 2 * arm, cluster, arm)
    got = few_clusters(table, (SPEND,), 2)
    top, size = table.values.T

    def statistic(chosen) -> float:
        parts = []
        for mine in (np.isin(np.arange(7), chosen), ~np.isin(np.arange(7), chosen)):
            r = top[mine].sum() / size[mine].sum()
            g = mine.sum()
            parts.append((r, ((top - r * size)[mine] ** 2).sum() * g / (g - 1) / size[mine].sum() ** 2))
        return abs(parts[0][0] - parts[1][0]) / np.sqrt(parts[0][1] + parts[1][1])

    seen = statistic(np.flatnonzero(table.variant == 1))
    every = [statistic(chosen) for chosen in combinations(range(7), 3)]
    assert got.p_value[0, 0] == pytest.approx(np.mean([s >= seen * (1 - 1e-9) for s in every]))
    assert few_clusters(table, (SPEND,), 2, seed=99).p_value[0, 0] == got.p_value[0, 0]


def test_redraws_depend_on_the_seed_only_a_little_and_never_give_zero():
    rng = np.random.default_rng(8)
    y, cluster, arm = sample(rng, (11, 11, 40))
    table = collapse(y + 0.4 * (arm == 1), cluster, arm)
    runs = [few_clusters(table, (SPEND,), 3, seed=seed).p_value for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert runs[0][0, 0] != runs[2][0, 0]
    assert runs[0] == pytest.approx(runs[2], abs=0.02)
    far = few_clusters(collapse(y + 100 * arm, cluster, arm), (SPEND,), 3)
    assert (far.p_value >= 1 / (DRAWS + 1)).all()
    assert far.log10_p == pytest.approx(np.log10(far.p_value))


def test_an_offset_of_a_billion_leaves_the_p_value_alone():
    y, cluster, arm = sample(np.random.default_rng(9), (10, 9))
    plain, shifted = (few_clusters(collapse(y + offset, cluster, arm), (SPEND,), 2) for offset in (0, 1e9))
    assert shifted.standard_error[0, 0] == pytest.approx(plain.standard_error[0, 0], rel=1e-4)
    assert shifted.p_value[0, 0] == pytest.approx(plain.p_value[0, 0], abs=2e-3)


def test_metrics_and_arms_do_not_see_each_other():
    rng = np.random.default_rng(10)
    y, cluster, arm = sample(rng, (9, 10, 30))
    table = collapse(y, cluster, arm)
    other = rng.normal(size=len(table.values))
    wide = ClusterTable(np.column_stack([other, table.values]), table.variant)
    shapes = (MetricShape("noise", "mean", 0), MetricShape("spend", "mean", 1))
    joint, alone = few_clusters(wide, shapes, 3), few_clusters(table, (SPEND,), 3)
    for field in ("difference", "standard_error", "df", "p_value", "ci_lower"):
        np.testing.assert_allclose(getattr(joint, field)[:, 1], getattr(alone, field)[:, 0], rtol=1e-9)
    pair = table.variant != 1
    two = few_clusters(ClusterTable(table.values[pair], table.variant[pair] // 2), (SPEND,), 2)
    assert two.standard_error[0, 0] == pytest.approx(alone.standard_error[1, 0], rel=1e-12)


def test_cells_without_a_table_lose_a_cluster_per_arm():
    assert cluster_freedom(np.array([[10, 12, 1], [0, 1, 300]])).tolist() == [[20, 9], [1, 298]]


def _null(rng, replications, per_arm, icc, sigma=1.0, users=30):
    """Many null experiments side by side: one ratio metric each, all with the same clusters in the rows."""
    clusters = sum(per_arm)
    size = np.maximum(np.rint(users * rng.lognormal(0, sigma, (clusters, replications))), 1)
    total = size * (2 + np.sqrt(icc) * rng.normal(size=size.shape)) + np.sqrt(size * (1 - icc)) * rng.normal(
        size=size.shape
    )
    variant = np.repeat(np.arange(len(per_arm)), per_arm)
    shapes = [MetricShape(str(r), "ratio", r, replications + r) for r in range(replications)]
    return ClusterTable(np.concatenate([total, size, size[:, :1]], axis=1), variant), shapes


@pytest.mark.parametrize(("per_arm", "replications"), [((8, 8), 150), ((20, 20), 600)])
def test_few_clusters_do_not_reject_too_often_in_a_short_run(per_arm, replications):
    got = few_clusters(*_null(np.random.default_rng(11), replications, per_arm, 0.1), 2)
    size = float((got.p_value < 0.05).mean())
    assert size <= 0.05 or within(size, 0.05, replications, 0.01)
    normal = float((np.abs(got.difference) > 1.96 * got.standard_error).mean())
    assert normal > size


@pytest.mark.simulation
@pytest.mark.parametrize("icc", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("per_arm", [(4, 12), (8, 8), (12, 12), (20, 20), (40, 40), (12, 40)])
def test_type_one_error_with_unequal_clusters(per_arm, icc):
    """I1's grid: cluster sizes lognormal(1). G - 2 degrees of freedom alone reject in 8 to 13 % below 20 clusters."""
    replications = 1000 if min(per_arm) < 12 else 4000
    got = few_clusters(*_null(np.random.default_rng([*per_arm, int(100 * icc)]), replications, per_arm, icc), 2)
    size = float((got.p_value < 0.05).mean())
    assert size <= 0.05 or within(size, 0.05, replications, 0.01)
    outside = float(((got.ci_lower > 0) | (got.ci_upper < 0)).mean())
    assert outside <= 0.05 or within(outside, 0.05, replications, 0.015)
