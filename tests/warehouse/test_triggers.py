"""Triggered analysis: windows begin at the first trigger after assignment, pre-periods end at the assignment."""

from pathlib import Path

import numpy as np
import pytest

from experiments.definitions import Filter, MetricSpec, Trigger
from experiments.errors import SourceUnreadable
from tests.warehouse.cases import DAY, START, Exposure, Fact, assert_same, slice_of, write_exposures, write_facts
from tests.warehouse.plain import ARMS, AS_OF, CLOSED, OPEN, by_arm, moments_of, plan_with, random_world, unit_rows
from warehouse.extract import extract_experiment

BIG = Trigger(fact_source="orders", filters=[Filter(column="value", op=">", value=4.0)])


def is_big(fact: Fact) -> bool:
    return fact.value is not None and fact.value > 4


@pytest.mark.parametrize("ended_after", [None, 8])
@pytest.mark.parametrize("metrics", [CLOSED, (*CLOSED, OPEN)])
def test_triggered_moments_equal_loops_at_every_look(
    tmp_path: Path, metrics: tuple[MetricSpec, ...], ended_after: int | None
) -> None:
    ended_at = None if ended_after is None else START + ended_after * DAY
    world = random_world(tmp_path, 11, units=200, ended_at=ended_at)
    found = extract_experiment(plan_with(metrics, segments=["country"], trigger=BIG), world.data)
    for i, look in enumerate(found.looks):
        rows = unit_rows(
            metrics,
            world.exposures, world.facts, look=look, data_as_of=AS_OF, ended_at=ended_at,
            dimensions=["country"], triggers=is_big, source="orders",
        )  # fmt: skip
        assert_same(found.overall[i], moments_of(rows, len(found.columns)))
        assert found.exposures[i].tolist() == by_arm(
            row for row in rows if row.exposed is not None and row.exposed < look
        )
    for i, (_, level) in enumerate(found.segments):
        assert_same(
            found.by_segment[i], moments_of([r for r in rows if r.levels["country"] == level], len(found.columns))
        )
    assert {name: n.tolist() for name, n in found.populations.items()} == {
        "assigned": by_arm(rows),
        "exposed": by_arm(row for row in rows if row.exposed is not None),
        "analysed": by_arm(row for row in rows if row.entered),
        "with_outcome": by_arm(row for row in rows if row.entered and row.with_outcome),
    }
    assert (found.populations["exposed"] < found.populations["assigned"]).all()


def test_a_trigger_at_the_moment_of_assignment_counts_and_one_before_or_after_the_end_does_not(tmp_path: Path) -> None:
    end = START + 5 * DAY
    times = {"at once": START + DAY, "too early": START + DAY - DAY / 24, "too late": end, "never": None}
    exposures = [write_exposures(tmp_path, [Exposure(unit, "control", START + DAY) for unit in times])]
    orders = write_facts(tmp_path, [Fact(unit, at, 9.0) for unit, at in times.items() if at is not None])
    data = slice_of(exposures, {"order": [orders]}, data_as_of=AS_OF, ended_at=end)
    found = extract_experiment(plan_with(trigger=BIG), data)
    assert found.populations["assigned"].tolist() == [4, 0]
    assert found.populations["exposed"].tolist() == [1, 0]
    assert found.last.mean[0, found.column("revenue")] == 9.0


def test_pre_periods_end_at_the_assignment_and_windows_begin_at_the_trigger(tmp_path: Path) -> None:
    assigned, triggered = START + DAY, START + 4 * DAY
    visit = [Fact("u", triggered, 1.0)]
    amounts = {
        assigned - 4 * DAY: 1.0,  # the first moment of the pre-period
        assigned: 2.0,  # between assignment and trigger: nowhere
        triggered - DAY / 24: 4.0,
        triggered: 8.0,
        triggered + 3 * DAY - DAY / 24: 16.0,
        triggered + 3 * DAY: 32.0,
    }
    data = slice_of(
        [write_exposures(tmp_path, [Exposure("u", ARMS[0], assigned)])],
        {
            "order": [write_facts(tmp_path, [Fact("u", at, value) for at, value in amounts.items()])],
            "visit": [write_facts(tmp_path, visit, "visit")],
        },
        data_as_of=AS_OF,
    )
    found = extract_experiment(plan_with(trigger=Trigger(fact_source="visits")), data)
    assert found.last.mean[0, found.column("revenue.pre")] == 1.0
    assert found.last.mean[0, found.column("revenue")] == 24.0


def test_units_in_two_variants_are_crossover_only_if_they_were_triggered(tmp_path: Path) -> None:
    exposures = [Exposure(unit, arm, START + DAY) for unit in ("both", "both, unseen") for arm in ARMS]
    data = slice_of(
        [write_exposures(tmp_path, exposures)],
        {"order": [write_facts(tmp_path, [Fact("both", START + 2 * DAY, 9.0)])]},
        data_as_of=AS_OF,
    )
    found = extract_experiment(plan_with(trigger=BIG), data)
    assert found.crossover == 1
    assert found.populations["assigned"].tolist() == [0, 0]


def test_a_trigger_that_never_happened_exposes_nobody(tmp_path: Path) -> None:
    data = slice_of([write_exposures(tmp_path, [Exposure("u", "control", START)])], {}, data_as_of=AS_OF)
    found = extract_experiment(plan_with(trigger=BIG), data)
    assert found.populations["assigned"].tolist() == [1, 0]
    assert found.last.count.tolist() == found.exposures[-1].tolist() == [0, 0]
    assert np.isfinite(found.last.mean).all()


def test_a_trigger_on_a_column_that_no_event_carries_is_named(tmp_path: Path) -> None:
    trigger = Trigger(fact_source="orders", filters=[Filter(column="colour", value="red' OR 1=1 --")])
    world = random_world(tmp_path, 12, units=10)
    with pytest.raises(SourceUnreadable, match="colour"):
        extract_experiment(plan_with(trigger=trigger), world.data)
