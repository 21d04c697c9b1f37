"""37 real experiments by summary input: half of the ASOS Digital Experiments Dataset.

    python examples/asos.py --key nl_…                # all of them, into the service on this machine
    python examples/asos.py --key nl_… --experiments 3

Every half day of every experiment the data set has n, mean and variance of four anonymous metrics per variant. They are
cumulative, which is exactly what summary input takes. Where a variance is missing the snapshot is left out.

Data: C. H. Bryan Liu, Ângelo Cardoso, Paul Couturier, Emma J. McCoy, "Datasets for Online Controlled Experiments"
(NeurIPS 2021), ASOS Digital Experiments Dataset, CC BY 4.0. The half in `data/asos.parquet` was chosen by a hash of the
experiment id and is otherwise unchanged.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from app.cli.client import ApiClient, ApiFailure

DATA = Path(__file__).resolve().parent / "data" / "asos.parquet"
STARTED_AT = datetime(2020, 1, 6, tzinfo=UTC)
METRICS = {
    1: ("proportion", "binary"),
    2: ("mean", "count-like"),
    3: ("mean", "count-like"),
    4: ("mean", "real-valued"),
}


def experiments(path: Path = DATA) -> dict[str, list[dict[str, Any]]]:
    """The rows of each experiment, in order of time."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in pq.read_table(path).to_pylist():
        found[row["experiment_id"]].append(row)
    return {key: sorted(rows, key=lambda row: row["time_since_start"]) for key, rows in sorted(found.items())}


def metric_definitions() -> Iterator[dict[str, Any]]:
    """The four anonymous metrics; without a `measure`, only summaries can feed them."""
    for number, (kind, words) in METRICS.items():
        yield {
            "key": f"asos_metric_{number}",
            "name": f"ASOS metric {number} ({words})",
            "kind": kind,
            "window_days": None,
            "pre_period_days": 0,
        }


def definition(experiment_id: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The experiment as the API takes it: equal shares, since the data set does not say otherwise."""
    treatments = sorted({row["variant_id"] for row in rows})
    weight = 1 / (len(treatments) + 1)
    variants = [{"key": "control", "weight": weight, "is_control": True}]
    variants += [{"key": f"treatment_{number}", "weight": weight} for number in treatments]
    metrics = [
        {"metric_key": f"asos_metric_{number}", "role": "primary" if number == 1 else "secondary"} for number in METRICS
    ]
    return {
        "key": f"asos_{experiment_id}",
        "name": f"ASOS experiment {experiment_id}",
        "data": "summary",
        "tags": ["asos", "real data"],
        "variants": variants,
        "metrics": metrics,
    }


def summaries(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Cumulative snapshots; every treatment repeats the control's, which counts once."""
    seen: set[tuple[str, str, str]] = set()
    for row in rows:
        as_of = (STARTED_AT + timedelta(days=row["time_since_start"])).isoformat()
        metric = f"asos_metric_{row['metric_id']}"
        for variant, side in (("control", "c"), (f"treatment_{row['variant_id']}", "t")):
            identity = (metric, variant, as_of)
            if identity in seen or row[f"variance_{side}"] is None:
                continue
            seen.add(identity)
            yield {
                "metric_key": metric,
                "variant_key": variant,
                "as_of": as_of,
                "n": int(row[f"count_{side}"]),
                "mean": row[f"mean_{side}"],
                "variance": row[f"variance_{side}"],
            }


def load(client: ApiClient, chosen: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Register, start, feed and stop the experiments; returns experiment key -> id of its analysis."""
    for metric in metric_definitions():
        client.ensure("/v1/metrics", metric)
    analyses = {}
    for experiment_id, rows in chosen.items():
        registered = definition(experiment_id, rows)
        path = f"/v1/experiments/{registered['key']}"
        client.ensure("/v1/experiments", registered)
        client.move(registered["key"], "start", STARTED_AT)
        client.post(f"{path}/summaries", list(summaries(rows)), batch_id=f"asos-{experiment_id}")
        ended = STARTED_AT + timedelta(days=rows[-1]["time_since_start"])
        client.move(registered["key"], "stop", ended)
        analyses[registered["key"]] = str(client.post(f"{path}/analyses")["id"])
    return analyses


def main() -> None:
    parser = argparse.ArgumentParser(description="Load real experiments of the ASOS data set into a running service.")
    parser.add_argument("--url", default=os.environ.get("NORTHLIFT_URL", "http://127.0.0.1:8321"))
    parser.add_argument("--key", default=os.environ.get("NORTHLIFT_KEY"), help="API key with the scopes read and write")
    parser.add_argument("--experiments", type=int, default=None, help="only the first so many")
    options = parser.parse_args()
    chosen = dict(list(experiments().items())[: options.experiments])
    if options.key is None:
        parser.error("name the API key with --key or NORTHLIFT_KEY")
    try:
        with ApiClient(options.url, options.key) as client:
            for key, analysis_id in load(client, chosen).items():
                client.wait(analysis_id)
                result = client.get(f"/v1/experiments/{key}/result")
                first = next(row for row in result["rows"] if row["metric_key"] == "asos_metric_1")
                lift = "no estimate" if first["lift"] is None else f"{first['lift']:+.3%} on metric 1"
                print(f"{key:16} {result['verdict']:13} {lift}")
    except (ApiFailure, TimeoutError) as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
