"""The cohorts of an experiment as they are now: who is in them, what is known of them, and their moments."""

from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Literal

import numpy as np

from stats.moment_set import MomentSet
from stats.moments import Ints, Moments
from warehouse.caps import Top, caps_from, tops_of
from warehouse.engine import MICROSECONDS_A_DAY, epoch_us, from_epoch_us
from warehouse.experiment_moments import Parts, combine, measure
from warehouse.facts import Facts
from warehouse.one_pass import Pass
from warehouse.state import everybody, placing
from warehouse.state.cohort_facts import CohortFacts, cohort_of, last_moment
from warehouse.state.elsewhere import Arms, arms_elsewhere, cells_of, union_of, values_of
from warehouse.state.everybody import Everybody
from warehouse.state.lane import KeptCohort, KeptValues, Lane
from warehouse.state.placing import CohortParts, Grouping, Placed, grouping_of, places
from warehouse.state.unusable import Unusable
from warehouse.units import Units
from warehouse.wanted import Caps


@dataclass(slots=True)
class Cohort:
    """A cohort of now. What was kept of it stands until it has new `facts`, whose files are named then."""

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


@dataclass(frozen=True)
class Setting:
    """A pass over known units, by cohort. `codes` (dimensions, n) are the positions of the units' levels."""

    lane: Lane
    work: Pass
    who: Everybody
    codes: Ints

    @cached_property
    def started_us(self) -> int:
        return self.work.exposed_us[0]

    @cached_property
    def last_us(self) -> int:
        """The last look."""
        return epoch_us(self.work.looks[-1])

    @cached_property
    def variant(self) -> Ints:
        """(n,) the position of the arm, or -1."""
        return self.who.known.variant(len(self.work.variants))

    @cached_property
    def cohort(self) -> Ints:
        """(n,) the cohort of each unit."""
        return cohort_of(self.who.known.at_us, self.started_us)

    @cached_property
    def open(self) -> int:
        """The first cohort with windows that are not complete: of this one some may be, of later ones none."""
        return (self.last_us - self.started_us - self.work.longest_us) // MICROSECONDS_A_DAY + 1

    @cached_property
    def _by_cohort(self) -> tuple[Ints, Ints]:
        """The rows in order of their cohorts, and where each cohort begins among them."""
        width = np.uint16 if int(self.cohort.max(initial=0)) < 1 << 16 else np.int64
        order = np.argsort(self.cohort.astype(width), kind="stable")
        return order, np.concatenate([[0], np.cumsum(np.bincount(self.cohort))])

    @property
    def complete(self) -> list[int]:
        """The cohorts that have units and are complete."""
        size = np.diff(self._by_cohort[1])
        return [index for index in np.flatnonzero(size).tolist() if index < self.open]

    def rows(self, *cohorts: int) -> Ints:
        """The rows of all units of some cohorts; those of one are ascending."""
        order, begin = self._by_cohort
        some = [order[begin[i] : begin[i + 1]] for i in cohorts if 0 <= i < len(begin) - 1]
        return np.concatenate([np.zeros(0, dtype=np.int64), *some])

    @cached_property
    def partial(self) -> Ints:
        """The rows of those whose windows are complete in the cohort that is open."""
        rows = self.rows(self.open)
        return rows[self.who.known.at_us[rows] + self.work.longest_us <= self.last_us]

    def units(self, rows: Ints) -> Units:
        """Some of the units as a pass knows them."""
        return self.who.known.take(rows).units(len(self.work.variants), self.codes[:, rows])

    def facts(self, facts: CohortFacts, units: Units) -> dict[str, Facts | None]:
        """The facts of all sources, as a pass reads them."""
        found = facts.facts(units)
        return {key: found.get(key) for key in self.work.sources}

    def at_end(self, cohort: int, work: Pass | None = None) -> Pass:
        """A pass with one look, at which all windows of a cohort are complete."""
        end = last_moment(cohort, self.started_us) + self.work.longest_us
        return replace(work or self.work, looks=(from_epoch_us(end),))

    def entry(self, cohort: int) -> int:
        """The look at which all units of a cohort enter."""
        looks_us = [epoch_us(look) for look in self.work.looks]
        end = last_moment(cohort, self.started_us) + self.work.longest_us
        first, last = np.searchsorted(looks_us, [end - MICROSECONDS_A_DAY + 1, end], side="left")
        if first != last:
            raise Unusable("looks are not at the ends of cohorts")
        return int(first)


class CohortMoments:
    """The moments of a setting's cohorts: kept ones where they still hold, others made of facts."""

    def __init__(self, setting: Setting, cohorts: list[Cohort], of_partial: CohortFacts) -> None:
        self._setting, self._cohorts = setting, cohorts
        self._partial = setting.units(setting.partial)
        self._of_partial = of_partial.moved_to(self._partial.unit_hash, without=self._partial.unit_hash[:0])
        work = setting.work
        self._caps = self._pooled_caps()
        capped = replace(work, wanted=work.wanted.with_caps(self._caps))
        # Of other experiments the parts of cohorts know nothing: see `elsewhere`.
        self._work = replace(capped, data=replace(work.data, concurrent=()))
        self._groups: Grouping = grouping_of(work)

    def _pooled_caps(self) -> Caps:
        setting, tops = self._setting, list[dict[int, Top]]()
        for cohort in self._cohorts:
            file = "" if cohort.facts_file else cohort.file("tops")
            tops.append(setting.lane.read(file, dict) if file else cohort.tops)
        facts = setting.facts(self._of_partial, self._partial)
        tops.append(tops_of(setting.work, facts, self._partial.variant >= 0))
        return caps_from(setting.work, {i: reduce(Top.merge, [one[i] for one in tops]) for i in tops[-1]})

    def finish(self) -> tuple[MomentSet, list[KeptCohort]]:
        """The moments of everybody, and the cohorts as they are to be kept."""
        setting, work, who = self._setting, self._setting.work, self._setting.who
        others = arms_elsewhere(work, who.known) if work.data.concurrent else None
        placed, kept, cells = list[Placed](), list[KeptCohort](), list[tuple[Moments, ...]]()
        for cohort in self._cohorts:
            found, parts_file = self._parts(cohort)
            where = places(found, self._groups)
            if where is None:
                raise Unusable("groups cannot be found again")
            placed.append(Placed(found.parts, np.array([setting.entry(cohort.index)]), *where))
            values_file = ""
            if others is not None:
                of_cohort, values_file = self._cells(cohort, others, parts_file)
                cells.append(of_cohort)
            files = (cohort.file("facts"), parts_file, cohort.file("tops"), values_file)
            kept.append(KeptCohort(cohort.index, *files))
            cohort.facts = None
        if len(self._partial) or not placed:
            at_last = replace(self._work, looks=work.looks[-1:])
            parts = self._measured(at_last, self._partial, self._of_partial)
            every = [np.arange(len(segment.groups)) for segment in work.segments]
            strata = np.arange(0 if work.strata is None else len(work.strata.names))
            placed.append(Placed(parts, np.array([len(work.looks) - 1]), every, strata))
            if others is not None:
                facts = setting.facts(self._of_partial, self._partial)
                values = values_of(at_last, self._partial, facts, self._caps)
                cells.append(cells_of(work, values, self._partial.variant, others[:, setting.partial]))
        counts = everybody.count(work, who, setting.variant, setting.codes, [one.parts.counts for one in placed])
        merged = placing.merge(placed, work, counts)
        crossover = int((who.known.arm != who.known.last_arm).sum())
        moments = combine(work, replace(merged, crossover=crossover, concurrent=union_of(cells) if cells else ()))
        return (moments if who.reach is None else replace(moments, reach=who.reach)), kept

    def _parts(self, cohort: Cohort) -> tuple[CohortParts, str]:
        """The parts of a cohort and their file: what was kept if it still holds, or made again from its facts."""
        lane = self._setting.lane
        if not cohort.facts_file:
            assert cohort.kept is not None
            found = lane.read(cohort.kept.parts, CohortParts)
            if found.caps == self._caps and places(found, self._groups) is not None:
                return found, cohort.kept.parts
        units = self._setting.units(self._setting.rows(cohort.index))
        parts = self._measured(self._setting.at_end(cohort.index, self._work), units, self._facts(cohort))
        last_us = last_moment(cohort.index, self._setting.started_us)
        found = CohortParts(parts, self._caps, self._groups, last_us)
        return found, lane.keep(found)

    def _facts(self, cohort: Cohort) -> CohortFacts:
        if cohort.facts is None:
            cohort.facts = self._setting.lane.read(cohort.file("facts"), CohortFacts)
        return cohort.facts

    def _measured(self, work: Pass, units: Units, facts: CohortFacts) -> Parts:
        return measure(work, units, lambda fraction: None, lambda _, own, *rest: self._setting.facts(facts, own))

    def _cells(self, cohort: Cohort, others: Arms, parts_file: str) -> tuple[tuple[Moments, ...], str]:
        """What other experiments gave a cohort, and the file of its values, which hold as long as its parts do."""
        setting, file = self._setting, ""
        rows = setting.rows(cohort.index)
        if cohort.kept is not None and cohort.kept.parts == parts_file and cohort.kept.values:
            file = cohort.kept.values
            values = setting.lane.read(file, KeptValues).values
        else:
            work, units = setting.at_end(cohort.index, self._work), setting.units(rows)
            values = values_of(work, units, setting.facts(self._facts(cohort), units), self._caps)
            file = setting.lane.keep(KeptValues(values))
        return cells_of(setting.work, values, setting.variant[rows], others[:, rows]), file
