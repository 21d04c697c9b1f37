"""When an experiment is looked at: from the first possible complete unit to the last (METHODS B2, B4)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from experiments.definitions import Sequential

MAX_LOOKS = 60
"""A chart needs no more points, and past looks stay a subset of the daily ones."""

MAX_OPEN_LOOKS = 20
"""With an open-ended metric every look is a pass of its own."""


MAX_PLANNED_LOOKS = 120
"""Group-sequential looks are never thinned: later ones than this are left to the final look."""


def planned_looks(
    sequential: Sequential,
    *,
    started_at: datetime,
    ended_at: datetime | None,
    data_as_of: datetime,
    longest_window_days: float | None,
    has_open: bool,
) -> tuple[datetime, ...]:
    """The looks of a plan, the same on every road: those of `look_times`, fewer where values change with them."""
    return look_times(
        started_at=started_at,
        ended_at=ended_at,
        data_as_of=data_as_of,
        longest_window_days=longest_window_days,
        most=MAX_OPEN_LOOKS if has_open else MAX_LOOKS,
        every_days=sequential.look_every_days if sequential.method == "group_sequential" else None,
    )


def look_times(
    *,
    started_at: datetime,
    ended_at: datetime | None,
    data_as_of: datetime,
    longest_window_days: float | None,
    most: int = MAX_LOOKS,
    every_days: int | None = None,
) -> tuple[datetime, ...]:
    """Ascending looks; the last one is the final one: `data_as_of`, or when the last unit's window closed if earlier.

    The daily boundaries begin when the first unit's longest window can be complete (one day after the start when every
    window is open-ended). More than `most` are thinned evenly; the last always stays. With `every_days` the looks are
    planned ones (METHODS B2): that many days apart and never thinned, so that past looks stay what they were as time
    goes on; past the first `MAX_PLANNED_LOOKS` only the final one is added.
    """
    ripening = timedelta(days=longest_window_days if longest_window_days is not None else 1)
    last = data_as_of if ended_at is None else min(data_as_of, ended_at + ripening)
    first = started_at + ripening
    step = timedelta(days=every_days or 1)
    boundaries = [first + i * step for i in range(max(0, -((first - last) // step)))]
    earlier = [at for at in boundaries if at < last]
    if every_days is not None:
        return (*earlier[: MAX_PLANNED_LOOKS - 1], last)
    return tuple(thin([*earlier, last], most))


def thin(times: Sequence[datetime], most: int) -> list[datetime]:
    """At most `most` of the times, evenly spaced by position, the last one always among them."""
    surplus = len(times) - most
    if surplus <= 0:
        return list(times)
    step = len(times) / most
    return [times[len(times) - 1 - round(i * step)] for i in range(most)][::-1]
