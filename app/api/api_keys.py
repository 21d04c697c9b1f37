"""/v1/api-keys: for administrators. POST answers with a secret, so its answer is never kept for repetition."""

import uuid
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api import examples
from app.api.deps import Now, ReadSession, UnitOfWork
from app.api.paging import Listing, Paging
from app.api.parameters import Input
from app.api.problems import problems
from app.api.routing import PlainRoute, api_router
from app.api.security import Admin
from experiments import api_key
from experiments.definitions import Moment
from experiments.errors import NotFound
from experiments.tables import ApiKey

router = api_router("api keys", "/api-keys")
issuing = api_router("api keys", "/api-keys", PlainRoute)
type Scope = Literal["read", "write", "ingest", "admin"]


class ApiKeyIn(Input):
    """A key to make. `write` includes `read`; `admin` includes everything."""

    name: str = Field(min_length=1, max_length=200, description="Whose it is; the audit log shows it")
    scopes: list[Scope] = Field(min_length=1, max_length=4)
    expires_at: Moment | None = None


class ApiKeyOut(BaseModel):
    """A key, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: ApiKey) -> "ApiKeyOut":
        return cls.model_validate(row)


class IssuedKey(ApiKeyOut):
    """A new key. `key` is shown this once."""

    key: str


@router.get("", summary="List API keys")
async def list_api_keys(caller: Admin, session: ReadSession, paging: Paging) -> Listing[ApiKeyOut]:
    page = await api_key.page(session, limit=paging.limit, after=paging.after)
    return Listing[ApiKeyOut].of(page, ApiKeyOut.of)


@issuing.post("", status_code=201, summary="Make an API key (shown once)")
async def issue_api_key(
    caller: Admin,
    session: UnitOfWork,
    now: Now,
    wanted: Annotated[
        ApiKeyIn, Body(openapi_examples=examples.example({"name": "nightly import", "scopes": ["ingest"]}))
    ],
    response: Response,
) -> IssuedKey:
    row, token = await api_key.issue(
        session,
        name=wanted.name,
        scopes=wanted.scopes,
        expires_at=wanted.expires_at,
        actor=caller.name,
        at=now,
    )
    response.headers["Location"] = f"/v1/api-keys/{row.id}"
    response.headers["Cache-Control"] = "no-store"
    return IssuedKey(**ApiKeyOut.of(row).model_dump(), key=token)


@router.get("/{key_id}", summary="Read an API key", responses=problems(NotFound))
async def get_api_key(caller: Admin, session: ReadSession, key_id: uuid.UUID) -> ApiKeyOut:
    return ApiKeyOut.of(await api_key.get(session, key_id=key_id))


@router.post("/{key_id}/revoke", summary="Revoke an API key", responses=problems(NotFound))
async def revoke_api_key(
    caller: Admin, session: UnitOfWork, now: Now, key_id: uuid.UUID, request: Request
) -> ApiKeyOut:
    row = await api_key.get(session, key_id=key_id)
    await api_key.revoke(session, key=row, actor=caller.name, at=now)
    request.app.state.principals.clear()
    return ApiKeyOut.of(row)
