"""Experiments over HTTP: definition, life, plan, amendments, decisions, lineage."""

from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest

from app.api import examples
from tests.app.api.service import Service, assert_problem, created, experiment, pointers

pytestmark = pytest.mark.anyio
KEY = "/v1/experiments/one-page-checkout"


def arms(*weights: float, controls: int = 1) -> list[dict[str, Any]]:
    return [{"key": f"arm{i}", "weight": weight, "is_control": i < controls} for i, weight in enumerate(weights)]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"variants": arms(0.5, 0.6)}, "/variants"),
        ({"variants": arms(0.5, 0.5, controls=2)}, "/variants"),
        ({"variants": arms(0.5, 0.5, controls=0)}, "/variants"),
        ({"variants": arms(1.0)}, "/variants"),
        ({"variants": [*arms(0.5), *arms(0.5, controls=0)]}, "/variants"),
        ({"variants": arms(-0.5, 1.5)}, "/variants/0/weight"),
        ({"metrics": [{"metric_key": "nothing"}]}, "/metrics/0/metric_key"),
        ({"metrics": [{"metric_key": "orders_per_user", "role": "guardrail"}]}, "/metrics/0"),
        ({"metrics": [{"metric_key": "orders_per_user"}] * 2}, "/metrics"),
        ({"north_star_key": "nowhere"}, "/north_star_key"),
        ({"parent_key": "nowhere", "relation": "iterates"}, "/parent_key"),
        ({"parent_key": "one-page-checkout"}, "/parent_key and relation go together"),
        ({"coverage": 0}, "/coverage"),
        ({"planned_end_at": "2026-12-01T00:00:00"}, "/planned_end_at"),
        ({"planned_end_at": "0001-01-01T00:00:00+14:00"}, "/planned_end_at"),
        ({"estimation": {"ci_level": 1.5}}, "/estimation/ci_level"),
    ],
)
async def test_an_invalid_experiment_names_the_field_and_stores_nothing(
    shop: Service, changes: dict[str, Any], pointer: str
) -> None:
    before = await shop.counts()
    problem = assert_problem(
        await shop.write.post("/v1/experiments", json=experiment(**changes)), "invalid-definition", 422
    )
    fault = problem["errors"][0]
    assert pointer in (fault["pointer"], f"/{fault['detail']}")
    assert await shop.counts() == before


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_that_are_none_are_refused(shop: Service, number: str) -> None:
    before = await shop.counts()
    body = '{"key":"x","name":"x","coverage":%s,"variants":[]}' % number  # noqa: UP031  (braces)
    answer = await shop.write.post("/v1/experiments", content=body, headers={"Content-Type": "application/json"})
    assert "/coverage" in pointers(assert_problem(answer, "invalid-definition", 422))
    assert await shop.counts() == before


async def test_a_body_that_is_not_json_is_a_problem(service: Service) -> None:
    answer = await service.write.post("/v1/experiments", content="{'key'", headers={"Content-Type": "application/json"})
    assert_problem(answer, "invalid-definition", 422)
    nul = await service.write.post("/v1/experiments", json=experiment(name="a\x00b"))
    assert "U+0000" in assert_problem(nul, "invalid-definition", 422)["detail"]


async def test_a_draft_is_edited_with_the_version_that_was_seen(service: Service) -> None:
    await service.fill()
    edited = await service.write.patch(KEY, json={"coverage": 0.5, "tags": ["ios"]}, headers={"If-Match": '"1"'})
    assert edited.status_code == 200, edited.text
    assert (edited.json()["coverage"], edited.json()["tags"], edited.headers["etag"]) == (0.5, ["ios"], '"2"')
    before = await service.counts()
    assert_problem(await service.write.patch(KEY, json={"coverage": 0.1}), "precondition-required", 428)
    stale = await service.write.patch(KEY, json={"coverage": 0.1}, headers={"If-Match": '"1"'})
    assert_problem(stale, "version-conflict", 412)
    unknown = await service.write.patch(KEY, json={"surprise": 1}, headers={"If-Match": '"2"'})
    assert pointers(assert_problem(unknown, "invalid-definition", 422)) == ["/surprise"]
    renamed = await service.write.patch(KEY, json={"key": "other"}, headers={"If-Match": '"2"'})
    assert pointers(assert_problem(renamed, "invalid-definition", 422)) == ["/key"]
    assert await service.counts() == before
    whole = await service.write.put(KEY, json=experiment(name="Whole"), headers={"If-Match": '"2"'})
    assert (whole.json()["name"], whole.json()["coverage"]) == ("Whole", 1.0)


async def test_starting_freezes_a_complete_plan(service: Service) -> None:
    await service.fill(started=True)
    shown = (await service.read.get(KEY)).json()
    assert (shown["status"], shown["legal_moves"]) == ("running", ["pause", "stop"])
    assert shown["started_at"] == "2026-10-01T00:00:00Z"
    assert shown["phases"][0]["weights"] == {"control": 0.5, "one_page": 0.5}
    frozen = (await service.read.get(f"{KEY}/plan")).json()
    assert frozen["plan_hash"] == shown["plan_hash"]
    roles = {item["metric_key"]: item["role"] for item in frozen["plan"]["metrics"]}
    assert roles == {
        "orders_per_user": "primary",
        "refunds_per_user": "guardrail",
        "active_users": "monitor",
        "orders_per_active_user": "monitor",
    }
    assert [item["version"] for item in frozen["plan"]["metrics"]] == [1, 1, 1, 1]
    assert [source["key"] for source in frozen["plan"]["fact_sources"]] == ["orders"]
    assert frozen["plan"]["variants"][0]["is_control"]


async def test_an_experiment_without_a_primary_metric_cannot_start(service: Service) -> None:
    await service.fill(experiment=False)
    await created(service.write, "/v1/experiments", experiment(metrics=[{"metric_key": "orders_per_user"}]))
    before = await service.counts()
    problem = assert_problem(await service.write.post(f"{KEY}/start"), "plan-incomplete", 422)
    assert pointers(problem) == ["/metrics"]
    assert await service.counts() == before
    assert (await service.read.get(KEY)).json()["status"] == "draft"
    assert_problem(await service.read.get(f"{KEY}/plan"), "not-ready", 409)


async def test_only_legal_moves_are_made_and_the_answer_says_which_they_are(service: Service) -> None:
    await service.fill()

    async def move(name: str, **body: Any) -> Any:
        return await service.write.post(f"{KEY}/{name}", json=body or None)

    async def refused(*names: str, legal: list[str]) -> None:
        before = await service.counts()
        for name in names:
            problem = assert_problem(await move(name), "illegal-transition", 409)
            assert problem["legal"] == legal
        assert await service.counts() == before

    await refused("pause", "resume", "stop", legal=["start", "archive"])
    assert (await move("start")).json()["status"] == "running"
    await refused("start", "resume", "archive", legal=["pause", "stop"])
    assert (await move("pause")).json()["status"] == "paused"
    await refused("start", "pause", "archive", legal=["resume", "stop"])
    assert (await move("resume")).json()["status"] == "running"
    stopped = (await move("stop", conclusion="stopped_early")).json()
    assert (stopped["status"], stopped["conclusion"], len(stopped["phases"])) == ("stopped", "stopped_early", 2)
    assert all(phase["ended_at"] for phase in stopped["phases"])
    await refused("start", "pause", "resume", "stop", legal=["archive"])
    assert (await move("archive")).json()["status"] == "archived"
    await refused("start", "pause", "resume", "stop", "archive", legal=[])
    actions = [
        event["action"]
        for event in (await service.read.get("/v1/audit-events", params={"subject_key": "one-page-checkout"})).json()[
            "items"
        ]
    ]
    assert actions == [f"experiment.{name}" for name in ("archive", "stop", "resume", "pause", "start", "created")]


async def test_moves_may_lie_in_the_past_but_in_order_and_never_in_the_future(service: Service) -> None:
    await service.fill()
    before = await service.counts()
    future = (service.clock.at + timedelta(hours=1)).isoformat()
    answer = await service.write.post(f"{KEY}/start", json={"at": future})
    assert pointers(assert_problem(answer, "invalid-definition", 422)) == ["/at"]
    naive = await service.write.post(f"{KEY}/start", json={"at": "2026-10-01T00:00:00"})
    assert pointers(assert_problem(naive, "invalid-definition", 422)) == ["/at"]
    assert await service.counts() == before
    assert (await service.write.post(f"{KEY}/start", json={"at": "2026-10-01T02:00:00+02:00"})).status_code == 200
    early = await service.write.post(f"{KEY}/stop", json={"at": "2026-09-30T23:59:59Z"})
    assert pointers(assert_problem(early, "invalid-definition", 422)) == ["/at"]
    stopped = await service.write.post(f"{KEY}/stop", json={"at": "2026-10-15T00:00:00Z"})
    assert stopped.json()["stopped_at"] == "2026-10-15T00:00:00Z"


async def test_a_frozen_plan_cannot_be_edited_only_amended(service: Service) -> None:
    await service.fill(started=True)
    before = await service.counts()
    for changes in ({"hypothesis": "Now I know"}, {"planned_units": 7}, {"variants": arms(0.5, 0.5)}):
        for send in (
            service.write.patch(KEY, json=changes, headers={"If-Match": "*"}),
            service.write.put(KEY, json=experiment(**changes), headers={"If-Match": "*"}),
        ):
            problem = assert_problem(await send, "plan-frozen", 409)
            assert pointers(problem) == [f"/{field}" for field in changes]
            assert "amendments" in problem["remedy"]
    assert await service.counts() == before
    renamed = await service.write.patch(KEY, json={"name": "New name", "tags": []}, headers={"If-Match": "*"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "New name")


async def test_an_amendment_says_what_changed_and_why_and_the_plan_hash_moves(service: Service) -> None:
    await service.fill(started=True)
    old = (await service.read.get(f"{KEY}/plan")).json()
    # The definition of a metric moves on; the frozen plan keeps the version it was made with.
    await service.write.put(
        "/v1/metrics/orders_per_user", json={**examples.METRIC, "window_days": 28}, headers={"If-Match": "*"}
    )
    changes = {"planned_units": 40_000, "hypothesis": "At least 1 %."}
    answer = await service.write.post(f"{KEY}/amendments", json={"reason": "Less traffic", "changes": changes})
    assert answer.status_code == 201, answer.text
    amendment = answer.json()
    assert {change["path"]: change["after"] for change in amendment["changes"]} == {
        "/hypothesis": "At least 1 %.",
        "/plan/planned_units": 40_000,
    }
    new = (await service.read.get(f"{KEY}/plan")).json()
    assert (amendment["plan_hash_before"], amendment["plan_hash_after"]) == (old["plan_hash"], new["plan_hash"])
    assert old["plan_hash"] != new["plan_hash"]
    assert new["plan"] == {**old["plan"], "planned_units": 40_000}
    listed = (await service.read.get(f"{KEY}/amendments")).json()["items"]
    assert listed == [amendment]
    refreshed = await service.write.post(
        f"{KEY}/amendments", json={"reason": "Longer window", "refresh_definitions": True}
    )
    paths = [change["path"] for change in refreshed.json()["changes"]]
    assert paths == [
        "/plan/metrics/orders_per_user/spec/window_days",
        "/plan/metrics/orders_per_user/version",
    ]


async def test_new_weights_begin_a_new_phase(service: Service) -> None:
    await service.fill(started=True)
    variants = deepcopy(examples.EXPERIMENT["variants"])
    variants[0]["weight"], variants[1]["weight"] = 0.2, 0.8
    answer = await service.write.post(f"{KEY}/amendments", json={"reason": "Ramp", "changes": {"variants": variants}})
    assert answer.status_code == 201, answer.text
    phases = (await service.read.get(KEY)).json()["phases"]
    assert [phase["weights"]["one_page"] for phase in phases] == [0.5, 0.8]
    assert phases[0]["ended_at"] == phases[1]["started_at"]


UNAMENDABLE: list[dict[str, Any]] = [
    {"reason": "", "changes": {"planned_units": 1}},
    {"reason": "x", "changes": {}},
    {"reason": "x", "changes": {"unit_type": "account"}},
    {"reason": "x", "changes": {"data": "summary"}},
    {"reason": "x", "changes": {"variants": arms(0.5, 0.5)}},
    {"reason": "x", "changes": {"name": "Another name"}},
    {"reason": "x", "changes": {"metrics": [{"metric_key": "nothing", "role": "primary"}]}},
    {"reason": "x", "changes": {"surprise": 1}},
]


async def test_what_cannot_be_amended_is_refused_and_nothing_stored(service: Service) -> None:
    await service.fill(started=True)
    before = await service.counts()
    for body in UNAMENDABLE:
        assert_problem(await service.write.post(f"{KEY}/amendments", json=body), "invalid-definition", 422)
    assert await service.counts() == before


async def test_an_amendment_must_keep_a_primary_metric(service: Service) -> None:
    await service.fill(started=True)
    body = {"reason": "x", "changes": {"metrics": []}}
    assert_problem(await service.write.post(f"{KEY}/amendments", json=body), "plan-incomplete", 422)


async def test_a_draft_has_nothing_to_amend(service: Service) -> None:
    await service.fill()
    answer = await service.write.post(f"{KEY}/amendments", json=examples.AMENDMENT)
    assert_problem(answer, "not-ready", 409)


async def test_shipping_makes_the_launch_and_the_conclusion_in_one_go(service: Service) -> None:
    await service.fill(started=True)
    before = await service.counts()
    running = await service.write.post(f"{KEY}/decisions", json=examples.DECISION)
    assert "/stop" in assert_problem(running, "not-ready", 409)["remedy"]
    assert await service.counts() == before
    await service.write.post(f"{KEY}/stop", json={"at": "2026-10-20T00:00:00Z"})
    decision = {**examples.DECISION, "coverage": 0.25, "decided_at": "2026-10-21T00:00:00Z"}
    answer = await service.write.post(f"{KEY}/decisions", json=decision)
    assert answer.status_code == 201, answer.text
    assert answer.json()["launch_key"] == "one-page-checkout"
    launch = (await service.read.get("/v1/launches/one-page-checkout")).json()
    assert launch["experiment_key"] == "one-page-checkout"
    step = {"at": "2026-10-21T00:00:00Z", "coverage": 0.25, "mechanism": "random", "segments": []}
    assert (launch["rollout"], launch["measurements"]) == ([step], [])
    assert (await service.read.get(KEY)).json()["conclusion"] == "won"
    again = await service.write.post(f"{KEY}/decisions", json=examples.DECISION)
    assert again.json()["launch_key"] == "one-page-checkout-2"
    second = (await service.read.get("/v1/launches/one-page-checkout-2")).json()
    assert second["rollout"][0]["mechanism"] == "all_at_once"
    outcomes = [item["launch_key"] for item in (await service.read.get(f"{KEY}/decisions")).json()["items"]]
    assert outcomes == ["one-page-checkout-2", "one-page-checkout"]
    lineage = (await service.read.get(f"{KEY}/lineage")).json()
    assert [item["key"] for item in lineage["launches"]] == ["one-page-checkout", "one-page-checkout-2"]


@pytest.mark.parametrize(("outcome", "conclusion"), [("roll_back", "lost"), ("iterate", "inconclusive")])
async def test_other_decisions_conclude_without_a_launch(service: Service, outcome: str, conclusion: str) -> None:
    await service.fill(started=True)
    assert (
        await service.write.post(f"{KEY}/decisions", json={"outcome": "extend", "reason": "more data"})
    ).status_code == 201
    await service.write.post(f"{KEY}/stop")
    answer = await service.write.post(f"{KEY}/decisions", json={"outcome": outcome, "reason": "because"})
    assert (answer.status_code, answer.json()["launch_key"]) == (201, None)
    assert (await service.read.get(KEY)).json()["conclusion"] == conclusion
    assert (await service.read.get("/v1/launches")).json()["items"] == []


UNDECIDABLE: list[dict[str, Any]] = [
    {"shipped_variant": "nothing"},
    {"shipped_variant": None},
    {"outcome": "roll_back"},
    {"reason": ""},
    {"coverage": 0},
    {"decided_at": "2099-01-01T00:00:00Z"},
    {"decided_at": "2026-09-01T00:00:00Z"},
]


async def test_an_invalid_decision_stores_nothing(service: Service) -> None:
    await service.fill(started=True)
    await service.write.post(f"{KEY}/stop")
    before = await service.counts()
    for changes in UNDECIDABLE:
        answer = await service.write.post(f"{KEY}/decisions", json={**examples.DECISION, **changes})
        assert_problem(answer, "invalid-definition", 422)
    assert await service.counts() == before


async def test_lineage_goes_up_and_down_and_never_round(service: Service) -> None:
    await service.fill()
    for key, parent in (("second", "one-page-checkout"), ("third", "second")):
        await created(service.write, "/v1/experiments", experiment(key=key, parent_key=parent, relation="iterates"))
    lineage = (await service.read.get("/v1/experiments/third/lineage")).json()
    assert [item["key"] for item in lineage["ancestors"]] == ["second", "one-page-checkout"]
    lineage = (await service.read.get(f"{KEY}/lineage")).json()
    assert [item["key"] for item in lineage["children"]] == ["second"]
    round_about = {"parent_key": "third", "relation": "iterates"}
    answer = await service.write.patch(KEY, json=round_about, headers={"If-Match": "*"})
    assert pointers(assert_problem(answer, "invalid-definition", 422)) == ["/parent_key"]


async def test_experiments_are_found_by_what_people_remember(service: Service) -> None:
    await service.fill(started=True)
    await created(
        service.write,
        "/v1/experiments",
        experiment(
            key="search", name="Faster search", hypothesis='100% "quoted"', owner="grace", team="", tags=['a"b']
        ),
    )
    await service.store_result(b"{}", subject_key="one-page-checkout", verdict="worse")
    await service.store_result(b"{}", subject_key="one-page-checkout", verdict="better")

    async def found(**params: str) -> list[str]:
        answer = await service.read.get("/v1/experiments", params=params)
        assert answer.status_code == 200, answer.text
        return [item["key"] for item in answer.json()["items"]]

    assert await found() == ["search", "one-page-checkout"]
    assert await found(status="running") == ["one-page-checkout"]
    assert await found(owner="grace") == ["search"]
    assert await found(team="checkout") == ["one-page-checkout"]
    assert await found(tag="web") == ["one-page-checkout"]
    assert await found(tag="we") == []
    assert await found(tag='a"b') == ["search"]
    assert await found(q="SEARCH") == ["search"]
    assert await found(q="100%") == ["search"]
    assert await found(q="fewer steps") == ["one-page-checkout"]
    assert await found(q="_") == []
    assert await found(verdict="better") == ["one-page-checkout"]
    assert await found(verdict="worse") == []
    assert await found(unit_type="account") == []
    assert await found(unit_type="user", status="draft", q="quoted") == ["search"]
    shown = (await service.read.get("/v1/experiments", params={"q": "one-page"})).json()["items"]
    assert [item["verdict"] for item in shown] == ["better"]


async def test_a_list_is_walked_page_by_page_without_gaps(service: Service) -> None:
    await service.fill(experiment=False)
    keys = [f"exp-{number}" for number in range(7)]
    for key in keys:
        await created(service.write, "/v1/experiments", experiment(key=key))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": "3", **({"cursor": cursor} if cursor else {})}
        page = (await service.read.get("/v1/experiments", params=params)).json()
        seen += [item["key"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        # An experiment that is registered meanwhile does not shift the pages that follow.
        await created(service.write, "/v1/experiments", experiment(key=f"new-{len(seen)}"))
    assert seen == keys[::-1]
    for cursor in ("nonsense", "bm9uc2Vuc2U=", "é"):
        answer = await service.read.get("/v1/experiments", params={"cursor": cursor})
        assert_problem(answer, "invalid-definition", 422)
    assert_problem(await service.read.get("/v1/experiments", params={"limit": 1000}), "invalid-definition", 422)
