"""The design of a rollout over HTTP: answered from the values of a series, to everybody who may read."""

from datetime import date, timedelta

import numpy as np
import pytest

from app.api import examples
from tests.app.api.service import Service, assert_problem, created, metric, pointers

pytestmark = pytest.mark.anyio
PATH = "/v1/series/orders-by-country/rollout-design"


async def with_values(service: Service, days: int = 60) -> None:
    """Seven countries with two months of orders."""
    await created(service.write, "/v1/series", {**examples.SERIES, "metric_key": None})
    rng = np.random.default_rng(5)
    world = np.cumsum(rng.normal(0, 0.02, days))
    rows = ["segment,at,value"]
    for size, country in enumerate(("DK", "EE", "FI", "IS", "NO", "PL", "SE"), start=1):
        orders = 1000 * size * np.exp(world + rng.normal(0, 0.01, days))
        rows += [f"{country},{date(2026, 8, 1) + timedelta(days=day)},{value:.0f}" for day, value in enumerate(orders)]
    answer = await service.ingest.post(
        "/v1/series/orders-by-country/values",
        content="\n".join(rows),
        params={"batch_id": "1"},
        headers={"Content-Type": "text/csv"},
    )
    assert answer.status_code == 201, answer.text


async def test_a_reader_learns_what_each_set_would_show_and_what_was_launched_meanwhile(service: Service) -> None:
    await with_values(service)
    step = {"at": "2026-09-10T00:00:00Z", "coverage": 1, "mechanism": "all_at_once"}
    launch = {
        "key": "search",
        "name": "Search",
        "rollout": [step],
        "measurements": [{"series_key": "orders-by-country"}],
    }
    await created(service.write, "/v1/launches", launch)
    counts = await service.counts()
    answer = await service.read.post(PATH, json={"days": [7, 14], "candidates": [["NO"], ["DK", "SE"]]})
    assert answer.status_code == 200, answer.text
    design = answer.json()
    assert [(option["segments"], option["days"]) for option in design["options"]] == [
        (["NO"], 7),
        (["NO"], 14),
        (["DK", "SE"], 7),
        (["DK", "SE"], 14),
    ]
    assert all(0 < option["detectable_rise"] < 0.2 and option["reason"] is None for option in design["options"])
    assert (design["first_period"], design["periods"]) == ("2026-08-01T00:00:00Z", 60)
    assert design["launches_in_history"] == ["search"]
    assert await service.counts() == counts, "a question changes nothing"
    searched = (await service.read.post(PATH, json={"days": [7], "sizes": [1]})).json()
    assert searched["searched"] == 7 and len(searched["options"]) == 7


async def test_who_may_not_read_is_not_answered(service: Service) -> None:
    assert_problem(await service.ingest.post(PATH, json={"days": [7]}), "forbidden", 403)
    assert_problem(await service.anonymous.post(PATH, json={"days": [7]}), "unauthenticated", 401)


async def test_faults_in_the_question_have_a_place_and_series_without_a_past_are_named(service: Service) -> None:
    assert_problem(await service.read.post(PATH, json={"days": [7]}), "not-found", 404)
    await with_values(service, days=40)
    for question, where in (
        ({}, "/days"),
        ({"days": [7], "candidates": [["US"]]}, "/candidates/0"),
        ({"days": [7], "weeks": 2}, "/weeks"),
        ({"days": [7], "power": 1}, "/power"),
    ):
        problem = assert_problem(await service.read.post(PATH, json=question), "invalid-definition", 422)
        assert pointers(problem) == [where]
    await created(service.write, "/v1/fact-sources", examples.FACT_SOURCE)
    await created(service.write, "/v1/metrics", metric("orders_per_user"))
    for series, fault in (
        (examples.FACT_SERIES, "computed from facts"),
        ({"key": "total", "name": "Total"}, "no segments"),
        ({"key": "empty", "name": "Empty", "dimension": "city"}, "no values"),
    ):
        await created(service.write, "/v1/series", series)
        answer = await service.read.post(f"/v1/series/{series['key']}/rollout-design", json={"days": [7]})
        assert fault in assert_problem(answer, "not-ready", 409)["detail"]
