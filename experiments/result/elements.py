"""What all result documents are made of."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Check(Document):
    """One trust check. `remedy` is one sentence; empty when the check passes."""

    name: str
    status: Literal["pass", "warn", "fail"]
    p_value: float | None = None
    detail: str
    remedy: str = ""
