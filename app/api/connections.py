"""/v1/connections: warehouses. Who may read sees where they are, administrators change them, nobody reads secrets."""

import asyncio
from datetime import datetime
from typing import Annotated

from fastapi import Body, Request, Response
from pydantic import BaseModel, Field, SecretStr

from app.api import examples
from app.api.deps import DatabaseDep, Now, ReadSession, SettingsDep, UnitOfWork
from app.api.paging import Listing, Paging
from app.api.parameters import Handle, Input
from app.api.preconditions import IfMatch, OptionalIfMatch, etag_of, not_modified
from app.api.problems import problems
from app.api.routing import PlainRoute, api_router
from app.api.security import Admin, Reader
from experiments import connection
from experiments.connection import ConnectionCheck
from experiments.definitions import ConnectionSpec
from experiments.errors import (
    InUse,
    KeyTaken,
    NoSecretKey,
    NotFound,
    PreconditionRequired,
    SecretUnreadable,
    VersionConflict,
)
from experiments.secret_keys import SecretKeys
from experiments.tables import Connection
from warehouse.engines import opening

router = api_router("connections", "/connections")
asking = api_router("connections", "/connections", PlainRoute)
SpecIn = Annotated[
    ConnectionSpec,
    Body(
        openapi_examples=examples.example(examples.CONNECTION)
        | {"spark": {"summary": "A Spark cluster", "value": examples.SPARK_CONNECTION}}
    ),
]


class SecretIn(Input):
    """A password or a token; null forgets it. It is encrypted and cannot be read back."""

    secret: SecretStr | None = Field(min_length=1, max_length=connection.MOST_SECRET)


class ConnectionOut(BaseModel):
    """Where a warehouse is, whether a secret is kept for it, and what its last test found."""

    key: str
    version: int
    definition: ConnectionSpec
    has_secret: bool
    check: ConnectionCheck | None
    checked_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Connection) -> "ConnectionOut":
        return cls(
            key=row.key,
            version=row.version,
            definition=connection.spec_of(row),
            has_secret=row.secret is not None,
            check=connection.check_of(row),
            checked_at=row.checked_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@router.get("", summary="List connections")
async def list_connections(caller: Reader, session: ReadSession, paging: Paging) -> Listing[ConnectionOut]:
    page = await connection.page(session, limit=paging.limit, after=paging.after)
    return Listing[ConnectionOut].of(page, ConnectionOut.of)


@router.post("", status_code=201, summary="Register a connection", responses=problems(KeyTaken))
async def create_connection(
    caller: Admin, session: UnitOfWork, now: Now, spec: SpecIn, response: Response
) -> ConnectionOut:
    row = await connection.create(session, spec=spec, actor=caller.name, at=now)
    response.headers["Location"] = f"/v1/connections/{row.key}"
    response.headers["ETag"] = etag_of(row.version)
    return ConnectionOut.of(row)


@router.get("/{key}", summary="Read a connection", response_model=ConnectionOut, responses=problems(NotFound))
async def get_connection(
    caller: Reader, session: ReadSession, key: Handle, request: Request, response: Response
) -> ConnectionOut | Response:
    row = await connection.get(session, key=key)
    response.headers["ETag"] = etag_of(row.version)
    # Its last test is no part of the version.
    unchanged = not_modified(request, row.version) if row.checked_at is None else None
    return unchanged or ConnectionOut.of(row)


@router.put(
    "/{key}",
    summary="Change a connection; its secret is forgotten if it leads elsewhere",
    responses=problems(NotFound, VersionConflict, PreconditionRequired),
)
async def update_connection(
    caller: Admin, session: UnitOfWork, now: Now, key: Handle, expected: IfMatch, spec: SpecIn, response: Response
) -> ConnectionOut:
    row = await connection.get(session, key=key, lock=True)
    await connection.update(session, connection=row, spec=spec, expected=expected, actor=caller.name, at=now)
    response.headers["ETag"] = etag_of(row.version)
    return ConnectionOut.of(row)


@router.delete(
    "/{key}",
    status_code=204,
    summary="Forget a connection that nothing uses",
    responses=problems(NotFound, InUse, VersionConflict),
)
async def delete_connection(
    caller: Admin, session: UnitOfWork, now: Now, key: Handle, expected: OptionalIfMatch
) -> None:
    row = await connection.get(session, key=key, lock=True)
    await connection.delete(session, connection=row, expected=expected, actor=caller.name, at=now)


@router.put("/{key}/secret", summary="Keep or forget the password or token", responses=problems(NotFound, NoSecretKey))
async def set_connection_secret(
    caller: Admin,
    session: UnitOfWork,
    now: Now,
    settings: SettingsDep,
    key: Handle,
    wanted: Annotated[SecretIn, Body(openapi_examples=examples.example({"secret": "correct horse battery staple"}))],
    response: Response,
) -> ConnectionOut:
    row = await connection.get(session, key=key, lock=True)
    secret = None if wanted.secret is None else wanted.secret.get_secret_value()
    keys = SecretKeys.of(settings)
    await connection.set_secret(session, connection=row, secret=secret, keys=keys, actor=caller.name, at=now)
    response.headers["ETag"] = etag_of(row.version)
    return ConnectionOut.of(row)


@asking.post(
    "/{key}/check",
    summary="Open a connection now and say what was found",
    responses=problems(NotFound, NoSecretKey, SecretUnreadable),
)
async def check_connection(
    caller: Admin, database: DatabaseDep, settings: SettingsDep, now: Now, key: Handle
) -> ConnectionCheck:
    """No transaction is open while the warehouse is asked, which may take as long as its time-outs."""
    async with database.read() as session:
        row = await connection.get(session, key=key)
        access = connection.access(row, SecretKeys.of(settings))
    found = await asyncio.to_thread(opening.check, access)
    async with database.write() as session:
        await connection.record_check(session, connection=row, found=found, actor=caller.name, at=now)
    return found
