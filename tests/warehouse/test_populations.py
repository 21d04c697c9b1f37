"""Who is counted in which population, two-way segments, hash buckets, and looks that were planned."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

import warehouse.experiment_moments as experiment_moments
from experiments.definitions import Measure, MetricSpec, Sequential
from stats.moment_set import MomentSet
from tests.warehouse.cases import DAY, START, Exposure, Fact, assert_same, slice_of, write_exposures
from tests.warehouse.deliveries import Store
from tests.warehouse.plain import AS_OF, CLOSED, OPEN, by_arm, moments_of, plan_with, random_world, unit_rows
from warehouse.extract import extract_experiment
from warehouse.hash_buckets import BUCKETS
from warehouse.looks import MAX_PLANNED_LOOKS, look_times
from warehouse.state.refresh import extract_incrementally
from warehouse.units import MAX_LEVELS, OTHER_LEVELS


@pytest.mark.parametrize("metrics", [CLOSED, (*CLOSED, OPEN)])
def test_populations_and_exposures_by_segment_equal_counts_by_loops(
    tmp_path: Path, metrics: tuple[MetricSpec, ...]
) -> None:
    world = random_world(tmp_path, 1)
    found = extract_experiment(plan_with(metrics, segments=["country"]), world.data)
    rows = unit_rows(metrics, world.exposures, world.facts, look=AS_OF, data_as_of=AS_OF, dimensions=["country"])
    assert {name: n.tolist() for name, n in found.populations.items()} == {
        "exposed": by_arm(rows),
        "analysed": by_arm(row for row in rows if row.entered),
        "with_outcome": by_arm(row for row in rows if row.entered and row.with_outcome),
    }
    assert 0 < found.populations["with_outcome"].sum() < found.populations["analysed"].sum()
    assert found.populations["exposed"].tolist() == found.exposures[-1].tolist()
    assert found.segment_exposures is not None
    for i, (_, level) in enumerate(found.segments):
        assert found.segment_exposures[i].tolist() == by_arm(row for row in rows if row.levels["country"] == level)


def test_two_dimensions_break_down_together(tmp_path: Path) -> None:
    world = random_world(tmp_path, 2, units=250)
    names = ["country", "platform"]
    plan = plan_with(segments=names, two_way_segments=[("country", "platform"), ("platform", "never sent")])
    found = extract_experiment(plan, world.data)
    rows = unit_rows(CLOSED, world.exposures, world.facts, look=AS_OF, data_as_of=AS_OF, dimensions=names)
    both = [i for i, (dimension, _) in enumerate(found.segments) if dimension == "country × platform"]
    assert len(both) == 8, "three countries and none, on two platforms"
    for i in both:
        inside = [row for row in rows if f"{row.levels['country']} × {row.levels['platform']}" == found.segments[i][1]]
        assert_same(found.by_segment[i], moments_of(inside, len(found.columns)))
        assert found.segment_exposures is not None
        assert found.segment_exposures[i].tolist() == by_arm(inside)
    assert found.by_segment.count[both].sum() == found.last.count.sum()
    assert {dimension for dimension, _ in found.segments} == {"country", "platform", "country × platform"}


def test_rare_pairs_of_levels_share_one(tmp_path: Path) -> None:
    exposures = [
        Exposure(f"u{i}", "control", START, {"city": f"c{i % 20}", "plan": f"p{i % 7}"}) for i in range(3 * 140)
    ]
    data = slice_of([write_exposures(tmp_path, exposures)], {}, data_as_of=AS_OF)
    plan = plan_with(segments=["city", "plan"], two_way_segments=[("city", "plan")])
    found = extract_experiment(plan, data)
    both = [level for dimension, level in found.segments if dimension == "city × plan"]
    assert len(both) == MAX_LEVELS and both[-1] == OTHER_LEVELS
    assert found.by_segment.count[-MAX_LEVELS:].sum() == 420


def test_hash_buckets_hold_everybody_once(tmp_path: Path) -> None:
    world = random_world(tmp_path, 3, units=400)
    found = extract_experiment(plan_with(), world.data)
    assert found.buckets is not None
    assert found.buckets.count.shape == (BUCKETS, 2)
    assert (found.buckets.count > 0).mean() > 0.5
    assert found.buckets.count.sum(axis=0).tolist() == found.last.count.tolist()
    totals = (found.buckets.mean * found.buckets.count[..., None]).sum(axis=0)
    np.testing.assert_allclose(totals, found.last.mean * found.last.count[:, None], rtol=1e-12)


def assert_same_sets(one: MomentSet, other: MomentSet) -> None:
    """To rounding, in everything that looks, segments, strata and buckets say."""
    assert (one.segments, one.strata, one.crossover, one.columns) == (
        other.segments, other.strata, other.crossover, other.columns,
    )  # fmt: skip
    assert_same(one.overall, other.overall)
    assert_same(one.by_segment, other.by_segment)
    if one.by_stratum is not None:
        assert other.by_stratum is not None
        assert_same(one.by_stratum, other.by_stratum)
    for name, counts in one.populations.items():
        assert counts.tolist() == other.populations[name].tolist()
    assert one.buckets is not None and other.buckets is not None
    assert one.buckets.count.tolist() == other.buckets.count.tolist()
    np.testing.assert_allclose(one.buckets.mean, other.buckets.mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cluster", [None, "account"])
@pytest.mark.parametrize("metrics", [CLOSED, (*CLOSED, OPEN)])
def test_buckets_of_units_and_threads_change_nothing_but_rounding_and_threads_not_even_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str | None, metrics: tuple[MetricSpec, ...]
) -> None:
    world = random_world(tmp_path, 4, units=300, clustered=cluster is not None)
    plan = plan_with(
        metrics,
        segments=["country", "platform"], two_way_segments=[("country", "platform")],
        stratify_by=["platform"], cluster=cluster,
    )  # fmt: skip
    whole = extract_experiment(plan, world.data, threads=1)
    again = extract_experiment(plan, world.data, threads=3)
    for name in ("overall", "by_segment", "by_stratum"):
        assert getattr(whole, name).comoment.tobytes() == getattr(again, name).comoment.tobytes()
    assert whole.buckets is not None and again.buckets is not None
    assert whole.buckets.mean.tobytes() == again.buckets.mean.tobytes()
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 20_000)
    assert_same_sets(extract_experiment(plan, world.data), whole)


def test_planned_looks_stay_where_they_were_as_time_goes_on(tmp_path: Path) -> None:
    plan = plan_with(sequential=Sequential(method="group_sequential", look_every_days=4), metrics=CLOSED)
    world = random_world(tmp_path, 5)
    found = extract_experiment(plan, world.data)
    assert found.looks == (START + 3 * DAY, START + 7 * DAY, START + 11 * DAY, AS_OF)
    earlier: tuple[datetime, ...] = ()
    for days in range(4, 3000, 61):
        looks = look_times(
            started_at=START, ended_at=None, data_as_of=START + days * DAY, longest_window_days=3, every_days=7
        )
        assert looks[: len(earlier)] == earlier
        assert len(looks) <= MAX_PLANNED_LOOKS and looks[-1] == START + days * DAY
        earlier = looks[:-1]


def test_names_are_no_longer_than_results_can_hold_and_keep_both_ends(tmp_path: Path) -> None:
    pages = [f"/{'long/' * 80}page {i}" for i in range(2)]
    names = ["p" * 60, "q" * 60]
    exposures = [Exposure(f"u{i}", "control", START, {names[0]: pages[i % 2], names[1]: "x"}) for i in range(6)]
    data = slice_of([write_exposures(tmp_path, exposures)], {}, data_as_of=AS_OF)
    found = extract_experiment(plan_with(segments=names, two_way_segments=[(names[0], names[1])]), data)
    assert len(set(found.segments)) == len(found.segments) == 5
    assert all(len(dimension) <= 64 and len(level) <= 200 for dimension, level in found.segments)
    assert found.segments[-1][0] == f"{'p' * 31}…{'q' * 32}"
    assert {level[-10:] for _, level in found.segments[-2:]} == {"page 0 × x", "page 1 × x"}


def test_units_with_answers_to_a_quantile_metric_have_an_outcome(tmp_path: Path) -> None:
    latency = MetricSpec(
        key="p90", name="p", kind="quantile", quantile=0.9, window_days=3,
        measure=Measure(fact_source="orders", aggregation="sum"),
    )  # fmt: skip
    world = random_world(tmp_path, 6)
    found = extract_experiment(plan_with([latency]), world.data)
    rows = unit_rows(CLOSED[:1], world.exposures, world.facts, look=AS_OF, data_as_of=AS_OF)
    assert found.populations["with_outcome"].tolist() == by_arm(row for row in rows if row.entered and row.with_outcome)


def test_who_has_an_outcome_is_not_said_where_one_was_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, at = Store(tmp_path), START + 5 * DAY
    store.expose([Exposure(f"u{i}", ("control", "treatment")[i % 2], START + (i % 4) * DAY) for i in range(20)], at)
    store.happen("orders", [Fact(f"u{i}", START + 4 * DAY, float("inf") if i == 3 else 1.0) for i in range(15)], at)
    plan, data = plan_with(CLOSED[:1]), store.as_of(START + 10 * DAY)
    found = [extract_experiment(plan, data), extract_incrementally(plan, data, fewest_exposures=0)]
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 400)
    found.append(extract_experiment(plan, data))
    for one in found:
        assert one.invalid == {"revenue": "non_finite_values"}
        assert {name: n.tolist() for name, n in one.populations.items()} == {"exposed": [10, 10], "analysed": [10, 10]}
