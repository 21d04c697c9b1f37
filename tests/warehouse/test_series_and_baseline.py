"""Company-wide weekly totals, and baselines from history, against plain loops."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from experiments.columns import layout
from experiments.definitions import Cap, EventSource, Filter, InputMetric, Measure, MetricSpec, NorthStarSpec
from experiments.plan import BaselinePlan, NorthStarPlan, PlannedNorthStar
from tests.warehouse.cases import DAY, Fact, assert_same, direct_moments, planned, slice_of, value_of, write_facts
from warehouse.answers import INVALID_ANSWERS
from warehouse.extract import EVERYONE, NON_FINITE, extract_baseline, extract_series
from warehouse.series import week_of

AS_OF = datetime(2026, 3, 5, 12, tzinfo=UTC)  # a Thursday
SOURCES = [EventSource(key="orders", event="order"), EventSource(key="visits", event="visit")]
METRICS = [
    MetricSpec(key="revenue", name="r", kind="mean", measure=Measure(fact_source="orders", aggregation="sum")),
    MetricSpec(key="buyers", name="b", kind="proportion", measure=Measure(fact_source="orders", aggregation="count")),
    MetricSpec(key="days", name="d", kind="mean", measure=Measure(fact_source="visits", aggregation="distinct_days")),
    MetricSpec(
        key="largest", name="l", kind="ratio",
        numerator=Measure(fact_source="orders", aggregation="max"),
        denominator=Measure(fact_source="visits", aggregation="any"),
    ),
]  # fmt: skip


def random_facts(seed: int, n: int = 800) -> list[Fact]:
    rng = np.random.default_rng(seed)
    return [
        Fact(
            f"u{rng.integers(60)}", AS_OF - float(rng.uniform(-2, 60)) * DAY, float(rng.normal(5, 9)) if i % 7 else None
        )
        for i in range(n)
    ]


def north_star(weeks: int) -> NorthStarPlan:
    spec = NorthStarSpec(
        key="ns", name="ns", metric_key="revenue", formula="buyers * days",
        input_metrics=[InputMetric(metric_key="buyers"), InputMetric(metric_key="days")],
    )  # fmt: skip
    return NorthStarPlan(
        north_star=PlannedNorthStar(version=1, spec=spec),
        metrics=[planned(metric) for metric in METRICS],
        fact_sources=SOURCES,
        weeks=weeks,
    )


def test_weekly_totals_equal_loops_over_units_and_weeks(tmp_path: Path) -> None:
    orders, visits = random_facts(1), random_facts(2)
    files = {"order": [write_facts(tmp_path, orders)], "visit": [write_facts(tmp_path, visits, "visit")]}
    found = extract_series(north_star(6), slice_of([], files, data_as_of=AS_OF, started_at=None))
    assert found.weeks[-1] == datetime(2026, 3, 2, tzinfo=UTC)
    assert found.complete == (True,) * 5 + (False,)
    assert found.columns == ("revenue", "buyers", "days", "largest.numerator", "largest.denominator")
    for i, week in enumerate(found.weeks):
        inside = {
            name: [fact for fact in facts if week <= fact.at < min(week + 7 * DAY, AS_OF)]
            for name, facts in (("orders", orders), ("visits", visits))
        }
        units = {name: {fact.unit for fact in facts} for name, facts in inside.items()}
        largest = [
            max((fact.value for fact in inside["orders"] if fact.unit == unit and fact.value is not None), default=0.0)
            for unit in units["orders"]
        ]
        expected = [
            sum(fact.value or 0.0 for fact in inside["orders"]),
            len(units["orders"]),
            len({(fact.unit, fact.at.date()) for fact in inside["visits"]}),
            sum(largest),
            len(units["visits"]),
        ]
        np.testing.assert_allclose(found.totals[i], expected, rtol=1e-9)


def test_a_week_that_ends_at_the_time_of_the_data_is_complete(tmp_path: Path) -> None:
    monday = datetime(2026, 3, 9, tzinfo=UTC)
    files = {"order": [write_facts(tmp_path, [Fact("u", monday - 60 * DAY, 1.0)])]}
    found = extract_series(north_star(2), slice_of([], files, data_as_of=monday, started_at=None))
    assert found.weeks == (monday - 14 * DAY, monday - 7 * DAY)
    assert found.complete == (True, True)
    assert (found.totals == 0).all(), "nobody did anything, which is known because facts were counted before"


@pytest.mark.parametrize(("hours_late", "whole"), [(5, True), (30, False)])
def test_the_series_begins_with_the_first_fact_and_its_week_is_whole_only_if_that_came_on_the_first_day(
    tmp_path: Path, hours_late: int, whole: bool
) -> None:
    monday = datetime(2026, 3, 9, tzinfo=UTC)
    first = monday - 14 * DAY + timedelta(hours=hours_late)
    files = {"visit": [write_facts(tmp_path, [Fact("u", first, 1.0)], "visit")]}
    found = extract_series(north_star(52), slice_of([], files, data_as_of=monday, started_at=None))
    assert found.weeks == (monday - 14 * DAY, monday - 7 * DAY)
    assert found.complete == (whole, True)


def test_a_series_without_any_fact_has_no_weeks(tmp_path: Path) -> None:
    found = extract_series(north_star(4), slice_of([], {}, data_as_of=AS_OF, started_at=None))
    assert found.weeks == ()
    assert found.totals.shape == (0, 5)


def test_a_column_with_infinite_facts_has_no_totals_and_says_why(tmp_path: Path) -> None:
    files = {"order": [write_facts(tmp_path, [Fact("u", AS_OF - DAY, math.inf)])]}
    found = extract_series(north_star(2), slice_of([], files, data_as_of=AS_OF, started_at=None))
    assert set(found.invalid) == {"revenue", "largest.numerator"}
    assert np.isnan(found.totals[:, 0]).all()
    assert found.totals[-1, 1] == 1


def test_a_survey_in_a_series_is_all_scores_and_all_answers_and_quantiles_are_left_out(tmp_path: Path) -> None:
    answers = Measure(fact_source="visits")
    metrics = [
        MetricSpec(key="nps", name="n", kind="survey", scale="nps", measure=answers),
        MetricSpec(key="csat", name="c", kind="survey", measure=answers),
        MetricSpec(key="p90", name="p", kind="quantile", quantile=0.9, measure=answers),
    ]
    plan = north_star(2).model_copy(update={"metrics": [planned(metric) for metric in metrics]})
    given = [("a", 10.0), ("a", 9.0), ("b", 8.0), ("b", None), ("c", 0.0), ("d", None)]
    files = {"visit": [write_facts(tmp_path, [Fact(unit, AS_OF - DAY, value) for unit, value in given], "visit")]}
    found = extract_series(plan, slice_of([], files, data_as_of=AS_OF, started_at=None))
    assert found.columns == ("nps.score", "nps.answers", "nps.responded", "csat.score")
    assert found.totals[-1].tolist() == [1 + 1 + 0 - 1, 4, 3, 27]
    assert not found.invalid


@pytest.mark.parametrize(("bad", "reason"), [(11.0, INVALID_ANSWERS), (7.5, INVALID_ANSWERS), (math.nan, NON_FINITE)])
def test_answers_off_the_scale_withdraw_the_score_of_a_series(tmp_path: Path, bad: float, reason: str) -> None:
    nps = MetricSpec(key="nps", name="n", kind="survey", scale="nps", measure=Measure(fact_source="visits"))
    plan = north_star(2).model_copy(update={"metrics": [planned(nps)]})
    files = {"visit": [write_facts(tmp_path, [Fact("u", AS_OF - DAY, v) for v in (bad, 9.0)], "visit")]}
    found = extract_series(plan, slice_of([], files, data_as_of=AS_OF, started_at=None))
    assert found.invalid == {"nps.score": reason}
    assert found.totals[-1, 1:].tolist() == [2, 1]


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e15, 1e200])
def test_totals_are_exact_in_whatever_order_threads_find_the_facts(tmp_path: Path, size: float) -> None:
    rng = np.random.default_rng(5)
    values = [float(value) for value in size * rng.lognormal(0, 4, 4000) * rng.choice([-1, 1], 4000)]
    facts = [Fact(f"u{i % 97}", AS_OF - DAY, value) for i, value in enumerate(values)]
    plan = north_star(1).model_copy(update={"metrics": [planned(METRICS[0])]})
    found = []
    for order in (range(4000), rng.permutation(4000)):
        files = {"order": [write_facts(tmp_path, [facts[i] for i in order])]}
        data = slice_of([], files, data_as_of=AS_OF, started_at=None)
        found += [float(extract_series(plan, data, threads=threads).totals[-1, 0]) for threads in (1, 2)]
    assert len(set(found)) == 1
    assert found[0] == pytest.approx(math.fsum(values), rel=1e-15)


def test_a_number_that_a_filter_keeps_out_costs_the_others_no_digits(tmp_path: Path) -> None:
    small = Measure(fact_source="orders", aggregation="sum", filters=[Filter(column="value", op="<", value=9.0)])
    spec = MetricSpec(key="small", name="s", kind="mean", measure=small)
    plan = north_star(1).model_copy(update={"metrics": [planned(spec)]})
    files = {"order": [write_facts(tmp_path, [Fact("u", AS_OF - DAY, value) for value in (1e300, 0.1, 0.2)])]}
    found = extract_series(plan, slice_of([], files, data_as_of=AS_OF, started_at=None))
    assert found.totals[-1, 0] == math.fsum([0.1, 0.2])


def test_company_totals_are_not_capped(tmp_path: Path) -> None:
    capped = METRICS[0].model_copy(update={"cap": Cap(value=1)})
    plan = north_star(2).model_copy(update={"metrics": [planned(capped)]})
    files = {"order": [write_facts(tmp_path, [Fact("u", AS_OF - DAY, 100.0)])]}
    found = extract_series(plan, slice_of([], files, data_as_of=AS_OF, started_at=None))
    assert found.totals[-1].tolist() == [100, 100]


@pytest.mark.parametrize("hours", [0, 1, 167])
def test_weeks_begin_on_monday_in_utc(hours: int) -> None:
    monday = datetime(2026, 2, 23, tzinfo=UTC)
    assert week_of(monday + timedelta(hours=hours)) == monday


def test_a_baseline_treats_first_activity_in_the_history_as_exposure(tmp_path: Path) -> None:
    orders, visits = random_facts(3, 150), random_facts(4, 150)
    files = {"order": [write_facts(tmp_path, orders)], "visit": [write_facts(tmp_path, visits, "visit")]}
    plan = BaselinePlan(unit_type="user", metrics=[planned(m) for m in METRICS], fact_sources=SOURCES, weeks=3)
    moments, cumulative = extract_baseline(plan, slice_of([], files, data_as_of=AS_OF, started_at=None))
    start = AS_OF - 21 * DAY
    first: dict[str, datetime] = {}
    for fact in sorted([*orders, *visits], key=lambda fact: fact.at):
        if start <= fact.at < AS_OF:
            first.setdefault(fact.unit, fact.at)
    columns = layout(METRICS).columns
    rows = [
        [value_of(column, unit, at, {"orders": orders, "visits": visits}, AS_OF) for column in columns]
        for unit, at in first.items()
        if at + 7 * DAY <= AS_OF
    ]
    assert moments.variants == (EVERYONE,)
    assert_same(moments.last, direct_moments([rows], len(columns)))
    assert cumulative == tuple(sum(at < start + (day + 1) * DAY for at in first.values()) for day in range(21))
    assert moments.exposures.tolist() == [[len(first)]]


def test_a_baseline_without_history_is_empty(tmp_path: Path) -> None:
    plan = BaselinePlan(unit_type="user", metrics=[planned(m) for m in METRICS], fact_sources=SOURCES, weeks=2)
    moments, cumulative = extract_baseline(plan, slice_of([], {}, data_as_of=AS_OF, started_at=None))
    assert moments.last.count.tolist() == [0]
    assert cumulative == (0,) * 14


def test_sources_of_other_unit_types_bring_no_units_into_a_baseline(tmp_path: Path) -> None:
    files = {"order": [write_facts(tmp_path, [Fact("u", AS_OF - DAY, 1.0)])]}
    sources = [EventSource(key="orders", event="order", unit_type="account"), SOURCES[1]]
    plan = BaselinePlan(unit_type="user", metrics=[planned(METRICS[0])], fact_sources=sources, weeks=2)
    _, cumulative = extract_baseline(plan, slice_of([], files, data_as_of=AS_OF, started_at=None))
    assert cumulative[-1] == 0


def test_a_baseline_reads_any_number_of_sources(tmp_path: Path) -> None:
    sources = [EventSource(key=f"source_{i}", event=f"event_{i}") for i in range(12)]
    files = {
        s.event: [write_facts(tmp_path, [Fact(f"u{i}", AS_OF - DAY, 1.0)], s.event)] for i, s in enumerate(sources)
    }
    metrics = [
        MetricSpec(key=f"m_{i}", name="m", kind="mean", window_days=1, measure=Measure(fact_source=source.key))
        for i, source in enumerate(sources)
    ]
    plan = BaselinePlan(
        unit_type="user", metrics=[planned(metric) for metric in metrics], fact_sources=sources, weeks=8
    )
    _, units = extract_baseline(plan, slice_of([], files, data_as_of=AS_OF, started_at=None))
    assert units[-1] == len(sources)
