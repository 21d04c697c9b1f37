"""Experiments from arrays or summaries through a running service, and what must hold of every document."""

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.cli.client import ApiClient

AT = datetime(2026, 2, 2, tzinfo=UTC)
PARQUET = "application/vnd.apache.parquet"
type Columns = Mapping[str, Any]
type Result = dict[str, Any]
type Snapshot = tuple[float, dict[str, int], float]
"""Day, units by variant, and the mean of everybody but control."""


def parquet(columns: Columns) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), sink)
    return sink.getvalue()


class Bench:
    """Experiments from arrays: one event per unit, whose properties are the columns."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client

    def define(self, key: str, metrics: Mapping[str, Columns], weights: Mapping[str, float], **fields: Any) -> None:
        """`metrics` by name: what differs from the mean of the column of that name."""
        self.client.ensure("/v1/fact-sources", {"kind": "events", "key": key, "event": key})
        used = []
        for name, given in metrics.items():
            recipe, use = dict(given), {"metric_key": f"{key}_{name}"}
            use |= {field: recipe.pop(field) for field in ("role", "mde", "direction") if field in recipe}
            body = {"key": use["metric_key"], "name": name, "kind": "mean", "window_days": None, "pre_period_days": 0}
            if recipe.get("kind") != "ratio":
                body["measure"] = measure(key, recipe.pop("column", name), recipe.pop("aggregation", "sum"))
            for part in ("numerator", "denominator", "covariate"):
                if isinstance(recipe.get(part), str):
                    recipe[part] = measure(key, recipe[part])
            self.client.post("/v1/metrics", body | recipe)
            used.append({"role": "secondary" if used else "primary"} | use)
        variants = [{"key": v, "weight": w, "is_control": v == "control"} for v, w in weights.items()]
        body = {"key": key, "name": key, "variants": variants, "metrics": used, "data": "events"}
        self.client.post("/v1/experiments", body | fields)
        self.client.move(key, "start", AT)

    def expose(self, key: str, arms: Mapping[str, int], days: np.ndarray | None = None, **segments: Any) -> list[str]:
        """Units `c0`, `c1`, … of each arm; `days` after the start of each, in the order of the arms."""
        unit = [f"{arm}{i}" for arm, n in arms.items() for i in range(n)]
        arm_of = [arm for arm, n in arms.items() for _ in range(n)]
        later = np.zeros(len(unit)) if days is None else days
        columns = {
            "experiment_key": [key] * len(unit),
            "unit_id": unit,
            "variant_key": arm_of,
            "exposed_at": [AT + timedelta(days=float(d)) for d in later],
            **{f"segment_{name}": levels for name, levels in segments.items()},
        }
        if unit:
            self.send("exposures", columns, f"{key}-x")
        return unit

    def send(self, stream: str, columns: Columns, batch: str) -> Any:
        return self.client.ingest(stream, parquet(columns), batch_id=batch, content_type=PARQUET)

    def facts(self, key: str, unit: list[str], at: Any, batch: str = "f", **columns: Any) -> None:
        times = at if isinstance(at, list) else [at] * len(unit)
        rows = {"event": [key] * len(unit), "unit_id": unit, "occurred_at": times}
        self.send("events", rows | {f"p_{name}": values for name, values in columns.items()}, f"{key}-{batch}")

    def summaries(self, key: str, snapshots: list["Snapshot"], batch: str) -> None:
        """Cumulative: control has mean 10, both have variance 4."""
        rows = [
            {
                "metric_key": f"{key}_m",
                "variant_key": variant,
                "as_of": (AT + timedelta(days=day)).isoformat(),
                "n": n,
                "mean": (10.0 if variant == "control" else mean) if n else 0.0,
                "variance": 4.0 if n else 0.0,
            }
            for day, units, mean in snapshots
            for variant, n in units.items()
        ]
        self.client.post(f"/v1/experiments/{key}/summaries", rows, batch_id=f"{key}-{batch}")

    def finish(self, key: str, days: float = 28) -> Result:
        self.client.move(key, "stop", AT + timedelta(days=days))
        return self.analysed(key)

    def analysed(self, key: str) -> Result:
        self.client.wait(str(self.client.post(f"/v1/experiments/{key}/analyses")["id"]))
        text = self.client.request("GET", f"/v1/experiments/{key}/result").text
        return checked(json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the document")))

    def simple(self, key: str, metrics: Mapping[str, Columns], arms: Mapping[str, Columns], **fields: Any) -> Result:
        """Define, feed and analyse; `arms` by variant: a column of values for each property."""
        sizes = {arm: len(next(iter(columns.values()))) for arm, columns in arms.items()}
        self.define(
            key, metrics, {arm: 1 / len(arms) for arm in arms}, planned_units=max(sum(sizes.values()), 1), **fields
        )
        unit = self.expose(key, sizes)
        names = next(iter(arms.values())).keys()
        joined = {name: [v for columns in arms.values() for v in list(columns[name])] for name in names}
        if unit:
            self.facts(key, unit, AT + timedelta(days=1), **joined)
        return self.finish(key)


def measure(source: str, column: str, aggregation: str = "sum") -> dict[str, str]:
    return {"fact_source": source, "aggregation": aggregation, "column": column}


def checked(result: Result) -> Result:
    """No row without an estimate or a reason, no bounds in the wrong order, no model without numbers or a reason."""
    for row in result["rows"]:
        assert row["reason"] or (row["lift"] is not None and row["p_value"] is not None), row
        pairs = [("ci_lower", "ci_upper"), ("difference_ci_lower", "difference_ci_upper")]
        for low, high in (*pairs, ("always_valid_lower", "always_valid_upper")):
            assert (row[low] is None) == (row[high] is None)
            assert row[low] is None or row[low] <= row[high], row
    for model in result["models"]:
        _check_model(result, model)
    return result


def _check_model(result: Result, model: Mapping[str, Any]) -> None:
    """It is used where rows carry its numbers, and says why where they do not."""
    assert model["reason"] or model["status"] == "ok", model
    if model["purpose"] != "likelihood":
        assert not model["used"]
        return
    heads = [r for r in result["rows"] if r["metric_key"] == model["metric_key"] and r["segment"] is None]
    carried = [row for row in heads if (row["prior_source"] or "").endswith(" units")]
    assert model["used"] == bool(carried) and model["used"] == (model["reason"] is None), model
    assert all(row["chance_to_win"] is not None for row in carried)


def row_of(result: Result, name: str, variant: str = "treatment") -> dict[str, Any]:
    key = f"{result['experiment_key']}_{name}"
    return next(r for r in result["rows"] if (r["metric_key"], r["variant_key"], r["segment"]) == (key, variant, None))


def check_of(result: Result, name: str) -> dict[str, Any]:
    return next(check for check in result["checks"] if check["name"] == name)


SUMMARY_METRIC = {"name": "m", "kind": "mean", "window_days": None, "pre_period_days": 0}


def summarised(
    bench: "Bench",
    key: str,
    weights: Mapping[str, float],
    snapshots: list[tuple[float, dict[str, int], float]],
    **fields: Any,
) -> Result:
    """A plan with one metric, whose treatment has weights and snapshots as given; analysed as of the last."""
    stop, role = fields.pop("stop", True), {"metric_key": f"{key}_m", "role": "primary", "mde": fields.pop("mde", 0.05)}
    bench.client.post("/v1/metrics", {"key": f"{key}_m", **SUMMARY_METRIC})
    variants = [{"key": v, "weight": w, "is_control": v == "control"} for v, w in weights.items()]
    body = {"key": key, "name": key, "data": "summary", "variants": variants, "metrics": [role]}
    bench.client.post("/v1/experiments", body | fields)
    bench.client.move(key, "start", AT)
    bench.summaries(key, snapshots, "first")
    return bench.finish(key, snapshots[-1][0]) if stop else bench.analysed(key)
