"""The synthetic company, loaded as the demo does: what Northlift says about it agrees with what is true."""

import io
from typing import Any

import pytest
from rich.console import Console

from app.cli.client import ApiClient
from app.demo import load_company, loaded, print_overview
from stats.company import Company
from tests.system.company_coverage import BROKEN, Cell, cells_of, coverage, documents, true_lifts

SEED = 1  # the demo's: this is the company that a stranger sees
PLANNED = 0.95
COMPANY_SD = 0.031
"""How much one company's share of covered intervals varies: 40 companies have a cluster-robust standard error of
0.49 % (docs/validation/company.md), so one has 0.49 % x sqrt(40). A binomial error would be too small, because the
metrics and variants of one experiment share their users."""


@pytest.fixture(scope="module")
def company(client: ApiClient) -> Company:
    return load_company(client, seed=SEED, console=Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def results(client: ApiClient, company: Company) -> dict[str, dict[str, Any]]:
    keys = [record.spec["key"] for record in company.experiments]
    return {key: client.get(f"/v1/experiments/{key}/result") for key in keys}


@pytest.fixture(scope="module")
def cells(company: Company, results: dict[str, dict[str, Any]]) -> list[Cell]:
    return [cell for cell in cells_of(company, results.values()) if cell.experiment_key != BROKEN]


def primary_of(result: dict[str, Any], variant: str | None) -> dict[str, Any]:
    return next(
        row
        for row in result["rows"]
        if row["segment"] is None and row["role"] == "primary" and row["variant_key"] == variant
    )


def test_at_least_twelve_experiments_are_analysed(client: ApiClient, results: dict[str, dict[str, Any]]) -> None:
    assert len(results) >= 12
    assert loaded(client)
    assert client.get("/v1/analyses", state="failed")["items"] == []


def test_intervals_hold_the_truth_as_often_as_planned(cells: list[Cell]) -> None:
    share, _ = coverage(cells)
    assert len(cells) >= 70
    assert share >= PLANNED - 3 * COMPANY_SD
    always = sum(cell.covered_always for cell in cells) / len(cells)
    assert always >= share, "always-valid intervals are wider"


def test_the_service_gives_the_numbers_of_its_parts(company: Company, cells: list[Cell]) -> None:
    # What still runs is analysed as of now, hours after the data end at midnight: other windows are complete.
    chosen = [record for record in company.experiments if record.ended_at is not None and record.spec["key"] != BROKEN]
    by_hand = cells_of(company, documents(company, chosen[:4]))
    served = {(cell.experiment_key, cell.variant_key, cell.metric_key): cell for cell in cells}
    assert len(by_hand) >= 24
    for cell in by_hand:
        found = served[cell.experiment_key, cell.variant_key, cell.metric_key]
        assert [found.lift, found.lower, found.upper] == pytest.approx([cell.lift, cell.lower, cell.upper], rel=1e-9)


def test_lost_exposures_are_noticed_and_block_the_verdict(results: dict[str, dict[str, Any]]) -> None:
    broken = results[BROKEN]
    assert broken["verdict"] == "unreliable"
    failed = {check["name"] for check in broken["checks"] if check["status"] == "fail"}
    assert failed and all(name.startswith("sample_ratio") for name in failed)
    assert all(result["verdict"] != "unreliable" for key, result in results.items() if key != BROKEN)


def test_the_tree_and_the_direct_measurement_of_the_north_star_agree_everywhere(
    results: dict[str, dict[str, Any]],
) -> None:
    effects = [effect for result in results.values() for effect in result["north_star"]]
    assert len(effects) == 14
    assert {effect["coherence"]["status"] for effect in effects} == {"pass"}


def test_better_is_said_only_of_what_is_better_and_worse_only_of_what_is_worse(
    company: Company, results: dict[str, dict[str, Any]]
) -> None:
    truth = true_lifts(company)
    said: dict[str, list[float]] = {"better": [], "worse": []}
    for key, result in results.items():
        if result["verdict"] in said:
            row = primary_of(result, result["verdict_variant"])
            said[result["verdict"]].append(truth[key, row["variant_key"], row["metric_key"]])
    assert len(said["better"]) >= 3 and min(said["better"]) > 0
    assert len(said["worse"]) >= 1 and max(said["worse"]) < 0


def test_what_harms_its_primary_metric_is_never_better(company: Company, results: dict[str, dict[str, Any]]) -> None:
    harmful = {
        (key, variant)
        for (key, variant, metric), lift in true_lifts(company).items()
        if lift < -0.01 and metric == primary_of(results[key], variant)["metric_key"]
    }
    assert len(harmful) >= 2
    assert all((key, result["verdict_variant"]) not in harmful or result["verdict"] != "better"
               for key, result in results.items())  # fmt: skip


def test_running_experiments_are_decided_by_intervals_that_may_be_watched(
    company: Company, results: dict[str, dict[str, Any]]
) -> None:
    running = [record.spec["key"] for record in company.experiments if record.ended_at is None]
    assert len(running) == 2
    assert {results[key]["decision_interval"] for key in running} == {"always_valid"}
    assert {r["decision_interval"] for key, r in results.items() if key not in running} == {"fixed"}


def test_segment_models_are_reliable(results: dict[str, dict[str, Any]]) -> None:
    models = [model for result in results.values() for model in result["segment_models"]]
    reliable = [model for model in models if model["status"] == "ok"]
    assert len(models) > 50
    assert len(reliable) >= 0.95 * len(models)
    assert all(model["r_hat"] < 1.02 for model in reliable)


def test_the_north_star_s_curve_counts_every_order_and_is_the_product_of_its_inputs(
    client: ApiClient, company: Company
) -> None:
    points = client.get("/v1/north-stars/weekly_orders/series")["points"]
    complete = [point for point in points if point["complete"] and point["value"]]
    assert len(complete) >= 24
    for point in complete:
        product = 1.0
        for value in point["inputs"].values():
            product *= value
        assert point["value"] == pytest.approx(product, rel=1e-9)
    orders = float((company.events["event"] == "order").sum())
    assert sum(point["value"] or 0.0 for point in points) == pytest.approx(orders, abs=0.5)


def test_every_finished_experiment_has_a_decision_and_what_shipped_has_a_launch(
    client: ApiClient, company: Company, results: dict[str, dict[str, Any]]
) -> None:
    launches = {launch["key"]: launch for launch in client.get("/v1/launches")["items"]}
    assert {launch.spec["key"] for launch in company.launches} <= set(launches)
    shipped = 0
    for record in company.experiments:
        key = record.spec["key"]
        decisions = client.get(f"/v1/experiments/{key}/decisions")["items"]
        assert len(decisions) == (record.ended_at is not None)
        for decision in decisions:
            assert decision["learnings"] and decision["verdict"] == results[key]["verdict"]
            if decision["outcome"] == "ship":
                shipped += 1
                assert launches[decision["launch_key"]]["shipped_variant"] == results[key]["verdict_variant"]
    assert shipped == 2


def test_history_says_how_long_the_next_experiment_takes(client: ApiClient, company: Company) -> None:
    answer = client.post(
        "/v1/sample-size",
        {
            "variants": [{"key": "control", "weight": 0.5, "is_control": True}, {"key": "new", "weight": 0.5}],
            "metrics": [{"metric_key": "orders", "role": "primary", "mde": 0.05}],
        },
    )
    assert [metric["metric_key"] for metric in answer["metrics"]] == ["orders"], answer


def test_the_overview_that_the_demo_prints_has_a_line_for_every_experiment(
    client: ApiClient, results: dict[str, dict[str, Any]]
) -> None:
    written = io.StringIO()
    print_overview(client, Console(file=written, width=140))
    for key, result in results.items():
        line = next(line for line in written.getvalue().splitlines() if line.startswith(f"{key} "))
        assert result["verdict"] in line
