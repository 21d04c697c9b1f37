"""Connections: which warehouses fact sources may read, whether they answer, and what Northlift could do there."""

import asyncio

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.pages.access import Browser, Submitted, actor
from app.pages.connection_form import TLS, ConnectionForm
from app.pages.headers import SECURITY_HEADERS
from app.pages.rendering import render
from app.pages.route import pages
from experiments import connection
from experiments.errors import DomainError, NotFound
from experiments.secret_keys import SecretKeys
from experiments.validation import parse_as
from warehouse.engines import opening

PLACE = "/catalogue/connections"
"""Where the navigation stands."""

router = pages()


@router.get("/connections")
async def connection_list(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    async with database.read() as session:
        rows = await connection.every(session)
    values = [(row, connection.spec_of(row), connection.check_of(row)) for row in rows]
    return render(request, "connections.html", found=values, path=PLACE)


@router.get("/connections/new")
async def new_connection_page(request: Request, browser: Browser, kind: str = "postgres") -> Response:
    browser.principal.require("admin")
    return _form(request, ConnectionForm.empty("spark" if kind == "spark" else "postgres"), None, None)


@router.post("/connections/new")
async def register_connection(
    request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    browser.principal.require("admin")
    typed = ConnectionForm.read(form)
    document = typed.document()
    try:
        spec = parse_as(connection.ADAPTER, document)
        if typed.faults:
            return _form(request, typed, None, None)
        async with database.write() as session:
            row = await connection.create(session, spec=spec, actor=actor(browser), at=at)
    except DomainError as error:
        return _form(request, typed, None, error)
    return _to(row.key)


@router.get("/connections/{key}")
async def connection_page(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    return await _page(request, database, key, None)


@router.get("/connections/{key}/edit")
async def edit_connection_page(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    browser.principal.require("admin")
    async with database.read() as session:
        row = await connection.get(session, key=key)
    return _form(request, ConnectionForm.of(connection.spec_of(row), row.version), key, None)


@router.post("/connections/{key}/edit")
async def change_connection(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    """The whole definition is written again, unless somebody else has written since the form was read."""
    browser.principal.require("admin")
    typed = ConnectionForm.read(form)
    typed.fields["key"] = key
    try:
        spec = parse_as(connection.ADAPTER, typed.document())
        if typed.faults:
            return _form(request, typed, key, None)
        async with database.write() as session:
            row = await connection.get(session, key=key, lock=True)
            await connection.update(
                session, connection=row, spec=spec, expected=typed.expected, actor=actor(browser), at=at
            )
    except NotFound:
        raise
    except DomainError as error:
        return _form(request, typed, key, error)
    return _to(key)


@router.post("/connections/{key}/secret")
async def keep_secret(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    """An empty field forgets the secret."""
    browser.principal.require("admin")
    secret = str(form.get("secret", "")) or None
    try:
        async with database.write() as session:
            row = await connection.get(session, key=key, lock=True)
            keys = SecretKeys.of(settings)
            await connection.set_secret(session, connection=row, secret=secret, keys=keys, actor=actor(browser), at=at)
    except NotFound:
        raise
    except DomainError as error:
        return await _page(request, database, key, error)
    return _to(key)


@router.post("/connections/{key}/check")
async def check_connection(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    """No transaction is open while the warehouse is asked."""
    browser.principal.require("admin")
    async with database.read() as session:
        row = await connection.get(session, key=key)
    try:
        access = connection.access(row, SecretKeys.of(settings))
    except DomainError as error:
        return await _page(request, database, key, error)
    found = await asyncio.to_thread(opening.check, access)
    async with database.write() as session:
        await connection.record_check(session, connection=row, found=found, actor=actor(browser), at=at)
    return _to(key)


@router.post("/connections/{key}/delete")
async def delete_connection(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    browser.principal.require("admin")
    try:
        async with database.write() as session:
            row = await connection.get(session, key=key, lock=True)
            await connection.delete(session, connection=row, expected=None, actor=actor(browser), at=at)
    except NotFound:
        raise
    except DomainError as error:
        return await _page(request, database, key, error)
    return RedirectResponse("/connections", status_code=303, headers=SECURITY_HEADERS)


async def _page(request: Request, database: DatabaseDep, key: str, problem: DomainError | None) -> Response:
    async with database.read() as session:
        row = await connection.get(session, key=key)
        users = await connection.used_by(session, key=key)
    return render(
        request,
        "connection.html",
        status=problem.status if problem else 200,
        row=row,
        spec=connection.spec_of(row),
        found=connection.check_of(row),
        users=users,
        tls=TLS,
        problem=problem,
        path=PLACE,
    )


def _form(request: Request, typed: ConnectionForm, key: str | None, problem: DomainError | None) -> Response:
    """The form as typed; faults stand beside their fields. `key`: the connection that is being changed."""
    if problem is not None:
        known = {fault.pointer for fault in typed.faults}
        typed.faults += [fault for fault in problem.errors if fault.pointer not in known]
    status = problem.status if problem else 422 if typed.faults else 200
    return render(
        request, "connection_form.html", status=status, form=typed, key=key, problem=problem, tls=TLS, path=PLACE
    )


def _to(key: str) -> Response:
    return RedirectResponse(f"/connections/{key}", status_code=303, headers=SECURITY_HEADERS)
