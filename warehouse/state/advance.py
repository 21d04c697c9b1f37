"""From what was kept to the moments of now: who is new or changed, what came late, and the cohorts that this touches.

A cohort is kept from the first look at which all its windows are complete. Its facts are read once; a fact that comes
later, or a unit whose first exposure turns out to be earlier, is added to them and the cohort's moments are made again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from stats.moments import Ints
from warehouse import experiment_moments, parquet
from warehouse.caps import Top, caps_from, columns_to_read, tops_of
from warehouse.engine import MICROSECONDS_A_DAY, Parameters, epoch_us, from_epoch_us
from warehouse.experiment_moments import Parts, Progress, combine, measure
from warehouse.facts import Facts
from warehouse.one_pass import Pass
from warehouse.sources import open_source
from warehouse.state import everybody, placing
from warehouse.state.arrivals import new_events, only_events, seen_in, shared_times
from warehouse.state.cohort_facts import CohortFacts, by_cohort, cohort_of, last_moment
from warehouse.state.everybody import Everybody
from warehouse.state.known_units import codes_of
from warehouse.state.lane import KeptCohort, Lane, Manifest, dimensions_of
from warehouse.state.placing import CohortParts, Placed, grouping_of, places
from warehouse.state.unusable import Unusable
from warehouse.units import Units
from warehouse.values import read_all
from warehouse.wanted import Caps

_NOBODY = np.zeros(0, dtype=np.uint64)


def advance(lane: Lane, plan: AnalysisPlan, work: Pass, manifest: Manifest | None, progress: Progress) -> MomentSet:
    """The moments of a slice, from what was kept (None: from nothing), and a new manifest that is in force.

    Raises `Unusable`, `SourceUnreadable`.
    """
    with TemporaryDirectory(prefix="northlift-new-") as folder:
        progress("reading exposures", 0.0)
        who = everybody.of_now(lane, plan, work, manifest, Path(folder))
        refresh = _Refresh(lane, plan, work, manifest, who, Path(folder))
        progress("reading facts", 0.2)
        refresh.collect()
        progress("computing moments", 0.6)
        found, cohorts = refresh.finish()
    data = work.data
    lane.put_in_force(
        Manifest(
            as_of_us=epoch_us(data.data_as_of),
            ended_us=None if data.ended_at is None else epoch_us(data.ended_at),
            erasures=data.erasures,
            seen=seen_in(data),
            types=refresh.types,
            levels=who.levels,
            units=who.file or lane.keep(who.known),
            cohorts=tuple(cohorts),
        )
    )
    progress("computing moments", 1.0)
    return found


@dataclass(slots=True)
class _Cohort:
    """A cohort of now, and what is known of it so far."""

    index: int
    kept: KeptCohort | None = None
    facts: CohortFacts | None = None
    facts_file: str = ""
    tops_file: str = ""
    tops: dict[int, Top] = field(default_factory=dict)

    def file(self, of: Literal["facts", "tops"]) -> str:
        """The file that is in force: a new one, or the one that was kept."""
        if self.facts_file:
            return self.facts_file if of == "facts" else self.tops_file
        assert self.kept is not None
        return self.kept.facts if of == "facts" else self.kept.tops


class _Refresh:
    """One advance of a lane."""

    def __init__(
        self,
        lane: Lane,
        plan: AnalysisPlan,
        work: Pass,
        manifest: Manifest | None,
        who: Everybody,
        folder: Path,
    ) -> None:
        self._lane, self._work, self._manifest, self._who, self._folder = lane, work, manifest, who, folder
        self._started_us = work.exposed_us[0]
        self._last_us = epoch_us(work.looks[-1])
        self._looks_us = np.array([epoch_us(look) for look in work.looks])
        self._arms = len(work.variants)
        known = who.known
        self._codes = codes_of(known, dimensions_of(plan), who.levels, dict(work.levels))
        self._variant = known.variant(self._arms)
        self._cohort = cohort_of(known.at_us, self._started_us)
        # Cohorts before this one are complete; of this one some windows may be.
        self._open = (self._last_us - self._started_us - work.longest_us) // MICROSECONDS_A_DAY + 1
        kept = {} if manifest is None else {one.index: one for one in manifest.cohorts}
        present = np.flatnonzero(np.bincount(self._cohort, minlength=1)).tolist()
        self._cohorts = {index: _Cohort(index, kept.get(index)) for index in present if index < self._open}
        left = cohort_of(who.left_us, self._started_us)
        touched = [left, self._cohort[who.regrouped], self._cohort[who.fresh]]
        self._dirty = set(np.unique(np.concatenate(touched)).tolist()) & set(kept)
        self._partial_facts = CohortFacts(_NOBODY, {})
        self.types = self._types()

    def _types(self) -> dict[str, dict[str, str]]:
        """The columns of every source; one that has another type now makes other facts of old rows."""
        found = {}
        for key, spec in self._work.sources.items():
            source = open_source(self._work.connection, spec, self._work.data, Parameters())
            found[key] = {} if source is None else {n: t for n, t in source.types.items() if n != parquet.RECORDED}
        for key, before in {} if self._manifest is None else self._manifest.types.items():
            if any(found[key].get(name) != kind for name, kind in before.items()):
                raise Unusable(f"a column of {key} has another type now")
        return found

    # Facts

    def collect(self) -> None:
        """Read what is new, and bring the facts of every cohort up to now."""
        late = self._late() if self._manifest is not None else {}
        new = [index for index, cohort in self._cohorts.items() if cohort.kept is None]
        fresh = self._who.fresh[self._cohort[self._who.fresh] < self._open]
        rows = np.concatenate([self._of(new), fresh[~np.isin(self._cohort[fresh], new)], self._partial])
        rows = rows[self._variant[rows] >= 0]
        rows = rows[np.lexsort((rows, self._cohort[rows]))]
        done = set()
        for group in self._groups(rows):
            for index, facts in self._read(group).items():
                if index not in self._cohorts:
                    self._partial_facts = facts
                    continue
                self._bring(self._cohorts[index], [facts, *([late[index]] if index in late else [])])
                done.add(index)
        for index, cohort in self._cohorts.items():
            if index not in done and (cohort.kept is None or index in self._dirty or index in late):
                self._bring(cohort, [late[index]] if index in late else [])

    def _groups(self, rows: Ints) -> Iterator[Ints]:
        """Rows of whole cohorts that are read at a time."""
        width = max(1, len(self._work.columns) + self._work.wanted.width)
        most = max(1, experiment_moments.BUCKET_BYTES // (8 * width))
        begin = 0
        while begin < len(rows):
            end = min(begin + most, len(rows))
            if end < len(rows):
                cohort = self._cohort[rows]
                edge = int(np.searchsorted(cohort, cohort[end], side="left"))
                end = edge if edge > begin else int(np.searchsorted(cohort, cohort[begin], side="right"))
            yield rows[begin:end]
            begin = end

    def _read(self, rows: Ints) -> dict[int, CohortFacts]:
        """Every fact of some units."""
        rowid = self._who.table_of(self._work, rows)
        return self._facts(self._work, rows, rowid)

    def _facts(self, work: Pass, rows: Ints, rowid: Ints) -> dict[int, CohortFacts]:
        known = self._who.known.take(rows)
        units = replace(known.units(self._arms, self._codes[:, rows]), rowid=rowid)
        work = replace(work, exposed_us=(int(known.assigned_us.min()), int(known.at_us.max())))
        facts = read_all(work, units, self._last_us, columns_to_read(work))
        return by_cohort(facts, known.hash, self._cohort[rows])

    def _late(self) -> dict[int, CohortFacts]:
        """Facts of new batches in the windows of units that were read before."""
        assert self._manifest is not None
        work = self._work
        kept = [index for index, cohort in self._cohorts.items() if cohort.kept is not None]
        if not kept:
            return {}
        until = last_moment(max(kept), self._started_us) + work.longest_us
        arrivals = new_events(self._manifest.seen, work.data, until)
        for event, ones in arrivals.items():
            if shared_times(self._manifest.seen, ones, work.data.event_arrivals[event]):
                raise Unusable("batches cannot be told apart")
        if not arrivals:
            return {}
        data = only_events(work.connection, work.data, arrivals, self._folder)
        work = replace(work, data=data)
        old = np.isin(self._cohort, kept) & (self._variant >= 0)
        old[self._who.fresh] = False
        rows, rowid = self._who.table_of_late(work, columns_to_read(work), until, old)
        order = np.argsort(self._cohort[rows], kind="stable")
        return self._facts(work, rows[order], rowid[order]) if len(rows) else {}

    def _bring(self, cohort: _Cohort, more: list[CohortFacts]) -> None:
        """The facts of a cohort as they are now."""
        rows = self._of([cohort.index])
        hashes = self._who.known.hash[rows]
        if cohort.kept is not None:
            again = hashes[np.isin(rows, self._who.fresh)]
            before = self._lane.read(cohort.kept.facts, CohortFacts)
            facts = reduce(CohortFacts.__add__, more, before.moved_to(hashes, without=again))
        elif more:
            facts = reduce(CohortFacts.__add__, more[1:], more[0].moved_to(hashes, without=_NOBODY))
        else:
            facts = CohortFacts(hashes, {})
        cohort.facts, cohort.facts_file = facts, self._lane.keep(facts)
        units = self._units(rows)
        cohort.tops = tops_of(self._at_end(cohort), self._known_facts(facts, units), units.variant >= 0)
        cohort.tops_file = self._lane.keep(cohort.tops) if cohort.tops else ""

    def _known_facts(self, facts: CohortFacts, units: Units) -> dict[str, Facts | None]:
        found = facts.facts(units)
        return {key: found.get(key) for key in self._work.sources}

    @cached_property
    def _by_cohort(self) -> tuple[Ints, Ints]:
        """The rows in order of their cohorts, and where each cohort begins among them."""
        width = np.uint16 if int(self._cohort.max(initial=0)) < 1 << 16 else np.int64
        order = np.argsort(self._cohort.astype(width), kind="stable")
        return order, np.concatenate([[0], np.cumsum(np.bincount(self._cohort))])

    def _of(self, cohorts: list[int]) -> Ints:
        """The rows of all units of some cohorts; those of one are ascending."""
        order, begin = self._by_cohort
        some = [order[begin[i] : begin[i + 1]] for i in cohorts if 0 <= i < len(begin) - 1]
        return np.concatenate([np.zeros(0, dtype=np.int64), *some])

    @property
    def _partial(self) -> Ints:
        """The rows of those whose windows are complete in a cohort that is not."""
        rows = self._of([self._open])
        return rows[self._who.known.at_us[rows] + self._work.longest_us <= self._last_us]

    def _units(self, rows: Ints) -> Units:
        return self._who.known.take(rows).units(self._arms, self._codes[:, rows])

    # Moments

    def finish(self) -> tuple[MomentSet, list[KeptCohort]]:
        """The moments of all cohorts, and those that are kept."""
        work = self._work
        partial_units = self._units(self._partial)
        of_partial = self._partial_facts.moved_to(partial_units.unit_hash, without=_NOBODY)
        tops = [cohort.tops if cohort.facts_file else self._kept_tops(cohort) for cohort in self._cohorts.values()]
        tops.append(tops_of(work, self._known_facts(of_partial, partial_units), partial_units.variant >= 0))
        caps = caps_from(work, {i: reduce(Top.merge, [one[i] for one in tops]) for i in tops[-1]})
        work = replace(work, wanted=work.wanted.with_caps(caps))
        placed, kept = [], list[KeptCohort]()
        now = grouping_of(work)
        for cohort in self._cohorts.values():
            found, parts_file = self._parts(cohort, work, caps)
            where = places(found, now)
            if where is None:
                raise Unusable("groups cannot be found again")
            placed.append(Placed(found.parts, self._entry(cohort), *where))
            kept.append(
                KeptCohort(
                    cohort.index,
                    cohort.file("facts"),
                    parts_file,
                    cohort.file("tops"),
                )
            )
            cohort.facts = None
        if len(partial_units) or not placed:
            parts = self._measured(replace(work, looks=work.looks[-1:]), partial_units, of_partial)
            every = [np.arange(len(segment.groups)) for segment in work.segments]
            strata = np.arange(0 if work.strata is None else len(work.strata.names))
            placed.append(Placed(parts, len(work.looks) - 1, every, strata))
        counts = everybody.count(work, self._who, self._variant, self._codes, [one.parts.counts for one in placed])
        parts = placing.merge(placed, work, counts)
        crossover = int((self._who.known.arm != self._who.known.last_arm).sum())
        moments = combine(work, replace(parts, crossover=crossover))
        return (moments if self._who.reach is None else replace(moments, reach=self._who.reach)), kept

    def _kept_tops(self, cohort: _Cohort) -> dict[int, Top]:
        assert cohort.kept is not None
        return self._lane.read(cohort.kept.tops, dict) if cohort.kept.tops else {}

    def _parts(self, cohort: _Cohort, work: Pass, caps: Caps) -> tuple[CohortParts, str]:
        """The parts of a cohort and their file: what was kept if it still holds, or made again from its facts."""
        if cohort.facts is None and not cohort.facts_file:
            assert cohort.kept is not None
            found = self._lane.read(cohort.kept.parts, CohortParts)
            if found.caps == caps and places(found, grouping_of(work)) is not None:
                return found, cohort.kept.parts
        facts = cohort.facts
        if facts is None:
            facts = self._lane.read(cohort.file("facts"), CohortFacts)
        parts = self._measured(self._at_end(cohort, work), self._units(self._of([cohort.index])), facts)
        found = CohortParts(parts, caps, grouping_of(work), last_moment(cohort.index, self._started_us))
        return found, self._lane.keep(found)

    def _measured(self, work: Pass, units: Units, facts: CohortFacts) -> Parts:
        return measure(work, units, lambda fraction: None, lambda _work, own, *_: self._known_facts(facts, own))

    def _at_end(self, cohort: _Cohort, work: Pass | None = None) -> Pass:
        """A pass with one look, at which all windows of a cohort are complete."""
        work = work or self._work
        end = last_moment(cohort.index, self._started_us) + work.longest_us
        return replace(work, looks=(from_epoch_us(end),))

    def _entry(self, cohort: _Cohort) -> int:
        """The look at which all units of a cohort enter."""
        end = last_moment(cohort.index, self._started_us) + self._work.longest_us
        first, last = np.searchsorted(self._looks_us, [end - MICROSECONDS_A_DAY + 1, end], side="left")
        if first != last:
            raise Unusable("looks are not at the ends of cohorts")
        return int(first)
