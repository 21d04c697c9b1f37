"""From what was kept to the moments of now: who is new or changed, what came late, and the cohorts that this touches.

A cohort is kept from the first look at which all its windows are complete. Its facts are read once; a fact that comes
later, or a unit whose first exposure turns out to be earlier, is added to them and the cohort's moments are made again.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np

from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from stats.moments import Ints
from warehouse import experiment_moments, parquet
from warehouse.caps import columns_to_read, tops_of
from warehouse.engine import Parameters, epoch_us
from warehouse.experiment_moments import Progress
from warehouse.one_pass import Pass
from warehouse.planned_pass import attributes_of
from warehouse.scratch import STAGING, scratch_folder
from warehouse.sources import open_source
from warehouse.state import everybody
from warehouse.state.arrivals import new_events, only_events, seen_in, shared_times
from warehouse.state.cohort_facts import CohortFacts, by_cohort, cohort_of, last_moment
from warehouse.state.cohorts import Cohort, CohortMoments, Setting
from warehouse.state.known_units import codes_of
from warehouse.state.lane import Lane, Manifest
from warehouse.state.unusable import Unusable
from warehouse.values import read_all

_NOBODY = np.zeros(0, dtype=np.uint64)


def advance(lane: Lane, plan: AnalysisPlan, work: Pass, manifest: Manifest | None, progress: Progress) -> MomentSet:
    """The moments of a slice, from what was kept (None: from nothing), and a new manifest that is in force.

    Raises `Unusable`, `SourceUnreadable`.
    """
    data, types = work.data, _types(work, manifest)
    assert data.data_dir is not None
    with scratch_folder(data.data_dir / STAGING) as folder:
        progress("reading exposures", 0.0)
        who = everybody.of_now(lane, plan, work, manifest, folder)
        codes = codes_of(who.known, attributes_of(plan), who.levels, dict(work.levels))
        setting = Setting(lane, work, who, codes)
        progress("reading facts", 0.2)
        reading = _Reading(setting, manifest, folder)
        reading.read()
    progress("computing moments", 0.6)
    found, cohorts = CohortMoments(setting, reading.cohorts, reading.of_partial).finish()
    lane.put_in_force(
        Manifest(
            as_of_us=epoch_us(data.data_as_of),
            ended_us=None if data.ended_at is None else epoch_us(data.ended_at),
            erasures=data.erasures,
            seen=seen_in(data),
            types=types,
            levels=who.levels,
            units=who.file or lane.keep(who.known),
            cohorts=tuple(cohorts),
        )
    )
    progress("computing moments", 1.0)
    return found


def _types(work: Pass, manifest: Manifest | None) -> dict[str, dict[str, str]]:
    """The columns of every source; one that has another type now makes other facts of old rows."""
    found = {}
    for key, spec in work.sources.items():
        source = open_source(work.connection, spec, work.data, Parameters())
        found[key] = {} if source is None else {n: t for n, t in source.types.items() if n != parquet.RECORDED}
    for key, before in {} if manifest is None else manifest.types.items():
        if any(found[key].get(name) != kind for name, kind in before.items()):
            raise Unusable(f"a column of {key} has another type now")
    return found


class _Reading:
    """The facts of complete cohorts, and of the one that is open, brought up to now."""

    def __init__(self, setting: Setting, manifest: Manifest | None, folder: Path) -> None:
        self._setting, self._manifest, self._folder = setting, manifest, folder
        kept = {} if manifest is None else {one.index: one for one in manifest.cohorts}
        self._by_index = {index: Cohort(index, kept.get(index)) for index in setting.complete}
        self._held = 0
        self.of_partial = CohortFacts(_NOBODY, {})

    @property
    def cohorts(self) -> list[Cohort]:
        return list(self._by_index.values())

    def read(self) -> None:
        """Read what is new, and add it to what is kept."""
        setting, who = self._setting, self._setting.who
        late = {} if self._manifest is None else self._late(self._manifest)
        new = [index for index, cohort in self._by_index.items() if cohort.kept is None]
        left = cohort_of(who.left_us, setting.started_us)
        touched = np.concatenate([left, setting.cohort[who.regrouped], setting.cohort[who.fresh]])
        changed = {*new, *late, *np.unique(touched).tolist()}
        fresh = who.fresh[setting.cohort[who.fresh] < setting.open]
        again = fresh[~np.isin(setting.cohort[fresh], new)]
        rows = np.concatenate([setting.rows(*new), again, setting.partial])
        rows = rows[setting.variant[rows] >= 0]
        rows = rows[np.lexsort((rows, setting.cohort[rows]))]
        for group in self._groups(rows):
            rowid = who.table_of(setting.work, group)
            for index, facts in self._facts(setting.work, group, rowid).items():
                if index in self._by_index:
                    self._bring(self._by_index[index], facts, late.get(index))
                    changed.discard(index)
                else:
                    self.of_partial = facts
        for index, cohort in self._by_index.items():
            if index in changed:
                self._bring(cohort, None, late.get(index))

    def _groups(self, rows: Ints) -> Iterator[Ints]:
        """Rows of whole cohorts that are read at a time."""
        cohort, begin = self._setting.cohort[rows], 0
        width = max(1, len(self._setting.work.columns) + self._setting.work.wanted.width)
        most = max(1, experiment_moments.BUCKET_BYTES // (8 * width))
        while begin < len(rows):
            end = min(begin + most, len(rows))
            if end < len(rows):
                edge = int(np.searchsorted(cohort, cohort[end], side="left"))
                end = edge if edge > begin else int(np.searchsorted(cohort, cohort[begin], side="right"))
            yield rows[begin:end]
            begin = end

    def _facts(self, work: Pass, rows: Ints, rowid: Ints) -> dict[int, CohortFacts]:
        """The facts of units that lie in order of their cohorts, and are in the table `UNITS` at `rowid`."""
        known = self._setting.who.known.take(rows)
        units = replace(self._setting.units(rows), rowid=rowid)
        work = replace(work, exposed_us=(int(known.assigned_us.min()), int(known.at_us.max())))
        facts = read_all(work, units, self._setting.last_us, columns_to_read(work))
        return by_cohort(facts, known.hash, self._setting.cohort[rows])

    def _late(self, manifest: Manifest) -> dict[int, CohortFacts]:
        """Facts of new batches in the windows of units that were read before."""
        setting = self._setting
        kept = [index for index, cohort in self._by_index.items() if cohort.kept is not None]
        if not kept:
            return {}
        until = last_moment(max(kept), setting.started_us) + setting.work.longest_us
        arrivals = new_events(manifest.seen, setting.work.data, until)
        for event, ones in arrivals.items():
            if shared_times(ones, setting.work.data.event_arrivals[event]):
                raise Unusable("batches cannot be told apart")
        if not arrivals:
            return {}
        data = only_events(setting.work.connection, setting.work.data, arrivals, self._folder)
        work = replace(setting.work, data=data)
        old = np.isin(setting.cohort, kept) & (setting.variant >= 0)
        old[setting.who.fresh] = False
        rows, rowid = setting.who.table_of_late(work, columns_to_read(work), until, old)
        order = np.argsort(setting.cohort[rows], kind="stable")
        return self._facts(work, rows[order], rowid[order]) if len(rows) else {}

    def _bring(self, cohort: Cohort, found: CohortFacts | None, late: CohortFacts | None) -> None:
        """The facts of a cohort as they are now."""
        setting = self._setting
        rows = setting.rows(cohort.index)
        hashes = setting.who.known.hash[rows]
        facts = CohortFacts(hashes, {})
        if cohort.kept is not None:
            again = hashes[np.isin(rows, setting.who.fresh)]
            facts = setting.lane.read(cohort.kept.facts, CohortFacts).moved_to(hashes, without=again)
        facts = reduce(CohortFacts.__add__, [more for more in (found, late) if more is not None], facts)
        cohort.facts_file = setting.lane.keep(facts)
        units = setting.units(rows)
        cohort.tops = tops_of(setting.at_end(cohort.index), setting.facts(facts, units), units.variant >= 0)
        cohort.tops_file = setting.lane.keep(cohort.tops) if cohort.tops else ""
        self._held += facts.size
        # What does not fit is read again from its file.
        cohort.facts = facts if self._held <= experiment_moments.BUCKET_BYTES else None
