"""/v1/erasures: deleting everything of a unit. Ids are taken in, and no answer has one."""

import uuid
from datetime import datetime
from typing import Annotated, Literal

import anyio
from fastapi import Body, Query, Response
from pydantic import BaseModel, Field, SecretStr, field_validator
from sqlalchemy.ext.asyncio import AsyncSession

from app.api import examples
from app.api.deps import Now, ReadSession, SettingsDep, UnitOfWork
from app.api.paging import Listing, Paging
from app.api.parameters import Handle, Input
from app.api.problems import problems
from app.api.routing import api_router
from app.api.security import Admin, Reader
from experiments import erasure, experiment, overview
from experiments.erasure import Effects
from experiments.errors import NotFound
from experiments.settings import Settings
from experiments.tables import Erasure
from experiments.unit_digest import digest_key

MOST_IDS = 50
_LONGEST_ID = 200

router = api_router("erasures", "/erasures")
of_experiment = api_router("erasures", "/experiments/{key}")


class ErasureIn(Input):
    """Whose rows are to be deleted. `also_ids`: other ids of the same unit (devices, cookies) in rows of this type."""

    unit_type: str = Field(min_length=1, max_length=64)
    unit_id: SecretStr = Field(min_length=1, max_length=_LONGEST_ID)
    also_ids: list[SecretStr] = Field(default_factory=list, max_length=MOST_IDS)
    reason: str = Field(default="", max_length=1000, description="Kept; an id must not be in it")
    refuse_future: bool = Field(default=False, description="Refuse new rows of these ids from now on")

    @field_validator("unit_id", "also_ids")
    @classmethod
    def _could_be_stored(cls, value: SecretStr | list[SecretStr]) -> SecretStr | list[SecretStr]:
        for each in value if isinstance(value, list) else [value]:
            text = each.get_secret_value()
            if not text.strip() or "\x00" in text or len(text.encode(errors="surrogatepass")) > _LONGEST_ID:
                raise ValueError("no row has such an id: ids are not blank, and have at most 200 bytes")
        return value


class ErasureOut(BaseModel):
    """An erasure. `unit_digest` is a keyed digest of the id.

    queued -> running -> removing -> done. In `removing`, no new analysis finds the rows (since `rewritten_at`); the
    files that held them are deleted when no analysis that began before can be reading them.
    """

    id: uuid.UUID
    unit_type: str
    unit_digest: str
    reason: str
    refuse_future: bool
    state: Literal["queued", "running", "removing", "done"]
    effects: Effects | None
    requested_by: str
    requested_at: datetime
    rewritten_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: Erasure) -> "ErasureOut":
        return cls.model_validate(row, from_attributes=True)


class ErasuresOut(BaseModel):
    """One erasure for each id, in the order of the request."""

    items: list[ErasureOut]


class ErasedUnitsOut(BaseModel):
    """Units by variant that an experiment has lost to erasures; "": in several variants, or unknown."""

    experiment_key: str
    since_start: dict[str, int]
    result_id: uuid.UUID | None
    since_result: dict[str, int] = Field(description="Those that the latest result still counts")


@router.post("", status_code=202, summary="Delete everything of a unit")
async def request_erasure(
    caller: Admin,
    session: UnitOfWork,
    now: Now,
    settings: SettingsDep,
    wanted: Annotated[ErasureIn, Body(openapi_examples=examples.example(examples.ERASURE))],
) -> ErasuresOut:
    rows = await ask(session, settings, wanted, actor=caller.name, at=now)
    return ErasuresOut(items=[ErasureOut.of(row) for row in rows])


async def ask(
    session: AsyncSession, settings: Settings, wanted: ErasureIn, *, actor: str, at: datetime
) -> list[Erasure]:
    """Ask for the erasures, one for each id."""
    return await erasure.request(
        session,
        unit_type=wanted.unit_type,
        unit_ids=[each.get_secret_value() for each in (wanted.unit_id, *wanted.also_ids)],
        reason=wanted.reason,
        refuse_future=wanted.refuse_future,
        key=await anyio.to_thread.run_sync(digest_key, settings.data_dir),
        actor=actor,
        at=at,
    )


@router.get("", summary="List erasures")
async def list_erasures(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    state: Annotated[Literal["queued", "running", "removing", "done"] | None, Query()] = None,
) -> Listing[ErasureOut]:
    page = await erasure.page(session, state=state, limit=paging.limit, after=paging.after)
    return Listing[ErasureOut].of(page, ErasureOut.of)


@router.get("/{erasure_id}", summary="Read an erasure", responses=problems(NotFound))
async def get_erasure(caller: Reader, session: ReadSession, erasure_id: uuid.UUID, response: Response) -> ErasureOut:
    response.headers["Cache-Control"] = "no-store"
    return ErasureOut.of(await erasure.get(session, erasure_id=erasure_id))


@of_experiment.get("/erased-units", summary="Units that an experiment lost to erasures", responses=problems(NotFound))
async def erased_units(caller: Reader, session: ReadSession, key: Handle) -> ErasedUnitsOut:
    row = await experiment.get(session, key=key)
    result = await overview.latest_result(session, kind="experiment", subject_key=row.key)
    return ErasedUnitsOut(
        experiment_key=row.key,
        since_start=await erasure.lost_units(session, experiment_key=row.key),
        result_id=None if result is None else result.id,
        since_result={} if result is None else await erasure.lost_since_result(session, result=result),
    )
