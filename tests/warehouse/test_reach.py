"""How much of the company an experiment reached: the engine's totals against loops over units."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.definitions import Filter, InputMetric, Measure, MetricSpec, NorthStarSpec, Trigger
from experiments.plan import PlannedNorthStar
from stats.moment_set import Reach
from tests.warehouse.cases import DAY, START, Exposure, Fact, planned, slice_of, write_exposures, write_facts
from tests.warehouse.plain import ARMS, AS_OF, CLOSED, OPEN, World, plan_with, random_world, unit_rows
from tests.warehouse.test_clusters import uncrossed
from warehouse import experiment_moments
from warehouse.extract import extract_experiment

WEEK = 7 * DAY
BIG = Trigger(fact_source="orders", filters=[Filter(column="value", op=">", value=4.0)])
LARGEST = MetricSpec(
    key="largest", name="l", kind="mean", window_days=3, pre_period_days=0,
    measure=Measure(fact_source="orders", aggregation="max", filters=[Filter(column="value", op=">", value=2.0)]),
)  # fmt: skip


def star_of(metric_key: str) -> PlannedNorthStar:
    other = InputMetric(metric_key="largest" if metric_key != "largest" else "revenue")
    spec = NorthStarSpec(
        key="star", name="Star", metric_key=metric_key, formula=other.metric_key, input_metrics=[other]
    )
    return PlannedNorthStar(version=1, spec=spec)


def world_with_outsiders(folder: Path, seed: int, **changes: Any) -> World:
    """Half as many people again are never shown anything and order all the same."""
    world = random_world(folder, seed, **{"units": 80, **changes})
    rng = np.random.default_rng(seed + 1)
    more = {
        source: [Fact(f"outsider {i}", START + float(rng.uniform(-3, 14)) * DAY, 6.0) for i in range(60)]
        for source in ("orders", "visits")
    }
    files = {
        event: (*world.data.event_files[event], write_facts(folder, more[f"{event}s"], event))
        for event in ("order", "visit")
    }
    facts = {source: [*found, *more[source]] for source, found in world.facts.items()}
    return World(world.exposures, facts, replace(world.data, event_files=files))


def numbers(facts: list[Fact]) -> list[float]:
    return [fact.value for fact in facts if fact.value is not None]


VALUE = {
    "revenue": ("orders", lambda facts: sum(numbers(facts))),
    "largest": ("orders", lambda facts: max([value for value in numbers(facts) if value > 2], default=0)),
    "per_visit.numerator": ("orders", len),
    "per_visit.denominator": ("visits", len),
    "visitors": ("visits", lambda facts: float(bool(facts))),
}


def by_loops(world: World, columns: tuple[str, ...], weeks: int, **options: Any) -> tuple[np.ndarray, ...]:
    """Totals of the company (W, C) and of the reached (W, V, C), and units of both in the last column's source."""
    rows = unit_rows(
        [*CLOSED, OPEN], world.exposures, world.facts, look=AS_OF, data_as_of=AS_OF, dimensions=["country"], **options
    )
    good = uncrossed(world) if "cluster" in options else {row.cluster for row in rows}
    reached = {row.unit: (row.arm, row.exposed) for row in rows if row.exposed is not None and row.cluster in good}
    company, exposed = np.zeros((weeks, len(columns))), np.zeros((weeks, len(ARMS), len(columns)))
    units, exposed_units = np.zeros(weeks), np.zeros((weeks, len(ARMS)))
    of_unit: dict[tuple[str, str], list[Fact]] = {}
    for name, found in world.facts.items():
        for fact in found:
            of_unit.setdefault((fact.unit, name), []).append(fact)
    for week in range(weeks):
        begin = START + week * WEEK
        for unit in {unit for unit, _ in of_unit}:
            for c, column in enumerate(columns):
                source, value = VALUE[column]
                facts = [f for f in of_unit.get((unit, source), []) if begin <= f.at < begin + WEEK]
                last = c == len(columns) - 1
                company[week, c] += value(facts)
                units[week] += last and bool(facts)
                if unit in reached:
                    arm, since = reached[unit]
                    after = [f for f in facts if f.at >= since]
                    exposed[week, arm, c] += value(after)
                    exposed_units[week, arm] += last and bool(after)
    return company, exposed, units, exposed_units


def reach_of(world: World, metric_key: str, threads: int = 2, **options: Any) -> Reach:
    metrics = [*CLOSED, OPEN, LARGEST]
    plan = plan_with(metrics, north_star=star_of(metric_key), **options)
    found = extract_experiment(plan, world.data, threads=threads).reach
    assert found is not None
    return found


@pytest.mark.parametrize("metric_key", ["revenue", "per_visit", "visitors", "largest"])
def test_totals_of_the_company_and_of_the_exposed_equal_loops(tmp_path: Path, metric_key: str) -> None:
    world = world_with_outsiders(tmp_path, 3)
    found = reach_of(world, metric_key)
    company, exposed, units, reached = by_loops(world, found.columns, 2)
    assert found.weeks == 2
    np.testing.assert_allclose(found.company.sum(axis=0), company, rtol=1e-12)
    np.testing.assert_allclose(found.exposed.sum(axis=0), exposed, rtol=1e-12)
    np.testing.assert_array_equal(found.company_units.sum(axis=0), units)
    np.testing.assert_array_equal(found.exposed_units.sum(axis=0), reached)
    assert (found.exposed_units.sum(axis=-1) <= found.company_units).all()
    assert (found.company_units > 0).sum() > 60  # units are spread over the hash buckets


def test_with_a_trigger_the_reached_are_the_triggered_since_their_trigger(tmp_path: Path) -> None:
    world = world_with_outsiders(tmp_path, 5)
    found = reach_of(world, "revenue", trigger=BIG)
    assigned = reach_of(world, "revenue")
    big = {"triggers": lambda fact: fact.value is not None and fact.value > 4, "source": "orders"}
    company, exposed, _, reached = by_loops(world, found.columns, 2, **big)
    np.testing.assert_allclose(found.company.sum(axis=0), company, rtol=1e-12)
    np.testing.assert_allclose(found.exposed.sum(axis=0), exposed, rtol=1e-12)
    np.testing.assert_array_equal(found.exposed_units.sum(axis=0), reached)
    assert found.exposed_units.sum() < assigned.exposed_units.sum()


@pytest.mark.parametrize("options", [{}, {"cluster": "account"}])
def test_units_in_passes_add_up_to_the_same_and_threads_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    world = world_with_outsiders(tmp_path, 7, clustered=bool(options))
    amounts = [reach_of(world, "revenue", threads, **options) for threads in (1, 3)]
    np.testing.assert_array_equal(amounts[0].company, amounts[1].company)
    np.testing.assert_array_equal(amounts[0].exposed, amounts[1].exposed)
    whole = reach_of(world, "per_visit", **options)
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 2000)
    parts = reach_of(world, "per_visit", **options)
    for name in ("company", "exposed", "company_units", "exposed_units"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    company, exposed, *_ = by_loops(world, whole.columns, 2, **options)
    np.testing.assert_allclose(whole.company.sum(axis=0), company, rtol=1e-12)
    np.testing.assert_allclose(whole.exposed.sum(axis=0), exposed, rtol=1e-12)


def test_only_full_weeks_of_exposure_count_and_facts_that_are_no_numbers_withdraw_their_column(tmp_path: Path) -> None:
    exposures = [write_exposures(tmp_path, [Exposure("a", "control", START), Exposure("b", "treatment", START)])]
    facts = [Fact("a", START + DAY, 3.0), Fact("b", START + 8 * DAY, float("inf"))]
    orders = {"order": [write_facts(tmp_path, facts)]}
    plan = plan_with(CLOSED, north_star=star_of("revenue"))
    for days, weeks, total in ((6, 0, 0.0), (13, 1, 3.0)):
        ended = START + days * DAY
        found = extract_experiment(plan, slice_of(exposures, orders, data_as_of=AS_OF, ended_at=ended)).reach
        assert found is not None and (found.weeks, found.company.sum(), found.withdrawn) == (weeks, total, ())
    found = extract_experiment(plan, slice_of(exposures, orders, data_as_of=AS_OF)).reach
    assert found is not None and (found.withdrawn, found.company.sum()) == (("revenue",), 0.0)


def test_a_plan_without_a_north_star_or_with_the_same_on_both_sides_reaches_nobody(tmp_path: Path) -> None:
    data = random_world(tmp_path, 1, units=10).data
    quantile = MetricSpec(
        key="q", name="q", kind="quantile", quantile=0.5, window_days=3, pre_period_days=0,
        measure=Measure(fact_source="orders", aggregation="sum"),
    )  # fmt: skip
    assert extract_experiment(plan_with(CLOSED), data).reach is None
    assert extract_experiment(plan_with(CLOSED, north_star=star_of("revenue"), purpose="aa"), data).reach is None
    middle = plan_with([*CLOSED, quantile], north_star=star_of("q"))
    assert extract_experiment(middle, data).reach is None
    profit = MetricSpec(key="profit", name="p", kind="formula", formula="revenue - 2 * per_visit")
    plan = plan_with(CLOSED, north_star=star_of("profit"))
    plan = plan.model_copy(update={"metrics": [*plan.metrics, planned(profit)]})
    found = extract_experiment(plan, data).reach
    assert found is not None and found.columns == ("revenue", "per_visit.numerator", "per_visit.denominator")
