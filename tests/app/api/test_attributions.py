"""What inputs account for in an observed change, over HTTP."""

from datetime import date, timedelta
from typing import Any

import pytest

from app.api import examples
from tests.app.api.service import Service, assert_problem, created, pointers, ratio

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]
PATH = "/v1/north-stars/weekly-orders/attribution"
MONDAY = date(2026, 9, 7)
USERS = [100, 100, 100, 100, 120, 120, 130, 110]
ORDERS = [2.0, 2.0, 2.1, 1.9, 2.0, 2.2, 2.0, 2.1]


async def with_weeks(service: Service) -> None:
    """A North Star whose eight weeks were pushed, as were those of its inputs."""
    await created(service.write, "/v1/fact-sources", examples.FACT_SOURCE)
    per_user = ratio("baskets_per_user")
    for document in (examples.METRIC, {**examples.METRIC, "key": "users"}, per_user):
        await created(service.write, "/v1/metrics", document)
    values = {
        "all-orders": [a * b for a, b in zip(USERS, ORDERS, strict=True)],
        "all-users": USERS,
        "per-user": ORDERS,
    }
    for key, numbers in values.items():
        await created(
            service.write,
            "/v1/series",
            {**examples.SERIES, "key": key, "metric_key": None, "grain": "week", "dimension": ""},
        )
        rows = [{"at": (MONDAY + timedelta(weeks=i)).isoformat(), "value": value} for i, value in enumerate(numbers)]
        answer = await service.ingest.post(f"/v1/series/{key}/values", json=rows, params={"batch_id": key})
        assert answer.status_code < 300, answer.text
    star: dict[str, Any] = {
        "key": "weekly-orders",
        "name": "Weekly orders",
        "metric_key": examples.METRIC["key"],
        "formula": "users * baskets_per_user",
        "input_metrics": [
            {"metric_key": "users", "series_key": "all-users"},
            {"metric_key": "baskets_per_user", "series_key": "per-user"},
        ],
        "series_key": "all-orders",
    }
    await created(service.write, "/v1/north-stars", star)


async def test_the_parts_of_a_change_add_up_to_it(service: Service) -> None:
    await with_weeks(service)
    answer = await service.read.get(PATH)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    totals = [a * b for a, b in zip(USERS, ORDERS, strict=True)]
    assert found["change"] == pytest.approx(sum(totals[4:]) - sum(totals[:4]))
    assert sum(part["units"] for part in found["parts"]) == pytest.approx(found["change"])
    assert [part["metric_key"] for part in found["parts"]] == ["users", "baskets_per_user"]
    assert all(part["lower_80"] < part["units"] < part["upper_80"] for part in found["parts"])
    assert found["method"] == "lmdi"
    assert (found["begins_at"][:10], found["compared_begins_at"][:10]) == ("2026-10-05", "2026-09-07")


async def test_a_period_that_cannot_be_used_is_refused(service: Service) -> None:
    assert_problem(await service.read.get(PATH), "not-found", 404)
    await with_weeks(service)
    assert_problem(await service.anonymous.get(PATH), "unauthenticated", 401)
    answer = await service.read.get(PATH, params={"begins_on": "2026-10-06", "ends_on": "2026-10-19"})
    assert_problem(answer, "invalid-definition", 422)
    assert pointers(answer.json()) == ["/begins_on"]
    backwards = await service.read.get(PATH, params={"begins_on": "2026-10-19", "ends_on": "2026-10-05"})
    assert pointers(backwards.json()) == ["/ends_on"]
    early = await service.read.get(PATH, params={"compare_with": "year_earlier"})
    assert_problem(early, "not-ready", 409)
    assert "2026-09-07" in early.json()["detail"]


async def test_a_mean_that_fell_because_more_came_from_where_it_is_low_is_said_to(service: Service) -> None:
    """Both countries buy more per user; the one that buys little has grown."""
    await with_weeks(service)
    star = (await service.read.get("/v1/north-stars/weekly-orders")).json()
    spec = {key: value for key, value in star.items() if key not in ("version", "created_at", "updated_at")}
    by_country = {
        **examples.SERIES, "key": "per-user-by-country", "metric_key": None, "grain": "week", "dimension": "country",
        "aggregation": "mean",
    }  # fmt: skip
    await created(service.write, "/v1/series", by_country)
    rows = [
        {
            "segment": country,
            "at": (MONDAY + timedelta(weeks=i)).isoformat(),
            "value": mean + 0.1 * (i >= 4),
            "n": grown if i >= 4 else 50,
        }
        for country, mean, grown in (("NO", 3.0, 20), ("SE", 1.0, 100))
        for i in range(8)
    ]
    answer = await service.ingest.post(
        "/v1/series/per-user-by-country/values", json=rows, params={"batch_id": "by-country"}
    )
    assert answer.status_code < 300, answer.text
    spec["input_metrics"][1]["series_key"] = "per-user-by-country"
    answer = await service.write.put("/v1/north-stars/weekly-orders", json=spec, headers={"If-Match": '"1"'})
    assert answer.status_code == 200, answer.text
    (mix,) = (await service.read.get(PATH)).json()["mix"]
    assert (mix["metric_key"], mix["dimension"], mix["reversed"]) == ("baskets_per_user", "country", True)
    assert mix["rate"] == pytest.approx(0.1)
    assert mix["total"] == pytest.approx((20 * 3.1 + 100 * 1.1) / 120 - 2.0)
    assert mix["mix"] == pytest.approx(mix["total"] - 0.1)
