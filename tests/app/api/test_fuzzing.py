"""Whatever is sent, the service never fails: requests made up from its own OpenAPI document (schemathesis)."""

import asyncio
from collections.abc import Iterator
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from starlette.testclient import TestClient

from app.api import examples
from app.main import create_app
from experiments import api_key
from experiments.database import Database
from experiments.settings import Settings
from experiments.types import utc_now
from tests.app.api.service import metric, ratio

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
REQUESTS_PER_OPERATION = 4
EXISTING = {
    "/v1/experiments": "one-page-checkout",
    "/v1/metrics": "orders_per_user",
    "/v1/north-stars": "weekly_orders",
    "/v1/connections": "dwh",
    "/v1/fact-sources": "orders",
    "/v1/launches": "faster-search",
    "/v1/series": "orders-by-country",
    "/v1/growth-reviews": "2026-q3",
}


@pytest.fixture(scope="module")
def client(module_database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client that may do everything, and a shop with a running experiment."""
    settings = Settings(
        database_url=module_database_url,
        redis_url=redis_url,
        data_dir=tmp_path_factory.mktemp("data"),
        sqlite_synchronous="OFF",
    )
    token = asyncio.run(_admin_key(settings))
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False, headers={"X-API-Key": token}) as client:
        _fill(client)
        yield client


async def _admin_key(settings: Settings) -> str:
    database = Database(settings.database_url)
    async with database.write() as session:
        _, token = await api_key.issue(session, name="fuzz", scopes=["admin"], actor="tests", at=utc_now())
    await database.dispose()
    return token


def _fill(client: TestClient) -> None:
    documents: list[tuple[str, dict[str, Any]]] = [
        ("connections", {**examples.CONNECTION, "host": "/nowhere"}),
        ("fact-sources", examples.FACT_SOURCE),
        ("metrics", examples.METRIC),
        ("metrics", metric("refunds_per_user")),
        ("metrics", metric("active_users", kind="proportion")),
        ("metrics", ratio("orders_per_active_user")),
        ("north-stars", examples.NORTH_STAR),
        ("experiments", examples.EXPERIMENT),
        ("launches", examples.LAUNCH),
        ("series", examples.SERIES),
        ("growth-reviews", examples.GROWTH_REVIEW),
    ]
    for collection, document in documents:
        assert client.post(f"/v1/{collection}", json=document).status_code == 201
    assert client.post("/v1/experiments/one-page-checkout/start").status_code == 200


@pytest.mark.parametrize("module_database_url", ["postgresql"], indirect=True)  # the stricter of the two
def test_no_request_makes_the_service_fail(client: TestClient) -> None:
    schema = schemathesis.openapi.from_dict(client.app.openapi())  # type: ignore[attr-defined]
    schema.app = client.app
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 50
    for operation in operations:
        if not operation.path.startswith("/v1/") or operation.path.endswith("/events"):
            continue

        @hypothesis.seed(20261102)
        @hypothesis.settings(
            max_examples=REQUESTS_PER_OPERATION,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy(), known=st.booleans())
        def requests(case: schemathesis.Case, known: bool) -> None:
            for prefix, key in EXISTING.items():
                if known and case.path.startswith(prefix) and "key" in case.path_parameters:
                    case.path_parameters["key"] = key
            arguments = case.as_transport_kwargs(headers={"X-API-Key": client.headers["X-API-Key"]})
            # The client would refuse to send what is not ASCII; a server must bear it.
            arguments["headers"] = {
                name: value.encode("latin-1", "replace") for name, value in arguments["headers"].items()
            }
            case.validate_response(client.request(**arguments), checks=CHECKS)

        requests()


def test_the_fuzzed_database_can_still_be_read(client: TestClient) -> None:
    """What got stored by chance is still found by every list and every filter."""
    for path in EXISTING:
        assert client.get(path).status_code == 200
    for name, value in {"tag": "web", "q": "a", "unit_type": "user", "verdict": "better"}.items():
        assert client.get("/v1/experiments", params={name: value}).status_code == 200
    assert client.get("/v1/metrics", params={"owner": "x"}).status_code == 200
    assert client.get("/v1/audit-events").status_code == 200
