"""From past experiments to a decision by beliefs, as a new user walks: through the API and the command line."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.cli.client import ApiClient, ApiProblem
from app.cli.services import LocalService
from tests.system.bench import AT, PARQUET, Result, checked, parquet

METRIC, SOURCE = "bz_signups", "bz_signup"
PAST, TRIED, PLANNED = 9, 20_000, 8000
SPREAD = 0.03
VARIANTS = [{"key": "control", "weight": 0.5, "is_control": True}, {"key": "treatment", "weight": 0.5}]
PRIMARY = {"metric_key": METRIC, "role": "primary", "mde": 0.05}
LEARNED = f"learned from {PAST} experiments (version 1)"


def summed_up(client: ApiClient, key: str, lift: float, **fields: Any) -> str:
    """An experiment of last year whose counts are known; the id of its analysis."""
    began = AT - timedelta(days=300)
    body = {"key": key, "name": key, "variants": VARIANTS, "metrics": [PRIMARY], "data": "summary"}
    client.post("/v1/experiments", body | {"planned_units": 2 * TRIED} | fields)
    client.move(key, "start", began)
    rates = {"control": 0.2, "treatment": 0.2 * np.exp(lift)}
    rows = [
        {
            "metric_key": METRIC,
            "variant_key": variant,
            "as_of": (began + timedelta(days=20)).isoformat(),
            "n": TRIED,
            "mean": rate,
            "variance": rate * (1 - rate),
        }
        for variant, rate in rates.items()
    ]
    client.post(f"/v1/experiments/{key}/summaries", rows, batch_id=key)
    client.move(key, "stop", began + timedelta(days=28))
    return str(client.post(f"/v1/experiments/{key}/analyses")["id"])


@pytest.fixture(scope="module")
def past(client: ApiClient) -> ApiClient:
    """A metric with a model of its units, and experiments on it that have ended."""
    client.ensure("/v1/fact-sources", {"kind": "events", "key": SOURCE, "event": SOURCE})
    metric = {
        "key": METRIC,
        "name": "Sign-ups",
        "kind": "proportion",
        "likelihood": "beta_binomial",
        "measure": {"fact_source": SOURCE, "aggregation": "any"},
        "window_days": None,
        "pre_period_days": 0,
    }
    client.post("/v1/metrics", metric)
    true = SPREAD * np.random.default_rng(3).standard_normal(PAST)
    for analysis in [summed_up(client, f"bz_past_{i}", float(lift)) for i, lift in enumerate(true)]:
        client.wait(analysis)
    return client


def northlift(service: LocalService, *arguments: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NORTHLIFT_")}
    place = {"NORTHLIFT_URL": service.url, "NORTHLIFT_KEY": service.sign_in_key()}
    answer = subprocess.run(
        [str(Path(sys.executable).with_name("northlift")), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**inherited, **place, "NO_COLOR": "1", "COLUMNS": "160", "TERM": "dumb"},
        timeout=240,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def learned(service: LocalService, past: ApiClient) -> str:
    """The prior is learned on the command line, whose words these are."""
    return northlift(service, "priors", "learn", METRIC)


@pytest.fixture(scope="module")
def decided(past: ApiClient, learned: str) -> dict[str, Result]:
    """The same users under each engine, in experiments that were planned after the prior was learned."""
    n = PLANNED // 2
    unit = [f"bz{i}" for i in range(PLANNED)]
    signed_up = [*unit[:800], *unit[n : n + 900]]
    facts = {"event": [SOURCE] * 1700, "unit_id": signed_up, "occurred_at": [AT + timedelta(days=1)] * 1700}
    past.ingest("events", parquet(facts), batch_id="bz-facts", content_type=PARQUET)
    analyses = {}
    for engine in ("bayesian", "both", "frequentist"):
        key = f"bz_{engine}"
        body = {"key": key, "name": key, "variants": VARIANTS, "metrics": [PRIMARY], "planned_units": PLANNED}
        past.post("/v1/experiments", body | {"estimation": {"engine": engine, "beliefs": {"chance_to_win": 0.9}}})
        past.move(key, "start", AT)
        exposures = {
            "experiment_key": [key] * PLANNED,
            "unit_id": unit,
            "variant_key": ["control"] * n + ["treatment"] * n,
            "exposed_at": [AT] * PLANNED,
        }
        past.ingest("exposures", parquet(exposures), batch_id=key, content_type=PARQUET)
        past.move(key, "stop", AT + timedelta(days=28))
        analyses[engine] = str(past.post(f"/v1/experiments/{key}/analyses")["id"])
    for analysis in analyses.values():
        past.wait(analysis)
    return {engine: checked(past.get(f"/v1/experiments/bz_{engine}/result")) for engine in analyses}


def test_past_experiments_teach_a_prior_and_the_command_line_says_what_they_taught(
    service: LocalService, past: ApiClient, learned: str
) -> None:
    document = past.get(f"/v1/metrics/{METRIC}/prior")
    (stratum,) = document["strata"]
    assert stratum["experiments"] == PAST and f"learned from {PAST} experiments" in learned
    assert stratum["tau"]["lower"] < SPREAD < stratum["tau"]["upper"]
    for effect in document["effects"]:
        assert effect["experiment_key"] in learned
        assert abs(effect["shrunk_log_lift"]) < abs(effect["log_lift"]) + 2e-3
    assert northlift(service, "priors", "show", METRIC) == learned[learned.index(METRIC) :]


def test_with_the_bayesian_engine_beliefs_lead_and_rows_say_where_they_come_from(decided: dict[str, Result]) -> None:
    result = decided["bayesian"]
    leading = next(decision for decision in result["decisions"] if decision["leads"])
    assert (leading["engine"], leading["outcome"]) == ("bayesian", result["verdict"])
    assert leading["action"] == result["recommendation"]["action"]
    assert "chance to win" in result["verdict_reasons"][0]
    (prior,) = result["priors"]
    assert (prior["family"], prior["source"], prior["experiments"], prior["prior_version"]) == (
        "learned", LEARNED, PAST, 1
    )  # fmt: skip
    (row,) = result["rows"]
    assert row["prior_source"] == f"{LEARNED}; beta-binomial units"
    (model,) = result["models"]
    assert (model["model"], model["status"], model["used"]) == ("beta_binomial", "ok", True)
    assert 0 < row["posterior_lift"] < row["lift"], "pulled towards what past experiments found"


def test_with_both_engines_the_intervals_lead_and_with_neither_nothing_is_believed(decided: dict[str, Result]) -> None:
    both, plain = decided["both"], decided["frequentist"]
    assert [(d["engine"], d["leads"]) for d in both["decisions"]] == [("frequentist", True), ("bayesian", False)]
    assert both["verdict"] == plain["verdict"] == "better" and both["verdict_reasons"] == plain["verdict_reasons"]
    assert both["agreement"]["agrees"] or both["agreement"]["reasons"]
    assert [d["engine"] for d in plain["decisions"]] == ["frequentist"]
    assert (plain["models"], plain["priors"], plain["prior_sensitivity"], plain["waiting"]) == ([], [], [], [])
    believed = ("chance_to_win", "expected_loss", "posterior_lift", "hdi_lower")
    assert all(plain["rows"][0][name] is None for name in believed)
    for name in ("lift", "ci_lower", "ci_upper", "p_value"):
        assert both["rows"][0][name] == plain["rows"][0][name] == decided["bayesian"]["rows"][0][name]


@pytest.mark.parametrize(
    "beliefs", [{"beliefs": {"prior": "flat"}}, {"beliefs": {"prior": "stated"}, "prior_scale": 3.0}]
)
@pytest.mark.parametrize("engine", ["bayesian", "both"])
def test_looking_every_day_without_a_prior_is_refused_with_the_reason_and_what_to_do(
    past: ApiClient, engine: str, beliefs: dict[str, Any]
) -> None:
    body = {"key": "bz_flat", "name": "Flat", "variants": VARIANTS, "metrics": [PRIMARY]}
    with pytest.raises(ApiProblem) as refused:
        past.post("/v1/experiments", body | {"estimation": {"engine": engine, **beliefs}})
    problem = refused.value.problem
    (error,) = problem["errors"]
    assert (problem["status"], error["pointer"]) == (422, "/estimation/beliefs/prior")
    for words in ("cannot be monitored", "28 daily looks", "23 % of experiments", "`sequential.method` fixed"):
        assert words in error["detail"]
    assert problem["remedy"]


def test_a_prior_that_decides_before_there_are_data_is_refused(past: ApiClient) -> None:
    body = {"key": "bz_sure", "name": "Sure", "variants": VARIANTS, "metrics": [PRIMARY]}
    stated = {"engine": "bayesian", "prior_mean": 1.0, "prior_scale": 0.001, "beliefs": {"prior": "stated"}}
    with pytest.raises(ApiProblem) as refused:
        past.post("/v1/experiments", body | {"estimation": stated})
    (error,) = refused.value.problem["errors"]
    assert error["pointer"] == "/estimation/prior_mean" and "without any data" in error["detail"]


def test_replications_of_one_hypothesis_are_pooled(past: ApiClient) -> None:
    key = "bz_again"
    past.wait(summed_up(past, key, 0.03, parent_key="bz_past_0", relation="replicates"))
    result = checked(past.get(f"/v1/experiments/{key}/result"))
    (model,) = [model for model in result["models"] if model["purpose"] == "replications"]
    assert model["status"] == "ok", model["reason"]
    assert len(model["effects"]) >= 2
    assert {"bz_past_0", key} <= {effect["label"] for effect in model["effects"]}
    (refused,) = [model for model in result["models"] if model["purpose"] == "likelihood"]
    assert (refused["status"], refused["reason"], refused["used"]) == ("not_estimable", "no_single_units", False)
