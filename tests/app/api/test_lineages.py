"""Lineage and follow-ups over HTTP: what came of an experiment, and the draft of what may come next."""

from datetime import UTC, datetime, timedelta
from math import expm1, log1p

import pytest

from app.api import examples
from experiments.tables import LedgerRow, ProgrammeRow
from experiments.tables.fields import new_id
from tests.app.api.service import Service, assert_problem, created, experiment, pointers

pytestmark = pytest.mark.anyio
KEY = "/v1/experiments/one-page-checkout"
SHRUNK = {"shrunk_lower_80": 0.004, "shrunk_upper_80": 0.016, "shrunk_lower_95": 0.001, "shrunk_upper_95": 0.019}
UNITS = {"units": 900.0, "lower_80": 400.0, "upper_80": 1400.0, "lower_95": 100.0, "upper_95": 1700.0}


async def with_a_story(service: Service) -> None:
    """A shipped experiment with a line in two reviews, believed to be worth 1 %; another one iterates on it."""
    await service.fill(started=True)
    await service.write.post(f"{KEY}/stop")
    decided = await service.write.post(f"{KEY}/decisions", json=examples.DECISION)
    assert decided.status_code == 201, decided.text
    launch = decided.json()["launch_key"]
    follows = experiment(key="second", parent_key="one-page-checkout", relation="iterates")
    await created(service.write, "/v1/experiments", follows)
    believed = await service.store_result(b"{}", kind="programme", subject_key="orders_per_user")
    reviews = [
        await service.store_result(b"{}", kind="growth_review", subject_key=f"quarter-{quarter}") for quarter in (1, 2)
    ]
    async with service.database.write() as session:
        session.add(
            ProgrammeRow(
                id=new_id(),
                result_id=believed.id,
                metric_key="orders_per_user",
                experiment_key="one-page-checkout",
                variant_key="one_page",
                shipped=True,
                evidence_grade="A",
                topline_source="measured",
                claimed=0.03,
                claimed_standard_error=0.01,
                shrunk=log1p(0.01),
                shrunk_sd=0.005,
                chance_positive=0.98,
                **SHRUNK,
            )
        )
        for quarter, review in enumerate(reviews, start=1):
            end = datetime(2026, 6, 1, tzinfo=UTC) + quarter * timedelta(weeks=13)
            session.add(
                LedgerRow(
                    id=new_id(),
                    result_id=review.id,
                    review_key=review.subject_key,
                    north_star_key="weekly_orders",
                    begins_at=end - timedelta(weeks=13),
                    ends_at=end,
                    component="launches",
                    key=f"launch:{launch}",
                    name="One page",
                    unit="orders",
                    log_mean=0.01,
                    log_lower_80=0.0,
                    log_upper_80=0.02,
                    chance_positive=0.9,
                    **{name: quarter * value for name, value in UNITS.items()},
                )
            )


async def test_a_lineage_runs_from_the_hypothesis_to_the_newest_ledger_line(service: Service) -> None:
    await with_a_story(service)
    found = (await service.read.get("/v1/experiments/second/lineage")).json()
    nodes = {node["id"]: node for node in found["nodes"]}
    launch = next(node for node in found["nodes"] if node["kind"] == "launch")["key"]
    assert {(edge["source"], edge["relation"], edge["target"]) for edge in found["edges"]} == {
        ("hypothesis:one-page-checkout", "tested_by", "experiment:one-page-checkout"),
        ("experiment:one-page-checkout", "iterates", "experiment:second"),
        ("experiment:one-page-checkout", "shipped_as", f"launch:{launch}"),
        (f"launch:{launch}", "reconciled_in", f"ledger:{launch}"),
    }
    shipped = nodes["experiment:one-page-checkout"]
    assert (shipped["outcome"], shipped["grade"], shipped["by"]) == ("ship", "A", "write")
    assert shipped["believed"]["value"] == pytest.approx(0.01)
    assert shipped["believed"]["lower"] == pytest.approx(expm1(SHRUNK["shrunk_lower_80"]))
    line = nodes[f"ledger:{launch}"]
    assert line["key"] == "quarter-2"
    assert (line["measured"]["value"], line["measured"]["unit"], line["measured"]["level"]) == (1800.0, "orders", 0.8)
    assert found == (await service.read.get("/v1/experiments/second/lineage")).json()
    assert (await service.read.get(f"{KEY}/lineage")).json()["nodes"] == found["nodes"]


async def test_the_draft_of_a_follow_up_can_be_registered_as_it_is(service: Service) -> None:
    await service.fill()
    for relation, name in (("iterates", "(iteration)"), ("replicates", "(replication 3)")):
        draft = (await service.read.get(f"{KEY}/follow-up", params={"relation": relation})).json()
        parent = (await service.read.get(KEY)).json()
        assert (draft["parent_key"], draft["relation"]) == ("one-page-checkout", relation)
        assert draft["name"].endswith(name)
        assert all(draft[part] == parent[part] for part in ("hypothesis", "variants", "metrics", "estimation"))
        await created(service.write, "/v1/experiments", draft)
    assert draft["key"] == "one-page-checkout-3"


async def test_what_cannot_follow_is_refused(shop: Service) -> None:
    assert_problem(await shop.read.get("/v1/experiments/nothing/follow-up"), "not-found", 404)
    refused = await shop.read.get(f"{KEY}/follow-up", params={"relation": "likes"})
    assert pointers(assert_problem(refused, "invalid-definition", 422)) == ["/query/relation"]
    for path in ("follow-up", "lineage"):
        assert_problem(await shop.ingest.get(f"{KEY}/{path}"), "forbidden", 403)
        assert_problem(await shop.anonymous.get(f"{KEY}/{path}"), "unauthenticated", 401)
