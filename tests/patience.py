"""How tests wait: for what must come, so long that no load of the machine decides, and never for a time to pass."""

import asyncio
import time
from collections.abc import Callable

LONG = 120.0
"""Seconds after which it will not come on any machine."""


def comes(reached: Callable[[], bool], seconds: float = LONG) -> bool:
    """Whether it came about."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            return reached()
        time.sleep(0.02)
    return True


async def comes_about(reached: Callable[[], bool], seconds: float = LONG) -> bool:
    """Whether it came about, while other tasks go on."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            return reached()
        await asyncio.sleep(0.02)
    return True
