"""Real experiments, brought in as a new user would, give the published numbers (1e-6 relative)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.cli.client import ApiClient
from app.cli.importing import UnitFile, import_units
from examples import asos
from tests.meta_analysis import random_effects
from tests.shared_data import manifest_entry, shared_path

AT = datetime(2026, 2, 2, tzinfo=UTC)
RELATIVE = 1e-6
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


def reference_of(path: str) -> dict[str, Any]:
    reference: dict[str, Any] = manifest_entry(path)["computed_reference"]
    return reference


def rows_of(result: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["metric_key"], row["variant_key"]): row for row in result["rows"] if row["segment"] is None}


def assert_matches(row: dict[str, Any], reference: dict[str, Any]) -> None:
    found = {name: row[field] for name, field in FIELDS.items()}
    assert found == pytest.approx({name: reference[name] for name in FIELDS}, rel=RELATIVE)
    interval = [row["difference_ci_lower"], row["difference_ci_upper"]]
    assert interval == pytest.approx(reference["ci95"], rel=RELATIVE)


def analysed(client: ApiClient, file: UnitFile) -> dict[str, Any]:
    client.wait(import_units(client, file))
    result: dict[str, Any] = client.get(f"/v1/experiments/{file.experiment_key}/result")
    return result


def check(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in result["checks"] if item["name"] == name)


def test_hillstrom_with_three_arms_gives_the_reference_numbers(client: ApiClient) -> None:
    reference = reference_of("ab/hillstrom_email.csv")
    metrics = ("visit", "conversion", "spend")
    file = UnitFile(
        path=shared_path("data/ab/hillstrom_email.csv"),
        experiment_key="hillstrom",
        variant_column="segment",
        control="No E-Mail",
        metrics=metrics,
        at=AT,
    )
    result = analysed(client, file)
    rows = rows_of(result)
    for name, variant in (("Mens E-Mail", "mens_e_mail"), ("Womens E-Mail", "womens_e_mail")):
        for metric in metrics:
            assert_matches(rows[f"hillstrom_{metric}", variant], reference[name][metric])
    assert check(result, "sample_ratio")["p_value"] == pytest.approx(reference["SRM_thirds"]["p"], rel=RELATIVE)
    assert result["verdict"] == "better"


@pytest.mark.parametrize(("name", "variant"), [("Mens E-Mail", "mens_e_mail"), ("Womens E-Mail", "womens_e_mail")])
def test_hillstrom_pairs_with_history_as_covariate_reduce_variance_as_the_reference_does(
    client: ApiClient, name: str, variant: str
) -> None:
    reference = reference_of("ab/hillstrom_email.csv")[name]["spend_cuped_history"]
    key = f"hillstrom_{variant}"
    file = UnitFile(
        path=shared_path("data/ab/hillstrom_email.csv"),
        experiment_key=key,
        variant_column="segment",
        control="No E-Mail",
        metrics=("spend",),
        covariates={"spend": "history"},
        only_variants=("No E-Mail", name),
        at=AT,
    )
    row = rows_of(analysed(client, file))[f"{key}_spend", variant]
    # The reference pools the slope over units, METHODS A7 minimises the variance of the difference. Here the two
    # slopes differ by less than 0.1 %, and the slope moves an estimate by theta x the tiny imbalance of history.
    assert row["difference"] == pytest.approx(reference["diff"], rel=1e-4)
    assert row["difference_standard_error"] == pytest.approx(reference["se"], rel=1e-6)
    assert row["method"].endswith("A7")


def cookie_cats(path: Path, experiment_key: str, *metrics: str) -> UnitFile:
    return UnitFile(
        path=path,
        experiment_key=experiment_key,
        variant_column="test_version",
        control="gate_30",
        metrics=metrics,
        unit_column="userid",
        at=AT,
    )


def test_cookie_cats_gives_the_reference_numbers_and_shows_its_sample_ratio(client: ApiClient) -> None:
    reference = reference_of("ab/cookie_cats.csv")
    metrics = ("sum_gamerounds", "retention_1", "retention_7")
    result = analysed(client, cookie_cats(shared_path("data/ab/cookie_cats.csv"), "cookie_cats", *metrics))
    rows = rows_of(result)
    for metric in metrics:
        assert_matches(rows[f"cookie_cats_{metric}", "gate_40"], reference[metric])
    assert check(result, "sample_ratio")["p_value"] == pytest.approx(reference["SRM_50_50"]["p"], rel=RELATIVE)
    assert check(result, "sample_ratio")["status"] == "pass", "p = 0.0086 is above the threshold of 0.0005"


@pytest.mark.simulation
def test_one_outlier_of_cookie_cats_changes_the_lift_and_removing_it_gives_the_reference(
    client: ApiClient, tmp_path: Path
) -> None:
    reference = reference_of("ab/cookie_cats.csv")
    outlier = str(reference["max_gamerounds"])
    lines = shared_path("data/ab/cookie_cats.csv").read_text().splitlines(keepends=True)
    without = tmp_path / "cookie_cats.csv"
    without.write_text("".join(line for line in lines if line.split(",")[2] != outlier))
    result = analysed(client, cookie_cats(without, "cookie_cats_clean", "sum_gamerounds"))
    row = rows_of(result)["cookie_cats_clean_sum_gamerounds", "gate_40"]
    assert_matches(row, reference["sum_gamerounds_drop_outlier"])


def test_the_whole_asos_half_by_summaries_gives_the_reference_numbers(client: ApiClient) -> None:
    reference = reference_of("split/dev/asos_dev.parquet")
    chosen = asos.experiments()
    assert len(chosen) == reference["experiments"]
    found: dict[str, list[dict[str, Any]]] = {metric: [] for metric in "1234"}
    for key, analysis_id in asos.load(client, chosen).items():
        client.wait(analysis_id)
        for (metric, _), row in rows_of(client.get(f"/v1/experiments/{key}/result")).items():
            found[metric[-1]].append(row)
    for metric, rows in found.items():
        assert len(rows) == reference["treatments"]
        table = reference["table2"][metric]
        assert sum(row["p_value"] < 0.05 for row in rows) == table["both"] + table["only_t"]
        effects = random_effects([row["lift"] for row in rows], [row["standard_error"] for row in rows])
        assert effects == pytest.approx(reference["random_effects_relative_lift"][metric], rel=RELATIVE)
