"""What units do on each day after their exposure (METHODS E6), against loops over units and days."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import warehouse.experiment_moments as experiment_moments
from experiments.definitions import Cap, Filter, MetricSpec, Role, Trigger
from stats.moment_set import MomentSet
from stats.moments import Floats
from tests.warehouse.cases import DAY, START, Exposure, Fact, assert_same, direct_moments
from tests.warehouse.small_world import World, arm_of, metric, world


def primary(small: World, folder: Path, metrics: list[MetricSpec], **fields: Any) -> MomentSet:
    return small.extract(folder, metrics, role=Role.PRIMARY, **fields)


def daily(small: World, rows: list[Exposure], days: int, *, delay: float = 0, count: bool = False) -> Floats:
    """(units, days) sums or counts of each unit's facts by day since exposure."""
    out = np.zeros((len(rows), days))
    for i, row in enumerate(rows):
        for fact in small.facts:
            day = math.floor((fact.at - row.at) / DAY - delay)
            if fact.unit == row.unit and 0 <= day < days:
                out[i, day] += 1.0 if count else fact.value or 0.0
    return out


@pytest.mark.parametrize("aggregation", ["sum", "count"])
@pytest.mark.parametrize("delay", [0, 0.5])
def test_days_since_exposure_equal_loops_over_complete_units(tmp_path: Path, aggregation: str, delay: float) -> None:
    small = world(1)
    metrics = [metric(aggregation=aggregation, delay_days=delay), metric("longer", window_days=4)]
    found = primary(small, tmp_path, metrics)
    rows = small.analysed(metrics, small.as_of)
    values = daily(small, rows, 3, delay=delay, count=aggregation == "count")
    wanted = direct_moments([values[arm_of(rows) == arm].tolist() for arm in (0, 1)], 3)
    assert_same(found.by_age["revenue"], wanted)
    assert found.by_age["longer"].columns == 4
    sums = found.by_age["revenue"].mean.sum(axis=-1)
    np.testing.assert_allclose(sums, found.last.mean[:, found.column("revenue")])


def test_days_of_a_capped_metric_add_up_to_its_capped_value(tmp_path: Path) -> None:
    small = world(2)
    metrics = [metric(cap=Cap(quantile=0.8))]
    found = primary(small, tmp_path, metrics)
    rows = small.analysed(metrics, small.as_of)
    cap = found.capped["revenue"].cap
    reached = np.minimum(np.cumsum(daily(small, rows, 3), axis=1), cap)
    values = np.diff(reached, axis=1, prepend=0.0)
    assert_same(found.by_age["revenue"], direct_moments([values[arm_of(rows) == arm].tolist() for arm in (0, 1)], 3))
    days = found.by_age["revenue"]
    np.testing.assert_allclose(days.mean.sum(axis=-1), found.last.mean[:, 0])
    np.testing.assert_allclose(days.covariance.sum(axis=(-2, -1)), found.last.covariance[:, 0, 0])


def test_metrics_that_share_a_column_have_curves_of_their_own(tmp_path: Path) -> None:
    found = primary(world(3), tmp_path, [metric("a", cap=Cap(value=9)), metric("b", cap=Cap(value=9))])
    assert found.by_age["a"].comoment.tobytes() == found.by_age["b"].comoment.tobytes()


def test_buckets_of_units_merge_to_the_same_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = world(4)
    whole = primary(small, tmp_path, [metric()])
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 1500)
    assert_same(primary(small, tmp_path, [metric()]).by_age["revenue"], whole.by_age["revenue"])


def test_a_metric_that_is_withdrawn_has_no_curve_and_others_keep_theirs(tmp_path: Path) -> None:
    shown = [Exposure("u", "control", START)]
    metrics = [metric(), metric("orders", aggregation="count")]
    found = primary(World(shown, [Fact("u", START + DAY, math.inf)]), tmp_path, metrics)
    assert set(found.by_age) == {"orders"}
    assert found.by_age["orders"].mean[0].tolist() == [0, 1, 0]


def test_days_begin_at_the_trigger_and_history_ends_at_the_assignment(tmp_path: Path) -> None:
    facts = [
        Fact("u", START - 2 * DAY, 1.0),
        Fact("u", START + DAY, 2.0),
        Fact("u", START + 2 * DAY, 4.0, {"plan": "shown"}),
        Fact("u", START + 3.5 * DAY, 8.0),
        Fact("new", START + DAY, 2.0),
        Fact("new", START + 2 * DAY, 4.0, {"plan": "shown"}),
    ]
    small = World([Exposure("u", "control", START), Exposure("new", "control", START)], facts)
    trigger = Trigger(fact_source="orders", filters=[Filter(column="plan", value="shown")])
    quantile = metric("p50", "quantile", quantile=0.5, quantile_of="event")
    found = primary(small, tmp_path, [metric(), quantile], trigger=trigger)
    assert (found.by_age["revenue"].mean[0] * 2).tolist() == [4 + 4, 8, 0]
    total = dict(zip(found.columns, found.last.mean[0] * 2, strict=True))
    assert total == {"revenue": 16, "revenue.pre": 1, "no_history.5d": 1}
    assert found.quantiles["p50"].overall.events[-1].tolist() == [3, 0]


def test_an_event_that_was_never_sent_has_a_curve_of_zeros(tmp_path: Path) -> None:
    found = primary(World([Exposure("u", "control", START)], []), tmp_path, [metric()])
    assert found.by_age["revenue"].mean.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert found.by_age["revenue"].count.tolist() == [1, 0]
