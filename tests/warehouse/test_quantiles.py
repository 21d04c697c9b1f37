"""Quantile metrics against loops: whose values count, when, and clustered by what (METHODS A6, TRAPS 10, 25)."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import warehouse.experiment_moments as experiment_moments
import warehouse.quantiles as quantiles
from experiments.columns import QuantileColumn, layout
from experiments.definitions import EventSource, Filter, Measure, MetricSpec
from experiments.plan import BaselinePlan
from stats.quantile import QuantileSummary, quantile_estimates, summarise
from tests.warehouse.cases import DAY, START, Exposure, Fact, passes, planned, slice_of, write_facts
from tests.warehouse.small_world import ARMS, World, arm_of, metric, world
from warehouse.extract import NON_FINITE, extract_baseline

FIELDS = ("units", "events", "value", "lower", "upper", "share_sd", "tied")


def quantile(
    key: str = "p75", aggregation: str = "sum", *, of: str = "unit", p: float = 0.75, **fields: Any
) -> MetricSpec:
    return metric(key, "quantile", aggregation, quantile=p, quantile_of=of, **fields)


def values_of(small: World, metric: QuantileColumn, row: Exposure, look: datetime) -> list[float]:
    """The values of one unit: each fact with a number, or one aggregate of them if there is any."""
    column = metric.column
    assert column.measure is not None
    begin = row.at + column.delay_days * DAY
    end = look if column.window_days is None else begin + column.window_days * DAY
    facts = [
        fact
        for fact in small.facts
        if fact.unit == row.unit
        and begin <= fact.at < end
        and all(passes(fact, item) for item in column.measure.filters)
    ]
    numbers = [fact.value for fact in facts if fact.value is not None]
    if metric.of == "event":
        return numbers
    aggregates: dict[str, Callable[[], list[float]]] = {
        "sum": lambda: [float(sum(numbers))] if numbers else [],
        "max": lambda: [max(numbers)] if numbers else [],
        "count": lambda: [float(len(facts))] if facts else [],
        "distinct_days": lambda: [float(len({fact.at.date() for fact in facts}))] if facts else [],
    }
    return aggregates[column.measure.aggregation]()


def direct(
    small: World,
    spec: MetricSpec,
    look: datetime,
    metrics: Sequence[MetricSpec],
    *,
    country: str | None = None,
    by: str | None = None,
) -> QuantileSummary:
    """Cells (V,) from loops; `by` is the attribute that was randomised."""
    chosen = layout([spec]).quantiles[0]
    rows = [row for row in small.analysed(metrics, look) if country in (None, row.segments["country"])]
    names = sorted({row.segments[by] if by else row.unit for row in rows})
    found = [
        (value, names.index(row.segments[by] if by else row.unit), ARMS.index(row.variant))
        for row in rows
        for value in values_of(small, chosen, row, look)
    ]
    value, who, arm = (np.array(part) for part in zip(*found, strict=True)) if found else (np.zeros(0),) * 3
    return summarise(value, who, arm, (2,), chosen.probability, 0.9)


def assert_summaries_equal(found: QuantileSummary, index: Any, wanted: QuantileSummary) -> None:
    for name in FIELDS:
        np.testing.assert_allclose(getattr(found, name)[index], getattr(wanted, name), rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    "spec",
    [
        quantile(),
        quantile(of="event"),
        quantile(aggregation="count", p=0.5),
        quantile(aggregation="max", delay_days=0.5),
        quantile(aggregation="distinct_days", window_days=None),
        quantile(window_days=None),
        quantile(of="event", window_days=None, aggregation="count", delay_days=1),
    ],
    ids=lambda spec: f"{spec.quantile_of}-{spec.measure.aggregation}-{spec.window_days}",
)
def test_every_look_and_segment_equals_loops_over_units_and_facts(tmp_path: Path, spec: MetricSpec) -> None:
    small = world(1, units=120, facts=700)
    filtered = {"filters": [Filter(column="plan", value="a")]}
    assert spec.measure is not None
    spec = spec.model_copy(update={"measure": spec.measure.model_copy(update=filtered)})
    metrics = [spec, metric("orders", window_days=2)]
    found = small.extract(tmp_path, metrics, level=0.9)
    cells = found.quantiles["p75"]
    assert cells.overall.level == 0.9
    for i, look in enumerate(found.looks):
        assert_summaries_equal(cells.overall, i, direct(small, spec, look, metrics))
    for i, (_, country) in enumerate(found.segments):
        assert_summaries_equal(cells.by_segment, i, direct(small, spec, small.as_of, metrics, country=country))
    assert cells.overall.events[-1].min() > 10, "the case says something"


def test_a_unit_without_facts_or_only_with_nulls_has_no_value_and_not_zero(tmp_path: Path) -> None:
    shown = [Exposure(f"u{i}", "control", START) for i in range(4)]
    small = World(shown, [Fact("u0", START, 300.0), Fact("u1", START, 200.0), Fact("u2", START, None)])
    found = small.extract(tmp_path, [quantile(p=0.1), quantile("count", "count", p=0.1)])
    assert found.quantiles["p75"].overall.units[-1].tolist() == [2, 0]
    assert found.quantiles["p75"].overall.value[-1, 0] == 200
    assert found.quantiles["count"].overall.units[-1].tolist() == [3, 0]
    assert found.last.count.tolist() == [4, 0]
    assert found.columns == ()


def test_with_clustered_randomisation_facts_are_clustered_by_what_was_randomised(tmp_path: Path) -> None:
    small = world(2, units=150, facts=900)
    small = World(
        [Exposure(r.unit, ARMS[int(r.segments["store"][1:]) % 2], r.at, r.segments) for r in small.exposures],
        small.facts,
    )
    for spec in (quantile(of="event"), quantile()):
        found = small.extract(tmp_path, [spec], level=0.9, cluster="store")
        assert found.quantiles["p75"].overall.units[-1].max() <= 12
        assert_summaries_equal(found.quantiles["p75"].overall, -1, direct(small, spec, small.as_of, [spec], by="store"))


def test_buckets_and_threads_change_no_bit_of_a_quantile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = world(3, units=150, facts=2000)
    metrics = [quantile(), quantile("event", of="event"), quantile("open", window_days=None), metric("orders")]
    whole = small.extract(tmp_path, metrics, threads=1)
    again = small.extract(tmp_path, metrics, threads=2)
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 2000)
    parts = small.extract(tmp_path, metrics)
    for key, cells in whole.quantiles.items():
        for name in FIELDS:
            expected = getattr(cells.overall, name)
            assert getattr(again.quantiles[key].overall, name).tobytes() == expected.tobytes()
            np.testing.assert_allclose(getattr(parts.quantiles[key].overall, name), expected, rtol=1e-12)


@pytest.mark.parametrize("of", ["unit", "event"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_refuses_the_quantile_and_nothing_else(tmp_path: Path, of: str, bad: float) -> None:
    shown = [Exposure("u", "control", START)]
    small = World(shown, [Fact("u", START, bad), Fact("u", START, 1.0)])
    found = small.extract(tmp_path, [quantile(of=of), quantile("orders", "count")])
    assert found.refused == {"p75": NON_FINITE}
    assert "p75" not in found.quantiles
    assert found.quantiles["orders"].overall.value[-1, 0] == 2


def test_many_values_have_fewer_looks_but_always_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = world(4, units=100, facts=600)
    every = small.extract(tmp_path, [quantile()]).quantiles["p75"].overall
    monkeypatch.setattr(quantiles, "MOST_VALUES", 10)
    monkeypatch.setattr(quantiles, "MOST_LOOKS", 2)
    some = small.extract(tmp_path, [quantile()]).quantiles["p75"].overall
    shown = some.events.sum(axis=-1) > 0
    assert shown[-1]
    assert shown.sum() == 2
    assert some.value[shown].tolist() == every.value[shown].tolist()


def test_without_segments_there_are_no_cells_by_segment(tmp_path: Path) -> None:
    found = world(5).extract(tmp_path, [quantile()], segments=[])
    assert found.quantiles["p75"].by_segment.value.shape == (0, 2)


def test_all_values_tied_are_no_certainty(tmp_path: Path) -> None:
    shown = [Exposure(f"u{i}", ARMS[i % 2], START) for i in range(60)]
    found = World(shown, [Fact(row.unit, START, 5.0) for row in shown]).extract(tmp_path, [quantile()])
    value, variance, reason = quantile_estimates(found.quantiles["p75"].overall)
    assert value[-1].tolist() == [5, 5]
    assert (reason[-1] != "").all()
    assert (variance == 0).all()


def test_a_baseline_knows_a_quantile_and_how_its_variance_falls_with_units(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    facts = [
        Fact(f"u{rng.integers(300)}", START + float(rng.uniform(0, 6)) * DAY, float(rng.lognormal()))
        for _ in range(2000)
    ]
    plan = BaselinePlan(
        unit_type="user",
        metrics=[planned(quantile(of="event", window_days=2, pre_period_days=0))],
        fact_sources=[EventSource(key="orders", event="order")],
        weeks=1,
    )
    files = {"order": [write_facts(tmp_path, facts)]}
    moments, _ = extract_baseline(plan, slice_of([], files, data_as_of=START + 7 * DAY, started_at=None))
    cells = moments.quantiles["p75"].overall
    assert cells.value.shape == (1, 1)
    assert cells.units[0, 0] == moments.last.count[0]
    _, variance, reason = quantile_estimates(cells)
    assert reason[0, 0] == ""
    sd = math.sqrt(variance[0, 0] * cells.units[0, 0])
    first = {unit: min(f.at for f in facts if f.unit == unit) for unit in {f.unit for f in facts}}
    kept = {u: at for u, at in first.items() if at + 2 * DAY <= START + 7 * DAY}
    values = [f.value for f in facts if f.unit in kept and f.at < kept[f.unit] + 2 * DAY]
    assert cells.value[0, 0] == np.quantile(values, 0.75, method="inverted_cdf")
    assert 0.1 < sd < 10


def test_arms_are_compared_at_the_units_the_moments_have(tmp_path: Path) -> None:
    small = world(7, facts=1500)
    metrics = [quantile(aggregation="count", measure=Measure(fact_source="orders")), metric("orders", window_days=5)]
    found = small.extract(tmp_path, metrics)
    rows = small.analysed(metrics, small.as_of)
    assert found.last.count.tolist() == np.bincount(arm_of(rows)).tolist()
    assert (found.quantiles["p75"].overall.units[-1] <= found.last.count).all()
