"""Units that were erased and whose new rows are refused: they are known by a digest alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from experiments.unit_digest import unit_digest

ERASED_UNIT: Final = "erased_unit"
"""The reason that a row of such a unit is refused for."""


@dataclass(frozen=True, slots=True)
class RefusedUnits:
    """`digests` by unit type; `types`: the unit types of each experiment or event, where a row's subject has any.

    A subject that it does not know may hold units of every type.
    """

    key: bytes = field(repr=False)
    digests: Mapping[str, frozenset[str]]
    types: Mapping[str, frozenset[str]]

    def refuses(self, subject: str, unit_id: str) -> bool:
        """Whether a row of this unit is refused."""
        return any(
            unit_digest(self.key, unit_type, unit_id) in digests
            for unit_type, digests in self.digests.items()
            if unit_type in self.types.get(subject, self.digests)
        )

    def any_of(self, unit_ids: Iterable[str]) -> bool:
        """Whether one of these is refused in some unit type."""
        return any(
            unit_digest(self.key, unit_type, unit_id) in digests
            for unit_id in unit_ids
            for unit_type, digests in self.digests.items()
        )
