"""An experiment's moments for the price of what is new: what the last pass kept is advanced, and kept again.

The result is that of `experiment_moments.extract_experiment`, whatever came late or twice or in another order.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final

from experiments.definitions import EventSource
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from warehouse.data_slice import DataSlice
from warehouse.engine import connect, epoch_us
from warehouse.experiment_moments import Progress, extract_experiment, prepare
from warehouse.one_pass import Pass, is_open
from warehouse.state.advance import advance
from warehouse.state.arrivals import is_within
from warehouse.state.lane import Lane, Manifest, lane_folder
from warehouse.state.unusable import Unusable

_log: Final = logging.getLogger(__name__)


def why_in_full(plan: AnalysisPlan, data: DataSlice, work: Pass | None = None) -> str | None:
    """Why a plan is computed anew each time; None if its state can be kept.

    - `open_window`: a value that grows with every look is never complete.
    - `no_window`: nothing has a window, so units are not grouped by when it ends.
    - `clusters`: the units of a cluster come at different times, and only its total counts.
    - `other_sources`: files and databases do not say what is new in them.
    - `unit_mapping`: a new row of the mapping changes whose facts old rows are.
    - `no_arrivals`: the slice does not name the batches behind its files.
    """
    if plan.cluster is not None:
        return "clusters"
    if not all(isinstance(source, EventSource) for source in plan.fact_sources):
        return "other_sources"
    if any(source.unit_mapping is not None for source in plan.fact_sources):
        return "unit_mapping"
    has_files = bool(data.exposure_files) and plan.exposures is None
    if (
        data.data_dir is None
        or (has_files and not data.exposure_arrivals)
        or set(data.event_files) - set(data.event_arrivals)
    ):
        return "no_arrivals"
    if work is not None and any(is_open(column) for column in (*work.columns, *work.wanted.columns)):
        return "open_window"
    if work is not None and work.longest_us == 0:
        return "no_window"
    return None


def extract_incrementally(
    plan: AnalysisPlan,
    data: DataSlice,
    *,
    threads: int = 2,
    memory_limit: str | None = None,
    progress: Progress = lambda stage, fraction: None,
) -> MomentSet:
    """As `extract_experiment`, to 1e-9, from what the last pass over this plan kept below the slice's `data_dir`.

    Computed in full are plans that `why_in_full` names, slices older than what is kept, and whatever runs while
    another pass over the same plan does. Raises `SourceUnreadable`.
    """
    found, reason = None, why_in_full(plan, data)
    if reason is None:
        with (
            connect(threads=threads, memory_limit=memory_limit) as connection,
            ThreadPoolExecutor(max(1, threads)) as pool,
        ):
            work = prepare(plan, data, connection, pool)
            reason = why_in_full(plan, data, work)
            if reason is None:
                with Lane.held(lane_folder(plan, data, work)) as lane:
                    found, reason = (None, "in_use") if lane is None else _from(lane, plan, work, progress)
    if found is not None:
        return found
    _log.info("%s is computed in full: %s", plan.experiment_key, reason)
    return extract_experiment(plan, data, threads=threads, memory_limit=memory_limit, progress=progress)


def _from(lane: Lane, plan: AnalysisPlan, work: Pass, progress: Progress) -> tuple[MomentSet | None, str | None]:
    """The moments, or why there are none from a lane."""
    manifest = lane.manifest()
    if manifest is not None and _is_older(work.data, manifest):
        return None, "older_than_kept"
    reason = None if manifest is None else _why_void(work.data, manifest)
    if reason is None and manifest is not None:
        try:
            return advance(lane, plan, work, manifest, progress), None
        except Unusable as error:
            reason = str(error)
    if reason is not None:
        _log.info("%s is kept anew: %s", plan.experiment_key, reason)
    try:
        return advance(lane, plan, work, None, progress), None
    except Unusable as error:
        return None, str(error)
    except OSError as error:
        # A full disk must not cost the analysis.
        return None, f"nothing can be kept: {type(error).__name__}"


def _is_older(data: DataSlice, manifest: Manifest) -> bool:
    return epoch_us(data.data_as_of) < manifest.as_of_us


def _why_void(data: DataSlice, manifest: Manifest) -> str | None:
    """Why what was kept does not hold for a slice that is no older."""
    if data.erasures != manifest.erasures:
        return "rows were erased"
    if not is_within(manifest.seen, data):
        return "a batch is gone"
    ended = _us(data.ended_at)
    if ended != manifest.ended_us and (manifest.ended_us is not None or (ended or 0) < manifest.as_of_us):
        return "the end of exposure moved"
    return None


def _us(at: datetime | None) -> int | None:
    return None if at is None else epoch_us(at)
