"""What is asked of the compiled models, and what a worker and its model processes say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stats.bayes.models.definition import ModelDefinition
from stats.bayes.models.fit import ModelFit, Question


@dataclass(frozen=True, slots=True)
class SizedModel:
    """A model in one of its size classes: what a program is compiled for."""

    definition: ModelDefinition
    size: int


@dataclass(frozen=True, slots=True)
class ModelQuestion:
    """What a child asks its worker: all models of one analysis. The answer is one `ModelFit` per question, in order.

    Every question is fitted with the same `seed`, so that its bits do not depend on its neighbours.
    """

    questions: tuple[Question, ...]
    seed: int


# --- the envelope: requests have numbers, and several may be under way ------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """Do some work. It travels pickled, so that work that cannot be read costs only itself."""

    number: int
    work: bytes


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this request any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Begun:
    """The request is being worked on: its time runs from here."""

    number: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of the request is done, in [0, 1]."""

    number: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Reply:
    """The last word on a request: `Cancelled`, `Failed`, or what its kind of work promises."""

    number: int
    body: Any


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The request ended early because it was cancelled."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Our code is at fault, and would be again; the text is for the result document."""

    reason: str


# --- the work ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fit:
    """Fit one question on so many cores. Answered by `Fitted`, `NotThere` or `Unusable`."""

    question: Question
    seed: int
    cores: int
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Load what bundles there are of these models, before anybody asks. Answered by `Loaded`."""

    models: tuple[SizedModel, ...]


@dataclass(frozen=True, slots=True)
class Compile:
    """Compile a model and keep it as a bundle, unless there is one. Answered by `Compiled`."""

    model: SizedModel


# --- the answers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """What the process that answers holds: programs, bytes of their bundles, resident bytes (0 where unknown)."""

    programs: int
    code_bytes: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fit, whatever its status."""

    fit: ModelFit
    memory: Memory


@dataclass(frozen=True, slots=True)
class NotThere:
    """The bundle is not in the folder (any more)."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """The bundle must not run here. It has been removed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What could be loaded."""

    models: tuple[SizedModel, ...]
    memory: Memory


@dataclass(frozen=True, slots=True)
class Compiled:
    """Compiled within so many seconds; `kept_because` says why it is no bundle and stays in the compiling process."""

    seconds: float
    kept_because: str = ""
