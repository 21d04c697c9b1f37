"""The synthetic company, loaded as the demo does: what Northlift says about it agrees with what is true."""

import io
from math import log1p
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from app.cli.client import ApiClient, ApiProblem
from app.demo import load_company, loaded, print_overview
from stats.company import Company
from stats.company.members import cohorts
from tests.system.company_coverage import BROKEN, Cell, cells_of, coverage, documents, true_lifts

SEED = 1  # the demo's: this is the company that a stranger sees
PLANNED = 0.95
COMPANY_SD = 0.031
"""How much one company's share of covered intervals varies: over 40 companies the share of the twelve experiments with
users had a cluster-robust standard error of 0.49 %, so one has 0.49 % x sqrt(40). A binomial error would be too small,
because the metrics and variants of one experiment share their users."""

GRADES = {
    "launch_onboarding_checklist": ("experiment", "A"),
    "launch_one_click_reorder": ("experiment", "A"),
    "launch_faster_app": ("staged", "B"),
    "launch_evening_delivery": ("imputation", "B"),
    "launch_new_dispatch": ("switchback", "B"),
    "launch_sturdy_parcels": ("synthetic_did", "C"),
    "launch_store_refit": ("bsts", "C"),
    "launch_new_home": ("structural", "D"),
}
"""What leads, and how much it is worth. The staged rollout would be an A, had it been planned before it began."""


@pytest.fixture(scope="module")
def company(client: ApiClient) -> Company:
    # Two years of a listening service have tests of their own, in `test_listening`.
    return load_company(client, seed=SEED, console=Console(file=io.StringIO()), with_listening=False)


@pytest.fixture(scope="module")
def results(client: ApiClient, company: Company) -> dict[str, dict[str, Any]]:
    keys = [record.spec["key"] for record in company.experiments]
    return {key: client.get(f"/v1/experiments/{key}/result") for key in keys}


@pytest.fixture(scope="module")
def cells(company: Company, results: dict[str, dict[str, Any]]) -> list[Cell]:
    return [cell for cell in cells_of(company, results.values()) if cell.experiment_key != BROKEN]


@pytest.fixture(scope="module")
def members(client: ApiClient, company: Company) -> dict[str, dict[str, Any]]:
    """Results of the experiments with members, each with an option of its own."""
    keys = [record.spec["key"] for record in company.business.experiments]
    return {key: client.get(f"/v1/experiments/{key}/result") for key in keys}


def member_row(result: dict[str, Any], metric: str) -> dict[str, Any]:
    row: dict[str, Any] = next(r for r in result["rows"] if r["segment"] is None and r["metric_key"] == metric)
    return row


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
        if key in results and lift < -0.01 and metric == primary_of(results[key], variant)["metric_key"]
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


def test_running_experiments_were_planned_with_what_the_ended_ones_taught(
    client: ApiClient, company: Company, results: dict[str, dict[str, Any]]
) -> None:
    ended = {record.spec["key"] for record in company.experiments if record.ended_at is not None} - {BROKEN}
    for record in company.experiments:
        for prior in results[record.spec["key"]]["priors"]:
            if record.ended_at is not None:
                assert prior["family"] == "normal"
                continue
            assert (prior["family"], prior["experiments"]) == ("learned", len(ended)), prior
            taught = client.get(f"/v1/metrics/{prior['metric_key']}/prior")
            assert prior["prior_id"] == taught["analysis_id"]
            assert {effect["experiment_key"] for effect in taught["effects"]} == ended


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


def test_intervals_of_every_kind_of_experiment_are_about_the_truth(
    company: Company, members: dict[str, dict[str, Any]]
) -> None:
    cells = cells_of(company, members.values())
    assert len(cells) == len(company.business.truth) == 20
    for cell in cells:
        error = (log1p(cell.upper) - log1p(cell.lower)) / (2 * 1.96)
        assert abs(log1p(cell.lift) - log1p(cell.truth)) < 3.3 * error, cell
    assert coverage(cells)[0] >= 0.8
    assert {m for r in members.values() for m in r["methods"]} >= {
        "A1", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11", "A12", "A13", "A15", "A16", "B1", "B2"
    }  # fmt: skip


def test_rows_over_http_are_those_of_the_document(client: ApiClient, members: dict[str, dict[str, Any]]) -> None:
    for key, result in members.items():
        served = client.get(f"/v1/experiments/{key}/rows", overall="true")["items"]
        found = {row["metric_key"]: (row["method"], row["lift"], row["ci_lower"], row["ci_upper"]) for row in served}
        whole = [row for row in result["rows"] if row["segment"] is None]
        assert found == {r["metric_key"]: (r["method"], r["lift"], r["ci_lower"], r["ci_upper"]) for r in whole}


def test_a_quantile_of_page_views_is_compared_member_by_member(members: dict[str, dict[str, Any]]) -> None:
    result = members["page_cache"]
    row = member_row(result, "page_latency")
    assert "A6" in row["method"] and row["direction"] == "decrease"
    assert row["ci_upper"] < 0 and result["verdict"] == "better"


def test_a_survey_shows_who_answered(members: dict[str, dict[str, Any]]) -> None:
    survey = member_row(members["human_support"], "nps")["survey"]
    assert 0.3 < survey["response_rate_control"] < survey["response_rate_treatment"] < 0.6
    assert survey["bound_lower"] <= member_row(members["human_support"], "nps")["difference"] <= survey["bound_upper"]


def test_a_cap_is_shown_with_what_it_cut_and_with_the_lift_without_it(
    company: Company, members: dict[str, dict[str, Any]]
) -> None:
    cap = member_row(members["free_delivery"], "spend")["cap"]
    assert cap["cap"] > 100 and 0 < cap["share_control"] < 0.2 and 0 < cap["share_treatment"] < 0.2
    truth = true_lifts(company)["free_delivery", "treatment", "spend"]
    assert cap["uncapped_ci_lower"] < truth < cap["uncapped_ci_upper"]


def test_accounts_are_the_units_where_accounts_were_randomised(members: dict[str, dict[str, Any]]) -> None:
    row = member_row(members["team_baskets"], "buyers")
    assert "A5" in row["method"]
    assert row["n_control"] + row["n_treatment"] == 72
    assert row["df"] < 70, "degrees of freedom of accounts of unequal size"


def test_only_members_who_saw_the_checkout_are_compared(company: Company, members: dict[str, dict[str, Any]]) -> None:
    assigned = int((company.business.exposures["experiment_key"] == "trust_marks").sum())
    triggered = sum(variant["analysed"] for variant in members["trust_marks"]["exposures"]["variants"])
    assert 0.45 < triggered / assigned < 0.55
    names = {check["name"]: check["status"] for check in members["trust_marks"]["checks"]}
    assert (names["sample_ratio"], names["sample_ratio_triggered"]) == ("pass", "pass")


def test_after_a_ramp_members_are_compared_within_its_stages(
    client: ApiClient, company: Company, members: dict[str, dict[str, Any]]
) -> None:
    row = member_row(members["new_search"], "buyers")
    assert "A8" in row["method"]
    lives = next(cohort for cohort in cohorts(SEED, 20_000) if cohort.trial.key == "new_search")
    treated = lives.arm == 1
    plain = lives.chance(1)[treated].mean() / lives.chance(0)[~treated].mean() - 1
    assert plain < 0 < row["ci_lower"], "a comparison of everybody would have the wrong sign"
    assert len(members["new_search"]["amendments"]) == 1
    checks = {check["name"]: check["status"] for check in members["new_search"]["checks"]}
    assert checks["sample_ratio"] == checks["sample_ratio_by_day"] == "pass"


def test_a_bound_of_a_group_sequential_plan_ends_the_experiment_early(
    company: Company, members: dict[str, dict[str, Any]]
) -> None:
    result = members["quick_quotes"]
    (monitor,) = result["sequential"]
    assert (result["decision_interval"], result["verdict"]) == ("group_sequential", "better")
    assert monitor["stopped_for"] == "efficacy"
    reached = [look for look in monitor["looks"] if look["z"] is not None]
    assert reached[0]["z"] < reached[0]["upper"] and reached[-1]["information_fraction"] < 0.9
    truth = true_lifts(company)["quick_quotes", "treatment", "buyers"]
    assert monitor["ci_lower"] < truth < monitor["ci_upper"]


def test_an_a_a_experiment_finds_nothing_and_a_harmless_launch_is_neutral(members: dict[str, dict[str, Any]]) -> None:
    checks = {check["name"]: check["status"] for check in members["pipeline_check"]["checks"]}
    assert checks["identical_variants"] == "pass"
    assert members["pipeline_check"]["recommendation"]["action"] == "archive"
    assert members["new_editor"]["recommendation"]["action"] == "neutral"


def test_two_experiments_that_do_the_same_work_are_found_to_interact(members: dict[str, dict[str, Any]]) -> None:
    lives = {cohort.trial.key: cohort for cohort in cohorts(SEED, 20_000)}
    for key, other in (("saved_lists", "reminders"), ("reminders", "saved_lists")):
        found = next(item for item in members[key]["interactions"] if item["experiment_key"] == other)
        mine = lives[key]
        gain = mine.chance(1) - mine.chance(0)
        truth = float(np.mean(gain[mine.other == 1]) - np.mean(gain[mine.other == 0]))
        assert found["reported"] and found["ci_lower"] < truth < found["ci_upper"] < 0


def test_two_way_segments_are_tested_together(members: dict[str, dict[str, Any]]) -> None:
    dimensions = {item["dimension"] for item in members["free_delivery"]["heterogeneity"]}
    assert any("country" in name and "platform" in name for name in dimensions)


@pytest.fixture(scope="module")
def launched(client: ApiClient, company: Company) -> dict[str, dict[str, Any]]:
    """The row of every launch that says the most of it."""
    return {row["launch_key"]: row for row in client.get("/v1/launch-effects", leads="true", limit="200")["items"]}


def test_launches_have_the_grades_that_their_designs_and_their_records_allow(
    client: ApiClient, launched: dict[str, dict[str, Any]]
) -> None:
    assert {key: (row["method"], row["evidence_grade"]) for key, row in launched.items()} == GRADES
    staged = client.get("/v1/launches/launch_faster_app/results/latest")["measurements"][0]["grade"]
    assert staged["reasons"] == ["planned_afterwards"]


def test_what_leads_holds_the_truth_of_every_launch(company: Company, launched: dict[str, dict[str, Any]]) -> None:
    truth = {(launch.spec["key"], key): lift for launch in company.launches for key, lift in launch.true_lifts.items()}
    assert len(truth) == len(launched)
    for row in launched.values():
        lift = truth[row["launch_key"], row["series_key"]]
        assert row["estimable"] and log1p(row["ci_lower"]) < lift < log1p(row["ci_upper"]), row
    sure = {key for key, row in launched.items() if not row["ci_lower"] < 0 < row["ci_upper"]}
    assert sure == set(GRADES) - {"launch_faster_app", "launch_new_home"}, "small, or hard to tell from everything else"


def test_of_a_launch_without_a_series_nothing_is_said(client: ApiClient, launched: dict[str, dict[str, Any]]) -> None:
    blind = client.get("/v1/launches", measured="false")["items"]
    assert [launch["key"] for launch in blind] == ["launch_new_logo"] and "launch_new_logo" not in launched
    with pytest.raises(ApiProblem, match="of no series"):
        client.post("/v1/launches/launch_new_logo/analyses")
    assert client.get("/v1/launches/launch_new_logo/effects")["items"] == []
