"""Fact sources, metrics and North Stars over HTTP."""

import pytest

from app.api import examples
from experiments import fact_source
from tests.app.api.service import Service, assert_problem, created, metric, pointers

pytestmark = pytest.mark.anyio


async def test_what_was_registered_can_be_read_listed_and_found_in_the_audit_log(service: Service) -> None:
    await service.fill()
    for path in ("fact-sources/orders", "metrics/orders_per_user", "north-stars/weekly_orders"):
        answer = await service.read.get(f"/v1/{path}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["version"] == 1
        assert answer.headers["etag"] == '"1"'
        collection, key = path.split("/")
        listed = (await service.read.get(f"/v1/{collection}")).json()["items"]
        assert key in [item["key"] for item in listed]
    events = (await service.read.get("/v1/audit-events", params={"subject_key": "orders_per_user"})).json()["items"]
    assert [(event["action"], event["actor"], event["before"]) for event in events] == [
        ("metric.created", "write", None)
    ]
    assert events[0]["after"]["kind"] == "mean"


async def test_a_changed_metric_is_a_new_version_and_the_old_one_stays(service: Service) -> None:
    await service.fill(experiment=False)
    changed = metric("orders_per_user", window_days=14)
    answer = await service.write.put("/v1/metrics/orders_per_user", json=changed, headers={"If-Match": '"1"'})
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == '"2"'
    versions = (await service.read.get("/v1/metrics/orders_per_user/versions")).json()["items"]
    assert [(item["version"], item["definition"]["window_days"]) for item in versions] == [(2, 14), (1, 7)]


async def test_a_north_star_is_versioned_too(service: Service) -> None:
    await service.fill(experiment=False)
    changed = {**examples.NORTH_STAR, "target": {"value": 15000, "at": "2027-12-31"}}
    answer = await service.write.put("/v1/north-stars/weekly_orders", json=changed, headers={"If-Match": "*"})
    assert answer.json()["version"] == 2
    versions = (await service.read.get("/v1/north-stars/weekly_orders/versions")).json()["items"]
    assert [item["definition"]["target"]["value"] for item in versions] == [15000, 12000]


async def test_writing_the_same_definition_again_changes_nothing(service: Service) -> None:
    await service.fill(experiment=False)
    before = await service.counts()
    same = await service.write.put("/v1/fact-sources/orders", json=examples.FACT_SOURCE, headers={"If-Match": '"1"'})
    assert same.headers["etag"] == '"1"'
    assert await service.counts() == before


async def test_a_client_that_has_the_version_is_told_so_without_the_document(service: Service) -> None:
    await service.fill(experiment=False)
    for path in ("/v1/fact-sources/orders", "/v1/metrics/orders_per_user", "/v1/north-stars/weekly_orders"):
        answer = await service.read.get(path, headers={"If-None-Match": '"1"'})
        assert (answer.status_code, answer.content) == (304, b"")


async def test_edits_need_the_version_that_was_seen(service: Service) -> None:
    await service.fill(experiment=False)
    changed = metric("orders_per_user", window_days=14)
    path = "/v1/metrics/orders_per_user"
    before = await service.counts()
    assert_problem(await service.write.put(path, json=changed), "precondition-required", 428)
    for stale in ('"7"', '"nonsense"', '"²"'):
        headers = {"If-Match": stale.encode("latin-1")}
        assert_problem(await service.write.put(path, json=changed, headers=headers), "version-conflict", 412)  # type: ignore[arg-type]
    assert await service.counts() == before


@pytest.mark.parametrize(
    ("formula", "wrong"),
    [
        ("__import__('os')", "character"),
        ("open(orders_per_user)", "function"),
        ("orders_per_user.real", "not allowed"),
        ("orders_per_user[0]", "character"),
        ("nothing + orders_per_user", "not a known metric"),
        ("orders_per_user +", "complete"),
        ("orders_per_user / refunds_per_user", "can be zero"),
        ("log(orders_per_user)", "can be zero"),
        ("orders_per_user ** -1", "can be zero"),
        ("orders_per_user / (refunds_per_user + 1)", "can be zero"),
    ],
)
async def test_a_formula_that_could_do_harm_or_divide_by_zero_is_refused_when_it_is_written(
    shop: Service, formula: str, wrong: str
) -> None:
    before = await shop.counts()
    answer = await shop.write.post("/v1/metrics", json={**examples.FORMULA_METRIC, "formula": formula})
    problem = assert_problem(answer, "invalid-formula", 422)
    assert wrong in problem["detail"]
    assert problem["remedy"]
    assert pointers(problem) == ["/formula"]
    assert await shop.counts() == before


async def test_a_formula_may_divide_by_a_metric_that_is_declared_positive(service: Service) -> None:
    await service.fill(experiment=False)
    await created(service.write, "/v1/metrics", metric("sessions_per_user", always_positive=True))
    formula = {**examples.FORMULA_METRIC, "formula": "orders_per_user / (sessions_per_user + 1)"}
    await created(service.write, "/v1/metrics", formula)
    # The declaration cannot be taken back while a formula relies on it.
    before = await service.counts()
    answer = await service.write.put(
        "/v1/metrics/sessions_per_user", json=metric("sessions_per_user"), headers={"If-Match": '"1"'}
    )
    problem = assert_problem(answer, "invalid-formula", 422)
    assert pointers(problem) == ["/used_by/metrics/profit_per_user"]
    assert await service.counts() == before


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"measure": {"fact_source": "nowhere"}}, "/measure/fact_source"),
        ({"kind": "ratio"}, ""),
        ({"kind": "median"}, "/kind"),
        ({"key": "Orders Per User"}, "/key"),
        ({"key": "orders-per-user"}, "/key"),
        ({"window_days": -1}, "/window_days"),
        ({"surprise": 1}, "/surprise"),
        ({"name": ""}, "/name"),
    ],
)
async def test_an_invalid_metric_names_the_field_and_stores_nothing(
    shop: Service, changes: dict[str, object], pointer: str
) -> None:
    before = await shop.counts()
    answer = await shop.write.post("/v1/metrics", json={**metric("another"), **changes})
    assert pointers(assert_problem(answer, "invalid-definition", 422))[0] == pointer
    assert await shop.counts() == before


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"metric_key": "nothing"}, "invalid-definition"),
        ({"formula": "active_users"}, "invalid-formula"),
        ({"formula": "active_users * revenue_per_user"}, "invalid-formula"),
        ({"formula": "active_users / orders_per_active_user"}, "invalid-formula"),
        ({"input_metrics": [{"metric_key": "orders_per_user"}]}, "invalid-definition"),
        ({"input_metrics": []}, "invalid-definition"),
    ],
)
async def test_a_tree_that_does_not_hold_together_is_refused(
    shop: Service, changes: dict[str, object], slug: str
) -> None:
    before = await shop.counts()
    answer = await shop.write.post("/v1/north-stars", json={**examples.NORTH_STAR, "key": "other", **changes})
    assert assert_problem(answer, slug, 422)["errors"]
    assert await shop.counts() == before


async def test_a_quantile_is_no_metric_of_a_tree(shop: Service) -> None:
    await created(shop.write, "/v1/metrics", metric("slow", kind="quantile", quantile=0.9))
    changed = {**examples.NORTH_STAR, "key": "other", "metric_key": "slow"}
    problem = assert_problem(await shop.write.post("/v1/north-stars", json=changed), "invalid-definition", 422)
    assert "does not add up" in problem["errors"][0]["detail"]


async def test_what_defines_a_north_star_is_in_its_formula_and_what_drives_it_need_not_be(shop: Service) -> None:
    await created(shop.write, "/v1/metrics", metric("wishes_per_user"))
    star = {**examples.NORTH_STAR, "key": "with_wishes"}
    beside = {"metric_key": "wishes_per_user"}
    answer = await shop.write.post("/v1/north-stars", json={**star, "input_metrics": [*star["input_metrics"], beside]})
    problem = assert_problem(answer, "invalid-formula", 422)
    assert "wishes_per_user" in problem["detail"] and "driver" in problem["remedy"]
    driver = {**beside, "edge": "driver"}
    await created(shop.write, "/v1/north-stars", {**star, "input_metrics": [*star["input_metrics"], driver]})


async def test_metrics_of_different_units_do_not_mix(service: Service) -> None:
    await service.fill(experiment=False)
    await created(service.write, "/v1/fact-sources", {**examples.FACT_SOURCE, "key": "visits", "unit_type": "visitor"})
    visits = {"fact_source": "visits", "aggregation": "count"}
    await created(service.write, "/v1/metrics", metric("visits_per_visitor", measure=visits))
    before = await service.counts()
    mixed = {**metric("mixed", kind="ratio"), "numerator": visits, "denominator": {"fact_source": "orders"}}
    del mixed["measure"]
    attempts = {
        "/v1/metrics": mixed,
        "/v1/metrics ": {**examples.FORMULA_METRIC, "formula": "visits_per_visitor + orders_per_user"},
        "/v1/north-stars": {**examples.NORTH_STAR, "key": "other", "metric_key": "visits_per_visitor"},
        "/v1/experiments": {
            **examples.EXPERIMENT,
            "metrics": [{"metric_key": "visits_per_visitor", "role": "primary"}],
        },
    }
    for path, document in attempts.items():
        answer = await service.write.post(path.strip(), json=document)
        assert "per " in assert_problem(answer, "invalid-definition", 422)["detail"]
    assert await service.counts() == before


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_sources_with_filters_and_mappings_and_the_experiments_that_read_them(service: Service) -> None:
    await service.fill(experiment=False)
    for document in (examples.FILTERED_FACT_SOURCE, examples.MAPPED_FACT_SOURCE):
        await created(service.write, "/v1/fact-sources", document)
        path = f"/v1/fact-sources/{document['key']}"
        stored = (await service.read.get(path)).json()["definition"]
        assert fact_source.ADAPTER.validate_python(stored) == fact_source.ADAPTER.validate_python(document)
    await created(service.write, "/v1/experiments", examples.READS_EXPOSURES)
    key = examples.READS_EXPOSURES["key"]
    assert (await service.write.post(f"/v1/experiments/{key}/start")).status_code == 200
    before = await service.counts()
    row = {"experiment_key": key, "unit_id": "1", "variant_key": "control", "exposed_at": "2026-10-01T00:00:00Z"}
    refused = await service.ingest.post("/v1/ingest/exposures?batch_id=b", json=[row])
    assert "exposures_read_elsewhere" in assert_problem(refused, "batch-rejected", 422)["errors"][0]["detail"]
    mapped = {**examples.MAPPED_FACT_SOURCE, "key": "taps"}
    for change, pointer in (
        ({"unit_mapping": {"fact_source": "nowhere", "id_column": "d"}}, "/unit_mapping/fact_source"),
        ({"unit_mapping": {"fact_source": "orders", "id_column": ""}}, "/unit_mapping/id_column"),
        ({"filters": [{"column": "x", "op": "like", "value": "a"}]}, "/filters/0/op"),
    ):
        answer = await service.write.post("/v1/fact-sources", json={**mapped, **change})
        assert pointers(assert_problem(answer, "invalid-definition", 422)) == [pointer]
    assert_problem(await service.read.post("/v1/fact-sources", json=mapped), "forbidden", 403)
    changed = {**examples.MAPPED_FACT_SOURCE, "event": "open"}
    stale = await service.write.put("/v1/fact-sources/app_opens", json=changed, headers={"If-Match": '"7"'})
    assert_problem(stale, "version-conflict", 412)
    assert await service.counts() == before


async def test_a_key_can_be_taken_once(service: Service) -> None:
    await service.fill()
    before = await service.counts()
    for path, document in {
        "/v1/fact-sources": examples.FACT_SOURCE,
        "/v1/metrics": examples.METRIC,
        "/v1/north-stars": examples.NORTH_STAR,
        "/v1/experiments": examples.EXPERIMENT,
    }.items():
        assert pointers(assert_problem(await service.write.post(path, json=document), "key-taken", 409)) == ["/key"]
    assert await service.counts() == before


async def test_an_archived_metric_is_gone_from_new_definitions_only(service: Service) -> None:
    await service.fill()
    answer = await service.write.post("/v1/metrics/cost_per_user/archive", headers={"If-Match": '"1"'})
    assert answer.json()["archived_at"] is not None
    keys = [item["key"] for item in (await service.read.get("/v1/metrics")).json()["items"]]
    assert "cost_per_user" not in keys
    all_keys = [i["key"] for i in (await service.read.get("/v1/metrics", params={"archived": True})).json()["items"]]
    assert "cost_per_user" in all_keys
    formula = await service.write.post("/v1/metrics", json=examples.FORMULA_METRIC)
    assert_problem(formula, "invalid-formula", 422)


async def test_metrics_are_found_by_owner_and_kind(service: Service) -> None:
    await service.fill(experiment=False)
    await created(service.write, "/v1/metrics", metric("mine", owner="ada"))

    async def keys(**params: str) -> list[str]:
        return [item["key"] for item in (await service.read.get("/v1/metrics", params=params)).json()["items"]]

    assert await keys(owner="ada") == ["mine"]
    assert await keys(kind="proportion") == ["active_users"]
    assert await keys(kind="proportion", owner="ada") == []
