"""POST /v1/sample-size: every option reaches the plan, and what does not fit is a problem with its place."""

import json
from typing import Any

import pytest

from app.api import examples
from experiments.result import BaselineResult, MetricBaseline
from experiments.tables import ResultRow
from tests.app.api.service import NOW, Service, assert_problem, created

pytestmark = pytest.mark.anyio

WANTED: dict[str, Any] = {
    "unit_type": "user",
    "variants": [{"key": "control", "weight": 0.5, "is_control": True}, {"key": "new", "weight": 0.5}],
    "metrics": [
        {"metric_key": "orders_per_user", "role": "primary", "mde": 0.05},
        {"metric_key": "refunds_per_user", "role": "guardrail", "non_inferiority_margin": 0.1},
    ],
}


async def with_history(service: Service) -> None:
    """The shop and what its metrics did so far."""
    await service.fill(experiment=False)
    baseline = BaselineResult(
        analysis_id="a",
        unit_type="user",
        data_as_of=NOW,
        metrics=[
            MetricBaseline(metric_key=key, n=10_000, mean=0.4, sd=1.0, cuped_r_squared=0.2)
            for key in ("orders_per_user", "refunds_per_user")
        ],
        cumulative_units=[1000 * day for day in range(1, 57)],
        code_version="test",
    )
    await service.store_result(baseline.model_dump_json().encode(), kind="baseline", subject_key="user")


async def planned(service: Service, **changes: Any) -> dict[str, Any]:
    answer = await service.read.post("/v1/sample-size", json=WANTED | changes)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    assert "NaN" not in answer.text and "Infinity" not in answer.text
    return document


async def test_every_option_changes_the_plan_the_way_it_should(service: Service) -> None:
    await with_history(service)
    plain = await planned(service)
    units = plain["units"]
    assert plain["monitoring"] == "fixed" and plain["looks"] == [1.0] and plain["power_per_test"] == 0.9
    looks = await planned(
        service, monitoring="group_sequential", sequential={"spending": "pocock", "look_every_days": 7}
    )
    assert len(looks["looks"]) > 1 and units < looks["units"] < 1.5 * units
    assert (await planned(service, monitoring="always_valid"))["units"] > looks["units"]
    clustered = await planned(service, clusters={"size": 10, "size_cv": 0.5, "icc": 0.05})
    assert clustered["units"] > 1.5 * units and clustered["clusters"] > 10
    measured = await planned(service, clusters={"size": 10, "design_effect": 3})
    assert measured["design_effect"] == 3
    triggered = await planned(service, triggered_share=0.25)
    assert triggered["enrolled"] == pytest.approx(4 * units, abs=4) and triggered["days"] > plain["days"]
    harmless = await planned(service, decision_rule="do_no_harm")
    assert harmless["limiting_metric"] == "refunds_per_user"
    same = await planned(service, equivalence=["orders_per_user"], anticipated={"refunds_per_user": 0.02})
    assert {item["test"] for item in same["metrics"]} == {"equivalence", "non_inferiority"}
    arms = [{"key": key, "weight": 0.25, "is_control": key == "a"} for key in "abcd"]
    bonferroni, dunnett = [await planned(service, variants=arms, correction=c) for c in ("bonferroni", "dunnett")]
    assert dunnett["units"] < bonferroni["units"] and dunnett["alpha_per_test"] > bonferroni["alpha_per_test"]


async def test_the_curve_has_a_point_a_day_for_every_metric(service: Service) -> None:
    await with_history(service)
    curve = (await planned(service))["curve"]
    assert [point["day"] for point in curve] == list(range(1, 85))
    for point in curve:
        assert set(point["mde"]) == {"orders_per_user"} and set(point["margin"]) == {"refunds_per_user"}
        assert set(point["power"]) == {"orders_per_user", "refunds_per_user"}
        assert all(0 <= value <= 1 for value in point["power"].values())


async def test_a_metric_without_history_can_be_planned_from_assumptions(service: Service) -> None:
    await service.fill(experiment=False)
    assert_problem(await service.read.post("/v1/sample-size", json=WANTED), "not-found", 404)
    assumed = [{"metric_key": metric["metric_key"], "mean": 0.4, "sd": 1.0} for metric in WANTED["metrics"]]
    got = await planned(service, assumed=assumed)
    assert got["units"] > 1000 and (got["days"], got["curve"], got["reason"]) == (None, [], "no_history")
    one = {**WANTED, "assumed": assumed[:1]}
    assert_problem(await service.read.post("/v1/sample-size", json=one), "not-found", 404)


async def test_the_usual_size_of_effects_comes_from_experiments_that_have_ended(service: Service) -> None:
    await with_history(service)
    for i in range(9):
        key = f"past-{i}"
        spec = {**examples.EXPERIMENT, "key": key, "name": key, "purpose": "aa" if i == 8 else "test"}
        await created(service.write, "/v1/experiments", spec)
        for move in ("start", "stop") if i != 7 else ("start",):
            answer = await service.write.post(f"/v1/experiments/{key}/{move}", json={})
            assert answer.status_code == 200, answer.text
        for lift in (0.5, 0.01 * (-1) ** i):  # the second result replaces the first
            await store_rows(service, key, lift)
    usual = (await planned(service))["metrics"][0]["usual_effects"]
    # Seven: the eighth still runs, the ninth was an A/A test.
    assert (usual["experiments"], usual["tau"], usual["reason"]) == (7, None, "too_few_experiments")
    answer = await service.write.post("/v1/experiments/past-7/stop", json={})
    assert answer.status_code == 200, answer.text
    metric = (await planned(service))["metrics"][0]
    assert metric["usual_effects"]["experiments"] == 8
    assert metric["usual_effects"]["tau"] == pytest.approx((0.01**2 - 0.002**2) ** 0.5, rel=0.01)
    assert metric["unusual"] is True


async def store_rows(service: Service, key: str, lift: float) -> None:
    result = await service.store_result(b"{}", subject_key=key, verdict="inconclusive")
    known = {
        "result_id": result.id,
        "experiment_key": key,
        "metric_key": "orders_per_user",
        "metric_version": 1,
        "role": "primary",
        "method": "A1+A3",
        "interval_kind": "log_delta",
        "n_control": 10,
        "n_treatment": 10,
        "ci_level": 0.95,
        "estimable": True,
    }
    blank = dict.fromkeys(set(ResultRow.model_fields) - {"id"})
    async with service.database.write() as session:
        # The second variant is measured worse, a segment is no experiment, and no number is no effect.
        for variant, segment, value, error in (
            ("new", None, lift, 0.002 * (1 + lift)),
            ("other", None, 0.9, 0.5),
            ("new", "DE", 0.9, 0.001),
            ("third", None, None, None),
        ):
            fields = {"variant_key": variant, "segment": segment, "segment_dimension": segment and "country"}
            session.add(ResultRow(**blank | known | fields | {"lift": value, "standard_error": error}))


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"monitoring": "daily"}, "/monitoring"),
    ({"sequential": {"spending": "pocock"}}, "/sequential"),
    (
        {"monitoring": "group_sequential", "sequential": {"spending": "power", "spending_parameter": -1}},
        "/sequential",
    ),
    ({"correction": "sidak"}, "/correction"),
    ({"clusters": {"size": 0.5}}, "/clusters/size"),
    ({"clusters": {"size": 10, "icc": 2}}, "/clusters/icc"),
    ({"triggered_share": 0}, "/triggered_share"),
    ({"power": 0.3}, "/power"),
    ({"alpha": 0}, "/alpha"),
    ({"equivalence": ["refunds_per_user"]}, "/equivalence/0"),
    ({"anticipated": {"orders_per_user": 0.1}}, "/anticipated/orders_per_user"),
    ({"assumed": [{"metric_key": "unknown", "mean": 1, "sd": 1}]}, "/assumed/0/metric_key"),
    ({"assumed": [{"metric_key": "orders_per_user", "mean": 1, "sd": 0}]}, "/assumed/0/sd"),
    ({"nonsense": 1}, "/nonsense"),
]


async def test_what_does_not_fit_is_a_problem_that_says_where(service: Service) -> None:
    await with_history(service)
    for changes, pointer in MISFITS:
        answer = await service.read.post("/v1/sample-size", json=WANTED | changes)
        problem = assert_problem(answer, "invalid-definition", 422)
        assert any(fault["pointer"].startswith(pointer) for fault in problem["errors"]), problem


async def test_extreme_plans_are_refused_with_a_reason_and_never_fail(service: Service) -> None:
    await with_history(service)
    tiny = [{"metric_key": "orders_per_user", "role": "primary", "mde": 1e-300}]
    assert (await planned(service, metrics=tiny))["reason"] == "orders_per_user: more_units_than_there_can_be"
    for changes in (
        {"alpha": 1e-6, "power": 0.9999, "monitoring": "group_sequential"},
        {"alpha": 0.49, "power": 0.5, "monitoring": "group_sequential", "sequential": {"futility": "none"}},
        {"coverage": 1e-300, "triggered_share": 1e-300},
        {"assumed": [{"metric_key": "orders_per_user", "mean": 1e-300, "sd": 1e300}]},
        {"assumed": [{"metric_key": "orders_per_user", "mean": 0, "sd": 1}]},
        {"clusters": {"size": 1e6, "size_cv": 100, "icc": 1}},
        {"anticipated": {"refunds_per_user": -0.99}},
    ):
        document = await planned(service, **changes)
        assert document["units"] is None or document["units"] > 0
        json.dumps(document, allow_nan=False)


async def test_planning_needs_a_key_that_may_read(service: Service) -> None:
    await with_history(service)
    before = await service.counts()
    assert_problem(await service.anonymous.post("/v1/sample-size", json=WANTED), "unauthenticated", 401)
    problem = assert_problem(await service.ingest.post("/v1/sample-size", json=WANTED), "forbidden", 403)
    assert "scope" in problem["remedy"]
    assert (await service.read.post("/v1/sample-size", json=WANTED)).status_code == 200
    assert await service.counts() == before
