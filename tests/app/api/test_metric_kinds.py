"""Retention, funnels and participation over HTTP: what they may be used for."""

from typing import Any

import pytest

from app.api import examples
from tests.app.api.service import Service, assert_problem, created, metric, pointers

pytestmark = pytest.mark.anyio

KINDS = (examples.RETENTION, examples.FUNNEL, examples.PARTICIPATION, examples.LAST_VALUE)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Definitions are the same in every database."""
    return sqlite_url


async def with_kinds(service: Service) -> None:
    await service.fill(experiment=False)
    for key in ("visits", "baskets", "addresses", "balances"):
        await created(service.write, "/v1/fact-sources", {**examples.FACT_SOURCE, "key": key, "event": key})
    for document in KINDS:
        await created(service.write, "/v1/metrics", document)


async def test_the_examples_are_taken_found_by_kind_and_planned_with_all_their_sources(service: Service) -> None:
    await with_kinds(service)
    for kind, key in (("retention", "second_week_retention"), ("funnel", "basket_to_order")):
        listed = (await service.read.get("/v1/metrics", params={"kind": kind})).json()["items"]
        assert [item["key"] for item in listed] == [key]
    metrics = [{"metric_key": document["key"], "role": "primary"} for document in KINDS]
    await created(service.write, "/v1/experiments", {**examples.EXPERIMENT, "north_star_key": None, "metrics": metrics})
    answer = await service.write.post("/v1/experiments/one-page-checkout/start", json={"at": "2026-10-01T00:00:00Z"})
    assert answer.status_code == 200, answer.text
    frozen = (await service.read.get("/v1/experiments/one-page-checkout/plan")).json()
    sources = [source["key"] for source in frozen.get("plan", frozen)["fact_sources"]]
    assert sources == ["addresses", "balances", "baskets", "orders", "visits"]


async def test_a_fault_in_any_part_is_named(service: Service) -> None:
    await with_kinds(service)
    nowhere = {"fact_source": "nowhere"}
    steps = examples.FUNNEL["steps"]
    faults: list[tuple[dict[str, Any], str, str]] = [
        ({**examples.RETENTION, "start": nowhere}, "/start/fact_source", "nowhere"),
        ({**examples.FUNNEL, "steps": [*steps, {"measure": nowhere}]}, "/steps/3/measure/fact_source", "nowhere"),
        ({**examples.LAST_VALUE, "covariates": [nowhere]}, "/covariates/0/fact_source", "nowhere"),
        ({**examples.PARTICIPATION, "window_days": 1.5}, "", "whole numbers"),
        ({**examples.FUNNEL, "steps": steps[:1]}, "", "at least two"),
    ]
    before = await service.counts()
    for document, pointer, said in faults:
        answer = await service.write.post("/v1/metrics", json={**document, "key": "another"})
        problem = assert_problem(answer, "invalid-definition", 422)
        assert pointers(problem)[0] == pointer
        assert said in problem["errors"][0]["detail"]
    assert await service.counts() == before
    answer = await service.read.post("/v1/metrics", json={**examples.FUNNEL, "key": "another"})
    assert answer.status_code == 403


async def test_a_week_of_the_company_has_no_retention_unless_a_series_brings_it(service: Service) -> None:
    await with_kinds(service)
    kept = {"metric_key": "second_week_retention"}
    star = {**examples.NORTH_STAR, "key": "other", "formula": "active_users * second_week_retention"}
    inputs = [examples.NORTH_STAR["input_metrics"][0], kept]
    answer = await service.write.post("/v1/north-stars", json={**star, "input_metrics": inputs})
    problem = assert_problem(answer, "invalid-definition", 422)
    assert pointers(problem) == ["/input_metrics/1/metric_key"]
    assert "does not add up" in problem["errors"][0]["detail"] and "series_key" in problem["remedy"]
    refused = {**examples.NORTH_STAR, "key": "other", "metric_key": "days_active"}
    problem = assert_problem(await service.write.post("/v1/north-stars", json=refused), "invalid-definition", 422)
    assert pointers(problem) == ["/metric_key"]

    brought = {**examples.SERIES, "key": "weekly-retention", "grain": "week", "dimension": "", "aggregation": "mean"}
    await created(service.write, "/v1/series", {**brought, "metric_key": "second_week_retention"})
    inputs[1] = {**kept, "series_key": "weekly-retention"}
    await created(service.write, "/v1/north-stars", {**star, "input_metrics": inputs})


async def test_facts_make_no_series_of_them(service: Service) -> None:
    await with_kinds(service)
    formula = metric("both", kind="formula", formula="orders_per_user * days_active")
    await created(service.write, "/v1/metrics", {name: v for name, v in formula.items() if name != "measure"})
    for key in ("second_week_retention", "basket_to_order", "days_active", "both"):
        document = {**examples.FACT_SERIES, "metric_key": key, "aggregation": "mean"}
        problem = assert_problem(await service.write.post("/v1/series", json=document), "invalid-definition", 422)
        assert pointers(problem) == ["/metric_key"]
        assert "facts make no value" in problem["errors"][0]["detail"]
