"""What all definitions are made of: keys, times, directions, and the strictness they share."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

KEY_PATTERN = r"^[a-z0-9][a-z0-9_\-]{0,62}$"
Key = Annotated[str, Field(pattern=KEY_PATTERN, description="Human slug: lower-case letters, digits, - and _")]
_IDENTIFIER = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def _formula_name(key: str) -> str:
    if not _IDENTIFIER.match(key):
        raise ValueError(
            "a metric key is used as a name in formulas: letters, digits and _ only, not starting with a digit"
        )
    return key


def _within_history(moment: datetime) -> datetime:
    if not 1970 <= moment.year < 2200:
        raise ValueError("the year must be between 1970 and 2199")
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_within_history)]
"""A time with its offset, kept in UTC. The limits keep every conversion to UTC possible."""

MetricKey = Annotated[str, Field(pattern=KEY_PATTERN), AfterValidator(_formula_name)]


class Definition(BaseModel):
    """Base of all definitions: unknown fields are faults, numbers are finite, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _texts_can_be_stored(self) -> Self:
        for value in self.__dict__.values():
            texts = value if isinstance(value, list) else (value,)
            if isinstance(value, dict):
                texts = [*value, *value.values()]
            if any(isinstance(text, str) and "\x00" in text for text in texts):
                raise ValueError("texts cannot contain the character U+0000")
        return self


class Direction(StrEnum):
    INCREASE = "increase"
    DECREASE = "decrease"


class Stage(StrEnum):
    """AAARRR funnel stage of a metric."""

    AWARENESS = "awareness"
    ACQUISITION = "acquisition"
    ACTIVATION = "activation"
    RETENTION = "retention"
    REVENUE = "revenue"
    REFERRAL = "referral"
