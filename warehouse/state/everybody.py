"""Who is known now: advanced by new exposures alone, or asked for in full where more than these decides on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from experiments.columns import Column
from experiments.plan import AnalysisPlan
from stats.moment_set import Reach
from stats.moments import Bools, Ints
from warehouse import exposures
from warehouse.engine import Parameters, epoch_us, identifier
from warehouse.experiment_moments import units_of
from warehouse.facts import measure_of
from warehouse.one_pass import Pass
from warehouse.planned_pass import attributes_of
from warehouse.populations import ANALYSED, ASSIGNED, EXPOSED, WITH_OUTCOME, Counts
from warehouse.reach import reach_sums, reach_wanted
from warehouse.sources import open_source
from warehouse.state.arrivals import new_exposures, only_exposures, shared_times
from warehouse.state.known_units import Changes, Dictionary, KnownUnits, changes, from_table, place_of, union
from warehouse.state.lane import Lane, Manifest
from warehouse.state.unusable import Unusable
from warehouse.units import UNITS, Bucket, exposed_units

_EVERYBODY = "everybody"
_LATE = "late_units"
_NONE: Final[Ints] = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Everybody:
    """All units of now, and where windows began before of those that are gone from there (`left_us`, n).

    `fresh` and `regrouped` are rows of now (`known_units.Changes`); without anything kept all are fresh.

    `file` is where they are kept already. `in_full`: the engine has all of them in a table. `assigned` (V,) counts
    units where a trigger exposes; `reach` is there for a plan with a North Star.
    """

    known: KnownUnits
    fresh: Ints
    left_us: Ints
    regrouped: Ints
    levels: Dictionary
    file: str = ""
    in_full: bool = False
    assigned: Ints | None = None
    reach: Reach | None = None

    def table_of(self, work: Pass, rows: Ints) -> Ints:
        """Put some of the units into the table `UNITS`; (n,) where each is in it."""
        known = self.known
        wanted = {"h": known.hash[rows], "assigned_us": known.assigned_us[rows]}
        if self.in_full:
            source = f"SELECT w.h, e.unit_id, w.assigned_us FROM {_EVERYBODY} e JOIN wanted w ON hash(e.unit_id) = w.h"
            return _make(work, source, wanted, Parameters())
        parameters = Parameters()
        stored = exposures.relation(work.data, parameters, work.data.recorded_before_us)
        if stored is None:
            raise Unusable("there are no exposures")
        first, last = (parameters.add(int(f(wanted["assigned_us"]))) for f in (np.min, np.max))
        source = (
            f"SELECT DISTINCT w.h, e.unit_id, w.assigned_us FROM (SELECT unit_id, epoch_us(exposed_at) AS at_us FROM"
            f" {stored} WHERE exposed_at >= make_timestamptz({first}) AND exposed_at <= make_timestamptz({last})) e"
            " JOIN wanted w ON hash(e.unit_id) = w.h AND e.at_us = w.assigned_us"
        )
        return _make(work, source, wanted, parameters)

    def table_of_late(self, work: Pass, columns: Sequence[Column], until_us: int, among: Bools) -> tuple[Ints, Ints]:
        """The units `among` (n,) those known that have facts in a slice before a time, and their rows in `UNITS`."""
        parameters, selects = Parameters(), []
        for key in dict.fromkeys(measure_of(read).fact_source for column in columns for read in column.reads):
            source = open_source(work.connection, work.sources[key], work.data, parameters)
            if source is not None:
                unit = identifier(source.unit)
                selects.append(
                    f"SELECT CAST({unit} AS VARCHAR) AS unit_id FROM {source.relation} WHERE {unit} IS NOT NULL"
                    f" AND {source.time_test('<', parameters.add(until_us))}"
                )
        nobody = np.zeros(0, dtype=np.int64)
        if not selects:
            return nobody, nobody
        work.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_LATE} AS SELECT DISTINCT unit_id, hash(unit_id) AS h,"
            f" md5_number_lower(unit_id) AS c FROM ({' UNION ALL '.join(selects)})",
            parameters.values,
        )
        found = work.connection.sql(f"SELECT h, c FROM {_LATE} ORDER BY h").fetchnumpy()
        hashes = np.asarray(found["h"], dtype=np.uint64)
        place, there = place_of(hashes, self.known.hash)
        rows = place[there]
        same = self.known.check[rows] == np.asarray(found["c"], dtype=np.uint64)[there]
        rows = rows[same & among[rows]]
        if not len(rows):
            return nobody, nobody
        wanted = {"h": self.known.hash[rows], "c": self.known.check[rows], "assigned_us": self.known.assigned_us[rows]}
        late = f"SELECT w.h, e.unit_id, w.assigned_us FROM {_LATE} e JOIN wanted w ON e.h = w.h AND e.c = w.c"
        return rows, _make(work, late, wanted, Parameters())


type _Arrays = Mapping[str, np.ndarray[tuple[int], np.dtype[np.generic]]]


def _make(work: Pass, source: str, wanted: _Arrays, parameters: Parameters) -> Ints:
    """The table `UNITS` from a statement; (n,) the row of each unit of `wanted`, whose hashes may be in any order."""
    connection = work.connection
    connection.register("wanted", dict(wanted))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {UNITS} AS SELECT h, unit_id, assigned_us AS at_us FROM ({source})",
        parameters.values,
    )
    connection.unregister("wanted")
    table = connection.sql(f"SELECT h, rowid AS r FROM {UNITS}").fetchnumpy()
    hashes, rowid = np.asarray(table["h"], dtype=np.uint64), np.asarray(table["r"], dtype=np.int64)
    order, target = np.argsort(hashes), np.argsort(wanted["h"])
    if len(hashes) != len(target) or (hashes[order] != wanted["h"][target]).any():
        raise Unusable("units cannot be found again")
    place = np.empty(len(target), dtype=np.int64)
    place[target] = rowid[order]
    return place


def of_now(lane: Lane, plan: AnalysisPlan, work: Pass, manifest: Manifest | None, folder: Path) -> Everybody:
    """Everybody who was exposed by now."""
    before = None if manifest is None else lane.read(manifest.units, KnownUnits)
    levels = {} if manifest is None else manifest.levels
    dimensions, present = attributes_of(plan), [name for name, _ in work.levels]
    of_company = reach_wanted(plan, work.exposed_us)
    if plan.trigger is not None or plan.exposures is not None or of_company is not None:
        found = units_of(work, plan, Bucket())
        known, levels = from_table(work.connection, dimensions, present, levels)
        reach = None
        if of_company is not None:
            sums = reach_sums(work, of_company, triggered=plan.trigger is not None)
            reach = sums.finish(of_company)
        work.connection.execute(f"CREATE OR REPLACE TEMP TABLE {_EVERYBODY} AS SELECT unit_id FROM {UNITS}")
        changed = _all_fresh(known) if before is None else _since(before, changes(before, known))
        return Everybody(known, *changed, levels, in_full=True, assigned=found.assigned, reach=reach)
    data = work.data
    if manifest is not None and before is not None:
        arrivals = new_exposures(manifest.seen, data)
        if not arrivals:
            return Everybody(before, _NONE, _NONE, _NONE, levels, file=manifest.units)
        if shared_times(arrivals, data.exposure_arrivals):
            raise Unusable("batches cannot be told apart")
        data = only_exposures(work.connection, data, arrivals, folder)
    exposed_units(work.connection, data, work.variants, work.levels, Bucket())
    new, levels = from_table(work.connection, dimensions, present, levels)
    if before is None:
        return Everybody(new, *_all_fresh(new), levels)
    known, changed_now = union(before, new, [levels[name] for name in dimensions])
    return Everybody(known, *_since(before, changed_now), levels)


def _all_fresh(known: KnownUnits) -> tuple[Ints, Ints, Ints]:
    return np.arange(len(known), dtype=np.int64), _NONE, _NONE


def _since(before: KnownUnits, found: Changes) -> tuple[Ints, Ints, Ints]:
    return found.fresh, before.at_us[found.moved_from], found.regrouped


def count(work: Pass, who: Everybody, variant: Ints, codes: Ints, parts: Sequence[Counts]) -> Counts:
    """The populations of all units (`populations.count`); those of analysed units are in `parts`, one per cohort."""
    looks_us, arms = np.array([epoch_us(look) for look in work.looks]), len(work.variants)
    seen = np.searchsorted(looks_us, who.known.at_us, side="right")
    exposed = (variant >= 0) & (seen < len(looks_us))
    of_arm = variant[exposed]
    daily = np.bincount(seen[exposed] * arms + of_arm, minlength=len(looks_us) * arms).reshape(len(looks_us), arms)
    named = {} if who.assigned is None else {ASSIGNED: who.assigned}
    named[EXPOSED] = np.bincount(of_arm, minlength=arms)
    for name in (ANALYSED, WITH_OUTCOME):
        named[name] = np.sum([part.named[name] for part in parts], axis=0)
    levels = [
        np.bincount(segment.of(codes)[exposed] * arms + of_arm, minlength=len(segment.groups) * arms).reshape(-1, arms)
        for segment in work.segments
    ]
    by_segment = np.concatenate(levels) if levels else np.zeros((0, arms), dtype=np.int64)
    return Counts(np.cumsum(daily, axis=0), named, by_segment)
