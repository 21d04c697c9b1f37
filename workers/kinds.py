"""A kind of analysis: what a worker looks up for one, and which function a child runs on it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from experiments.settings import Settings
from experiments.tables import Analysis


@dataclass(frozen=True, slots=True)
class JobKind:
    """`prepare` reads in a session what the child needs and returns its picklable payload; `entry` is the child's

    function as "package.module:function". A DomainError from `prepare` fails the analysis.
    """

    entry: str
    prepare: Callable[[AsyncSession, Settings, Analysis], Awaitable[Any]]


type Kinds = Mapping[str, JobKind]
