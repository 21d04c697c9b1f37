"""Metrics about the order of a unit's facts and about its days, against loops that try everything."""

import math
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from experiments.columns import layout
from experiments.definitions import FunnelStep, InputMetric, Measure, MetricSpec, NorthStarSpec, Trigger
from experiments.evidence.baseline import baseline_result
from experiments.evidence.series import north_star_series
from experiments.plan import BaselinePlan, NorthStarPlan, PlannedNorthStar
from stats.moment_set import MomentSet
from tests.warehouse.cases import (
    DAY,
    START,
    Exposure,
    Fact,
    assert_same,
    direct_moments,
    plan_of,
    planned,
    slice_of,
    value_of,
    write_exposures,
    write_facts,
)
from tests.warehouse.plain import AS_OF, BIG_ORDER, ORDERED, RICH, SOURCES, VISITED, moments_of, plan_with, random_world
from tests.warehouse.plain import unit_rows as rows_of
from warehouse.extract import WeeklySeries, extract_baseline, extract_experiment, extract_series
from warehouse.sequences import follows

TICK = timedelta(microseconds=1)


def test_rich_metrics_equal_loops_at_looks_and_in_every_segment(tmp_path: Path) -> None:
    world = random_world(tmp_path, 1, units=80, facts_of=(6, 6))
    found = extract_experiment(plan_with(RICH, segments=["country"]), world.data)
    given_ = {"look": AS_OF, "data_as_of": AS_OF, "dimensions": ["country"]}
    for i, look in enumerate(found.looks[::5]):
        rows = rows_of(RICH, world.exposures, world.facts, **{**given_, "look": look})
        assert_same(found.overall[5 * i], moments_of(rows, len(found.columns)))
    rows = rows_of(RICH, world.exposures, world.facts, **given_)
    for i, (_, level) in enumerate(found.segments):
        mine = [row for row in rows if row.levels["country"] == level]
        assert_same(found.by_segment[i], moments_of(mine, len(found.columns)))
    assert (found.last.mean > 0).any(axis=0).all(), "every column has units with something in it"


def test_with_a_trigger_sequences_begin_at_it_and_histories_end_at_the_assignment(tmp_path: Path) -> None:
    world = random_world(tmp_path, 5, units=60, facts_of=(6, 6))
    trigger = Trigger(fact_source="visits")
    found = extract_experiment(plan_with(RICH, trigger=trigger), world.data)
    rows = rows_of(
        RICH, world.exposures, world.facts, look=AS_OF, data_as_of=AS_OF, triggers=lambda fact: True, source="visits"
    )
    assert_same(found.last, moments_of(rows, len(found.columns)))


def test_metrics_that_share_a_sequence_share_its_column() -> None:
    funnel = RICH[2]
    same = funnel.model_copy(update={"key": "same", "funnel_of": "first_step"})
    other = funnel.model_copy(update={"key": "other", "steps": [*funnel.steps[:2], FunnelStep(measure=BIG_ORDER)]})
    found = layout([funnel, same, other])
    assert found.metrics["same"].value == found.metrics["visit_order_visit"].value
    assert found.metrics["same"].covariates[0] == found.metrics["visit_order_visit"].covariates[0]
    assert found.metrics["other"].value != found.metrics["same"].value
    assert len(set(found.names)) == len(found.names)


def test_further_covariates_come_after_the_metrics_own_each_once_and_their_sources_are_history() -> None:
    found = layout([RICH[4]])
    where = found.metrics["days_visited"]
    named = [found.columns[i] for i in where.covariates]
    assert [column.content for column in named] == ["days_share", "value", "value"]
    assert [column.measure.fact_source for column in named if column.measure] == ["visits", "visits", "orders"]
    assert where.no_history is not None
    assert found.columns[where.no_history].sources == ("orders", "visits")


def test_a_unit_enters_when_the_last_possible_return_is_over() -> None:
    assert layout([RICH[1]]).longest_window_days == 2 + 0.5 + 2.5


def test_baselines_know_rich_metrics(tmp_path: Path) -> None:
    world = random_world(tmp_path, 3, units=150, facts_of=(4, 6))
    plan = BaselinePlan(unit_type="user", metrics=[planned(spec) for spec in RICH], fact_sources=list(SOURCES), weeks=2)
    data = replace(world.data, started_at=None)
    moments, _ = extract_baseline(plan, data)
    first: dict[str, datetime] = {}
    for fact in sorted([*world.facts["orders"], *world.facts["visits"]], key=lambda fact: fact.at):
        if AS_OF - 14 * DAY <= fact.at < AS_OF:
            first.setdefault(fact.unit, fact.at)
    found = layout(RICH)
    longest = found.longest_window_days or 0
    rows = [
        [value_of(column, unit, at, world.facts, AS_OF) for column in found.columns]
        for unit, at in first.items()
        if at + longest * DAY <= AS_OF
    ]
    assert_same(moments.last, direct_moments([rows], len(found.columns)))
    document = baseline_result(plan, moments, [], analysis_id="a", data_as_of=AS_OF, code_version="test")
    assert {metric.metric_key: metric.reason for metric in document.metrics} == dict.fromkeys(found.metrics)


def weekly(folder: Path, facts: list[Fact], metrics: list[MetricSpec]) -> tuple[NorthStarPlan, WeeklySeries]:
    spec = NorthStarSpec(
        key="star", name="s", metric_key=metrics[0].key, formula="other",
        input_metrics=[InputMetric(metric_key="other", series_key="brought")],
    )  # fmt: skip
    plan = NorthStarPlan(
        north_star=PlannedNorthStar(version=1, spec=spec),
        metrics=[planned(metric) for metric in metrics],
        fact_sources=list(SOURCES),
        weeks=2,
    )
    files = {"order": [write_facts(folder, facts)]}
    return plan, extract_series(plan, slice_of([], files, data_as_of=AS_OF, started_at=None))


def test_a_weeks_last_values_add_up_over_units_to_the_digit(tmp_path: Path) -> None:
    facts = [
        Fact("a", AS_OF - 2 * DAY, 1e9 + 0.25), Fact("a", AS_OF - 3 * DAY, 7.0), Fact("a", AS_OF - DAY, None),
        Fact("b", AS_OF - DAY, -3.0), Fact("b", AS_OF - DAY, -2.5), Fact("c", AS_OF - 9 * DAY, 4.0),
    ]  # fmt: skip
    _, found = weekly(tmp_path, facts, [LAST])
    assert found.totals[:, 0].tolist() == [4.0, 1e9 + 0.25 - 2.5]


def test_a_week_has_no_value_of_a_retention_and_says_so(tmp_path: Path) -> None:
    other = RICH[1].model_copy(update={"key": "other"})
    plan, found = weekly(tmp_path, [Fact("a", AS_OF - DAY, 2.0)], [LAST, other])
    assert found.columns == ("last",)
    series = north_star_series(plan, found, analysis_id="a", data_as_of=AS_OF, code_version="test")
    assert (series.points[-1].value, series.points[-1].inputs) == (2.0, {"other": None})


# --- single truths -----------------------------------------------------------------------------------------------


def shown(folder: Path, spec: MetricSpec, orders: list[Fact], visits: list[Fact] | None = None) -> MomentSet:
    """One exposed unit, `u`, with these facts."""
    data = slice_of(
        [write_exposures(folder, [Exposure("u", "control", START)])],
        {"order": [write_facts(folder, orders)], "visit": [write_facts(folder, visits or [], "visit")]},
        data_as_of=START + 60 * DAY,
    )
    return extract_experiment(plan_of([spec], sources=SOURCES), data, threads=1)


def value(found: MomentSet) -> float:
    return float(found.last.mean[0, 0])


LAST = MetricSpec(
    key="last", name="l", kind="mean", window_days=5, pre_period_days=0,
    measure=Measure(fact_source="orders", aggregation="last"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "last"),
    [
        ([], 0.0),
        ([(3, 7.0), (1, 9.0), (2, 8.0)], 7.0),
        ([(1, 2.0), (3, 5.0), (3, 5.0), (3, -4.0)], 5.0),
        ([(3, -2.0), (3, -4.0)], -2.0),
        ([(1, 4.0), (3, None)], 4.0),
        ([(1, None)], 0.0),
        ([(1, 1e9 + 3), (2, 1e9 + 1), (6, 1e9 + 2)], 1e9 + 1),
    ],
    ids=["none", "out of order", "a tie", "a negative tie", "a null is no value", "only nulls", "large offset"],
)
def test_the_last_value_is_that_of_the_latest_fact_in_the_window(
    tmp_path: Path, facts: list[tuple[int, float | None]], last: float
) -> None:
    found = shown(tmp_path, LAST, [Fact("u", START + day * DAY, number) for day, number in facts])
    assert value(found) == last
    assert not found.invalid


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_withdraws_the_column_even_if_it_is_not_the_last(tmp_path: Path, bad: float) -> None:
    found = shown(tmp_path, LAST, [Fact("u", START + DAY, bad), Fact("u", START + 2 * DAY, 3.0)])
    assert found.invalid == {"last": "non_finite_values"}


def test_values_do_not_matter_to_sequences(tmp_path: Path) -> None:
    spec = RICH[3].model_copy(update={"pre_period_days": 0})
    visits = [Fact("u", START + DAY, math.nan), Fact("u", START + 2 * DAY, None)]
    assert value(shown(tmp_path, spec, [], visits)) == 1.0


def test_facts_at_the_same_moment_are_not_one_after_the_other(tmp_path: Path) -> None:
    spec = RICH[3].model_copy(update={"pre_period_days": 0})
    at = START + DAY
    assert value(shown(tmp_path, spec, [], [Fact("u", at), Fact("u", at)])) == 0.0
    assert value(shown(tmp_path, spec, [], [Fact("u", at + TICK), Fact("u", at)])) == 1.0


def test_a_later_start_of_the_funnel_can_be_the_one_that_succeeds(tmp_path: Path) -> None:
    spec = MetricSpec(
        key="f", name="f", kind="funnel", window_days=10, pre_period_days=0,
        steps=[FunnelStep(measure=VISITED), FunnelStep(measure=ORDERED, within_days=1)],
    )  # fmt: skip
    visits = [Fact("u", START), Fact("u", START + 4 * DAY)]
    assert value(shown(tmp_path, spec, [Fact("u", START + 5 * DAY, 1.0)], visits)) == 1.0
    assert value(shown(tmp_path, spec, [Fact("u", START + 5 * DAY + TICK, 1.0)], visits)) == 0.0


@pytest.mark.parametrize(("late", "counts"), [(-TICK, 0.0), (0 * TICK, 1.0), (2 * DAY - TICK, 1.0), (2 * DAY, 0.0)])
def test_a_return_counts_from_the_delay_after_the_first_start_to_the_end_of_the_window(
    tmp_path: Path, late: timedelta, counts: float
) -> None:
    spec = MetricSpec(
        key="r", name="r", kind="retention", start=ORDERED, start_within_days=3, delay_days=7, window_days=2,
        measure=VISITED, pre_period_days=0,
    )  # fmt: skip
    first = START + 2 * DAY
    orders = [Fact("u", first + 0.5 * DAY, 1.0), Fact("u", first, 1.0), Fact("u", START - DAY, 1.0)]
    found = shown(tmp_path, spec, orders, [Fact("u", first + 7 * DAY + late)])
    assert found.last.mean[0].tolist() == [counts, 1.0]


def test_days_count_24_hours_each_from_the_exposure(tmp_path: Path) -> None:
    spec = MetricSpec(
        key="p", name="p", kind="participation", window_days=4, measure=VISITED, pre_period_days=0
    )  # fmt: skip
    visits = [Fact("u", START + hours * timedelta(hours=1)) for hours in (0, 23, 24, 95, 96)]
    assert value(shown(tmp_path, spec, [], visits)) == 3 / 4


# --- kernels -----------------------------------------------------------------------------------------------------

moments = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), max_size=14)


@given(before=moments, after=moments, within=st.integers(1, 12), apart=st.sampled_from([1, 10**12]))
@settings(deadline=None, max_examples=100)
@example(before=[], after=[(0, 1)], within=1, apart=1)
@example(before=[(1, 0)], after=[(0, 1), (1, 1), (1, 0)], within=1, apart=10**12)
def test_a_fact_follows_another_exactly_if_a_loop_finds_one(
    before: list[tuple[int, int]], after: list[tuple[int, int]], within: int, apart: int
) -> None:
    """Also where units and moments do not fit into one number."""
    arrays = [
        np.array([row[i] for row in rows], dtype=np.int64) * (10**6, apart)[i == 0]
        for rows in (before, after)
        for i in (0, 1)
    ]
    found = follows(*arrays, within * 10**6)
    wanted = [any(u == unit and 0 < at - t <= within for u, t in before) for unit, at in after]
    assert found.tolist() == wanted
