"""A pass over a world in plain Python: rows in lists, units in loops. It shares no code with any engine or compiler.

Only what metrics mean is taken from elsewhere: their columns (`experiments.columns`), and what the value of a column is
for one unit (`tests.warehouse.cases`).
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.columns import Column, ColumnLayout, layout
from experiments.definitions import Cap, Filter, UnitMapping
from stats.moments import Moments
from tests.engines.worlds import SHOWN, TIME, UNIT, World
from tests.warehouse.cases import Fact, passes, value_of

type Row = dict[str, Any]
type Vectors = dict[tuple[Any, ...], list[list[float]]]
BUCKETS, LARGEST, NONE = 100, 1e90, "(none)"


@dataclass
class Unit:
    """A unit with one arm of the plan."""

    name: str
    arm: int
    assigned: datetime
    levels: Mapping[str, str]
    cluster: str | None
    facts: Mapping[str, Sequence[Fact]]
    at: datetime | None = None
    values: list[float] = field(default_factory=list)
    active: bool = False


@dataclass
class Found:
    """What a `MomentSet` has of the same names; cells are (..., arms)."""

    overall: Moments
    exposures: Any
    crossover: int
    by_segment: dict[tuple[str, str], Moments]
    segment_exposures: dict[tuple[str, str], list[int]]
    strata: dict[str, Moments]
    populations: dict[str, list[int]]
    buckets: Any
    clusters: list[list[float]]
    invalid: dict[str, str]
    capped: dict[str, tuple[float, list[int]]]
    missing: dict[str, list[int]]
    responses: dict[str, dict[float, list[int]]]
    quantiles: dict[str, list[float]]
    refused: set[str]
    unmapped: dict[str, tuple[int, int, int]]


def plainly(world: World, looks: Sequence[datetime]) -> Found:
    """Everything about a world at these looks."""
    return _Pass(world, looks).found()


def text_of(value: Any) -> str:
    """An id or a level as text: whole numbers have no decimals."""
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def moment(value: datetime | date) -> datetime:
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def rows_of(table: pa.Table, filters: Iterable[Filter] = ()) -> list[Row]:
    """Rows that have a unit and a time and pass the filters."""
    rows = [row for row in table.to_pylist() if row[UNIT] is not None and row[TIME] is not None]
    return [row for row in rows if all(passes(Fact("", moment(row[TIME]), None, row), item) for item in filters)]


def _fact(row: Row, unit: str) -> Fact:
    numbers = {name: float(v) if isinstance(v, Decimal | int) else v for name, v in row.items()}
    return Fact(unit, moment(row[TIME]), numbers.get("value"), {**row, **_only_numbers(numbers)})


def _only_numbers(row: Row) -> Row:
    return {name: value for name, value in row.items() if isinstance(value, float)}


class _Pass:
    def __init__(self, world: World, looks: Sequence[datetime]) -> None:
        self.world, self.looks = world, looks
        self.plan = world.plan("file")
        self.layout: ColumnLayout = layout([metric.spec for metric in self.plan.metrics])
        self.columns = self.layout.columns
        self.arms = len(self.plan.variants)
        self.end = min(world.as_of, world.ended_at or world.as_of)
        self.longest = timedelta(days=self.layout.longest_window_days or 0)
        self.unmapped: dict[str, tuple[int, int, int]] = {}
        self.facts = {source.key: self._facts(source.key) for source in self.plan.fact_sources}
        self.values: dict[tuple[Any, ...], float] = {}
        self.crossed: list[Unit] = []
        self.alone: list[Unit] = []
        self.units = self._units()
        self.assigned = self._by_arm(self.units)
        self._expose()

    # -- rows

    def _spec(self, key: str) -> Any:
        return next(source for source in self.plan.fact_sources if source.key == key)

    def _facts(self, key: str) -> dict[str, list[Fact]]:
        """Facts by unit."""
        spec = self._spec(key)
        rows = rows_of(self.world.tables[key], spec.filters)
        owners: dict[str, set[str]] | None = None
        if spec.unit_mapping is not None:
            owners = self._owners(spec.unit_mapping)
            self.unmapped[key] = self._lost(rows, owners)
        found: dict[str, list[Fact]] = {}
        for row in rows:
            name = text_of(row[UNIT])
            unit = name if owners is None else _only(owners.get(name, set()))
            if unit is not None:
                found.setdefault(unit, []).append(_fact(row, unit))
        return found

    def _owners(self, mapping: UnitMapping) -> dict[str, set[str]]:
        owners: dict[str, set[str]] = {}
        for row in rows_of(self.world.tables[mapping.fact_source], self._spec(mapping.fact_source).filters):
            if row[mapping.id_column] is not None and moment(row[TIME]) < self.world.as_of:
                owners.setdefault(text_of(row[mapping.id_column]), set()).add(text_of(row[UNIT]))
        return owners

    def _lost(self, rows: Sequence[Row], owners: Mapping[str, set[str]]) -> tuple[int, int, int]:
        """Facts in the period that the experiment may look at: all, of unknown ids, of ambiguous ids."""
        every = [*self.columns, *(one.column for one in self.layout.quantiles)]
        history = timedelta(days=max((column.pre_period_days for column in every), default=0.0))
        begin = self.world.started_at - history
        seen = [row for row in rows if begin <= moment(row[TIME]) < self.world.as_of]
        known = [len(owners.get(text_of(row[UNIT]), set())) for row in seen]
        return len(seen), known.count(0), sum(n > 1 for n in known)

    # -- units

    def _units(self) -> list[Unit]:
        variants = [variant.key for variant in self.plan.variants]
        shown: dict[str, list[Row]] = {}
        clusters: dict[str, set[str]] = {}
        assert self.plan.exposures is not None
        spec = self._spec(SHOWN)
        for row in rows_of(self.world.tables[SHOWN], [*spec.filters, *self.plan.exposures.filters]):
            if row["arm"] is None or not self.world.started_at <= moment(row[TIME]) < self.end:
                continue
            shown.setdefault(text_of(row[UNIT]), []).append(row)
            if self.plan.cluster is not None and row[self.plan.cluster] not in (None, ""):
                arm = text_of(row["arm"])
                clusters.setdefault(row[self.plan.cluster], set()).add(arm if arm in variants else "another")
        found = []
        for name, rows in shown.items():
            of_unit = {variants.index(one) if (one := text_of(row["arm"])) in variants else -1 for row in rows}
            first = min(moment(row[TIME]) for row in rows)
            rows = [row for row in rows if moment(row[TIME]) == first]
            levels = {one: min(_level(row[one]) for row in rows) for one in self.world.dimensions}
            named = [row[self.plan.cluster] for row in rows if row[self.plan.cluster]] if self.plan.cluster else []
            cluster = min(named, default=None)
            facts = {key: by_unit.get(name, []) for key, by_unit in self.facts.items()}
            unit = Unit(name, max(of_unit), first, levels, cluster, facts)
            if len(of_unit) > 1 or (cluster is not None and len(clusters[cluster]) > 1):
                self.crossed.append(unit)
            elif unit.arm >= 0:
                (self.alone if self.plan.cluster is not None and cluster is None else found).append(unit)
        return sorted(found, key=lambda unit: unit.name)

    def _expose(self) -> None:
        """When windows begin. With a trigger only those count for anything but assignment who have one."""
        trigger = self.plan.trigger
        for unit in [*self.units, *self.crossed, *self.alone]:
            unit.at = unit.assigned
            if trigger is not None:
                times = [
                    fact.at
                    for fact in unit.facts[trigger.fact_source]
                    if unit.assigned <= fact.at < self.end and all(passes(fact, item) for item in trigger.filters)
                ]
                unit.at = min(times, default=None)

    def _entered(self, look: datetime) -> list[Unit]:
        return [unit for unit in self.units if unit.at is not None and unit.at + self.longest <= look]

    def _by_arm(self, units: Iterable[Unit]) -> list[int]:
        arms = [unit.arm for unit in units]
        return [arms.count(arm) for arm in range(self.arms)]

    # -- values

    def _value(self, column: Column, unit: Unit, look: datetime) -> float:
        """Of a closed window it is the same at every look that a unit has entered by."""
        known = (unit.name, column.name, column.period, look if column.complete_after_days is None else None)
        if known not in self.values:
            self.values[known] = self._calculated(column, unit, look)
        return self.values[known]

    def _calculated(self, column: Column, unit: Unit, look: datetime) -> float:
        assert unit.at is not None
        at = unit.assigned if column.period == "pre" else unit.at
        return value_of(column, unit.name, at, unit.facts, look)

    def _numbers(self, column: Column, unit: Unit, look: datetime) -> list[float | None]:
        """The numbers that a column takes of a unit's facts, as they are."""
        assert column.measure is not None and unit.at is not None
        at = unit.assigned if column.period == "pre" else unit.at
        begin = (
            at - timedelta(days=column.pre_period_days)
            if column.period == "pre"
            else at + timedelta(days=column.delay_days)
        )
        end = at if column.period == "pre" else look
        if column.period != "pre" and column.window_days is not None:
            end = begin + timedelta(days=column.window_days)
        name = column.measure.column
        chosen = [
            fact
            for fact in unit.facts[column.measure.fact_source]
            if begin <= fact.at < end and all(passes(fact, item) for item in column.measure.filters)
        ]
        return [fact.value if name == "value" else fact.properties[name] for fact in chosen]

    def _fault(self, column: Column, units: Sequence[Unit], look: datetime) -> str:
        if not _takes_numbers(column):
            return ""
        numbers = [n for unit in units for n in self._numbers(column, unit, look) if n is not None]
        odd = any(math.isfinite(n) and n not in range(11) for n in numbers)
        if odd and column.content == "score" and column.scale == "nps":
            return "invalid_answers"
        return "" if all(math.isfinite(n) and abs(n) <= LARGEST for n in numbers) else "non_finite_values"

    def _caps(self, units: Sequence[Unit], invalid: dict[str, str]) -> dict[int, float]:
        found = {}
        for i, column in enumerate(self.columns):
            cap, look = column.cap, self.looks[-1]
            if cap is None or not units:
                continue
            if cap.value is not None:
                found[i] = cap.value
                continue
            base = _base(column, cap)
            fault = self._fault(base, units, look)
            value = 0.0 if fault else _inverse([self._value(base, unit, look) for unit in units], cap.quantile or 0)
            if value > 0:
                found[i] = value
            elif column.period == "outcome":
                invalid.setdefault(column.name, fault or "cap_is_zero")
        return found

    # -- everything

    def found(self) -> Found:
        last, looks = self.looks[-1], self.looks
        units = self._entered(last)
        invalid = {column.name: why for column in self.columns if (why := self._fault(column, units, last))}
        caps = self._caps(units, invalid)
        usable = [column.name not in invalid for column in self.columns]
        above = {i: [0] * self.arms for i in caps}

        def measure(of: Iterable[Unit], look: datetime) -> None:
            for unit in of:
                unit.values = [
                    min(self._value(column, unit, look), caps.get(i, math.inf)) if usable[i] else 0.0
                    for i, column in enumerate(self.columns)
                ]

        overall, strata = [], []
        for look in looks:
            measure(inside := self._entered(look), look)
            overall.append(self._cells(inside))
            strata.append({name: self._cells(some) for name, some in self._strata(inside, units).items()})
        for unit in units:
            outcome = [v for column, v in zip(self.columns, unit.values, strict=True) if column.period == "outcome"]
            numbers = [n for q in self.layout.quantiles for n in self._numbers(q.column, unit, last)]
            answered = any(n is not None for n in numbers)
            unit.active = any(outcome) or answered
            for i, cap in caps.items():
                above[i][unit.arm] += usable[i] and self._value(self.columns[i], unit, last) > cap
        seen = [[u for u in self.units if u.at is not None and u.at < look] for look in looks]
        populations = {
            "exposed": self._by_arm(seen[-1]),
            "analysed": self._by_arm(units),
            "with_outcome": self._by_arm(unit for unit in units if unit.active),
        }
        periods = {column.name: column.period for column in self.columns}
        if any(why != "cap_is_zero" and periods[name] == "outcome" for name, why in invalid.items()):
            del populations["with_outcome"]
        if self.plan.trigger is not None:
            populations["assigned"] = self.assigned
        if self.plan.cluster is not None:
            populations["without_cluster"] = self._by_arm(unit for unit in self.alone if unit.at is not None)
        return Found(
            overall=_joined(overall),
            exposures=[self._by_arm(one) for one in seen],
            crossover=sum(unit.at is not None for unit in self.crossed),
            by_segment={key: self._cells(some) for key, some in self._segments(units, self.units).items()},
            segment_exposures={key: self._by_arm(some) for key, some in self._segments(seen[-1], self.units).items()},
            strata={name: _joined([one[name] for one in strata]) for name in strata[-1]} if len(strata[-1]) > 1 else {},
            populations=populations,
            buckets=self._buckets(units),
            clusters=sorted([arm, *row] for arm, rows in enumerate(self._vectors(units)) for row in rows),
            invalid=invalid,
            capped=self._capped(caps, above, usable),
            missing=self._missing(units),
            responses=self._responses(units, invalid),
            quantiles=self._quantiles(units),
            refused={q.metric_key for q in self.layout.quantiles if self._fault(q.column, units, last)},
            unmapped=self.unmapped,
        )

    def _capped(
        self, caps: Mapping[int, float], above: Mapping[int, list[int]], usable: Sequence[bool]
    ) -> dict[str, tuple[float, list[int]]]:
        return {
            self.columns[i].name: (cap, above[i])
            for i, cap in caps.items()
            if usable[i] and self.columns[i].period == "outcome"
        }

    def _vectors(self, units: Iterable[Unit]) -> list[list[list[float]]]:
        """By arm the vectors of units, or of clusters with their number of units."""
        cells: list[dict[str, list[float]]] = [{} for _ in range(self.arms)]
        for unit in units:
            key = unit.cluster if unit.cluster is not None else unit.name
            vector = [*unit.values, 1.0] if self.plan.cluster is not None else unit.values
            before = cells[unit.arm].get(key, [0.0] * len(vector))
            cells[unit.arm][key] = [a + b for a, b in zip(before, vector, strict=True)]
        return [list(cell.values()) for cell in cells]

    def _cells(self, units: Iterable[Unit]) -> Moments:
        return moments_of(self._vectors(units), len(self.columns) + (self.plan.cluster is not None))

    def _segments(self, units: Sequence[Unit], every: Sequence[Unit]) -> dict[tuple[str, str], list[Unit]]:
        """Units by dimension and level; levels are those of everybody who was exposed."""
        found: dict[tuple[str, str], list[Unit]] = {}
        for names in [*((name,) for name in self.plan.segments), *self.plan.two_way_segments]:
            for unit in units:
                level = " × ".join(unit.levels[name] for name in names)
                found.setdefault((" × ".join(names), level), []).append(unit)
        return found

    def _strata(self, units: Sequence[Unit], every: Sequence[Unit]) -> dict[str, list[Unit]]:
        """Attributes, then stages of the ramp; strata are those of all who entered; a cluster has its first unit's."""
        names, stages = self.plan.estimation.stratify_by, [since for since, _ in self.world.allocation]

        def stratum(unit: Unit) -> str:
            parts = [f"{name}={unit.levels[name]}" for name in names]
            if len(stages) > 1:
                parts.append(f"stage {sum(unit.assigned >= since for since in stages)}")
            return ", ".join(parts)

        clustered = self.plan.cluster is not None
        first: dict[str | None, Unit] = {}
        for unit in sorted(every, key=lambda unit: unit.assigned):
            first.setdefault(unit.cluster if clustered else unit.name, unit)
        found: dict[str, list[Unit]] = {stratum(unit): [] for unit in first.values()}
        for unit in units:
            found[stratum(first[unit.cluster if clustered else unit.name])].append(unit)
        return found

    def _buckets(self, units: Sequence[Unit]) -> Any:
        """(buckets, arms) units by the first 32 bits of the MD5 of their name; or clusters, by their names."""
        count = np.zeros((BUCKETS, self.arms), dtype=np.int64)
        for name, arm in {(unit.name if unit.cluster is None else unit.cluster, unit.arm) for unit in units}:
            digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
            count[int(digest[:8], 16) % BUCKETS, arm] += 1
        return count

    def _missing(self, units: Sequence[Unit]) -> dict[str, list[int]]:
        found = {}
        for column in self.columns:
            if not _takes_numbers(column):
                continue
            count = [0] * self.arms
            for unit in units:
                count[unit.arm] += sum(n is None for n in self._numbers(column, unit, self.looks[-1]))
            if any(count):
                found[column.name] = count
        return found

    def _responses(self, units: Sequence[Unit], invalid: Mapping[str, str]) -> dict[str, dict[float, list[int]]]:
        found = {}
        for key, where in self.layout.metrics.items():
            if where.responded is None or where.denominator is None:
                continue
            if {self.columns[where.value].name, self.columns[where.denominator].name} & invalid.keys():
                continue
            table: dict[float, list[int]] = {}
            for unit in units:
                if answers := unit.values[where.denominator]:
                    score = unit.values[where.value] / answers
                    table.setdefault(score, [0] * self.arms)[unit.arm] += 1
            found[key] = dict(sorted(table.items()))
        return found

    def _quantiles(self, units: Sequence[Unit]) -> dict[str, list[float]]:
        """The sample quantile of each arm at the last look."""
        found = {}
        for metric in self.layout.quantiles:
            last, cells = self.looks[-1], [list[float]() for _ in range(self.arms)]
            if self._fault(metric.column, units, last):
                continue
            for unit in units:
                numbers = [n for n in self._numbers(metric.column, unit, last) if n is not None]
                if numbers and metric.of == "event":
                    cells[unit.arm] += numbers
                elif numbers:
                    cells[unit.arm].append(self._value(metric.column, unit, last))
            found[metric.metric_key] = [_inverse(cell, metric.probability) if cell else 0.0 for cell in cells]
        return found


def moments_of(per_cell: Sequence[Sequence[Sequence[float]]], k: int) -> Moments:
    """Moments of each cell: exact sums for the mean, then products of what is left."""
    count, mean, comoment, third = [], [], [], []
    for cell in per_cell:
        rows = np.array(cell, dtype=np.float64).reshape(len(cell), k)
        centre = np.array([math.fsum(column) / max(len(rows), 1) for column in rows.T])
        gap = rows - centre
        count.append(len(rows))
        mean.append(centre)
        comoment.append(gap.T @ gap)
        third.append((gap**3).sum(axis=0))
    return Moments(np.array(count), np.array(mean), np.array(comoment), np.array(third))


def _joined(parts: Sequence[Moments]) -> Moments:
    names = ("count", "mean", "comoment", "third")
    return Moments(*(np.stack([getattr(part, name) for part in parts]) for name in names))


def _only(units: set[str]) -> str | None:
    return next(iter(units)) if len(units) == 1 else None


def _level(value: Any) -> str:
    return NONE if value is None or value == "" else text_of(value)


def _base(column: Column, cap: Cap) -> Column:
    """The column whose quantile caps another one."""
    return replace(column, cap=None, period="pre" if cap.basis == "pre_period" else column.period)


def _takes_numbers(column: Column) -> bool:
    if column.content in ("no_history", "step", "returned", "days_share") or column.measure is None:
        return False
    return column.content in ("score", "answers", "responded") or column.measure.aggregation in ("sum", "max", "last")


def _inverse(values: Sequence[float], quantile: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(quantile * len(ordered) - 1e-9), 1) - 1]
