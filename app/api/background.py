"""Small tasks that outlive their request (ringing the bell) but not the service."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """Keeps references, so that no task is collected half-way, and waits for all of them at shutdown."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait until every task is done; their failures are theirs (a bell logs its own)."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
