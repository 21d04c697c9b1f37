"""Conditions on facts."""

from typing import Literal

from pydantic import Field

from experiments.definitions.elements import Definition


class Filter(Definition):
    """Keep only facts for which `column op value` holds. Structured, so no user text reaches SQL."""

    column: str = Field(min_length=1, max_length=200)
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in"] = "="
    value: str | float | bool | list[str] | list[float]
