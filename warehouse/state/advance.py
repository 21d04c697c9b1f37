"""From what was kept to the moments of now: who is new or changed, what came late, and the cohorts that this touches.

A cohort is kept from the first look at which all its windows are complete. Its facts are read once; a fact that comes
later, or a unit whose first exposure turns out to be earlier, is added to them and the cohort's moments are made again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from stats.moments import Bools, Ints
from warehouse import experiment_moments, parquet
from warehouse.caps import Top, caps_from, columns_to_read, tops_of
from warehouse.engine import Parameters, epoch_us, from_epoch_us
from warehouse.experiment_moments import Parts, Progress, combine, measure
from warehouse.facts import Facts
from warehouse.one_pass import Pass
from warehouse.sources import open_source
from warehouse.state import everybody, placing
from warehouse.state.arrivals import new_events, only_events, seen_in, shared_times
from warehouse.state.cohort_facts import CohortFacts, by_cohort, cohort_of, last_moment
from warehouse.state.everybody import Everybody
from warehouse.state.known_units import changes, codes_of
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
    """A cohort of now: its rows of the known units, and what is known of it so far."""

    index: int
    rows: Ints
    kept: KeptCohort | None = None
    facts: CohortFacts | None = None
    facts_file: str = ""
    tops_file: str = ""
    tops: dict[int, Top] = field(default_factory=dict)


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
        complete = self._started_us + self._cohort * 86_400_000_000 + work.longest_us <= self._last_us
        self._complete: Bools = complete
        self._partial: Bools = ~complete & (known.at_us + work.longest_us <= self._last_us)
        kept = {} if manifest is None else {one.index: one for one in manifest.cohorts}
        self._cohorts = {
            index: _Cohort(index, rows, kept.get(index)) for index, rows in _rows_by(self._cohort, complete)
        }
        self._is_kept: Bools = complete & np.isin(self._cohort, list(kept))
        self._fresh: Bools = np.ones(len(known), dtype=np.bool_)
        self._dirty: set[int] = set()
        if manifest is not None and who.before is not None:
            changed = changes(who.before, known) if who.before is not known else None
            if changed is None:
                self._fresh = np.zeros(len(known), dtype=np.bool_)
            else:
                self._fresh = changed.fresh
                left = cohort_of(who.before.at_us[changed.moved_from], self._started_us)
                touched = [left, self._cohort[changed.regrouped], self._cohort[changed.fresh & self._is_kept]]
                self._dirty = set(np.unique(np.concatenate(touched)).tolist())
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
        wanted = self._complete & (self._fresh | ~self._is_kept) | self._partial
        rows = np.flatnonzero(wanted & (self._variant >= 0))
        rows = rows[np.argsort(self._cohort[rows], kind="stable")]
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
        work, known = self._work, self._who.known
        old = self._is_kept & ~self._fresh & (self._variant >= 0)
        if not old.any():
            return {}
        until = int(known.at_us[old].max()) + work.longest_us
        arrivals = new_events(self._manifest.seen, work.data, until)
        for event, ones in arrivals.items():
            if shared_times(self._manifest.seen, ones, work.data.event_arrivals[event]):
                raise Unusable("batches cannot be told apart")
        if not arrivals:
            return {}
        data = only_events(work.connection, work.data, arrivals, self._folder)
        work = replace(work, data=data)
        rows, rowid = self._who.table_of_late(work, columns_to_read(work), until, old)
        order = np.argsort(self._cohort[rows], kind="stable")
        return self._facts(work, rows[order], rowid[order]) if len(rows) else {}

    def _bring(self, cohort: _Cohort, more: list[CohortFacts]) -> None:
        """The facts of a cohort as they are now."""
        hashes = self._who.known.hash[cohort.rows]
        if cohort.kept is not None:
            again = hashes[self._fresh[cohort.rows]]
            before = self._lane.read(cohort.kept.facts, CohortFacts)
            facts = reduce(CohortFacts.__add__, more, before.moved_to(hashes, without=again))
        elif more:
            facts = reduce(CohortFacts.__add__, more[1:], more[0].moved_to(hashes, without=_NOBODY))
        else:
            facts = CohortFacts(hashes, {})
        cohort.facts, cohort.facts_file = facts, self._lane.keep(facts)
        units = self._units(cohort.rows)
        cohort.tops = tops_of(self._at_end(cohort), self._known_facts(facts, units), units.variant >= 0)
        cohort.tops_file = self._lane.keep(cohort.tops) if cohort.tops else ""

    def _known_facts(self, facts: CohortFacts, units: Units) -> dict[str, Facts | None]:
        found = facts.facts(units)
        return {key: found.get(key) for key in self._work.sources}

    def _units(self, rows: Ints) -> Units:
        return self._who.known.take(rows).units(self._arms, self._codes[:, rows])

    # Moments

    def finish(self) -> tuple[MomentSet, list[KeptCohort]]:
        """The moments of all cohorts, and those that are kept."""
        work = self._work
        partial = np.flatnonzero(self._partial)
        partial_units = self._units(partial)
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
                    cohort.facts_file or _file(cohort, "facts"),
                    parts_file,
                    cohort.tops_file or _file(cohort, "tops"),
                )
            )
            cohort.facts = None
        if len(partial) or not placed:
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
            facts = self._lane.read(cohort.facts_file or _file(cohort, "facts"), CohortFacts)
        parts = self._measured(self._at_end(cohort, work), self._units(cohort.rows), facts)
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
        at_us = self._who.known.at_us[cohort.rows] + self._work.longest_us
        first, last = np.searchsorted(self._looks_us, [int(at_us.min()), int(at_us.max())], side="left")
        if first != last:
            raise Unusable("looks are not at the ends of cohorts")
        return int(first)


def _file(cohort: _Cohort, name: str) -> str:
    assert cohort.kept is not None
    return str(getattr(cohort.kept, name))


def _rows_by(cohort: Ints, chosen: Bools) -> Iterator[tuple[int, Ints]]:
    """The rows of every cohort that has chosen ones, ascending."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(cohort[rows], kind="stable")]
    present, begin = np.unique(cohort[rows], return_index=True)
    for index, part in zip(present.tolist(), np.split(rows, begin[1:]), strict=True) if len(rows) else ():
        yield int(index), part
