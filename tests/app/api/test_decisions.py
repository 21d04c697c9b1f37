"""Decisions against the recommendation over HTTP: they need a reason, and say afterwards what they went against."""

import json
from typing import Any

import pytest

from app.api import examples
from experiments import audit
from tests.app.api.service import Service, assert_problem, pointers

pytestmark = pytest.mark.anyio
KEY = "/v1/experiments/one-page-checkout"
WHY = "Legal asks for it; the loss is accepted."


async def advised(service: Service, action: str | None, variant: str | None = None) -> None:
    """A stopped experiment whose newest result recommends this."""
    await service.fill(started=True)
    await service.write.post(f"{KEY}/stop", json={"at": "2026-10-20T00:00:00Z"})
    advice = None if action is None else {"action": action, "variant_key": variant, "rule": 1, "reasons": ["."]}
    body = json.dumps({"recommendation": advice}).encode()
    await service.store_result(body, subject_key="one-page-checkout", verdict="inconclusive")


def choice(outcome: str, **extra: Any) -> dict[str, Any]:
    return (
        {"outcome": outcome, "reason": "because"}
        | ({"shipped_variant": "one_page"} if outcome == "ship" else {})
        | extra
    )


@pytest.mark.parametrize(
    ("action", "variant", "outcome", "contradicts"),
    [
        ("ship", "one_page", "ship", False),
        ("ship", "another", "ship", True),
        ("ship", "one_page", "iterate", True),
        ("roll_back", "one_page", "roll_back", False),
        ("roll_back", "one_page", "ship", True),
        ("investigate", None, "ship", True),
        ("investigate", None, "roll_back", False),
        ("neutral", "one_page", "ship", False),
        ("archive", None, "iterate", False),
        ("archive", None, "ship", True),
        ("keep_running", None, "roll_back", True),
    ],
)
async def test_only_decisions_against_the_recommendation_need_a_reason_of_their_own(
    service: Service, action: str, variant: str | None, outcome: str, contradicts: bool
) -> None:
    await advised(service, action, variant)
    before = await service.counts()
    answer = await service.write.post(f"{KEY}/decisions", json=choice(outcome))
    if contradicts:
        problem = assert_problem(answer, "invalid-definition", 422)
        assert pointers(problem) == ["/override_reason"]
        assert action.replace("_", " ") in problem["detail"] and problem["recommended"] == action
        assert await service.counts() == before
        answer = await service.write.post(f"{KEY}/decisions", json=choice(outcome, override_reason=WHY))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["recommendation"], made["against_recommendation"]) == (action, contradicts)
    assert made["override_reason"] == (WHY if contradicts else None)


async def test_an_override_is_listed_and_audited(service: Service) -> None:
    await advised(service, "roll_back", "one_page")
    await service.write.post(f"{KEY}/decisions", json=choice("ship", override_reason=WHY))
    (listed,) = (await service.read.get(f"{KEY}/decisions")).json()["items"]
    assert (listed["recommendation"], listed["override_reason"]) == ("roll_back", WHY)
    async with service.database.read() as session:
        event = (await audit.events(session, subject_key="one-page-checkout")).items[0]
    assert event.action == "experiment.decided" and event.after is not None
    assert event.after["override_reason"] == WHY and event.after["against_recommendation"] is True
    lineage = (await service.read.get(f"{KEY}/lineage")).json()
    assert [item["key"] for item in lineage["launches"]] == [listed["launch_key"]]


@pytest.mark.parametrize("reason", ["", "too short", " " * 40])
async def test_a_reason_that_says_nothing_is_none(service: Service, reason: str) -> None:
    await advised(service, "investigate")
    answer = await service.write.post(f"{KEY}/decisions", json=choice("ship", override_reason=reason))
    assert pointers(assert_problem(answer, "invalid-definition", 422)) == ["/override_reason"]


async def test_a_reason_that_is_not_needed_is_not_kept_as_an_override(service: Service) -> None:
    await advised(service, "ship", "one_page")
    made = (await service.write.post(f"{KEY}/decisions", json=choice("ship", override_reason=WHY))).json()
    assert (made["against_recommendation"], made["override_reason"]) == (False, None)


async def test_without_a_recommendation_nothing_can_be_contradicted(service: Service) -> None:
    await advised(service, None)
    made = (await service.write.post(f"{KEY}/decisions", json=choice("ship"))).json()
    assert (made["verdict"], made["recommendation"], made["against_recommendation"]) == ("inconclusive", None, None)


async def test_the_newest_result_counts(service: Service) -> None:
    await advised(service, "roll_back", "one_page")
    newer = json.dumps({"recommendation": {"action": "ship", "variant_key": "one_page"}}).encode()
    await service.store_result(newer, subject_key="one-page-checkout", verdict="better")
    assert (await service.write.post(f"{KEY}/decisions", json=choice("ship"))).status_code == 201


async def test_a_decision_needs_the_write_scope(service: Service) -> None:
    await advised(service, "ship", "one_page")
    assert_problem(await service.read.post(f"{KEY}/decisions", json=choice("ship")), "forbidden", 403)
    assert_problem(await service.ingest.post(f"{KEY}/decisions", json=choice("ship")), "forbidden", 403)


async def test_of_two_decisions_on_the_same_version_one_is_refused(service: Service) -> None:
    await advised(service, "ship", "one_page")
    seen = (await service.read.get(KEY)).headers["etag"]
    first = await service.write.post(f"{KEY}/decisions", json=choice("ship"), headers={"If-Match": seen})
    assert first.status_code == 201, first.text
    counts = await service.counts()
    second = await service.write.post(
        f"{KEY}/decisions", json=choice("iterate", override_reason=WHY), headers={"If-Match": seen}
    )
    assert_problem(second, "version-conflict", 412)
    assert await service.counts() == counts


async def test_decisions_of_an_unknown_experiment_are_not_found(service: Service) -> None:
    answer = await service.write.post("/v1/experiments/nothing/decisions", json=examples.DECISION)
    assert_problem(answer, "not-found", 404)
