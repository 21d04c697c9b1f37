"""The listening service through the whole chain: sixty experiments, what came of them, and what the review says of it.

It takes a minute, so it runs with the simulations; `tests/stats/test_company_listening.py` holds the company to its own
truth, and validation does this for many companies.
"""

import io
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from app.cli.client import ApiClient
from app.demo import listening
from app.demo.progress import shown
from stats.company.listening import Listening, generate
from stats.company.listening.definitions import HOURS, INPUTS, NORTH_STAR_KEY, SAVES
from stats.company.listening.story import BROKEN, GAMED, HOLDOUT, IDEAS, PEEKED, RUNNING

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(900)]
SEED = 1  # the demo's


@pytest.fixture(scope="module")
def told(client: ApiClient) -> Listening:
    service = generate(datetime.now(UTC), seed=SEED)
    load(client, service)
    return service


def load(client: ApiClient, service: Listening) -> None:
    with shown(Console(file=io.StringIO())) as steps:
        asked = listening.submit(client, service, steps)
        for analysis_id in listening.conclude(client, service, asked, steps).values():
            client.wait(analysis_id)


@pytest.fixture(scope="module")
def results(client: ApiClient, told: Listening) -> dict[str, dict[str, Any]]:
    return {
        record.spec["key"]: client.get(f"/v1/experiments/{record.spec['key']}/result") for record in told.experiments
    }


@pytest.fixture(scope="module")
def programme(client: ApiClient, told: Listening) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/metrics/{HOURS}/programme")
    return found


@pytest.fixture(scope="module")
def review(client: ApiClient, told: Listening) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/growth-reviews/{told.reviews[-1]['key']}/result")
    return found


def test_the_service_finds_what_the_summaries_say(told: Listening, results: dict[str, dict[str, Any]]) -> None:
    tried = told.truth.trials
    for k, idea in enumerate(IDEAS):
        (joint,) = results[idea.key]["joint_effects"]
        assert joint["metric_keys"] == [HOURS, *INPUTS, SAVES]
        np.testing.assert_allclose(joint["log_lifts"], tried.log_lift[k], atol=1e-9)
        np.testing.assert_allclose(joint["covariance"], tried.error[k], rtol=1e-6, atol=1e-12)
        (topline,) = results[idea.key]["topline"]
        assert topline["source"] == "declared"
        assert topline["log_lift"] == pytest.approx(tried.topline[k], abs=1e-6)
        assert topline["standard_error"] == pytest.approx(tried.topline_error[k], rel=1e-3)


def test_trees_agree_with_the_hours_in_every_experiment(results: dict[str, dict[str, Any]]) -> None:
    statuses = [effect["coherence"]["status"] for result in results.values() for effect in result["north_star"]]
    assert statuses == ["pass"] * len(results)


def test_what_went_wrong_is_seen(client: ApiClient, results: dict[str, dict[str, Any]]) -> None:
    assert [key for key, result in results.items() if result["verdict"] == "unreliable"] == [BROKEN]
    failed = {check["name"] for check in results[BROKEN]["checks"] if check["status"] == "fail"}
    assert failed and all(name.startswith("sample_ratio") for name in failed)
    hours = next(row for row in results[GAMED]["rows"] if row["metric_key"] == HOURS)
    sessions = next(row for row in results[GAMED]["rows"] if row["role"] == "primary")
    assert sessions["lift"] > 0 > hours["lift"]
    (decision,) = client.get(f"/v1/experiments/{GAMED}/decisions")["items"]
    assert decision["outcome"] != "ship"
    warned = {check["name"] for check in results[PEEKED]["checks"] if check["status"] == "warn"}
    assert "planned_end" in warned


def test_the_programme_says_less_than_was_claimed_and_holds_the_truth(
    told: Listening, programme: dict[str, Any]
) -> None:
    totals = {total["method"]: total for total in programme["totals"]}
    best = totals["full_bayes"]
    assert best["lower_95"] < np.expm1(told.truth.programme) < best["upper_95"]
    assert best["log_total"] < totals["naive_sum"]["log_total"]
    assert programme["shipped"] == told.truth.trials.shipped.sum()
    assert programme["experiments"] == len(IDEAS) - len(RUNNING) - 1
    assert [missing["experiment_key"] for missing in programme["completeness"]["missing"]] == [BROKEN]
    (holdout,) = programme["holdouts"]
    assert holdout["realised"] == pytest.approx(told.truth.holdout.log_lift, abs=1e-9)
    assert holdout["launches"] == len(told.holdout["launch_keys"])


def test_links_are_learned_from_all_ended_experiments(client: ApiClient, told: Listening) -> None:
    links = client.get(f"/v1/north-stars/{NORTH_STAR_KEY}/links")
    assert {link["metric_key"] for link in links["links"]} == {*INPUTS, SAVES}
    assert links["experiments"] == len(IDEAS) - len(RUNNING) - 1
    assert HOLDOUT not in str(links["links"])


def test_the_ledger_adds_up_to_what_was_observed_and_its_launches_to_the_truth(
    told: Listening, review: dict[str, Any]
) -> None:
    ledger = review["ledger"]
    assert ledger["estimable"], ledger["reason"]
    whole = {line["component"]: line for line in ledger["lines"] if line["key"] is None}
    assert whole.pop("observed")["units"] == pytest.approx(ledger["observed_units"], rel=1e-9)
    assert sum(line["units"] for line in whole.values()) == pytest.approx(ledger["observed_units"], rel=1e-9)
    hours = told.truth.weeks.hours
    after, before = np.arange(91, 104), np.arange(39, 52)
    assert ledger["observed_units"] == pytest.approx((hours[after] - hours[before]).sum(), rel=1e-9)
    added = told.truth.weeks.launched.sum(1)
    mean = (hours[after] - hours[before]) / np.log(hours[after] / hours[before])
    truth = float((mean * (added[after] - added[before])).sum())
    assert whole["launches"]["lower_95"] < truth < whole["launches"]["upper_95"]


def test_loading_again_adds_no_second_decision_launch_or_review(client: ApiClient, told: Listening) -> None:
    before = kept(client)
    load(client, told)
    assert kept(client) == before


def kept(client: ApiClient) -> list[int]:
    lists = ("experiments", "launches", "holdouts", "growth-reviews", "metrics", "series")
    decisions = [len(client.get(f"/v1/experiments/{idea.key}/decisions")["items"]) for idea in IDEAS]
    return [*(len(client.get(f"/v1/{name}", limit="200")["items"]) for name in lists), *decisions]
