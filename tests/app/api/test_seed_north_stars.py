"""The example North Stars register over HTTP, carry effects from their inputs, and hear what is wrong with them."""

import csv
import itertools
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from app.cli.definitions import KINDS, read_definitions
from stats.formula import Formula, parse
from stats.stock_flow import steady_state_lift
from stats.tree import EdgeType, coherence, propagate
from tests.app.api.service import Service, assert_problem, created, pointers
from tests.servers import REPOSITORY

pytestmark = pytest.mark.anyio
FOLDER = REPOSITORY / "examples" / "north_stars"


async def registered(service: Service, name: str) -> dict[str, Any]:
    """Everything in a file, created in order; the North Star as the service wrote it down."""
    found = read_definitions(FOLDER / f"{name}.yaml")
    written: dict[str, Any] = {}
    for kind, noun, _ in KINDS:
        for definition in found[kind]:
            written = (await created(service.write, f"/v1/{noun}", definition.model_dump(mode="json"))).json()
    return written


async def tree_of(service: Service, name: str) -> Formula:
    written = await registered(service, name)
    assert written["defects"] == []
    star = (await service.read.get(f"/v1/north-stars/{written['key']}")).json()
    assert {item["edge"] for item in star["input_metrics"]} == {"definitional"}
    return parse(star["formula"])


def lifted(tree: Formula, values: dict[str, float], effects: dict[str, float]) -> float:
    """The log lift of the North Star, which must be the direct one: each edge is an identity."""
    control = np.array([values[name] for name in tree.names])
    deltas = np.array([effects.get(name, 0.0) for name in tree.names])
    lift = propagate(tree, control, deltas, np.zeros((len(control),) * 2), seed=1, draws=2)
    before, after = (
        float(tree.evaluate(dict(zip(tree.names, at, strict=True)))) for at in (control, control * np.exp(deltas))
    )
    agrees = coherence(np.log(after / before), lift.log_lift, np.array(0.0), [EdgeType.DEFINITIONAL] * len(control))
    assert agrees.status == "pass"
    assert lift.contributions.sum() == pytest.approx(lift.log_lift)
    return float(lift.log_lift)


async def test_listening_time_is_users_by_sessions_by_minutes(shop: Service) -> None:
    tree = await tree_of(shop, "listening_time")
    values = {"active_listeners": 0.6, "sessions_per_listener": 4.0, "minutes_per_session": 22.0}
    assert lifted(tree, values, {"sessions_per_listener": 0.02, "minutes_per_session": -0.005}) == pytest.approx(0.015)


async def test_revenue_per_rep_passes_on_what_the_win_rate_gains(shop: Service) -> None:
    tree = await tree_of(shop, "revenue_per_rep")
    values = {"opportunities_per_rep": 12.0, "win_rate": 0.25, "revenue_per_deal": 9000.0}
    assert lifted(tree, values, {"win_rate": 0.04}) == pytest.approx(0.04)


async def test_the_net_promoter_score_gains_by_fewer_detractors(shop: Service) -> None:
    tree = await tree_of(shop, "nps")
    lift = lifted(tree, {"promoters": 0.5, "detractors": 0.2}, {"detractors": np.log(0.9)})
    assert np.exp(lift) == pytest.approx(0.32 / 0.3)


async def test_customer_effort_falls_when_contacts_move_to_the_easier_channel(shop: Service) -> None:
    tree = await tree_of(shop, "ces")
    values = {"share_by_phone": 0.5, "effort_by_phone": 4.0, "effort_by_chat": 2.0}
    assert np.exp(lifted(tree, values, {"share_by_phone": np.log(0.8)})) == pytest.approx(2.8 / 3.0)


async def test_weekly_active_users_compound_what_retention_gains(shop: Service) -> None:
    tree = await tree_of(shop, "weekly_active_users")
    star = (await shop.read.get("/v1/north-stars/weekly_active_users")).json()
    assert star["stock"] == {"retention_metric_key": "weekly_retention", "inflow_metric_key": "weekly_inflow"}
    gain = np.log(0.951 / 0.95)
    values = {"active_before": 1000.0, "weekly_retention": 0.95, "weekly_inflow": 50.0}
    assert np.expm1(lifted(tree, values, {"weekly_retention": gain})) == pytest.approx(0.001)
    assert float(steady_state_lift(0.95, gain, 0.0)) == pytest.approx(0.05 / 0.049 - 1)  # METHODS E5: about 2 %


async def with_weeks(service: Service) -> None:
    await registered(service, "sales_throughput")
    for name in ("sales_throughput", "touchpoints", "pipeline_growth"):
        with (FOLDER / f"{name}_by_week.csv").open(newline="") as file:
            rows = [{"at": row["at"], "value": float(row["value"])} for row in csv.DictReader(file)]
        answer = await service.ingest.post(
            f"/v1/series/{name}_by_week/values", json=rows, params={"batch_id": f"seed-{name}"}
        )
        assert answer.status_code < 300, answer.text


async def test_sales_throughput_is_found_out_twice(service: Service) -> None:
    service.clock.at = datetime(2026, 7, 8, 9, tzinfo=UTC)
    await with_weeks(service)
    answer = await service.read.get("/v1/north-stars/sales_throughput/defects")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [(defect["code"], defect["part"]) for defect in found["defects"]] == [
        ("denominator_crosses_zero", "pipeline_growth"),
        ("direction_conflict", "pipeline_growth"),
    ]
    assert found["weeks"] == 26
    assert (found["begins_at"][:10], found["ends_at"][:10]) == ("2026-01-05", "2026-07-06")
    zero, direction = found["defects"]
    assert zero["share"] == pytest.approx(2 / 26)
    assert zero["chance_not_positive"] > 0.05
    assert "at or below zero in 2 of 26 weeks" in zero["detail"]
    assert "falls in 24 of 24 weeks" in direction["detail"]
    assert all("Turn the ratio over, or steer by the levels" in each["remedy"] for each in (zero, direction))


async def test_before_there_are_weeks_the_definition_is_judged(service: Service) -> None:
    written = await registered(service, "sales_throughput")
    assert [defect["code"] for defect in written["defects"]] == ["direction_conflict"]
    assert "26 weeks" not in written["defects"][0]["detail"]
    found = (await service.read.get("/v1/north-stars/sales_throughput/defects")).json()
    assert (found["weeks"], found["begins_at"], found["defects"]) == (0, None, written["defects"])
    assert_problem(await service.read.get("/v1/north-stars/nobody/defects"), "not-found", 404)
    assert_problem(await service.anonymous.get("/v1/north-stars/sales_throughput/defects"), "unauthenticated", 401)


async def test_an_honest_declaration_is_refused_and_hears_of_both_defects(service: Service) -> None:
    found = read_definitions(FOLDER / "sales_throughput.yaml")
    before = itertools.takewhile(lambda kind: kind[1] != "north-stars", KINDS)
    for kind, noun, _ in before:
        for definition in found[kind]:
            document = definition.model_dump(mode="json") | ({"always_positive": False} if noun == "metrics" else {})
            await created(service.write, f"/v1/{noun}", document)
    answer = await service.write.post("/v1/north-stars", json=found["north_stars"][0].model_dump(mode="json"))
    problem = assert_problem(answer, "invalid-formula", 422)
    assert pointers(problem) == ["/formula", "/formula"]
    assert [error["detail"] for error in problem["errors"]] == [
        "`pipeline_growth` can be zero",
        "moves against the declared direction of `pipeline_growth`",
    ]
    assert "Turning the ratio over, or steering by the levels" in problem["remedy"]
