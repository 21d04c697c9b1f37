"""/v1/ingest/batches: which batches are in the store, and the rows that they were taken without."""

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from fastapi import Path, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from app.api.deps import ReadSession, SettingsDep
from app.api.ingest import RowFault
from app.api.paging import Listing, Paging
from app.api.problems import problems
from app.api.routing import PlainRoute, api_router
from app.api.security import Ingester
from experiments import ingest_batch
from experiments.errors import NotFound
from experiments.tables import IngestBatch
from warehouse.dead_letters import dead_letter_file
from warehouse.report import reasons_of

router = api_router("ingest", "/ingest/batches", PlainRoute)
NDJSON: Final = "application/x-ndjson"
type Stream = Literal["exposures", "events"]
# An id is any text that the client chose, slashes included.
type GivenId = Annotated[str, Path(alias="batch_id", max_length=200, description="The id that the batch was sent with")]


class BatchOut(BaseModel):
    """A batch in the store. `name` is that of its files, which problems of fact sources refer to."""

    stream: str
    batch_id: str
    name: str
    accepted: int
    rejected: int
    reasons: dict[str, int] = Field(description="Refused rows by reason")
    dead_letters: bool = Field(description="Whether the refused rows can be read")
    subjects: list[str] = Field(description="Its experiments, or its events")
    first_at: datetime | None = Field(description="When the earliest of its rows happened")
    last_at: datetime | None
    recorded_at: datetime
    sent_by: str

    @classmethod
    def of(cls, row: IngestBatch) -> Self:
        return cls(
            stream=row.stream,
            batch_id=row.batch_id,
            name=row.path.removesuffix(".parquet"),
            accepted=row.accepted,
            rejected=row.rejected,
            reasons=reasons_of(row.errors),
            dead_letters=row.dead_letters is not None,
            subjects=row.subjects,
            first_at=row.first_at,
            last_at=row.last_at,
            recorded_at=row.created_at,
            sent_by=row.created_by,
        )


class BatchDetail(BatchOut):
    """A batch with the first of its refused rows."""

    errors: list[RowFault]

    @classmethod
    def of(cls, row: IngestBatch) -> Self:
        listed = BatchOut.of(row).model_dump()
        return cls(**listed, errors=[RowFault.model_validate(error) for error in row.errors])


@router.get("", summary="List batches in the store")
async def list_batches(
    caller: Ingester,
    session: ReadSession,
    paging: Paging,
    stream: Annotated[Stream | None, Query(description="Only batches of this stream")] = None,
) -> Listing[BatchOut]:
    page = await ingest_batch.page(session, stream=stream, limit=paging.limit, after=paging.after)
    return Listing[BatchOut].of(page, BatchOut.of)


@router.get(
    "/{stream}/{batch_id:path}/dead-letters",
    summary="Read the refused rows of a batch",
    response_class=FileResponse,
    responses={
        **problems(NotFound),
        200: {"description": "One JSON object per line", "content": {NDJSON: {"schema": {"type": "string"}}}},
    },
)
async def get_dead_letters(
    caller: Ingester, session: ReadSession, settings: SettingsDep, stream: Stream, batch_id: GivenId
) -> FileResponse:
    """Each line has the row's number, the field, reason, detail and remedy, and `received`: the row as it was sent."""
    batch = await ingest_batch.get(session, stream=stream, batch_id=batch_id)
    path = None if batch.dead_letters is None else dead_letter_file(settings.data_dir, batch.dead_letters)
    if path is None or not path.is_file():
        raise NotFound(
            f"Batch {batch_id!r} has no dead letters",
            remedy="They are there when rows were refused with on_error=keep_good,"
            f" for {settings.dead_letter_days:g} days.",
        )
    return FileResponse(path, media_type=NDJSON, headers={"Cache-Control": "no-store"})


@router.get("/{stream}/{batch_id:path}", summary="Read what became of a batch", responses=problems(NotFound))
async def get_batch(caller: Ingester, session: ReadSession, stream: Stream, batch_id: GivenId) -> BatchDetail:
    return BatchDetail.of(await ingest_batch.get(session, stream=stream, batch_id=batch_id))
