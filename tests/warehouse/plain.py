"""Random worlds, and who is analysed in them, unit by unit and in loops: what a pass is checked against."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from experiments.columns import layout
from experiments.definitions import EventSource, Filter, FunnelStep, Measure, MetricSpec
from experiments.plan import AnalysisPlan
from stats.moments import Moments
from tests.warehouse.cases import (
    DAY,
    START,
    Exposure,
    Fact,
    direct_moments,
    plan_of,
    slice_of,
    value_of,
    write_exposures,
    write_facts,
)
from warehouse.data_slice import DataSlice

CONTROL, TREATMENT = ARMS = ("control", "treatment")
SOURCES = (EventSource(key="orders", event="order"), EventSource(key="visits", event="visit"))
CLOSED = (
    MetricSpec(
        key="revenue", name="r", kind="mean", window_days=3, pre_period_days=4,
        measure=Measure(fact_source="orders", aggregation="sum"),
    ),
    MetricSpec(
        key="per_visit", name="p", kind="ratio", window_days=2, delay_days=0.5, pre_period_days=0,
        numerator=Measure(fact_source="orders", aggregation="count"),
        denominator=Measure(fact_source="visits", aggregation="count"),
    ),
)  # fmt: skip
OPEN = MetricSpec(
    key="visitors", name="v", kind="proportion", window_days=None, pre_period_days=2,
    measure=Measure(fact_source="visits", aggregation="any"),
)  # fmt: skip
VISITED = Measure(fact_source="visits", aggregation="any")
ORDERED = Measure(fact_source="orders", aggregation="any")
BIG_ORDER = Measure(fact_source="orders", aggregation="any", filters=[Filter(column="value", op=">", value=4.0)])
RICH = (
    MetricSpec(
        key="back_next_days", name="b", kind="retention", delay_days=1, window_days=2, pre_period_days=3,
        measure=VISITED, covariates=[Measure(fact_source="orders", aggregation="sum")],
    ),
    MetricSpec(
        key="orders_again", name="o", kind="retention", delay_days=0.5, window_days=2.5, pre_period_days=4,
        start=ORDERED, start_within_days=2, measure=BIG_ORDER,
    ),
    MetricSpec(
        key="visit_order_visit", name="v", kind="funnel", window_days=5, pre_period_days=6,
        steps=[
            FunnelStep(measure=VISITED),
            FunnelStep(measure=ORDERED, within_days=3),
            FunnelStep(measure=VISITED, within_days=3),
        ],
    ),
    MetricSpec(
        key="two_visits", name="t", kind="funnel", funnel_of="first_step", delay_days=0.25, window_days=3,
        pre_period_days=3, steps=[FunnelStep(measure=VISITED), FunnelStep(measure=VISITED)],
    ),
    MetricSpec(
        key="days_visited", name="d", kind="participation", delay_days=1, window_days=3, pre_period_days=3.5,
        measure=VISITED,
        covariates=[VISITED, Measure(fact_source="orders", aggregation="last"), VISITED],
    ),
    MetricSpec(
        key="last_order", name="l", kind="mean", window_days=3, pre_period_days=4,
        measure=Measure(fact_source="orders", aggregation="last"),
    ),
)  # fmt: skip
"""One of every kind that looks at the order of facts or at their days."""
AS_OF = START + 14 * DAY


@dataclass(frozen=True)
class World:
    """Exposures and facts by source, and where they are stored."""

    exposures: list[Exposure]
    facts: dict[str, list[Fact]]
    data: DataSlice


def normal_amount(rng: np.random.Generator) -> float:
    return float(rng.normal(5, 3))


def random_world(
    folder: Path,
    seed: int,
    *,
    units: int = 120,
    clustered: bool = False,
    amount: Callable[[np.random.Generator], float] = normal_amount,
    facts_of: tuple[float, float] = (1.5, 3),
    **changes: Any,
) -> World:
    """Units that are exposed up to three times in ten days, some of them in both arms; orders and visits of theirs.

    They have a country (or none), a platform and an account. With `clustered` the account decides on the arm.
    `facts_of` is how many orders and visits each has on average, in 22 days.
    """
    rng = np.random.default_rng(seed)
    exposures, facts = [], {"orders": list[Fact](), "visits": list[Fact]()}
    for i in range(units):
        account = int(rng.integers(14))
        arm = account % 2 if clustered else int(rng.integers(2))
        segments = {"platform": ["web", "app"][int(rng.random() < 0.3)], "account": f"account {account}"}
        if rng.random() < 0.8:
            segments["country"] = str(rng.choice(["DE", "US", "FR"], p=[0.6, 0.3, 0.1]))
        if rng.random() < 0.05:
            del segments["account"]
        for _ in range(int(rng.integers(1, 4))):
            at = START + float(rng.uniform(-0.2, 10)) * DAY
            crossed = rng.random() < (0.01 if clustered else 0.04)
            exposures.append(Exposure(f"unit {i}", ARMS[1 - arm if crossed else arm], at, segments))
        for found, usual in zip(facts.values(), facts_of, strict=True):
            for _ in range(int(rng.poisson(usual))):
                value = None if rng.random() < 0.1 else amount(rng)
                found.append(Fact(f"unit {i}", START + float(rng.uniform(-6, 16)) * DAY, value))
    files = {
        "order": [write_facts(folder, facts["orders"])],
        "visit": [
            write_facts(folder, facts["visits"][::2], "visit"),
            write_facts(folder, facts["visits"][1::2], "visit"),
        ],
    }
    half = units // 2
    stored = [write_exposures(folder, exposures[:half]), write_exposures(folder, exposures[half:])]
    data = replace(slice_of(stored, files, data_as_of=AS_OF), **changes)
    return World(exposures, facts, data)


def plan_with(metrics: Sequence[MetricSpec] = CLOSED, *, segments: Sequence[str] = (), **options: Any) -> AnalysisPlan:
    """A plan with options that `plan_of` does not know; those of the estimation by their own names."""
    plan = plan_of(metrics, sources=SOURCES, segments=segments)
    estimation = {name: options.pop(name) for name in list(options) if name in type(plan.estimation).model_fields}
    return plan.model_copy(update={"estimation": plan.estimation.model_copy(update=estimation), **options})


@dataclass(frozen=True)
class UnitRow:
    """A unit that is in one arm: when it was assigned and exposed (None: never), its levels, and its values at a look.

    `entered`: its longest window is complete.
    """

    unit: str
    arm: int
    assigned: datetime
    exposed: datetime | None
    levels: Mapping[str, str]
    cluster: str | None
    entered: bool
    values: list[float]
    with_outcome: bool


def unit_rows(
    metrics: Sequence[MetricSpec],
    exposures: Iterable[Exposure],
    facts: Mapping[str, Sequence[Fact]],
    *,
    look: datetime,
    data_as_of: datetime,
    ended_at: datetime | None = None,
    dimensions: Sequence[str] = (),
    cluster: str = "",
    triggers: Callable[[Fact], bool] | None = None,
    source: str = "",
) -> list[UnitRow]:
    """Units of one variant, assigned before the look. `triggers` picks the facts of `source` that expose."""
    columns = layout(metrics)
    longest = timedelta(days=columns.longest_window_days or 0)
    end = data_as_of if ended_at is None else min(data_as_of, ended_at)
    rows_of: dict[str, list[Exposure]] = {}
    for row in exposures:
        if START <= row.at < end:
            rows_of.setdefault(row.unit, []).append(row)
    found = []
    for unit, rows in sorted(rows_of.items()):
        assigned = min(row.at for row in rows)
        if len({row.variant for row in rows}) > 1 or rows[0].variant not in ARMS:
            continue
        of_first = [row for row in rows if row.at == assigned]
        levels = {name: min(row.segments.get(name, "(none)") for row in of_first) for name in dimensions}
        of_cluster = min((row.segments[cluster] for row in of_first if cluster in row.segments), default=None)
        exposed: datetime | None = assigned
        if triggers is not None:
            times = [f.at for f in facts[source] if f.unit == unit and assigned <= f.at < end and triggers(f)]
            exposed = min(times, default=None)
        values = [
            value_of(column, unit, assigned if column.period == "pre" else exposed or assigned, facts, look)
            for column in columns.columns
        ]
        outcome = any(
            value != 0 for column, value in zip(columns.columns, values, strict=True) if column.period == "outcome"
        )
        entered = exposed is not None and exposed + longest <= look
        arm = ARMS.index(rows[0].variant)
        found.append(UnitRow(unit, arm, assigned, exposed, levels, of_cluster, entered, values, outcome))
    return found


def moments_of(rows: Iterable[UnitRow], k: int) -> Moments:
    """Moments (arms,) of the units that entered."""
    inside = [row for row in rows if row.entered]
    return direct_moments([[row.values for row in inside if row.arm == arm] for arm in range(len(ARMS))], k)


def by_arm(rows: Iterable[UnitRow]) -> list[int]:
    """How many units each arm has."""
    arms = [row.arm for row in rows]
    return [arms.count(arm) for arm in range(len(ARMS))]


def totals_of_clusters(rows: Iterable[UnitRow]) -> list[list[list[float]]]:
    """Per arm the totals of each cluster's entered units, their number last."""
    groups: dict[tuple[int, str], list[list[float]]] = {}
    for row in rows:
        if row.entered and row.cluster is not None:
            groups.setdefault((row.arm, row.cluster), []).append([*row.values, 1.0])
    return [
        [np.sum(values, axis=0).tolist() for (arm, _), values in sorted(groups.items()) if arm == wanted]
        for wanted in range(len(ARMS))
    ]
