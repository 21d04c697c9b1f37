"""Charts that are made when a test first asks for them, with Altair's own checks, which the service leaves out."""

from collections.abc import Callable, Iterator, Mapping

from altair.utils import schemapi

from app.charts.theme import Spec


class Drawn(Mapping[str, Spec]):
    """Specifications by name."""

    def __init__(self, makers: Mapping[str, Callable[[], Spec]]) -> None:
        self._makers = makers
        self._made: dict[str, Spec] = {}

    def __getitem__(self, name: str) -> Spec:
        if name not in self._made:
            with schemapi.debug_mode(True):
                self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
