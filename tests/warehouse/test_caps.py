"""Winsorised columns against plain numpy: one cap for all (METHODS A9, TRAPS 11)."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import warehouse.experiment_moments as experiment_moments
from experiments.columns import layout
from experiments.definitions import Cap, EventSource, Measure, MetricSpec
from experiments.plan import BaselinePlan
from stats.moment_set import MomentSet
from tests.warehouse.cases import DAY, START, Exposure, Fact, assert_same, planned, slice_of, write_facts
from tests.warehouse.small_world import World, arm_of, metric, world
from warehouse.caps import CAP_IS_ZERO, Top
from warehouse.extract import NON_FINITE, extract_baseline

POOLED = Cap(quantile=0.9)


def column_values(found: MomentSet, name: str, cell: tuple[int, ...]) -> tuple[float, float]:
    """Mean and variance of a column in a cell of the looks."""
    i = found.column(name)
    return float(found.overall.mean[cell][i]), float(found.overall.covariance[cell][i, i])


def inverse(values: Any, quantile: float) -> float:
    return float(np.quantile(values, quantile, method="inverted_cdf"))


def test_the_cap_is_a_quantile_of_all_arms_and_the_same_in_every_arm_and_at_every_look(tmp_path: Path) -> None:
    small = world()
    metrics = [metric(cap=POOLED)]
    found = small.extract(tmp_path, metrics)
    raw, capped = layout(metrics).columns[1], found.capped["revenue"]
    rows = small.analysed(metrics, small.as_of)
    values = small.values(raw, rows)
    assert capped.cap == inverse(values, 0.9)
    assert capped.uncapped == raw.name == "revenue.uncapped"
    assert capped.capped_units.tolist() == [int((values[arm_of(rows) == arm] > capped.cap).sum()) for arm in (0, 1)]
    assert len({inverse(values[arm_of(rows) == arm], 0.9) for arm in (0, 1)} - {capped.cap}) > 0, "arms differ"
    for look, at in enumerate(found.looks):
        rows = small.analysed(metrics, at)
        values = small.values(raw, rows)
        for arm in (0, 1):
            mine = values[arm_of(rows) == arm]
            assert found.overall.count[look, arm] == len(mine)
            if len(mine) < 2:
                continue
            cut = np.minimum(mine, capped.cap)
            np.testing.assert_allclose(column_values(found, "revenue", (look, arm)), (cut.mean(), cut.var(ddof=1)))
            np.testing.assert_allclose(
                column_values(found, "revenue.uncapped", (look, arm)), (mine.mean(), mine.var(ddof=1))
            )


def test_units_above_a_fixed_cap_count_as_the_cap_and_are_not_left_out(tmp_path: Path) -> None:
    facts = [Fact(f"u{i}", START + DAY, value) for i, value in enumerate([5.0, 10.0, 80.0])]
    shown = [Exposure(f"u{i}", "control", START) for i in range(4)]
    found = World(shown, facts).extract(tmp_path, [metric(cap=Cap(value=10))])
    assert found.last.count.tolist() == [4, 0]
    assert found.last.mean[0, 0] == 25 / 4
    assert found.capped["revenue"].capped_units.tolist() == [1, 0]


def test_a_cap_from_the_pre_period_is_a_quantile_of_what_the_same_units_did_before(tmp_path: Path) -> None:
    small = world(2)
    metrics = [metric(cap=Cap(quantile=0.95, basis="pre_period"), covariate=Measure(fact_source="orders"))]
    found = small.extract(tmp_path, metrics)
    measured = layout([metric()]).columns[1]
    assert measured.period == "pre"
    before = small.values(measured, small.analysed(metrics, small.as_of))
    assert found.capped["revenue"].cap == inverse(before, 0.95)


def test_covariates_are_capped_at_their_own_quantile(tmp_path: Path) -> None:
    small = world(3)
    metrics = [metric(cap=POOLED)]
    found = small.extract(tmp_path, metrics)
    rows = small.analysed(metrics, small.as_of)
    before = small.values(layout(metrics).columns[2], rows)
    cut = np.minimum(before, inverse(before, 0.9))[arm_of(rows) == 0]
    np.testing.assert_allclose(
        column_values(found, "revenue.pre", (len(found.looks) - 1, 0)), (cut.mean(), cut.var(ddof=1))
    )
    assert set(found.capped) == {"revenue"}


def test_numerator_and_denominator_are_capped_separately_and_their_product_is_of_capped_values(tmp_path: Path) -> None:
    small = world(4)
    parts = {
        "numerator": Measure(fact_source="orders", aggregation="sum"),
        "denominator": Measure(fact_source="orders", aggregation="count"),
    }
    metrics = [metric("basket", "ratio", measure=None, cap=Cap(quantile=0.8), **parts)]
    found = small.extract(tmp_path, metrics)
    rows = small.analysed(metrics, small.as_of)
    raw = [small.values(layout(metrics).columns[i], rows) for i in (0, 1)]
    caps = [inverse(values, 0.8) for values in raw]
    assert [found.capped[f"basket.{name}"].cap for name in parts] == caps
    assert [found.capped[f"basket.{name}"].uncapped for name in parts] == [f"basket.{n}.uncapped" for n in parts]
    cut = [np.minimum(values, cap)[arm_of(rows) == 1] for values, cap in zip(raw, caps, strict=True)]
    np.testing.assert_allclose(found.last.covariance[1][:2, :2], np.cov(cut))


def test_open_windows_have_the_cap_of_the_last_look_at_every_look(tmp_path: Path) -> None:
    small = world(5)
    metrics = [metric(cap=POOLED, window_days=None)]
    found = small.extract(tmp_path, metrics)
    raw, cap = layout(metrics).columns[1], found.capped["revenue"].cap
    assert cap == inverse(small.values(raw, small.analysed(metrics, small.as_of)), 0.9)
    for look, at in enumerate(found.looks):
        rows = small.analysed(metrics, at)
        cut = np.minimum(small.values(raw, rows, at), cap)[arm_of(rows) == 0]
        np.testing.assert_allclose(column_values(found, "revenue", (look, 0))[0], cut.mean())


@pytest.mark.parametrize("basis", ["pooled", "pre_period"])
def test_how_many_buckets_units_come_in_changes_neither_caps_nor_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, basis: str
) -> None:
    small = world(6)
    metrics = [metric(cap=Cap(quantile=0.9, basis=basis)), metric("open", window_days=None, cap=POOLED)]  # type: ignore[arg-type]
    whole = small.extract(tmp_path, metrics)
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 1500)
    parts = small.extract(tmp_path, metrics)
    assert {key: capped.cap for key, capped in whole.capped.items()} == {
        key: capped.cap for key, capped in parts.capped.items()
    }
    for key, capped in whole.capped.items():
        assert capped.capped_units.tolist() == parts.capped[key].capped_units.tolist()
    assert_same(parts.overall, whole.overall)


def test_a_metric_whose_quantile_is_zero_is_refused_and_its_uncapped_values_stay(tmp_path: Path) -> None:
    shown = [Exposure(f"u{i}", "control", START) for i in range(100)]
    small = World(shown, [Fact("u1", START + DAY, 7.0), Fact("u2", START - DAY, 3.0)])
    found = small.extract(tmp_path, [metric(cap=POOLED)])
    assert found.invalid == {"revenue": CAP_IS_ZERO}
    assert not found.capped
    assert found.last.mean[0, found.column("revenue.uncapped")] == 0.07
    assert found.last.mean[0, found.column("revenue.pre")] == 0.03, "a covariate needs no cap"


def test_without_units_nothing_is_capped_and_nothing_refused(tmp_path: Path) -> None:
    found = World([], []).extract(tmp_path, [metric(cap=POOLED)])
    assert not found.invalid
    assert not found.capped


def test_a_capped_column_with_infinite_facts_says_so(tmp_path: Path) -> None:
    small = World([Exposure("u", "control", START)], [Fact("u", START + DAY, math.inf)])
    assert set(small.extract(tmp_path, [metric(cap=POOLED)]).invalid.values()) == {NON_FINITE}


def test_a_cluster_is_the_sum_of_its_units_capped_values(tmp_path: Path) -> None:
    small = world(7)
    clustered = World([Exposure(row.unit, "control", row.at, row.segments) for row in small.exposures], small.facts)
    metrics = [metric(cap=POOLED)]
    found = clustered.extract(tmp_path, metrics, cluster="store")
    rows = clustered.analysed(metrics, clustered.as_of)
    cut = np.minimum(clustered.values(layout(metrics).columns[1], rows), found.capped["revenue"].cap)
    np.testing.assert_allclose(found.last.mean[0, 0] * found.last.count[0], cut.sum())


def test_baselines_are_capped_as_experiments_are(tmp_path: Path) -> None:
    small = world(8)
    spec = metric(cap=POOLED, window_days=1)
    plan = BaselinePlan(
        unit_type="user", metrics=[planned(spec)], fact_sources=[EventSource(key="orders", event="order")], weeks=1
    )
    files = {"order": [write_facts(tmp_path, small.facts)]}
    moments, _ = extract_baseline(plan, slice_of([], files, data_as_of=small.as_of, started_at=None))
    first: dict[str, Exposure] = {}
    for fact in sorted(small.facts, key=lambda fact: fact.at):
        if small.as_of - 7 * DAY <= fact.at < small.as_of:
            first.setdefault(fact.unit, Exposure(fact.unit, "control", fact.at))
    rows = [row for row in first.values() if row.at + DAY <= small.as_of]
    values = small.values(layout([spec]).columns[1], rows)
    assert moments.capped["revenue"].cap == inverse(values, 0.9)
    np.testing.assert_allclose(moments.last.mean[0, 0], np.minimum(values, inverse(values, 0.9)).mean())


@given(
    st.lists(st.one_of(st.just(0.0), st.integers(-3, 9).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=60),
    st.floats(0.5, 1, exclude_min=True, exclude_max=True),
    st.integers(1, 60),
    st.booleans(),
)
def test_the_quantile_of_values_in_portions_is_that_of_all_of_them(
    values: list[float], quantile: float, size: int, bounded: bool
) -> None:
    top = Top(quantile, len(values) + 3 if bounded else None)
    for start in range(0, len(values), size):
        top.add(np.array(values[start : start + size]))
    rank = max(math.ceil(quantile * len(values) - 1e-9), 1)
    expected = sorted(values)[rank - 1]
    assert top.value() == (expected if expected > 0 else None)


def test_a_metric_spec_shares_a_capped_column_only_with_the_same_cap() -> None:
    def names(*specs: MetricSpec) -> list[str]:
        return [column.name for column in layout(specs).columns if column.period == "outcome"]

    assert names(metric("a", cap=POOLED), metric("b", cap=POOLED)) == ["a", "a.uncapped"]
    assert names(metric("a", cap=POOLED), metric("b", cap=Cap(quantile=0.99))) == ["a", "a.uncapped", "b"]
