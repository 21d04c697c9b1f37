"""The circumstances of a growth review."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ReviewContext:
    """The circumstances of one analysis. No clock is read anywhere below this."""

    analysis_id: str
    data_as_of: datetime
    seed: int
    code_version: str
    plan_hash: str
