"""Parameters that many routes share."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from experiments.definitions import Moment

Handle = Annotated[str, Path(max_length=100, description="The key")]


class Input(BaseModel):
    """Base of request bodies that are not definitions: unknown fields are faults, numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class AnalysisIn(Input):
    """What to analyse is the frozen plan; only the time of the data is free."""

    data_as_of: Moment | None = Field(default=None, description="Use the data known at this time; default: now")


class MoveIn(Input):
    """When a move of the lifecycle happened."""

    at: Moment | None = Field(default=None, description="A time in the past, for imported experiments; default: now")


def iso(moment: datetime | None) -> str | None:
    """ISO-8601 in UTC."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def with_server_fields(spec: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A definition and what the server adds to it, as one flat resource."""
    return {**spec, **fields}
