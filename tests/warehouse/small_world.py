"""A small random company for tests of what one pass makes besides moments: who was shown what, and what they did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from experiments.columns import Column, layout
from experiments.definitions import Estimation, Measure, MetricSpec, Role
from stats.moment_set import MomentSet
from stats.moments import Floats
from tests.warehouse.cases import DAY, START, Exposure, Fact, plan_of, slice_of, value_of, write_exposures, write_facts
from warehouse.extract import extract_experiment

ARMS = ("control", "treatment")
type Draw = Callable[[np.random.Generator], float | None]


def skewed(rng: np.random.Generator) -> float | None:
    """Mostly small, sometimes large, now and then not known; in quarters, so that sums are exact."""
    return None if rng.random() < 0.1 else float(np.rint(4 * rng.lognormal(2, 1.2)) / 4)


def metric(key: str = "revenue", kind: str = "mean", aggregation: str = "sum", **fields: Any) -> MetricSpec:
    measure = Measure.model_validate({"fact_source": "orders", "aggregation": aggregation})
    given = {"key": key, "name": key, "kind": kind, "window_days": 3, "pre_period_days": 5, "measure": measure}
    return MetricSpec.model_validate({**given, **fields})


@dataclass(frozen=True)
class World:
    """Exposures (one per unit) and facts of the event `order`, seen `days` after the start."""

    exposures: Sequence[Exposure]
    facts: Sequence[Fact]
    days: float = 9

    @property
    def as_of(self) -> datetime:
        return START + self.days * DAY

    def extract(
        self,
        folder: Path,
        metrics: Sequence[MetricSpec],
        *,
        threads: int = 2,
        level: float = 0.95,
        role: Role = Role.SECONDARY,
        **fields: Any,
    ) -> MomentSet:
        data = slice_of(
            [write_exposures(folder, self.exposures)],
            {"order": [write_facts(folder, self.facts[i::3]) for i in range(3)]},
            data_as_of=self.as_of,
        )
        plan = plan_of(metrics)
        options = {
            "segments": ["country"],
            "estimation": Estimation(ci_level=level),
            "metrics": [planned.model_copy(update={"role": role}) for planned in plan.metrics],
        }
        return extract_experiment(plan.model_copy(update={**options, **fields}), data, threads=threads)

    def analysed(self, metrics: Sequence[MetricSpec], look: datetime) -> list[Exposure]:
        """The units whose longest window is complete at a look."""
        longest = (layout(metrics).longest_window_days or 0) * DAY
        return [row for row in self.exposures if row.at + longest <= look]

    def values(self, column: Column, rows: Sequence[Exposure], look: datetime | None = None) -> Floats:
        """A column's value, before any cap, of each of some units."""
        at = look or self.as_of
        return np.array([value_of(column, row.unit, row.at, {"orders": self.facts}, at) for row in rows])


def arm_of(rows: Sequence[Exposure]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([ARMS.index(row.variant) for row in rows], dtype=np.int64)


def world(seed: int = 1, units: int = 80, facts: int = 500, draw: Draw = skewed) -> World:
    """Units in two arms and three countries over six days; a third of the facts lie before the experiment."""
    rng = np.random.default_rng(seed)
    exposures = [
        Exposure(
            f"u{i}",
            ARMS[int(rng.random() < 0.5)],
            START + float(rng.uniform(0, 6)) * DAY,
            {"country": "ABC"[int(rng.integers(3))], "store": f"s{i % 23}"},
        )
        for i in range(units)
    ]
    done = [
        Fact(f"u{rng.integers(units)}", START + float(rng.uniform(-5, 9)) * DAY, draw(rng), {"plan": "ab"[i % 2]})
        for i in range(facts)
    ]
    return World(exposures, done)
