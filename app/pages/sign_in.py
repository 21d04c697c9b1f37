"""Signing in with an API key, and out again."""

import secrets

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.pages.access import COOKIE, SIGN_IN_COOKIE, TOKEN_FIELD, OwnForm, require_token, set_cookie
from app.pages.headers import SECURITY_HEADERS
from app.pages.rendering import render
from app.pages.route import pages
from experiments import browser_session
from experiments.errors import Unauthenticated

router = pages()


def safe_return(target: str) -> str:
    """Where to go after signing in: an address of ours, or home."""
    ours = target.startswith("/") and not target.startswith(("//", "/\\")) and "\n" not in target
    return target if ours and not target.startswith("/sign-") else "/"


@router.get("/sign-in")
async def sign_in_page(request: Request, next: str = "/") -> Response:
    return _form(request, back=safe_return(next))


@router.post("/sign-in")
async def sign_in(request: Request, database: DatabaseDep, settings: SettingsDep, at: Now) -> Response:
    async with request.form() as form:
        require_token(form.get(TOKEN_FIELD), request.cookies.get(SIGN_IN_COOKIE) or secrets.token_urlsafe())
        back = safe_return(str(form.get("next", "/")))
        key = str(form.get("key", "")).strip()
    try:
        async with database.write() as session:
            token, browser = await browser_session.open_session(
                session, key_token=key, at=at, hours=settings.session_hours, replaces=request.cookies.get(COOKIE)
            )
    except Unauthenticated as error:
        return _form(request, back=back, error=error, status=401)
    if not browser.principal.may("read"):
        async with database.write() as session:
            await browser_session.close_session(session, token=token, at=at)
        refusal = Unauthenticated(
            f"The key `{browser.principal.name}` may not read", remedy="Sign in with a key that has the scope `read`."
        )
        return _form(request, back=back, error=refusal, status=403)
    response = RedirectResponse(back, status_code=303, headers=SECURITY_HEADERS)
    set_cookie(request, response, COOKIE, token, max_age=int((browser.expires_at - at).total_seconds()), strict=False)
    response.delete_cookie(SIGN_IN_COOKIE, path="/")
    return response


@router.post("/sign-out")
async def sign_out(request: Request, form: OwnForm, database: DatabaseDep, at: Now) -> Response:
    async with database.write() as session:
        await browser_session.close_session(session, token=request.cookies[COOKIE], at=at)
    response = RedirectResponse("/sign-in", status_code=303, headers=SECURITY_HEADERS)
    response.delete_cookie(COOKIE, path="/")
    return response


def _form(request: Request, *, back: str, error: Unauthenticated | None = None, status: int = 200) -> Response:
    """The form with a token of its own: there is no session yet that could hold one."""
    token = secrets.token_urlsafe(32)
    response = render(request, "sign_in.html", status=status, back=back, error=error, token=token, browser=None)
    set_cookie(request, response, SIGN_IN_COOKIE, token, max_age=3600, strict=True)
    return response
