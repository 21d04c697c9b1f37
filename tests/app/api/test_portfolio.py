"""Discoveries over HTTP: e-BH over all comparisons of running experiments."""

import math
from typing import Any

import pytest

from app.api import examples
from experiments.tables import ResultRow
from tests.app.api.service import Service, assert_problem, created

pytestmark = pytest.mark.anyio


async def put(service: Service, experiment_key: str, log_e: dict[tuple[str, str], float | None], **fields: Any) -> None:
    """A result whose rows have these e-values, by (metric, role)."""
    result = await service.store_result(b"{}", subject_key=experiment_key, **{"verdict": "inconclusive", **fields})
    known = {
        "result_id": result.id,
        "experiment_key": experiment_key,
        "metric_version": 1,
        "variant_key": "one_page",
        "method": "A1+A3",
        "interval_kind": "log_delta",
        "n_control": 10,
        "n_treatment": 10,
        "ci_level": 0.95,
        "estimable": True,
    }
    blank = dict.fromkeys(set(ResultRow.model_fields) - {"id"})
    async with service.database.write() as session:
        for (metric_key, role), value in log_e.items():
            session.add(ResultRow(**blank | known | {"metric_key": metric_key, "role": role, "log_e_value": value}))


async def test_strong_evidence_is_a_discovery_among_all_comparisons_and_weak_evidence_is_not(service: Service) -> None:
    await service.fill(started=True)
    await created(service.write, "/v1/experiments", {**examples.EXPERIMENT, "key": "second", "name": "Second"})
    answer = await service.write.post("/v1/experiments/second/start", json={"at": "2026-10-02T00:00:00Z"})
    assert answer.status_code == 200
    await put(service, "one-page-checkout", {("orders_per_user", "primary"): 9.9})  # outdated by the next
    await put(
        service,
        "one-page-checkout",
        {("orders_per_user", "primary"): math.log(70), ("refunds_per_user", "guardrail"): 20.0},
    )
    await put(
        service,
        "second",
        {
            ("orders_per_user", "primary"): math.log(31),
            ("cost_per_user", "secondary"): math.log(2),
            ("revenue_per_user", "secondary"): None,
        },
    )
    document = (await service.read.get("/v1/portfolio")).json()
    # Three e-values: 70 >= 3 / (0.05 * 1) = 60, and 31 >= 3 / (0.05 * 2) = 30, but 2 < 3 / (0.05 * 3) = 20.
    assert [(item["experiment_key"], item["metric_key"], item["discovery"]) for item in document["items"]] == [
        ("one-page-checkout", "orders_per_user", True),
        ("second", "orders_per_user", True),
        ("second", "cost_per_user", False),
    ]
    assert (document["discoveries"], document["without"]) == (2, 1)
    assert document["items"][1]["q_value"] == pytest.approx(3 / (2 * 31))
    stricter = (await service.read.get("/v1/portfolio", params={"alpha": 0.01})).json()
    assert stricter["discoveries"] == 0


async def test_stopped_experiments_are_in_the_portfolio_only_when_asked_for(service: Service) -> None:
    await service.fill(started=True)
    await put(service, "one-page-checkout", {("orders_per_user", "primary"): 8.0})
    stopped = await service.write.post("/v1/experiments/one-page-checkout/stop", json={})
    assert stopped.status_code == 200, stopped.text
    assert (await service.read.get("/v1/portfolio")).json()["items"] == []
    everything = (await service.read.get("/v1/portfolio", params={"scope": "all"})).json()
    assert [item["discovery"] for item in everything["items"]] == [True]


async def test_nothing_of_an_unreliable_experiment_is_a_discovery(service: Service) -> None:
    await service.fill(started=True)
    await put(service, "one-page-checkout", {("orders_per_user", "primary"): 30.0}, verdict="unreliable")
    document = (await service.read.get("/v1/portfolio")).json()
    assert (document["items"], document["discoveries"], document["unreliable"]) == ([], 0, 1)


async def test_a_portfolio_needs_a_key_and_a_rate_between_0_and_1(service: Service) -> None:
    assert_problem(await service.anonymous.get("/v1/portfolio"), "unauthenticated", 401)
    problem = assert_problem(await service.read.get("/v1/portfolio", params={"alpha": 1}), "invalid-definition", 422)
    assert "alpha" in str(problem)
    assert (await service.read.get("/v1/portfolio")).json() == {
        "alpha": 0.05,
        "discoveries": 0,
        "without": 0,
        "unreliable": 0,
        "items": [],
    }
