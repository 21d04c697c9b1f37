"""The route class of all pages: problems become pages, and who is not signed in is sent to sign in and back."""

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute

from app.pages.headers import SECURITY_HEADERS
from app.pages.rendering import render
from experiments.errors import DomainError, InvalidDefinition, Unauthenticated
from experiments.validation import invalid


class PageRoute(APIRoute):
    """Handlers open their own units of work (`database.write()`), so a problem has rolled back before it is shown."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                if "\x00" in request.url.path or b"%00" in request.scope["query_string"]:
                    raise InvalidDefinition("The address contains the character U+0000", remedy="Remove it.")
                return await handle(request)
            except Unauthenticated as error:
                return sign_in_first(request, error)
            except DomainError as error:
                return problem_page(request, error)
            except RequestValidationError as error:
                return problem_page(request, invalid(error.errors(), error.body))

        return page


def pages() -> APIRouter:
    """A router for pages."""
    return APIRouter(include_in_schema=False, route_class=PageRoute)


def problem_page(request: Request, error: DomainError) -> Response:
    """The problem in words, with its status."""
    return render(request, "problem.html", status=error.status, problem=error)


def sign_in_first(request: Request, error: Unauthenticated) -> Response:
    """To the sign-in page, and back here afterwards (for a page; a form goes to its page)."""
    back = request.url.path if request.method == "GET" else "/"
    if request.method == "GET" and request.url.query:
        back += f"?{request.url.query}"
    target = f"/sign-in?next={quote(back, safe='')}"
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={**SECURITY_HEADERS, "HX-Redirect": target})
    return RedirectResponse(target, status_code=303, headers=SECURITY_HEADERS)
