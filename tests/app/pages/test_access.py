"""Signing in and out, who may do what, and forms that did not come from us."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlmodel import col

from experiments import api_key
from experiments.tables import AuditEvent, BrowserSession, Experiment
from tests.app.pages.conftest import TOKEN, Reader
from tests.app.world import NOW

pytestmark = pytest.mark.anyio


async def statuses(reader: Reader) -> dict[str, str]:
    async with reader.database.read() as session:
        return {row.key: row.status for row in await session.scalars(sa.select(Experiment))}


async def test_a_page_asks_who_is_not_signed_in_to_sign_in_and_leads_back(visitor: Reader) -> None:
    answer = await visitor.http.get("/experiments?status=running")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=%2Fexperiments%3Fstatus%3Drunning"
    signed_in = await visitor.sign_in(visitor.keys.read, next="/experiments?status=running")
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/experiments?status=running")
    assert (await visitor.http.get("/experiments?status=running")).status_code == 200


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "/sign-in", "x"])
async def test_signing_in_never_leads_to_another_site(visitor: Reader, target: str) -> None:
    assert (await visitor.sign_in(visitor.keys.read, next=target)).headers["location"] == "/"


async def test_the_session_cookie_cannot_be_read_by_scripts_nor_sent_by_other_sites(visitor: Reader) -> None:
    answer = await visitor.sign_in(visitor.keys.read)
    cookie = next(value for value in answer.headers.get_list("set-cookie") if value.startswith("northlift_session="))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie  # by the setting `secure_cookies`, off for 127.0.0.1


async def test_only_the_digest_of_a_session_is_stored(visitor: Reader) -> None:
    await visitor.sign_in(visitor.keys.read)
    token = visitor.http.cookies["northlift_session"]
    async with visitor.database.read() as session:
        stored = (await session.scalars(sa.select(BrowserSession))).one()
    assert token not in (stored.digest, stored.csrf_token)
    assert len(token) >= 43


@pytest.mark.parametrize(
    ("kind", "words"), [("unknown", "not known"), ("revoked", "was revoked"), ("expired", "expired on")]
)
async def test_a_key_that_does_not_work_says_why(visitor: Reader, kind: str, words: str) -> None:
    token = "nl_wrong"
    if kind != "unknown":
        async with visitor.database.write() as session:
            before = NOW - timedelta(days=2)
            expires = NOW - timedelta(days=1) if kind == "expired" else None
            key, token = await api_key.issue(
                session, name="old", scopes=["write"], actor="ada", at=before, expires_at=expires
            )
            if kind == "revoked":
                await api_key.revoke(session, key=key, actor="ada", at=before)
    answer = await visitor.sign_in(token)
    assert answer.status_code == 401
    assert words in answer.text
    assert token not in answer.text
    assert "northlift_session" not in visitor.http.cookies


async def test_a_key_without_the_scope_to_read_cannot_sign_in(visitor: Reader) -> None:
    answer = await visitor.sign_in(visitor.keys.ingest)
    assert answer.status_code == 403
    assert "may not read" in answer.text


async def test_a_revoked_key_ends_its_sessions(newcomer: Reader) -> None:
    async with newcomer.database.write() as session:
        row = await api_key.authenticate(session, token=newcomer.keys.write, at=NOW)
        key = await api_key.get(session, key_id=row.key_id)
        await api_key.revoke(session, key=key, actor="ada", at=NOW)
    assert (await newcomer.http.get("/experiments")).status_code == 303


async def test_signing_in_again_makes_another_session_and_ends_the_first(visitor: Reader) -> None:
    await visitor.sign_in(visitor.keys.read)
    first = visitor.http.cookies["northlift_session"]
    await visitor.sign_in(visitor.keys.write)
    assert visitor.http.cookies["northlift_session"] != first
    visitor.http.cookies.set("northlift_session", first, domain="northlift.test", path="/")
    assert (await visitor.http.get("/experiments")).status_code == 303


async def test_signing_out_ends_the_session_on_the_server(newcomer: Reader) -> None:
    cookie = newcomer.http.cookies["northlift_session"]
    assert (await newcomer.submit("/sign-out")).status_code == 303
    newcomer.http.cookies.set("northlift_session", cookie, domain="northlift.test", path="/")
    assert (await newcomer.http.get("/experiments")).status_code == 303
    async with newcomer.database.read() as session:
        actions = list(await session.scalars(sa.select(col(AuditEvent.action)).order_by(col(AuditEvent.at))))
    assert {"session.opened", "session.closed"} <= set(actions)


@pytest.mark.parametrize("fields", [{}, {"csrf_token": "wrong"}], ids=["missing", "wrong"])
@pytest.mark.parametrize(
    "path", ["/experiments/checkout/moves/stop", "/experiments/checkout/analyses", "/experiments/new", "/sign-out"]
)
async def test_a_form_without_the_token_of_the_session_changes_nothing(
    company: Reader, path: str, fields: dict[str, str]
) -> None:
    before = await statuses(company)
    answer = await company.http.post(path, data=fields)
    assert answer.status_code == 403
    assert "did not come from this session" in answer.text
    assert "text/html" in answer.headers["content-type"]
    assert await statuses(company) == before
    assert (await company.http.get("/experiments")).status_code == 200


async def test_signing_in_needs_the_token_of_the_sign_in_page(visitor: Reader) -> None:
    answer = await visitor.http.post("/sign-in", data={"key": visitor.keys.write})
    assert answer.status_code == 403


async def test_a_key_that_may_only_read_sees_no_buttons_and_cannot_post(reader: Reader) -> None:
    page = await reader.http.get("/experiments/checkout")
    assert "Analyse now" not in page.text
    assert "Your key may read only" in page.text
    token = TOKEN.search(page.text)  # its own sign-out form has a token
    assert token
    before = await statuses(reader)
    answer = await reader.http.post("/experiments/checkout/moves/stop", data={"csrf_token": token[1]})
    assert answer.status_code == 403
    assert "scope `write`" in answer.text
    assert await statuses(reader) == before
    assert (await reader.http.get("/experiments/new")).status_code == 403


async def test_the_token_of_one_session_is_worth_nothing_in_another(writer: Reader) -> None:
    stolen = await writer.token()
    await writer.sign_in(writer.keys.write)
    answer = await writer.http.post("/experiments/checkout/moves/stop", data={"csrf_token": stolen})
    assert answer.status_code == 403


async def test_cookies_are_secure_when_the_setting_says_so(app: FastAPI, visitor: Reader) -> None:
    app.state.settings.secure_cookies = True
    answer = await visitor.sign_in(visitor.keys.read)
    cookies = answer.headers.get_list("set-cookie")
    assert all("Secure" in cookie for cookie in cookies if not cookie.startswith('northlift_sign_in=""'))


@pytest.mark.parametrize("path", ["/sign-in", "/experiments", "/experiments/none", "/catalogue"])
async def test_every_page_forbids_inline_code_frames_and_other_hosts(newcomer: Reader, path: str) -> None:
    answer = await newcomer.http.get(path)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert " style=" not in answer.text
    assert " onclick=" not in answer.text


async def test_a_browser_that_finds_nothing_gets_a_page_and_a_program_a_problem(visitor: Reader) -> None:
    page = await visitor.http.get("/nowhere", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (404, "text/html")
    assert "There is nothing at /nowhere" in page.text
    for path, accept in (("/nowhere", "*/*"), ("/v1/nowhere", "text/html")):
        problem = await visitor.http.get(path, headers={"Accept": accept})
        assert (problem.status_code, problem.headers["content-type"]) == (404, "application/problem+json")
