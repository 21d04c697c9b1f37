"""A programme through the whole service: experiments by summaries, decisions, a holdout, and what they add up to."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from app.cli.client import ApiClient
from stats.programme.totals import programme

BEGAN = datetime(2026, 1, 5, tzinfo=UTC)
ENDED = BEGAN + timedelta(days=28)
UNITS = 10_000
METRIC = "programme_revenue"
LIFTS = (0.05, 0.035, 0.02, -0.03, 0.004, -0.012)


def conducted(client: ApiClient, key: str, lift: float, *, purpose: str = "test", error: float = 0.01) -> None:
    """An experiment of four weeks with two arms of the same size, analysed after its end."""
    variants = [{"key": "control", "weight": 0.5, "is_control": True}, {"key": "new", "weight": 0.5}]
    client.ensure(
        "/v1/experiments",
        {
            "key": key, "name": key, "data": "summary", "purpose": purpose, "variants": variants,
            "metrics": [{"metric_key": METRIC, "role": "primary"}], "planned_end_at": ENDED.isoformat(),
        },
    )  # fmt: skip
    client.move(key, "start", BEGAN)
    rows = [
        {
            "metric_key": METRIC, "variant_key": variant, "as_of": ENDED.isoformat(), "n": UNITS,
            "mean": 1.0 + (lift if variant == "new" else 0.0), "variance": error**2 * UNITS / 2,
        }
        for variant in ("control", "new")
    ]  # fmt: skip
    client.post(f"/v1/experiments/{key}/summaries", rows, batch_id=key)
    client.move(key, "stop", ENDED)
    client.wait(str(client.post(f"/v1/experiments/{key}/analyses")["id"]))


def decided(client: ApiClient, key: str, *, ship: bool) -> None:
    said: dict[str, Any] = {"outcome": "ship", "shipped_variant": "new"} if ship else {"outcome": "iterate"}
    words = {"reason": "as planned", "override_reason": "the test wants it like this"}
    at = {"decided_at": (ENDED + timedelta(days=1)).isoformat()}
    client.post(f"/v1/experiments/{key}/decisions", said | words | at)


def test_what_all_experiments_did_together_is_read_from_the_service(client: ApiClient) -> None:
    client.ensure(
        "/v1/metrics", {"key": METRIC, "name": "Revenue", "kind": "mean", "window_days": None, "pre_period_days": 0}
    )
    keys = [f"programme-{i}" for i in range(len(LIFTS))]
    for key, lift in zip(keys, LIFTS, strict=True):
        conducted(client, key, lift)
        decided(client, key, ship=lift > 0.0164)
    conducted(client, "programme-held", 0.06, purpose="holdout", error=0.006)
    client.ensure(
        "/v1/holdouts",
        {
            "key": "programme-holdout", "name": "Held back", "experiment_key": "programme-held", "metric_key": METRIC,
            "started_at": BEGAN.isoformat(), "released_at": (ENDED + timedelta(days=30)).isoformat(),
        },
    )  # fmt: skip
    asked = str(client.post(f"/v1/metrics/{METRIC}/programme")["id"])
    client.wait(asked)
    document = client.get(f"/v1/metrics/{METRIC}/programme")
    assert document["analysis_id"] == asked
    assert (document["experiments"], document["shipped"], document["completeness"]["missing"]) == (6, 3, [])
    effects = {each["experiment_key"]: each for each in document["effects"]}
    claimed = np.array([effects[key]["claimed"] for key in keys])
    error = np.array([effects[key]["claimed_standard_error"] for key in keys])
    assert claimed == pytest.approx(np.log1p(LIFTS), rel=1e-6) and error == pytest.approx(np.full(6, 0.01), rel=0.05)
    believed = programme(claimed, error)
    assert [effects[key]["shrunk"] for key in keys] == pytest.approx(believed.effects.mean, rel=1e-6)
    total = believed.totals(np.array(LIFTS) > 0.0164)
    leading = next(each for each in document["totals"] if each["leads"])
    assert (leading["log_total"], leading["log_sd"]) == pytest.approx((total.mean[0], total.sd[0]), rel=1e-6)
    naive = next(each for each in document["totals"] if each["method"] == "naive_sum")
    assert 0 < leading["lift"] < naive["lift"]
    held = document["holdouts"][0]
    assert held["launches"] == 3 and held["reason"] is None
    assert held["kappa"] == pytest.approx(np.log1p(0.06) / total.mean[0], rel=1e-6)
    rows = client.get("/v1/programme-effects", metric_key=METRIC)["items"]
    assert {row["experiment_key"]: row["shrunk"] for row in rows} == {key: effects[key]["shrunk"] for key in keys}
