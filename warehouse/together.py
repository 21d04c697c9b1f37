"""One analysis measures those that are due with it: they share a pass, and what is others' is kept for them.

Nobody depends on anybody: a pass that dies, is cancelled, or takes too long costs the others what it would have cost
them alone, and whoever finds nothing measures. What is found is what a plan has alone, to 1e-9.
"""

import logging
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import duckdb

from experiments.errors import DomainError
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from warehouse.data_slice import DataSlice
from warehouse.experiment_moments import Progress
from warehouse.kept_moments import Measured, claimed, is_kept, keep_moments, read_moments
from warehouse.shared_pass import extract_experiments

WAITING: Final = "waiting for a shared pass"
_PAUSE_SECONDS: Final = 0.1

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A plan and its data, and their `kept_moments.key_of`."""

    key: str
    plan: AnalysisPlan
    data: DataSlice


@dataclass(frozen=True, slots=True)
class Together:
    """Who else is due. Waiting for others, and measuring for them, ends after so many seconds."""

    key: str
    companions: tuple[Asked, ...]
    seconds: float


class _Late(Exception):
    """The time for others is over."""


def measure_together(
    plan: AnalysisPlan,
    data: DataSlice,
    together: Together,
    *,
    threads: int = 2,
    memory_limit: str | None = None,
    progress: Progress = lambda stage, fraction: None,
) -> MomentSet | None:
    """The moments of a plan that another pass kept, or that this one makes together with those of its companions.

    None where the plan is to be measured alone: nobody is due with it, or something went wrong in a pass for several.
    Also where a source could not be read, which may be for want of memory for so many: alone it has its own error.
    """
    assert data.data_dir is not None
    until = time.monotonic() + together.seconds
    own = Asked(together.key, plan, data)
    try:
        while (found := read_moments(data.data_dir, own.key)) is None:
            with claimed(data.data_dir, own.key, (one.key for one in together.companions)) as mine:
                if own.key in mine:
                    # Whoever had it has given it up since we looked: with or without moments.
                    found = read_moments(data.data_dir, own.key)
                    if found is not None:
                        break
                    others = [
                        one for one in together.companions if one.key in mine and not is_kept(data.data_dir, one.key)
                    ]
                    if not others:
                        return None
                    return _measured([own, *others], data.data_dir, until, threads, memory_limit, progress)
            if time.monotonic() > until:
                return None
            progress(WAITING, 0.0)
            time.sleep(_PAUSE_SECONDS)
    except OSError as error:
        # A folder that cannot be written to must not cost the analysis.
        _log.warning("%s is measured alone: %s", plan.experiment_key, type(error).__name__)
        return None
    return found.moments


def _measured(
    asked: Sequence[Asked],
    data_dir: Path,
    until: float,
    threads: int,
    memory_limit: str | None,
    progress: Progress,
) -> MomentSet | None:
    """The moments of the first, and all of them kept."""
    own: list[MomentSet] = []

    def take(place: int, found: MomentSet | DomainError, readings: int) -> None:
        if isinstance(found, MomentSet):
            if place == 0:
                own.append(found)
            keep_moments(data_dir, asked[place].key, Measured(found, len(asked), readings))

    try:
        extract_experiments(
            [(one.plan, one.data) for one in asked],
            threads=threads,
            memory_limit=memory_limit,
            progress=partial(_within, until, progress),
            found_one=take,
        )
        _log.info("%d experiments with %s are measured in one pass", len(asked), asked[0].plan.experiment_key)
    except _Late:
        _log.info("%s has no time left to measure others", asked[0].plan.experiment_key)
    except (
        duckdb.Error, MemoryError, OSError, ArithmeticError, AssertionError, LookupError, TypeError, ValueError
    ) as error:  # fmt: skip
        # Whatever it is about the data of another experiment, it is not to be the end of this one.
        # The message stays out: it may quote a value of somebody's row.
        where = "".join(traceback.format_tb(error.__traceback__))
        _log.warning("a pass for %d experiments failed: %s\n%s", len(asked), type(error).__name__, where)
    return own[0] if own else None


def _within(until: float, progress: Progress, stage: str, fraction: float) -> None:
    progress(stage, fraction)
    if time.monotonic() > until:
        raise _Late
