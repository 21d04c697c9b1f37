"""Tables of a warehouse for the price of what is new: moments of sealed cohorts are kept, others are asked for.

A cohort is sealed when its windows have been complete for longer than facts of the connection may come late. Before
anything kept is used, the warehouse is asked who is in each cohort, and of each day how many facts there are and a
checksum of them: cohorts of which that changed are asked for again, also where facts were written over in place. So the
result is that of `relational_moments.extract_relational`.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final, Self

import numpy as np

from experiments.columns import layout
from experiments.definitions import ConnectionSpec
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from warehouse import kept
from warehouse.answered import counts_of
from warehouse.compile.asked import Asked, asked
from warehouse.compile.census import COHORTS, census, days_of
from warehouse.compile.preparing import Prepared, prepared
from warehouse.compile.question import Cohort, Question
from warehouse.data_slice import DataSlice
from warehouse.engine import MICROSECONDS_A_DAY, connect, days_us, epoch_us, from_epoch_us
from warehouse.engine_answers import Answer
from warehouse.engines.contract import Engine
from warehouse.experiment_moments import Progress, combine
from warehouse.one_pass import is_open
from warehouse.populations import ANALYSED, WITH_OUTCOME, Counts
from warehouse.relational_moments import measure_relational
from warehouse.relational_reach import reach_relational
from warehouse.relational_screen import screened
from warehouse.state import placing
from warehouse.state.cohort_days import CohortDays, spans_of
from warehouse.state.cohort_facts import last_moment
from warehouse.state.lane import MANIFEST, Lane, code_fingerprint, experiment_folder, plain
from warehouse.state.merged import same_questions, without_noise
from warehouse.state.placing import CohortParts, Placed, grouping_of, places
from warehouse.state.unusable import Unusable
from warehouse.wanted import Caps

_log: Final = logging.getLogger(__name__)

FEWEST_UNITS: Final = 50_000
"""With fewer units the whole statement costs less than to ask what changed."""

FEWEST_COHORTS: Final = 7
"""So many cohorts make a block. Facts before and after a cohort count as well, so one at a time would cost as much as

several: until there are enough, they are asked for with the younger ones."""

MOST_COHORTS: Final = 28
"""A block is what is asked for again when a day of it changes, so it has an end."""

type Identities = dict[int, tuple[int, float]]
"""Units of each cohort, and the sum of their hashes (`compile.census`)."""

type Days = dict[int, tuple[int, int]]
"""Facts of each day, and a checksum of whose they are, when, and what they hold."""


@dataclass(frozen=True, slots=True)
class Warehouse:
    """Which warehouse an engine reads, and for how long its facts may come late."""

    place: str
    restatement_days: float

    @classmethod
    def of(cls, spec: ConnectionSpec) -> Self:
        """That of a connection. Whoever reads may be shown other rows, so the user is a part of the place."""
        about = spec.model_dump_json(exclude={"name", "statement_timeout_seconds", "restatement_days"})
        return cls(about, spec.restatement_days)


@dataclass(frozen=True, slots=True)
class Block:
    """Kept cohorts `first` to `last`: read as of when, what was known of them then, and the file of their parts."""

    first: int
    last: int
    as_of_us: int
    identities: Identities
    days: dict[str, Days]
    file: str


@dataclass(frozen=True, slots=True)
class Blocks:
    """What is in force. `erasures` are those of the slice that was read."""

    as_of_us: int
    erasures: int
    blocks: tuple[Block, ...]


_KNOWN: Final[Mapping[str, type]] = {kind.__name__: kind for kind in (Block, Blocks)}


def why_asked_in_full(plan: AnalysisPlan, data: DataSlice) -> str | None:
    """Why all cohorts of a plan are asked for each time; None if sealed ones can be kept.

    - `clusters`, `trigger`: units of a cohort are not complete together.
    - `open_window`: a value that grows with every look is never complete; nor is one without any window.
    - `quantile_cap`: a cap that is a quantile of all units moves.
    - `unit_mapping`: a new row of the mapping changes whose facts old rows are.
    - `no_folder`: there is nowhere to keep anything.
    """
    columns = layout([metric.spec for metric in plan.metrics])
    every = (*columns.columns, *(metric.column for metric in columns.quantiles))
    reasons = {
        "clusters": plan.cluster is not None,
        "trigger": plan.trigger is not None,
        "open_window": any(is_open(column) for column in every) or not columns.longest_window_days,
        "quantile_cap": any(column.cap is not None and column.cap.quantile for column in every),
        "unit_mapping": any(source.unit_mapping is not None for source in plan.fact_sources),
        "no_folder": data.data_dir is None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def extract_sealed(
    plan: AnalysisPlan,
    data: DataSlice,
    engine: Engine,
    warehouse: Warehouse,
    progress: Progress = lambda stage, fraction: None,
    *,
    fewest_units: int = FEWEST_UNITS,
    fewest_cohorts: int = FEWEST_COHORTS,
) -> MomentSet:
    """As `relational_moments.extract_relational`, to 1e-9, from what is kept below the slice's `data_dir`.

    Plans that `why_asked_in_full` names, slices older than what is kept, and those with columns that cannot be
    calculated with, take the whole statement. Raises `SourceUnreadable`.
    """
    with connect(threads=1, memory_limit=None) as connection, ThreadPoolExecutor(1) as pool:
        progress("reading exposures", 0.0)
        work = prepared(plan, data, engine, connection, pool)
        found, reason = None, why_asked_in_full(plan, data)
        if reason is None:
            try:
                found = _by_cohorts(work, engine, warehouse, progress, fewest_units, fewest_cohorts)
            except (Unusable, OSError) as error:
                # A full disk must not cost the analysis.
                reason = f"{type(error).__name__}: {error}"
        if found is None:
            _log.info("%s is asked for in full: %s", plan.experiment_key, reason)
            found = combine(work.work, measure_relational(work, engine, progress))
        # What the rest of the company did is not in any cohort, and what others give to units changes for all of them.
        return screened(work, engine, replace(found, reach=reach_relational(work, engine)))


def _by_cohorts(
    work: Prepared, engine: Engine, warehouse: Warehouse, progress: Progress, fewest_units: int, fewest_cohorts: int
) -> MomentSet:
    refresh = _Refresh(work, engine, warehouse, fewest_cohorts)
    if refresh.sealed < fewest_cohorts:
        raise Unusable("few cohorts are sealed")
    with Lane.held(_folder(work, engine, warehouse)) as lane:
        if lane is None:
            raise Unusable("another analysis of this plan runs")
        before = _in_force(lane, work.work.data)
        refresh.count()
        if sum(n for n, _ in refresh.identities.values()) < fewest_units:
            raise Unusable("few units")
        progress("reading facts", 0.2)
        refresh.look_at_days()
        parts = refresh.bring_up(lane, before)
        progress("computing moments", 0.6)
        return refresh.finish(parts, progress)


def _in_force(lane: Lane, data: DataSlice) -> tuple[Block, ...]:
    """The blocks that were kept. Raises `Unusable` for a slice that is older than they are."""
    try:
        found = kept.read(lane.folder / MANIFEST, Blocks, _KNOWN)
    except (FileNotFoundError, kept.Unreadable):
        return ()
    if epoch_us(data.data_as_of) < found.as_of_us:
        raise Unusable("this is about an earlier time than what is kept")
    return found.blocks if found.erasures == data.erasures else ()


def _folder(work: Prepared, engine: Engine, warehouse: Warehouse) -> Path:
    """A lane is everything that decides on the moments of a cohort besides rows."""
    plan, own = work.plan, work.work
    assert own.data.data_dir is not None
    about = {
        "code": code_fingerprint(),
        "compiler": version("sqlglot"),
        "dialect": engine.dialect,
        "place": warehouse.place,
        "columns": plain(own.columns),
        "wanted": plain((own.wanted.quantiles, own.wanted.surveys, own.wanted.ages, own.wanted.modelled)),
        "sources": plain(plan.fact_sources),
        "kinds": {key: None if rows is None else plain(rows.kinds) for key, rows in work.rows.items()},
        "variants": list(own.variants),
        "exposures": plain(plan.exposures),
        "segments": plain((plan.segments, plan.two_way_segments, plan.estimation.stratify_by)),
        "started_us": own.exposed_us[0],
        "longest_us": own.longest_us,
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    return experiment_folder(own.data.data_dir, plan.experiment_key) / digest


class _Refresh:
    """One pass: what the warehouse says now, and the parts of all cohorts."""

    def __init__(self, work: Prepared, engine: Engine, warehouse: Warehouse, fewest_cohorts: int) -> None:
        self._work, self._engine, self._fewest_cohorts = work, engine, fewest_cohorts
        self._question: Question = work.question(len(work.work.looks) - 1)
        self._asked: Asked = asked(self._question)
        self._started_us = work.work.exposed_us[0]
        self._as_of_us = epoch_us(work.work.data.data_as_of)
        late_us = days_us(warehouse.restatement_days)
        self._when = CohortDays(self._started_us, work.work.longest_us, late_us, spans_of(work, self._asked))
        self.sealed = self._when.sealed(self._as_of_us)
        self._young = self.sealed
        self.identities: Identities = {}
        self._counts: Counts
        self._crossover = 0
        self._days: dict[str, Days] = {}

    def count(self) -> None:
        """Ask who there is, from exposures alone."""
        answer = Answer(self._question, self._asked, self._engine.run(census(self._question)))
        self._counts, self._crossover = counts_of(answer), answer.crossover
        for line in answer.of(COHORTS):
            self.identities[int(line.v[0]) // MICROSECONDS_A_DAY] = (line.n, float(line.v[1]))

    def look_at_days(self) -> None:
        """Ask how many facts there are on each day that sealed cohorts need, and for a checksum of them."""
        for key in self._when.spans:
            found = self._engine.run(days_of(self._question, key, *self._when.period_us(key, self.sealed)))
            rows = zip(found["day"].tolist(), found["n"].tolist(), found["checksum"].tolist(), strict=True)
            self._days[key] = {int(day) // MICROSECONDS_A_DAY: (int(n), int(held)) for day, n, held in rows}

    def _days_of(self, first: int, last: int) -> dict[str, Days]:
        """The days with facts of cohorts, as they are now."""
        found = {}
        for key, every in self._days.items():
            low, high = self._when.days(key, first, last)
            found[key] = {day: facts for day, facts in every.items() if low <= day <= high}
        return found

    def _identities_of(self, first: int, last: int) -> Identities:
        return {cohort: known for cohort, known in self.identities.items() if first <= cohort <= last}

    def bring_up(self, lane: Lane, before: Collection[Block]) -> list[Placed]:
        """The parts of all sealed cohorts, kept or asked for; they are kept from now on."""
        blocks, found = list[Block](), list[Placed]()
        for block in sorted(before, key=lambda one: one.first):
            placed = self._still(lane, block)
            if placed is not None:
                blocks.append(block)
                found.append(placed)
        for first, last in self._missing(blocks):
            block, placed = self._asked_for(lane, first, last)
            blocks.append(block)
            found.append(placed)
        blocks.sort(key=lambda one: one.first)
        lane.replace(
            Blocks(self._as_of_us, self._work.work.data.erasures, tuple(blocks)), {block.file for block in blocks}
        )
        return found

    def _still(self, lane: Lane, block: Block) -> Placed | None:
        """A kept block, unless anything that it was made of may be different now."""
        if block.last >= self.sealed or self._when.settled_us(block.last) > block.as_of_us:
            return None
        if block.identities != self._identities_of(block.first, block.last):
            return None
        if block.days != self._days_of(block.first, block.last):
            return None
        try:
            return self._placed(lane.read(block.file, CohortParts), block.first, block.last)
        except Unusable:
            return None

    def _missing(self, blocks: Collection[Block]) -> list[tuple[int, int]]:
        """Runs of sealed cohorts that are in no block; a short last one is left to the young."""
        there = {cohort for block in blocks for cohort in range(block.first, block.last + 1)}
        found: list[tuple[int, int]] = []
        for cohort in range(self.sealed):
            if cohort in there:
                continue
            if found and found[-1][1] == cohort - 1 and cohort - found[-1][0] < MOST_COHORTS:
                found[-1] = (found[-1][0], cohort)
            else:
                found.append((cohort, cohort))
        if found and found[-1][1] == self.sealed - 1 and self.sealed - found[-1][0] < self._fewest_cohorts:
            self._young, _ = found.pop()
        return found

    def _asked_for(self, lane: Lane, first: int, last: int) -> tuple[Block, Placed]:
        own = self._work.work
        looks = tuple(from_epoch_us(last_moment(i, self._started_us) + own.longest_us) for i in range(first, last + 1))
        cohort = Cohort(last_moment(first - 1, self._started_us) + 1, last_moment(last, self._started_us) + 1)
        then = replace(self._work, work=replace(own, looks=looks))
        parts = measure_relational(then, self._engine, cohort=cohort)
        made = CohortParts(parts, Caps(), grouping_of(own), last_moment(last, self._started_us))
        known = self._identities_of(first, last), self._days_of(first, last)
        return Block(first, last, self._as_of_us, *known, lane.keep(made)), self._placed(made, first, last)

    def _placed(self, made: CohortParts, first: int, last: int) -> Placed:
        """The parts of cohorts among the looks and groups of now. Raises `Unusable`."""
        where = places(made, grouping_of(self._work.work))
        if where is None:
            raise Unusable("groups cannot be found again")
        looks_us = [epoch_us(look) for look in self._work.work.looks]
        ends = [last_moment(i, self._started_us) + self._work.work.longest_us for i in range(first, last + 1)]
        begin = np.searchsorted(looks_us, np.array(ends) - MICROSECONDS_A_DAY + 1, side="left")
        end = np.searchsorted(looks_us, ends, side="left").clip(max=len(looks_us) - 1)
        if (begin.clip(max=len(looks_us) - 1) != end).any():
            raise Unusable("looks are not at the ends of cohorts")
        return Placed(made.parts, end, *where)

    def finish(self, placed: list[Placed], progress: Progress) -> MomentSet:
        """The moments of everybody: those of sealed cohorts, and of younger ones, which are asked for."""
        own = self._work.work
        complete_us = epoch_us(own.looks[-1]) - own.longest_us
        begin_us = last_moment(self._young - 1, self._started_us) + 1
        # Those whose windows are not complete are in the census, and nowhere else.
        if begin_us <= complete_us and any(cohort >= self._young for cohort in self.identities):
            young = Cohort(begin_us, min(complete_us + 1, own.exposed_us[1]))
            parts = measure_relational(self._work, self._engine, cohort=young)
            every = [np.arange(len(segment.groups)) for segment in own.segments]
            strata = np.arange(0 if own.strata is None else len(own.strata.names))
            placed = [*placed, Placed(parts, np.arange(len(own.looks)), every, strata)]
        if not same_questions([one.parts for one in placed]):
            raise Unusable("a column cannot be calculated with")
        counts = self._counts
        analysed = {
            name: np.sum([one.parts.counts.named[name] for one in placed], axis=0) for name in (ANALYSED, WITH_OUTCOME)
        }
        counts = replace(counts, named={**counts.named, **analysed})
        merged = without_noise(placing.merge(placed, own, counts))
        progress("computing moments", 1.0)
        return combine(own, replace(merged, crossover=self._crossover))
