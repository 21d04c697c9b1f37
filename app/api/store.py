"""/v1/store: what is in the store, subject by subject."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.api.routing import api_router
from app.api.security import Reader
from warehouse.inventory import Inventory, inventory

router = api_router("store", "/store")


class SubjectOut(BaseModel):
    """An event, or the exposures of an experiment."""

    model_config = ConfigDict(from_attributes=True)

    stream: Literal["exposures", "events"]
    subject: str = Field(description="The event, or the experiment's key")
    rows: int
    batches: int
    loose_files: int = Field(description="Files of batches that were not compacted yet")
    segments: int = Field(description="Compacted segments of 16 files each")
    size_bytes: int
    latest_batch_at: datetime


class StoreOut(BaseModel):
    """Rows, batches and files by subject; and since when rows are kept (null: for ever)."""

    subjects: list[SubjectOut]
    events_kept_since: datetime | None
    exposures_kept_since: datetime | None
    batches_with_refused_rows: int
    refused_rows: int

    @classmethod
    def of(cls, found: Inventory) -> Self:
        return cls(
            subjects=[SubjectOut.model_validate(one) for one in found.subjects],
            events_kept_since=found.kept_since["events"],
            exposures_kept_since=found.kept_since["exposures"],
            batches_with_refused_rows=found.batches_with_refused_rows,
            refused_rows=found.refused_rows,
        )


@router.get("", summary="What is in the store")
async def get_store(caller: Reader, database: DatabaseDep, settings: SettingsDep, now: Now) -> StoreOut:
    return StoreOut.of(await inventory(database, settings, at=now))
