"""Connections: warehouses that fact sources name tables of, and their secrets, which are written and never read out.

A secret belongs to the place that it was given for. A change of where a connection leads, or of how it is protected on
the way, forgets it: otherwise whoever may edit a connection could send the password to a server of their own.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, versioned
from experiments.definitions import ConnectionSpec, FactSourceSpec, PostgresConnection, TableSource
from experiments.errors import FieldError, InUse, InvalidDefinition, NotFound
from experiments.json_query import json_text
from experiments.paging import Page, page_of
from experiments.secret_keys import SecretKeys
from experiments.settings import Settings
from experiments.tables import Connection, Experiment, FactSource

ADAPTER: TypeAdapter[ConnectionSpec] = TypeAdapter(ConnectionSpec)
MOST_SECRET = 4096


class ConnectionCheck(BaseModel):
    """What a test of a connection found; `problem` says why it could not be used. `latency_ms`: of a simple question.

    `read_only`: whether the role could write nothing even if it were asked to; None where the server cannot say.
    """

    ok: bool
    server: str = ""
    latency_ms: float | None = None
    read_only: bool | None = None
    warnings: list[str] = []
    problem: str | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to open a connection. Lives in memory only; the secret is in no repr."""

    spec: ConnectionSpec
    secret: str | None = field(default=None, repr=False)


def spec_of(row: Connection) -> ConnectionSpec:
    """The definition of a stored connection."""
    return ADAPTER.validate_python(row.spec)


def place_of(spec: ConnectionSpec) -> str:
    """Where a connection leads, and how it is protected: what a secret is sealed for."""
    if isinstance(spec, PostgresConnection):
        return f"{spec.key} postgres {spec.user}@{spec.host}:{spec.port} {spec.tls}"
    return f"{spec.key} spark {spec.remote}"


def check_of(row: Connection) -> ConnectionCheck | None:
    """What the last test found; None when there was none since the definition or the secret changed."""
    return None if row.check is None else ConnectionCheck.model_validate(row.check)


async def create(session: AsyncSession, *, spec: ConnectionSpec, actor: str, at: datetime) -> Connection:
    """Register a connection, without a secret. Raises `KeyTaken`, `InvalidDefinition`."""
    _refuse_secrets_in(spec)
    row = Connection(key=spec.key, spec=spec.model_dump(mode="json"), created_at=at, updated_at=at)
    await versioned.insert(session, row, noun="connection")
    _audit(session, row.key, "connection.created", actor, at, None, row.spec)
    return row


async def get(session: AsyncSession, *, key: str, lock: bool = False) -> Connection:
    """The connection. Raises `NotFound`."""
    return await versioned.by_key(session, Connection, key, noun="connection", lock=lock)


async def page(session: AsyncSession, *, limit: int = 50, after: str | None = None) -> Page[Connection]:
    """Connections, newest first."""
    return await page_of(session, sa.select(Connection), Connection, limit=limit, after=after)


async def every(session: AsyncSession) -> list[Connection]:
    """All connections, newest first; they are few."""
    rows = await session.scalars(sa.select(Connection).order_by(col(Connection.created_at).desc()))
    return list(rows)


async def update(
    session: AsyncSession,
    *,
    connection: Connection,
    spec: ConnectionSpec,
    expected: int | None,
    actor: str,
    at: datetime,
) -> Connection:
    """Change where the connection leads; the key and the kind stay. Forgets the secret if `place_of` changes.

    Raises `VersionConflict`, `InvalidDefinition`. An equal definition changes nothing.
    """
    for name in ("key", "kind"):
        if getattr(spec, name) != connection.spec[name]:
            raise InvalidDefinition(
                f"The {name} of a connection cannot change",
                remedy="Register another connection.",
                errors=[FieldError(f"/{name}", f"must stay `{connection.spec[name]}`")],
            )
    _refuse_secrets_in(spec)
    document, before, old = spec.model_dump(mode="json"), connection.spec, spec_of(connection)
    if spec == old and expected in (None, connection.version):
        return connection
    secret = connection.secret if place_of(spec) == place_of(old) else None
    await versioned.update(
        session, connection, expected=expected, spec=document, secret=secret, check=None, checked_at=None, updated_at=at
    )
    _audit(session, connection.key, "connection.updated", actor, at, before, document)
    return connection


async def set_secret(
    session: AsyncSession, *, connection: Connection, secret: str | None, keys: SecretKeys, actor: str, at: datetime
) -> Connection:
    """Keep a password or token, encrypted, or forget it with None; the audit log says that, and not what.

    Raises `NoSecretKey`, `InvalidDefinition`, `VersionConflict`.
    """
    if secret is not None and not 0 < len(secret) <= MOST_SECRET:
        fault = f"must have 1 to {MOST_SECRET} characters"
        raise InvalidDefinition("The secret " + fault, remedy="Send another.", errors=[FieldError("/secret", fault)])
    sealed = None if secret is None else keys.seal(secret, place=place_of(spec_of(connection)))
    had = connection.secret is not None
    await versioned.update(session, connection, secret=sealed, check=None, checked_at=None, updated_at=at)
    action = "connection.secret_forgotten" if secret is None else "connection.secret_set"
    _audit(session, connection.key, action, actor, at, {"has_secret": had}, {"has_secret": secret is not None})
    return connection


async def delete(
    session: AsyncSession, *, connection: Connection, expected: int | None, actor: str, at: datetime
) -> None:
    """Forget a connection and its secret. Raises `InUse` where a fact source or a frozen plan names it."""
    versioned.require(connection, expected=expected)
    if users := await used_by(session, key=connection.key):
        raise InUse(
            f"The connection `{connection.key}` is used by {', '.join(users[:5])}" + (" …" if len(users) > 5 else ""),
            remedy="Let these fact sources read elsewhere first. What a frozen plan reads from has to stay.",
        )
    # Nothing that still reads its row may be asked after the flush.
    before, key = connection.spec, connection.key
    await session.delete(connection)
    await session.flush()
    _audit(session, key, "connection.deleted", actor, at, before, None)


async def used_by(session: AsyncSession, *, key: str) -> list[str]:
    """The fact sources that name the connection, and the experiments whose frozen plans do, in words."""
    named = sa.select(col(FactSource.key)).where(json_text(session, FactSource.spec, "connection") == key)
    users = [f"the fact source `{name}`" for name in sorted(await session.scalars(named))]
    text = sa.type_coerce(Experiment.plan, sa.Text)
    plans = sa.select(col(Experiment.key), col(Experiment.plan)).where(text.contains(key, autoescape=True))
    for name, plan in (await session.execute(plans.order_by(col(Experiment.key)))).all():
        if plan and any(source.get("connection") == key for source in plan["fact_sources"]):
            users.append(f"the plan of the experiment `{name}`")
    return users


async def record_check(
    session: AsyncSession, *, connection: Connection, found: ConnectionCheck, actor: str, at: datetime
) -> None:
    """Keep what a test found, unless the connection has changed meanwhile: then it was about another."""
    statement = (
        sa.update(Connection)
        .where(col(Connection.id) == connection.id, col(Connection.version) == connection.version)
        .values(check=found.model_dump(mode="json"), checked_at=at)
    )
    await session.execute(statement, execution_options={"synchronize_session": False})
    after = found.model_dump(mode="json", include={"ok", "read_only"})
    _audit(session, connection.key, "connection.checked", actor, at, None, after)


def access(row: Connection, keys: SecretKeys) -> Access:
    """What it takes to open the connection. Raises `NoSecretKey`, `SecretUnreadable`."""
    spec = spec_of(row)
    return Access(spec, None if row.secret is None else keys.open(row.secret, place=place_of(spec)))


async def access_for(
    session: AsyncSession, *, sources: Collection[FactSourceSpec], settings: Settings
) -> Access | None:
    """What it takes to read the fact sources of a plan; None where none of them is a table.

    A plan reads from one connection only (`plan_rules`). Raises `NotFound`, `NoSecretKey`, `SecretUnreadable`.
    """
    key = next((source.connection for source in sources if isinstance(source, TableSource)), None)
    return None if key is None else access(await get(session, key=key), SecretKeys.of(settings))


async def access_to_all(
    session: AsyncSession, *, sources: Collection[FactSourceSpec], settings: Settings
) -> tuple[Access, ...]:
    """What it takes to open every connection that fact sources are tables of, by key.

    Raises `NotFound`, `NoSecretKey`, `SecretUnreadable`.
    """
    keys = sorted({source.connection for source in sources if isinstance(source, TableSource)})
    return tuple([access(await get(session, key=key), SecretKeys.of(settings)) for key in keys])


async def require(session: AsyncSession, *, spec: FactSourceSpec) -> None:
    """Raise `InvalidDefinition` where a fact source names a connection that does not exist."""
    if isinstance(spec, TableSource):
        try:
            await get(session, key=spec.connection)
        except NotFound as error:
            raise InvalidDefinition(
                f"There is no connection `{spec.connection}`",
                remedy="Register the connection first, with POST /v1/connections.",
                errors=[FieldError("/connection", f"there is no connection `{spec.connection}`")],
            ) from error


async def seal_all_again(session: AsyncSession, *, keys: SecretKeys, actor: str, at: datetime) -> int:
    """Encrypt every secret with the first key; how many there are. Raises `NoSecretKey`, `SecretUnreadable`."""
    rows = list(await session.scalars(sa.select(Connection).where(col(Connection.secret).is_not(None))))
    for row in rows:
        assert row.secret is not None
        row.secret = keys.seal_again(row.secret)
        _audit(session, row.key, "connection.secret_encrypted_again", actor, at, None, None)
    return len(rows)


def _refuse_secrets_in(spec: ConnectionSpec) -> None:
    """Definitions are shown, exported and audited: what opens a door is no part of them."""
    if not isinstance(spec, PostgresConnection) and ("token=" in spec.remote.lower() or "@" in spec.remote):
        fault = "must hold neither a token nor a password"
        raise InvalidDefinition(
            f"The address {fault}: everybody who may read sees it",
            remedy="Leave it out here and set it as the connection's secret.",
            errors=[FieldError("/remote", fault)],
        )


def _audit(
    session: AsyncSession,
    key: str,
    action: str,
    actor: str,
    at: datetime,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    audit.record(
        session,
        actor=actor,
        action=action,
        subject_type="connection",
        subject_key=key,
        at=at,
        before=before,
        after=after,
    )
