"""Who may use the cores: first come, first served, and a large request is not starved by small ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque


class Slots:
    """So many slots, taken one, several or all at a time. Use it from one event loop."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._urgent = 0

    @property
    def idle(self) -> bool:
        """Whether nobody has or wants one."""
        return self._free == self.total

    async def take(self, count: int = 1, *, urgent: bool = True) -> None:
        """Wait for `count` slots; who is not urgent goes after all who are."""
        if self._free >= count and not self._waiting:
            self._free -= count
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (count, turn)
        if urgent:
            self._waiting.insert(self._urgent, place)
            self._urgent += 1
        else:
            self._waiting.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(count)  # it came while we were told to go
            else:
                with contextlib.suppress(ValueError):
                    self._forget(place)
                self._next()
            raise

    def give(self, count: int = 1) -> None:
        """Return slots."""
        self._free += count
        self._next()

    def _next(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            place = self._waiting[0]
            self._forget(place)
            if not place[1].done():
                self._free -= place[0]
                place[1].set_result(None)

    def _forget(self, place: tuple[int, asyncio.Future[None]]) -> None:
        position = self._waiting.index(place)
        del self._waiting[position]
        if position < self._urgent:
            self._urgent -= 1
