"""Who may do what: keys, scopes, expiry, revocation."""

from datetime import timedelta

import pytest

from app.api.security import TRUST_SECONDS, PrincipalCache
from experiments.api_key import Principal
from experiments.types import new_id
from tests.app.api.service import NOW, Service, assert_problem, pointers

pytestmark = pytest.mark.anyio
OPEN = ("/healthz", "/readyz", "/metrics", "/problems")


def operations(service: Service) -> list[tuple[str, str]]:
    """Every (method, path) of the REST interface, with something in the place of parameters."""
    document = service.app.openapi()
    found = []
    for path, methods in document["paths"].items():
        for name in ("{analysis_id}", "{result_id}", "{key_id}"):
            path = path.replace(name, str(new_id()))
        path = path.replace("{key}", "nothing").replace("{unit_type}", "user").replace("{slug}", "not-found")
        found += [(method.upper(), path) for method in methods]
    return found


async def test_without_a_valid_key_nothing_but_operations_answers(shop: Service) -> None:
    before = await shop.counts()
    for method, path in operations(shop):
        if path.startswith(OPEN):
            continue
        for headers in (
            {},
            {"X-API-Key": "nl_wrong"},
            {"Authorization": "Bearer nl_wrong"},
            {"Authorization": "Basic x"},
        ):
            answer = await shop.anonymous.request(method, path, headers=headers)
            assert_problem(answer, "unauthenticated", 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert await shop.counts() == before


async def test_every_operation_needs_its_scope(shop: Service) -> None:
    before = await shop.counts()
    for method, path in operations(shop):
        if path.startswith(OPEN):
            continue
        ingest = path.startswith("/v1/ingest") or (method == "POST" and path.endswith(("/summaries", "/values")))
        administrative = path.startswith("/v1/api-keys")
        administrative |= path.startswith("/v1/connections") and method != "GET"
        reading = method == "GET" or path.endswith(("/sample-size", "/rollout-design"))
        allowed = {"admin"} if administrative else {"ingest", "admin"} if ingest else {"write", "admin"}
        if reading and not administrative:
            allowed.add("read")
            allowed.add("write")
        for scope in {"read", "write", "ingest"} - allowed:
            answer = await shop.clients[scope].request(method, path)
            problem = assert_problem(answer, "forbidden", 403)
            assert "scope" in problem["remedy"], (method, path)
    assert await shop.counts() == before


async def test_a_key_is_shown_once_and_works_as_header_and_as_bearer(service: Service) -> None:
    answer = await service.admin.post("/v1/api-keys", json={"name": "ci", "scopes": ["read"]})
    assert answer.status_code == 201, answer.text
    issued = answer.json()
    token = issued.pop("key")
    assert token.startswith("nl_") and len(token) > 40
    assert answer.headers["cache-control"] == "no-store"
    shown = (await service.admin.get(f"/v1/api-keys/{issued['id']}")).json()
    assert shown == issued
    assert token not in (await service.admin.get("/v1/audit-events")).text
    for headers in ({"X-API-Key": token}, {"Authorization": f"Bearer {token}"}):
        assert (await service.anonymous.get("/v1/metrics", headers=headers)).status_code == 200


async def test_a_revoked_key_stops_working_at_once_here(service: Service) -> None:
    issued = (await service.admin.post("/v1/api-keys", json={"name": "ci", "scopes": ["read"]})).json()
    headers = {"X-API-Key": issued["key"]}
    assert (await service.anonymous.get("/v1/metrics", headers=headers)).status_code == 200
    revoked = await service.admin.post(f"/v1/api-keys/{issued['id']}/revoke")
    assert revoked.json()["revoked_at"] is not None
    refused = await service.anonymous.get("/v1/metrics", headers=headers)
    assert "revoked" in assert_problem(refused, "unauthenticated", 401)["detail"]
    again = await service.admin.post(f"/v1/api-keys/{issued['id']}/revoke")
    assert again.json()["revoked_at"] == revoked.json()["revoked_at"]


async def test_a_key_ends_at_its_expiry(service: Service) -> None:
    ends = service.clock.at + timedelta(minutes=5)
    document = {"name": "guest", "scopes": ["read"], "expires_at": ends.isoformat()}
    token = (await service.admin.post("/v1/api-keys", json=document)).json()["key"]
    headers = {"X-API-Key": token}
    assert (await service.anonymous.get("/v1/metrics", headers=headers)).status_code == 200
    service.clock.at = ends
    service.app.state.principals.clear()
    refused = await service.anonymous.get("/v1/metrics", headers=headers)
    assert "expired" in assert_problem(refused, "unauthenticated", 401)["detail"]
    past = await service.admin.post("/v1/api-keys", json=document)
    assert pointers(assert_problem(past, "invalid-definition", 422)) == ["/expires_at"]


async def test_keys_with_unknown_or_no_scopes_are_not_made(shop: Service) -> None:
    before = await shop.counts()
    for scopes in ([], ["root"]):
        answer = await shop.admin.post("/v1/api-keys", json={"name": "x", "scopes": scopes})
        assert_problem(answer, "invalid-definition", 422)
    assert_problem(await shop.admin.get(f"/v1/api-keys/{new_id()}"), "not-found", 404)
    assert await shop.counts() == before


def test_a_key_is_trusted_for_seconds_and_never_beyond_its_expiry() -> None:
    now = 0.0
    cache = PrincipalCache(clock=lambda: now)
    forever = Principal(new_id(), "forever", frozenset({"read"}), None)
    brief = Principal(new_id(), "brief", frozenset({"read"}), NOW + timedelta(seconds=1))
    cache.put("a", forever, NOW)
    cache.put("b", brief, NOW)
    now = 0.9
    assert (cache.get("a"), cache.get("b")) == (forever, brief)
    now = 1.1
    assert (cache.get("a"), cache.get("b")) == (forever, None)
    now = TRUST_SECONDS + 0.1
    assert cache.get("a") is None
