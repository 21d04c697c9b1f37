"""Who looks at a page: the session cookie, the form token against forged requests, and scopes."""

import secrets
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.responses import Response
from starlette.datastructures import FormData

from app.api.deps import get_database, get_now, get_settings
from experiments import browser_session
from experiments.api_key import Principal
from experiments.browser_session import SignedIn
from experiments.errors import DomainError, Unauthenticated

COOKIE: Final = "northlift_session"
SIGN_IN_COOKIE: Final = "northlift_sign_in"
TOKEN_FIELD: Final = "csrf_token"


class FormNotOurs(DomainError):
    status, title = 403, "The form did not come from this session"


def set_cookie(request: Request, response: Response, name: str, value: str, *, max_age: int, strict: bool) -> None:
    """A cookie that scripts cannot read and other sites cannot send with a form."""
    response.set_cookie(
        name,
        value,
        max_age=max_age,
        httponly=True,
        secure=get_settings(request).secure_cookies,
        samesite="strict" if strict else "lax",
        path="/",
    )


async def signed_in(request: Request, at: Annotated[datetime, Depends(get_now)]) -> SignedIn:
    """The session of this browser, with a key that may read. Raises `Unauthenticated`, `Forbidden`."""
    token = request.cookies.get(COOKIE)
    if not token:
        raise Unauthenticated("You are not signed in", remedy="Sign in with an API key.")
    async with get_database(request).read() as session:
        browser = await browser_session.resume(session, token=token, at=at)
    request.state.browser = browser
    browser.principal.require("read")
    return browser


async def submitted(request: Request, browser: Annotated[SignedIn, Depends(signed_in)]) -> AsyncIterator[FormData]:
    """The fields of a form of this very session, sent with a key that may write. Raises `FormNotOurs`, `Forbidden`."""
    async with request.form() as form:  # closes the files that came with it
        require_token(form.get(TOKEN_FIELD), browser.csrf_token)
        browser.principal.require("write")
        yield form


async def own_form(request: Request, browser: Annotated[SignedIn, Depends(signed_in)]) -> AsyncIterator[FormData]:
    """As `submitted`, for what every signed-in browser may do (signing out). Raises `FormNotOurs`."""
    async with request.form() as form:
        require_token(form.get(TOKEN_FIELD), browser.csrf_token)
        yield form


def require_token(given: object, expected: str) -> None:
    """Raise `FormNotOurs` unless the form's token is the one that was handed out."""
    if not isinstance(given, str) or not secrets.compare_digest(given.encode(), expected.encode()):
        raise FormNotOurs(
            "The form carried no token or that of another session, so nothing was changed",
            remedy="Go back, reload the page and send the form again.",
        )


def actor(browser: SignedIn) -> str:
    """The name under which changes are recorded."""
    principal: Principal = browser.principal
    return principal.name


Browser = Annotated[SignedIn, Depends(signed_in)]
Submitted = Annotated[FormData, Depends(submitted)]
OwnForm = Annotated[FormData, Depends(own_form)]
