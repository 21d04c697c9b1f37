"""The models of the library by name."""

from __future__ import annotations

from typing import Final

from stats.bayes.models import exchangeable
from stats.bayes.models.definition import ModelDefinition

_ALL: Final[tuple[ModelDefinition, ...]] = (exchangeable.DEFINITION,)

DEFINITIONS: Final[dict[str, ModelDefinition]] = {definition.name: definition for definition in _ALL}
