"""Series of metrics from facts by period and segment, against loops over facts."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from experiments.definitions import (
    DuckDBSource,
    EventSource,
    FactSourceSpec,
    FileSource,
    LaunchMeasurement,
    Measure,
    MetricSpec,
    RolloutStep,
    SeriesSpec,
)
from experiments.errors import SourceUnreadable
from experiments.plan import LaunchPlan, PlannedMeasurement, PlannedSeries
from experiments.series_table import PERIOD, SeriesTable
from tests.warehouse.cases import DAY, Fact, planned, slice_of, write_facts
from warehouse.extract import DataSlice
from warehouse.segment_series import extract_segment_series

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
AS_OF = MONDAY + timedelta(days=23, hours=15)
SOURCES: list[FactSourceSpec] = [EventSource(key="orders", event="order"), EventSource(key="visits", event="visit")]
COUNT = Measure(fact_source="orders", aggregation="count")
SUM = Measure(fact_source="orders", aggregation="sum")
ANY_VISIT = Measure(fact_source="visits", aggregation="any")
REVENUE = MetricSpec(key="revenue", name="r", kind="mean", measure=SUM)
BUYERS = MetricSpec(key="buyers", name="b", kind="proportion", measure=COUNT)
BASKET = MetricSpec(key="basket", name="b", kind="ratio", numerator=SUM, denominator=ANY_VISIT)
MARGIN = MetricSpec(key="margin", name="m", kind="formula", formula="revenue - 2 * buyers")


def outcome(*metrics: MetricSpec, **fields: Any) -> PlannedSeries:
    """A series from the facts of the first metric, named after it."""
    given = {"key": metrics[0].key, "name": "s", "source": "facts", "metric_key": metrics[0].key, **fields}
    return PlannedSeries(version=1, spec=SeriesSpec(**given), metrics=[planned(metric) for metric in metrics])


def launch(*series: PlannedSeries, days: int = 365, sources: Sequence[FactSourceSpec] = SOURCES) -> LaunchPlan:
    """A launch on the last Monday, measured on series."""
    return LaunchPlan(
        launch_key="l",
        rollout=[RolloutStep(at=MONDAY + 14 * DAY, coverage=1, mechanism="all_at_once")],
        eligible=None,
        announced_at=None,
        confounders=[],
        measured_since=MONDAY,
        measurements=[
            PlannedMeasurement(
                options=LaunchMeasurement(series_key=item.spec.key, history_days=days),
                outcome=item,
                regressors=[],
                controls=[],
            )
            for item in series
        ],
        fact_sources=list(sources),
    )


def events(folder: Path, **facts: Sequence[Fact]) -> DataSlice:
    files = {event: [write_facts(folder, rows, event, ["country"])] for event, rows in facts.items()}
    return slice_of([], files, data_as_of=AS_OF, started_at=None)


def by_day(table: SeriesTable, segment: str) -> dict[int, float]:
    """The values of a segment by the day since `MONDAY`."""
    row = table.values[table.segments.index(segment)]
    return {(at - MONDAY).days: float(value) for at, value in zip(table.periods, row, strict=True)}


def random_facts(seed: int, n: int = 900) -> list[Fact]:
    """Facts in two countries, in none, and from just before the first Monday on."""
    rng = np.random.default_rng(seed)
    placed = ({"country": "NO"}, {"country": "SE"}, {})
    facts = [
        Fact(
            f"u{rng.integers(40)}",
            MONDAY + float(rng.uniform(0, 24)) * DAY,
            float(rng.normal(5, 9)) if i % 7 else None,
            placed[int(rng.integers(3))],
        )
        for i in range(n)
    ]
    return [*facts, *(Fact("u0", MONDAY, 1.0, place) for place in placed[:2])]


@pytest.mark.parametrize("grain", ["day", "week"])
def test_values_equal_loops_over_segments_and_periods(tmp_path: Path, grain: Any) -> None:
    orders, visits = random_facts(1), random_facts(2)
    of_country = {"dimension": "country", "grain": grain}
    plan = launch(
        outcome(REVENUE, **of_country),
        outcome(BUYERS, **of_country),
        outcome(BASKET, aggregation="mean", **of_country),
        outcome(MARGIN, REVENUE, BUYERS, **of_country),
    )
    found = extract_segment_series(plan, events(tmp_path, order=orders, visit=visits))
    assert list(found) == ["revenue", "buyers", "basket", "margin"]
    last = {"day": MONDAY + 22 * DAY, "week": MONDAY + 14 * DAY}[grain]
    for table in found.values():
        assert table.segments == ("NO", "SE")
        assert (table.periods[0], table.periods[-1]) == (MONDAY, last)
        assert table.unplaced > 0
    for row, segment in enumerate(("NO", "SE")):
        for i, start in enumerate(found["revenue"].periods):
            inside = [
                [
                    fact
                    for fact in facts
                    if start <= fact.at < start + PERIOD[grain] and fact.properties.get("country") == segment
                ]
                for facts in (orders, visits)
            ]
            revenue = math.fsum(fact.value or 0.0 for fact in inside[0])
            buyers = len({fact.unit for fact in inside[0]})
            visitors = len({fact.unit for fact in inside[1]})
            expected = {
                "revenue": revenue,
                "buyers": buyers,
                "basket": revenue / visitors if visitors else math.nan,
                "margin": revenue - 2 * buyers,
            }
            for key, value in expected.items():
                assert found[key].values[row, i] == pytest.approx(value, rel=1e-9, nan_ok=True), (key, segment, start)


def test_without_a_dimension_the_whole_company_is_one_segment(tmp_path: Path) -> None:
    orders = random_facts(3)
    found = extract_segment_series(launch(outcome(REVENUE)), events(tmp_path, order=orders))["revenue"]
    assert (found.segments, found.unplaced) == (("",), 0)
    whole = math.fsum(fact.value or 0.0 for fact in orders if fact.at < MONDAY + 23 * DAY)
    assert found.values.sum() == pytest.approx(whole, rel=1e-12)


def test_nothing_is_known_before_the_first_fact_and_nothing_happened_is_zero_after_it(tmp_path: Path) -> None:
    orders = [
        Fact("a", MONDAY + 1 * DAY + timedelta(hours=1), 5.0, {"country": "NO"}),
        Fact("a", MONDAY + 4 * DAY, 5.0, {"country": "NO"}),
        Fact("b", MONDAY + 2 * DAY + timedelta(hours=9), 7.0, {"country": "SE"}),
    ]
    plan = launch(outcome(REVENUE, dimension="country"))
    found = extract_segment_series(plan, events(tmp_path, order=orders))["revenue"]
    assert found.periods[0] == MONDAY + 1 * DAY, "the first fact came early in its day: the day was counted whole"
    assert [by_day(found, "NO")[day] for day in range(1, 6)] == [5, 0, 0, 5, 0]
    sweden = by_day(found, "SE")
    assert math.isnan(sweden[1]) and math.isnan(sweden[2]), "counting began within the day"
    assert [sweden[day] for day in range(3, 23)] == [0] * 20


def test_a_ratio_needs_both_of_its_sources_to_have_begun(tmp_path: Path) -> None:
    orders = [Fact("a", MONDAY + day * DAY, 6.0, {"country": "NO"}) for day in range(10)]
    visits = [Fact(unit, MONDAY + day * DAY, None, {"country": "NO"}) for day in range(4, 10) for unit in "ab"]
    plan = launch(outcome(BASKET, dimension="country", aggregation="mean"))
    found = extract_segment_series(plan, events(tmp_path, order=orders, visit=visits))["basket"]
    assert found.periods[0] == MONDAY + 4 * DAY
    assert found.values[0].tolist() == [3.0] * 6


def test_history_is_read_as_far_back_as_the_plan_looks(tmp_path: Path) -> None:
    orders = [Fact("a", MONDAY + day * DAY, 1.0) for day in range(-100, 20)]
    data = events(tmp_path, order=orders)
    found = extract_segment_series(launch(outcome(REVENUE), days=20), data)["revenue"]
    assert found.periods[0] == MONDAY + (14 - 20) * DAY
    one, other = launch(outcome(REVENUE, key="one"), outcome(REVENUE, key="other"), days=20).measurements
    longer = LaunchMeasurement(series_key="other", history_days=30)
    other = other.model_copy(update={"options": longer, "controls": [one.outcome]})
    plan = launch(outcome(REVENUE)).model_copy(update={"measurements": [one, other]})
    assert {table.periods[0] for table in extract_segment_series(plan, data).values()} == {MONDAY - 16 * DAY}


def test_a_number_that_is_none_makes_its_own_period_unknown_and_no_other(tmp_path: Path) -> None:
    bad = {3: math.inf, 5: math.nan}
    orders = [Fact("a", MONDAY + day * DAY, bad.get(day, 2.0), {"country": "NO"}) for day in range(23)]
    orders += [Fact("b", MONDAY + day * DAY, 1.0, {"country": "SE"}) for day in range(23)]
    plan = launch(outcome(REVENUE, dimension="country"))
    found = extract_segment_series(plan, events(tmp_path, order=orders))["revenue"]
    assert [day for day, value in by_day(found, "NO").items() if math.isnan(value)] == [3, 5]
    assert found.values[1].tolist() == [1.0] * 23


def test_segments_are_texts_and_facts_without_one_are_counted_apart(tmp_path: Path) -> None:
    places: list[Any] = [30.0, 30.5, None, 30.0]
    orders = [Fact("a", MONDAY, 1.0, {"shop": place}) for place in places]
    found = extract_segment_series(launch(outcome(REVENUE, dimension="shop")), events(tmp_path, order=orders))[
        "revenue"
    ]
    assert (found.segments, found.unplaced) == (("30", "30.5"), 1)
    assert found.values[:, 0].tolist() == [2, 1]


def test_files_and_tables_have_the_dimension_as_a_column(tmp_path: Path) -> None:
    rows = "user,at,amount,region\n" + "".join(
        f"u{i},{(MONDAY + i * DAY).isoformat()},{i},{'north' if i % 2 else 'south'}\n" for i in range(10)
    )
    (tmp_path / "orders.csv").write_text(rows)
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE orders AS SELECT * FROM read_csv($1)", [str(tmp_path / "orders.csv")])
    columns = {"key": "orders", "unit_column": "user", "timestamp_column": "at"}
    revenue = REVENUE.model_copy(update={"measure": SUM.model_copy(update={"column": "amount"})})
    data = slice_of([], {}, data_as_of=AS_OF, started_at=None, file_source_dir=tmp_path)
    for source in (
        FileSource(kind="file", path="orders.csv", **columns),
        DuckDBSource(kind="duckdb", path="shop.duckdb", table="orders", **columns),
    ):
        plan = launch(outcome(revenue, dimension="region"), sources=[source])
        found = extract_segment_series(plan, data)["revenue"]
        assert found.segments == ("north", "south")
        assert by_day(found, "north")[9] == 9


def test_a_dimension_that_cannot_be_used_is_a_named_problem(tmp_path: Path) -> None:
    orders = [Fact("a", MONDAY, 1.0, {"shop": f"s{i}"}) for i in range(1002)]
    data = events(tmp_path, order=orders)
    with pytest.raises(SourceUnreadable, match="more than 1000 different values"):
        extract_segment_series(launch(outcome(REVENUE, dimension="shop")), data)
    with pytest.raises(SourceUnreadable, match="no column 'planet'"):
        extract_segment_series(launch(outcome(REVENUE, dimension="planet")), data)


def test_series_without_facts_and_series_that_are_pushed_are_empty_or_absent(tmp_path: Path) -> None:
    pushed = PlannedSeries(version=1, spec=SeriesSpec(key="pushed", name="p"))
    found = extract_segment_series(launch(outcome(REVENUE), pushed), events(tmp_path))
    assert list(found) == ["revenue"]
    assert (found["revenue"].segments, found["revenue"].periods) == ((), ())
