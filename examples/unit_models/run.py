"""Five metrics, five models of units: made-up users, analysed by a running service.

    python examples/unit_models/run.py --key nl_…

Registers `definitions.yaml` and an experiment, sends what 6,000 made-up users did, and prints for each metric what its
model believes, whether the model describes the users, and so whether the result rows carry its numbers. The first
analysis on a machine compiles each model, a quarter of a minute each; later ones take about a second.
"""

import argparse
import io
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from app.cli.client import ApiClient, ApiFailure

DEFINITIONS = Path(__file__).resolve().parent / "definitions.yaml"
PARQUET = "application/vnd.apache.parquet"
STARTED_AT = datetime(2026, 3, 2, tzinfo=UTC)
KEY = "shorter_checkout"
ROLES = {
    "buying_users": {"role": "primary", "mde": 0.1},
    "revenue_per_user": {"role": "secondary"},
    "visits_per_user": {"role": "secondary"},
    "minutes_per_task": {"role": "secondary"},
    "tickets_per_user": {"role": "guardrail", "non_inferiority_margin": 0.2},
}
LIFT = {"buying_users": 0.15, "visits_per_user": 0.05, "minutes_per_task": -0.04, "tickets_per_user": -0.05}
"""The true lifts; revenue rises as buyers do."""


def users(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    """What every user did, each array (count,): the second half of them with the shorter checkout."""
    rng = np.random.default_rng(seed)
    treated = np.arange(count) >= count // 2
    factor = {name: np.where(treated, 1 + lift, 1.0) for name, lift in LIFT.items()}
    bought = rng.random(count) < 0.10 * factor["buying_users"]
    return {
        "treated": treated,
        "spent": np.where(bought, np.round(rng.lognormal(3.4, 0.6, count), 2), 0.0),
        "visits": rng.poisson(4.0 * factor["visits_per_user"] * rng.gamma(0.8, 1 / 0.8, count)),
        "tickets": rng.poisson(0.3 * factor["tickets_per_user"]),
        "minutes": 12 * factor["minutes_per_task"] + 1.5 * rng.standard_t(4, count),
    }


def load(client: ApiClient, key: str = KEY, chosen: tuple[str, ...] = tuple(ROLES), count: int = 6000) -> str:
    """Register, start, feed and stop an experiment with the chosen metrics; the id of its analysis."""
    known = yaml.safe_load(DEFINITIONS.read_text())
    for source in known["fact_sources"]:
        client.ensure("/v1/fact-sources", source)
    for metric in known["metrics"]:
        client.ensure("/v1/metrics", metric)
    experiment = {
        "key": key,
        "name": "Shorter checkout",
        "hypothesis": "Fewer questions make more visitors buy, and leave them less to ask.",
        "variants": [
            {"key": "control", "weight": 0.5, "is_control": True},
            {"key": "short", "name": "Three questions fewer", "weight": 0.5},
        ],
        "metrics": [{"metric_key": key, **ROLES[key]} for key in chosen],
        "planned_units": count,
    }
    client.ensure("/v1/experiments", experiment)
    client.move(key, "start", STARTED_AT)
    made = users(count)
    names = np.array([f"{key}-{i}" for i in range(count)])
    at = np.array([STARTED_AT + timedelta(minutes=10 * i % (7 * 24 * 60)) for i in range(count)])
    variant = np.where(made["treated"], "short", "control")
    exposures = {"experiment_key": [key] * count, "unit_id": names, "variant_key": variant, "exposed_at": at}
    client.ingest("exposures", _parquet(exposures), batch_id=f"{key}-exposures", content_type=PARQUET)
    buyers = made["spent"] > 0
    once = np.ones(count, dtype=np.int64)
    for event, times, value in (
        ("unit_purchase", buyers.astype(np.int64), made["spent"]),
        ("unit_visit", made["visits"], once),
        ("unit_ticket", made["tickets"], once),
        ("unit_timing", once, made["minutes"]),
    ):
        whose = np.repeat(np.arange(count), times)
        facts = {
            "event": [event] * len(whose),
            "unit_id": names[whose],
            "occurred_at": at[whose] + timedelta(days=1),
            "value": value[whose].astype(np.float64),
        }
        client.ingest("events", _parquet(facts), batch_id=f"{key}-{event}", content_type=PARQUET)
    client.move(key, "stop", STARTED_AT + timedelta(days=14))
    return str(client.post(f"/v1/experiments/{key}/analyses")["id"])


def _parquet(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def told(model: dict[str, Any]) -> str:
    """One line about a model."""
    if model["status"] != "ok":
        return f"{model['metric_key']:18} {model['model']:18} {model['status']}: {model['reason']}"
    effect = model["effects"][0]
    lift = f"{effect['lift']:+.1%} ({effect['hdi_lower']:+.1%} to {effect['hdi_upper']:+.1%})"
    verdict = "decides" if model["used"] else f"is only shown. {model['reason']}"
    return (
        f"{model['metric_key']:18} {model['model']:18} {lift}, chance to win {effect['chance_to_win']:.1%}; {verdict}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Models of units on made-up users, in a running service.")
    parser.add_argument("--url", default=os.environ.get("NORTHLIFT_URL", "http://127.0.0.1:8321"))
    parser.add_argument("--key", default=os.environ.get("NORTHLIFT_KEY"), help="API key with the scopes read and write")
    options = parser.parse_args()
    if options.key is None:
        parser.error("name the API key with --key or NORTHLIFT_KEY")
    try:
        with ApiClient(options.url, options.key) as client:
            client.wait(load(client))
            result = client.get(f"/v1/experiments/{KEY}/result")
            print(f"{result['verdict']}: {result['verdict_reasons'][0]}")
            for model in result["models"]:
                if model["purpose"] == "likelihood":
                    print(told(model))
    except (ApiFailure, TimeoutError) as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
