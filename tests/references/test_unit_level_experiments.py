"""Published experiments with unit rows, through plan, moments and document, against MANIFEST (1e-6 relative)."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from experiments.definitions import Estimation
from experiments.result import ExperimentResult, Row
from experiments.verdict import holm
from tests.experiments.evidence_cases import (
    check_of,
    column,
    document,
    moment_set,
    plan_of,
    planned,
    row_of,
    spec,
    variants,
)
from tests.shared_data import manifest_entry, shared_path

FIELDS = {
    "n_c": "n_control",
    "n_t": "n_treatment",
    "mean_c": "mean_control",
    "mean_t": "mean_treatment",
    "diff": "difference",
    "rel": "lift",
    "se": "difference_standard_error",
    "p": "p_value",
}


def assert_matches(row: Row, reference: dict[str, Any]) -> None:
    for theirs, ours in FIELDS.items():
        assert getattr(row, ours) == pytest.approx(reference[theirs], rel=1e-6), ours
    assert [row.difference_ci_lower, row.difference_ci_upper] == pytest.approx(reference["ci95"], rel=1e-6)
    assert row.difference is not None and row.difference_standard_error is not None
    assert row.difference / row.difference_standard_error == pytest.approx(reference["t"], rel=1e-6)


HILLSTROM = ("visit", "conversion", "spend")


def hillstrom(*, cuped: bool) -> ExperimentResult:
    names = ["No E-Mail", "Mens E-Mail", "Womens E-Mail"]
    data = pl.read_csv(shared_path("data", "ab", "hillstrom_email.csv"), infer_schema_length=None)
    history = {"covariate": column("history"), "pre_period_days": 365} if cuped else {}
    metrics = [
        planned(spec("visit", "proportion"), "primary"),
        planned(spec("conversion", "proportion")),
        planned(spec("spend", **history)),
    ]
    plan = plan_of(metrics, variants(3), segments=["zip"], estimation=Estimation(cuped=cuped))
    arm = data["segment"].replace_strict(names, [0, 1, 2]).to_numpy()
    zips = data["zip_code"].replace_strict(["Rural", "Surburban", "Urban"], [0, 1, 2]).to_numpy()
    values = data.select(*HILLSTROM, *(["history"] if cuped else [])).to_numpy()
    return document(plan, moment_set(plan, values, arm, segment=zips, dimension="zip"))


def test_hillstrom_with_three_arms_gives_every_reference_number():
    reference = manifest_entry("ab/hillstrom_email.csv")["computed_reference"]
    result = hillstrom(cuped=False)
    for variant, name in (("v1", "Mens E-Mail"), ("v2", "Womens E-Mail")):
        for metric in HILLSTROM:
            assert_matches(row_of(result, metric, variant), reference[name][metric])
    ratio = next(c for c in result.checks if c.name == "sample_ratio")
    assert ratio.p_value == pytest.approx(reference["SRM_thirds"]["p"], rel=1e-6)
    assert (result.verdict, result.verdict_variant) == ("better", "v1")


def test_hillstrom_segments_add_up_to_everybody():
    result = hillstrom(cuped=False)
    for variant in ("v1", "v2"):
        whole = row_of(result, "spend", variant)
        parts = [row for row in result.rows if row.segment and row.metric_key == "spend" and row.variant_key == variant]
        assert len(parts) == 3
        assert sum(row.n_control for row in parts) == whole.n_control
        total = sum(row.n_treatment * (row.mean_treatment or 0) for row in parts)
        assert total / whole.n_treatment == pytest.approx(whole.mean_treatment, rel=1e-12)


def test_hillstrom_history_hardly_reduces_variance_and_changes_no_conclusion():
    reference = manifest_entry("ab/hillstrom_email.csv")["computed_reference"]
    result = hillstrom(cuped=True)
    for variant, name in (("v1", "Mens E-Mail"), ("v2", "Womens E-Mail")):
        row = row_of(result, "spend", variant)
        # The reference has one slope per pair of arms; ours is one slope for all three (TRAPS 8).
        assert row.method == "A1+A3+A7"
        assert row.difference == pytest.approx(reference[name]["spend_cuped_history"]["diff"], rel=2e-3)
        assert row.difference_standard_error == pytest.approx(reference[name]["spend_cuped_history"]["se"], rel=1e-4)
        assert row.variance_reduction is not None and 0 <= row.variance_reduction < 0.001


def cookie_cats(*, drop_outlier: bool = False, planned_end: bool = True) -> ExperimentResult:
    data = pl.read_csv(shared_path("data", "ab", "cookie_cats.csv"))
    if drop_outlier:
        data = data.filter(pl.col("sum_gamerounds") < 40_000)
    metrics = [
        planned(spec("retention_7", "proportion"), "primary", mde=0.05),
        planned(spec("retention_1", "proportion"), "guardrail", non_inferiority_margin=0.03),
        planned(spec("sum_gamerounds")),
    ]
    plan = plan_of(metrics)
    arm = (data["version" if "version" in data.columns else "test_version"] == "gate_40").to_numpy().astype(int)
    values = data.select(
        pl.col("retention_7").cast(pl.Float64), pl.col("retention_1").cast(pl.Float64), "sum_gamerounds"
    ).to_numpy()
    return document(plan, moment_set(plan, values, arm))


def test_cookie_cats_gives_every_reference_number_and_keeps_the_gate_at_30():
    reference = manifest_entry("ab/cookie_cats.csv")["computed_reference"]
    result = cookie_cats()
    for metric in ("retention_1", "retention_7", "sum_gamerounds"):
        assert_matches(row_of(result, metric), reference[metric])
    ratio = next(c for c in result.checks if c.name == "sample_ratio")
    assert ratio.p_value == pytest.approx(reference["SRM_50_50"]["p"], rel=1e-6)
    assert ratio.status == "pass", "p = 0.0086 is not a mismatch at 0.0005"
    assert (result.verdict, result.verdict_variant) == ("worse", "v1")


def test_one_player_with_fifty_thousand_rounds_is_warned_about():
    reference = manifest_entry("ab/cookie_cats.csv")["computed_reference"]
    with_outlier, without = cookie_cats(), cookie_cats(drop_outlier=True)
    assert check_of(with_outlier, "skewness") == "warn"
    assert check_of(without, "skewness") == "pass"
    assert_matches(row_of(without, "sum_gamerounds"), reference["sum_gamerounds_drop_outlier"])


def test_nsw_job_training_gives_the_neyman_error():
    reference = manifest_entry("ab/nsw_dehejia_wahba.csv")["computed_reference"]
    data = pl.read_csv(shared_path("data", "ab", "nsw_dehejia_wahba.csv"))
    plan = plan_of([planned(spec("re78"), "primary")], variants(2, (0.58, 0.42)))
    result = document(plan, moment_set(plan, data.select("re78").to_numpy(), data["treat"].to_numpy().astype(int)))
    assert_matches(row_of(result, "re78"), reference)


def test_holm_of_hillstrom_is_that_of_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = [row.p_value for row in hillstrom(cuped=False).rows if row.segment is None]
    assert holm(p) == pytest.approx(multipletests(np.array(p, dtype=float), method="holm")[1].tolist())
