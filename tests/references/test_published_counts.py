"""Counts over many real experiments, and the reference numbers of single ones that no other test looks at."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from stats.difference import difference
from stats.estimate import MetricShape, estimate
from stats.interaction import association
from stats.moments import Moments
from stats.multiplicity import adjusted
from stats.proportion import score_p
from stats.sample_ratio import chi_square
from tests.golden.gbstats_effects import by_method_a7
from tests.shared_data import manifest_entry, shared_path

BAD_WEEKS = (201325, 201402)
"""Upworthy's assignment was broken from 25 June 2013 to 10 January 2014, as its archive says."""


@pytest.fixture(scope="module")
def upworthy() -> pl.DataFrame:
    """One row per test: weeks, impressions and clicks of its packages, p of the sample ratio."""
    data = pl.read_parquet(shared_path("data", "split", "dev", "upworthy_dev.parquet"))
    tests = data.group_by("clickability_test_id").agg("impressions", "clicks", pl.col("test_week").first())
    p = [float(chi_square(seen, np.ones(len(seen))).p_value) for seen in tests["impressions"].to_list()]
    return tests.with_columns(pl.Series("p", p), pl.col("test_week").is_between(*BAD_WEEKS).alias("bad"))


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return dict(manifest_entry("split/dev/upworthy_dev.parquet")["computed_reference"])


def test_upworthys_broken_weeks_are_found_by_their_sample_ratios(
    upworthy: pl.DataFrame, reference: dict[str, Any]
) -> None:
    assert len(upworthy) == reference["tests"]
    for bad, key in ((True, "srm_in_window"), (False, "srm_outside")):
        weeks = upworthy.filter(pl.col("bad") == bad)
        assert [int((weeks["p"] < 1e-3).sum()), len(weeks)] == reference[key]
    assert int((upworthy["p"] < 1e-3).sum()) == reference["srm_p_lt_0001"]
    # At our own threshold, too, the broken weeks stand out: 63 % of tests against less than 1 %.
    alarms = upworthy.group_by("bad").agg((pl.col("p") < 5e-4).mean().alias("share"))
    found = dict(zip(alarms["bad"], alarms["share"], strict=True))
    assert found[True] > 0.6
    assert found[False] < 0.01


def test_as_many_upworthy_tests_have_packages_that_differ_as_published(
    upworthy: pl.DataFrame, reference: dict[str, Any]
) -> None:
    found = 0
    for seen, clicked in zip(upworthy["impressions"].to_list(), upworthy["clicks"].to_list(), strict=True):
        table = np.array([clicked, np.array(seen) - clicked])
        found += association(table).p_value < 0.05
    assert found == reference["omnibus_p05"]


def test_asos_discoveries_by_our_correction_are_the_published_ones() -> None:
    reference = manifest_entry("split/dev/asos_dev.parquet")["computed_reference"]["BH_q05_discoveries"]
    data = pl.read_parquet(shared_path("data", "split", "dev", "asos_dev.parquet")).drop_nulls()
    last = data.sort("time_since_start").group_by("experiment_id", "variant_id", "metric_id").last()
    for metric, expected in reference.items():
        rows = last.filter(pl.col("metric_id") == int(metric))
        count = rows.select("count_c", "count_t").to_numpy().astype(np.int64)
        mean, variance = (rows.select(f"{name}_c", f"{name}_t").to_numpy() for name in ("mean", "variance"))
        squares = (variance * (count - 1))[..., None, None]
        moments = Moments(count, mean[..., None], squares, np.zeros((*count.shape, 1)))
        p = difference(estimate(moments, (MetricShape("m", "mean", 0),))).p_value.ravel()
        assert int((adjusted(p, "benjamini_hochberg") <= 0.05).sum()) == expected


COVARIATES = ("age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75")


def nsw() -> Moments:
    data = pl.read_csv(shared_path("data", "ab", "nsw_dehejia_wahba.csv"))
    return Moments.from_rows(data.select("re78", *COVARIATES).to_numpy(), data["treat"].to_numpy().astype(int), 2)


def test_nsw_errors_are_those_of_regressions_on_the_treatment() -> None:
    reference, moments = manifest_entry("ab/nsw_dehejia_wahba.csv")["computed_reference"], nsw()
    got = difference(estimate(moments, (MetricShape("re78", "mean", 0),)))
    assert got.standard_error[0, 0] == pytest.approx(reference["ols_se_hc2"], rel=1e-9)
    pooled = moments.comoment[:, 0, 0].sum() / (moments.count.sum() - 2)
    assert np.sqrt(pooled * (1 / moments.count).sum()) == pytest.approx(reference["ols_se_homosk"], rel=1e-9)


def test_nsw_adjusted_by_everything_is_the_regression_up_to_its_common_slope() -> None:
    """OLS with one slope within arms says 1,676 (HC2 677). Ours minimises the variance of the difference, and uses at
    most one covariate per 50 units of the smaller arm: three of these eight, in the order given."""
    reference = manifest_entry("ab/nsw_dehejia_wahba.csv")["computed_reference"]["ols_adj_all_covs"]
    moments = nsw()
    fields = ("count", "mean", "comoment", "third")
    thrice = Moments(*(np.stack([getattr(moments, name)] * 3) for name in fields)).merge_axis(0)
    shape = MetricShape("re78", "mean", 0, covariates=tuple(range(1, 9)))
    everything = difference(estimate(thrice, (shape,)))
    a7 = by_method_a7(thrice, np.eye(9)[[0, 0]], list(range(1, 9)))
    plain = thrice.mean[1, 0] - thrice.mean[0, 0]
    assert everything.value[0, 0] == pytest.approx(plain - a7["shift"], rel=1e-6)
    # 1,631 and 1,676: 7 % of a standard error apart.
    assert everything.value[0, 0] == pytest.approx(reference["est"], abs=0.1 * reference["se_hc2"])
    assert np.sqrt(3) * everything.standard_error[0, 0] == pytest.approx(reference["se_hc2"], rel=0.04)
    found = estimate(moments, (shape,))
    assert found.note[0] == "too_few_units_for_covariates"
    assert np.count_nonzero(found.slope[0, 1:]) == 3
    unadjusted = difference(estimate(moments, (MetricShape("re78", "mean", 0),)))
    assert difference(found).standard_error[0, 0] < unadjusted.standard_error[0, 0]


@pytest.mark.parametrize("metric", ["retention_1", "retention_7"])
def test_cookie_cats_score_tests_are_the_pooled_z_tests(metric: str) -> None:
    reference = manifest_entry("ab/cookie_cats.csv")["computed_reference"][metric]
    n_c, n_t = reference["n_c"], reference["n_t"]
    table = round(reference["mean_t"] * n_t), n_t, round(reference["mean_c"] * n_c), n_c
    p, _ = score_p(*table)
    # The score statistic has N - 1 where the z-test has N.
    assert float(p) == pytest.approx(reference["ztest"]["p"], rel=1e-4)


REFERENCES: dict[str, set[str]] = {
    "ab/cookie_cats.csv": {
        "retention_1",
        "retention_7",
        "sum_gamerounds",
        "SRM_50_50",
        "max_gamerounds",
        "sum_gamerounds_drop_outlier",
    },
    "ab/hillstrom_email.csv": {"Mens E-Mail", "Womens E-Mail", "SRM_thirds"},
    "ab/nsw_dehejia_wahba.csv": {
        *("n_c", "n_t", "mean_c", "mean_t", "diff", "rel", "se", "t", "p", "ci95"),
        *("ols_se_homosk", "ols_se_hc2", "ols_adj_all_covs"),
    },
    "split/dev/asos_dev.parquet": {
        *("rows", "experiments", "treatments", "table2", "srm_p_lt_0001", "BH_q05_discoveries"),
        "random_effects_relative_lift",
    },
    "split/dev/upworthy_dev.parquet": {
        *("packages", "tests", "srm_p_lt_0001", "srm_in_window", "srm_outside", "omnibus_p05"),
        "winners_curse_thinning_clean_window",  # shrinkage of winners over a programme (F1): not one experiment
    },
}
"""What tests here, in tests/stats and in tests/system compare, by data set."""


@pytest.mark.parametrize("path", REFERENCES)
def test_no_reference_number_of_an_experiment_is_overlooked(path: str) -> None:
    assert set(manifest_entry(path)["computed_reference"]) == REFERENCES[path]


def test_the_files_have_the_rows_that_the_references_were_computed_from(upworthy: pl.DataFrame) -> None:
    readers: dict[str, Callable[..., pl.DataFrame]] = {"csv": pl.read_csv, "parquet": pl.read_parquet}
    for path in REFERENCES:
        kind = path.rsplit(".", 1)[1]
        data = readers[kind](shared_path("data", path), **({"infer_schema_length": None} if kind == "csv" else {}))
        assert len(data) == manifest_entry(path)["rows"]
    assert int(upworthy["impressions"].list.len().sum()) == manifest_entry("split/dev/upworthy_dev.parquet")["rows"]
