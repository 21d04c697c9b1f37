"""An experiment's moments for the price of what is new: what the last pass kept is advanced, and kept again.

The result is that of `experiment_moments.extract_experiment`, whatever came late or twice or in another order.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.columns import layout
from experiments.definitions import EventSource
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from warehouse.data_slice import DataSlice
from warehouse.engine import connect, epoch_us
from warehouse.experiment_moments import Progress, extract_experiment, prepare
from warehouse.one_pass import Pass, is_open
from warehouse.scratch import STAGING, scratch_folder
from warehouse.state.advance import advance
from warehouse.state.arrivals import is_within
from warehouse.state.lane import Lane, Manifest, lane_folder
from warehouse.state.unusable import Unusable
from warehouse.units import count_exposures

_log: Final = logging.getLogger(__name__)


FEWEST_EXPOSURES: Final = 50_000
"""With fewer exposures a full pass costs less than the files of what would be kept."""


def why_in_full(plan: AnalysisPlan, data: DataSlice) -> str | None:
    """Why a plan is computed anew each time; None if its state can be kept.

    - `clusters`: the units of a cluster come at different times, and only its total counts.
    - `open_window`: a value that grows with every look is never complete; nor is one without any window.
    - `other_sources`: files and databases do not say what is new in them.
    - `unit_mapping`: a new row of the mapping changes whose facts old rows are.
    - `no_arrivals`: the slice does not name the batches behind its files, or no folder to keep anything in.
    - `few_exposures`: fewer than `FEWEST_EXPOSURES`.
    """
    if plan.cluster is not None:
        return "clusters"
    columns = layout([metric.spec for metric in plan.metrics])
    every = (*columns.columns, *(metric.column for metric in columns.quantiles))
    if any(is_open(column) for column in every) or not columns.longest_window_days:
        return "open_window"
    if not all(isinstance(source, EventSource) for source in plan.fact_sources):
        return "other_sources"
    if any(source.unit_mapping is not None for source in plan.fact_sources):
        return "unit_mapping"
    unnamed = data.exposure_files and not data.exposure_arrivals
    if data.data_dir is None or unnamed or set(data.event_files) - set(data.event_arrivals):
        return "no_arrivals"
    return None


def extract_incrementally(
    plan: AnalysisPlan,
    data: DataSlice,
    *,
    threads: int = 2,
    memory_limit: str | None = None,
    progress: Progress = lambda stage, fraction: None,
    fewest_exposures: int = FEWEST_EXPOSURES,
) -> MomentSet:
    """As `extract_experiment`, to 1e-9, from what the last pass over this plan kept below the slice's `data_dir`.

    The same slice gives the same bytes, whatever was kept: a slice that is older than what is kept, or that comes while
    another pass over the same plan runs, is computed by cohorts as well, and nothing of it is kept. Plans that
    `why_in_full` names take the full pass. Raises `SourceUnreadable`.
    """
    reason = why_in_full(plan, data)
    if reason is None and plan.exposures is None and _has_few_rows(data.exposure_files, fewest_exposures):
        reason = "few_exposures"
    if reason is None:
        with (
            connect(threads=threads, memory_limit=memory_limit) as connection,
            ThreadPoolExecutor(max(1, threads)) as pool,
        ):
            work = prepare(plan, data, connection, pool)
            if count_exposures(connection, work.data) >= fewest_exposures:
                try:
                    return _by_cohorts(plan, work, progress)
                except (Unusable, OSError) as error:
                    # A full disk, or two units with one hash, must not cost the analysis.
                    reason = f"{type(error).__name__}: {error}"
            else:
                reason = "few_exposures"
    _log.info("%s is computed in full: %s", plan.experiment_key, reason)
    return extract_experiment(plan, data, threads=threads, memory_limit=memory_limit, progress=progress)


def _has_few_rows(files: Sequence[Path], fewest: int) -> bool:
    """Whether files have fewer rows than that, by their footers; one that cannot be read is left to the engine."""
    rows = 0
    for path in files:
        try:
            rows += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowInvalid):
            return False
        if rows >= fewest:
            return False
    return rows < fewest


def _by_cohorts(plan: AnalysisPlan, work: Pass, progress: Progress) -> MomentSet:
    with Lane.held(lane_folder(plan, work.data, work)) as lane:
        manifest = None if lane is None else lane.manifest()
        if lane is not None and (manifest is None or not _is_older(work.data, manifest)):
            return _advanced(lane, plan, work, manifest, progress)
    assert work.data.data_dir is not None
    with scratch_folder(work.data.data_dir / STAGING) as folder:
        return advance(Lane(folder), plan, work, None, progress)


def _advanced(lane: Lane, plan: AnalysisPlan, work: Pass, manifest: Manifest | None, progress: Progress) -> MomentSet:
    """The moments, from what is kept if it holds, or else kept anew."""
    if manifest is not None:
        reason = _why_void(work.data, manifest)
        if reason is None:
            try:
                return advance(lane, plan, work, manifest, progress)
            except Unusable as error:
                reason = str(error)
        _log.info("%s is kept anew: %s", plan.experiment_key, reason)
    return advance(lane, plan, work, None, progress)


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
