"""When an experiment is looked at: daily, from the first possible complete unit to the last (METHODS B4)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

MAX_LOOKS = 60
"""A chart needs no more points, and past looks stay a subset of the daily ones."""

MAX_OPEN_LOOKS = 20
"""With an open-ended metric every look is a pass of its own."""


def look_times(
    *,
    started_at: datetime,
    ended_at: datetime | None,
    data_as_of: datetime,
    longest_window_days: float | None,
    most: int = MAX_LOOKS,
) -> tuple[datetime, ...]:
    """Ascending looks; the last one is the final one: `data_as_of`, or when the last unit's window closed if earlier.

    The daily boundaries begin when the first unit's longest window can be complete (one day after the start when every
    window is open-ended). More than `most` are thinned evenly; the last always stays.
    """
    ripening = timedelta(days=longest_window_days if longest_window_days is not None else 1)
    last = data_as_of if ended_at is None else min(data_as_of, ended_at + ripening)
    first = started_at + ripening
    day = timedelta(days=1)
    boundaries = [first + i * day for i in range(max(0, -((first - last) // day)))]
    return tuple(thin([*(at for at in boundaries if at < last), last], most))


def thin(times: Sequence[datetime], most: int) -> list[datetime]:
    """At most `most` of the times, evenly spaced by position, the last one always among them."""
    surplus = len(times) - most
    if surplus <= 0:
        return list(times)
    step = len(times) / most
    return [times[len(times) - 1 - round(i * step)] for i in range(most)][::-1]
