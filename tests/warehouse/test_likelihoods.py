"""What likelihoods of single units are made of, against loops over the units (METHODS C2)."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import warehouse.experiment_moments as experiment_moments
from experiments.columns import layout, modelled
from experiments.definitions import Cap, Measure, MetricSpec, Role, Trigger
from stats.unit_summary import BINS, CLUSTERED, NEGATIVE_VALUES, NOT_COUNTS, TABLED, UnitSummary, edges_of
from tests.warehouse.cases import DAY, START, Exposure, Fact
from tests.warehouse.plain import ARMS, AS_OF, plan_with, random_world, unit_rows
from tests.warehouse.small_world import World, metric, world
from tests.warehouse.test_triggers import BIG, is_big
from warehouse.extract import NON_FINITE, extract_experiment


def amount(rng: np.random.Generator) -> float:
    return float(rng.lognormal(2, 1))


def model(key: str, aggregation: str, likelihood: str, source: str = "orders", **fields: Any) -> MetricSpec:
    kind = "proportion" if aggregation == "any" else "mean"
    measure = Measure.model_validate({"fact_source": source, "aggregation": aggregation})
    given = {"key": key, "name": key, "kind": kind, "window_days": 3, "pre_period_days": 0, "measure": measure}
    return MetricSpec.model_validate({**given, "likelihood": likelihood, **fields})


METRICS = (
    model("bought", "any", "beta_binomial"),
    model("orders", "count", "gamma_poisson"),
    model("visits", "count", "negative_binomial", "visits", window_days=None),
    model("revenue", "sum", "hurdle_lognormal"),
    model("largest", "max", "student_t"),
)


def summaries_of(values: np.ndarray, arm: np.ndarray) -> list[dict[str, Any]]:
    """By arm, everything that a likelihood could ask of one metric's values, one unit after the other."""
    found = []
    for v in range(len(ARMS)):
        mine = [float(value) for value, of in zip(values, arm, strict=True) if of == v]
        positive = sorted(value for value in mine if value > 0)
        logs = [math.log(value) for value in positive]
        middle = math.fsum(logs) / max(len(logs), 1)
        mean = math.fsum(mine) / max(len(mine), 1)
        found.append(
            {
                "count": len(mine),
                "total": math.fsum(mine),
                "squares": math.fsum((value - mean) ** 2 for value in mine),
                "positives": len(positive),
                "log_mean": middle,
                "log_squares": math.fsum((log - middle) ** 2 for log in logs),
                "percentile_99": positive[math.ceil(0.99 * len(positive)) - 1] if positive else 0.0,
                "values": mine,
            }
        )
    return found


def assert_equal(found: UnitSummary, wanted: list[dict[str, Any]], pooled: np.ndarray) -> None:
    def every(name: str) -> list[Any]:
        return [of_arm[name] for of_arm in wanted]

    assert not found.reason
    assert found.count.tolist() == every("count")
    np.testing.assert_allclose(found.total, every("total"), rtol=1e-12)
    np.testing.assert_allclose(found.squares, every("squares"), rtol=1e-10)
    present = {"table": found.table, "amounts": found.amounts, "histogram": found.histogram}
    needed = {"gamma_poisson": "table", "negative_binomial": "table", "hurdle_lognormal": "amounts"}
    wants = {**needed, "student_t": "histogram"}.get(found.likelihood)
    assert [name for name, part in present.items() if part is not None] == ([wants] if wants else [])
    if found.table is not None:
        for v, values in enumerate(every("values")):
            assert found.table.frequency[v].tolist() == [values.count(i) for i in range(TABLED)]
            tail = [value for value in values if value >= TABLED]
            assert (found.table.tail_units[v], found.table.tail_total[v]) == (len(tail), sum(tail))
    if found.amounts is not None:
        assert found.amounts.count.tolist() == every("positives")
        np.testing.assert_allclose(found.amounts.log_mean, every("log_mean"), rtol=1e-12)
        np.testing.assert_allclose(found.amounts.log_squares, every("log_squares"), rtol=1e-10)
        assert found.amounts.percentile_99.tolist() == every("percentile_99")
    if found.histogram is not None:
        edges = found.histogram.edges
        assert edges[0] <= pooled.min() and pooled.max() <= edges[-1]
        for v, values in enumerate(every("values")):
            assert found.histogram.frequency[v].tolist() == np.histogram(values, edges)[0].tolist()


@pytest.mark.parametrize("trigger", [None, BIG])
@pytest.mark.parametrize("bucket_bytes", [None, 3000])
def test_sufficient_statistics_equal_loops_over_the_analysed_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trigger: Trigger | None, bucket_bytes: int | None
) -> None:
    """Units that came twice count once, those of two arms not at all; windows begin at the trigger, if there is one."""
    if bucket_bytes:
        monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", bucket_bytes)
    small = random_world(tmp_path, 31, units=150, amount=amount)
    found = extract_experiment(plan_with(METRICS, trigger=trigger), small.data)
    rows = unit_rows(
        METRICS, small.exposures, small.facts, look=AS_OF, data_as_of=AS_OF,
        triggers=is_big if trigger else None, source="orders",
    )  # fmt: skip
    rows = [row for row in rows if row.entered]
    assert found.crossover > 0 and 0 < len(rows) < 150
    assert set(found.units) == {spec.key for spec in METRICS}
    arm = np.array([row.arm for row in rows])
    for spec in METRICS:
        values = np.array([row.values[layout(METRICS).metrics[spec.key].value] for row in rows])
        summary = found.units[spec.key]
        assert (summary.likelihood, summary.cap) == (spec.likelihood, None)
        assert_equal(summary, summaries_of(values, arm), values)


def test_the_same_data_give_the_same_bytes_with_any_number_of_threads(tmp_path: Path) -> None:
    small = random_world(tmp_path, 32, units=200, amount=amount)
    one, four = (extract_experiment(plan_with(METRICS), small.data, threads=n).units for n in (1, 4))
    for key, summary in one.items():
        for name in ("total", "squares"):
            assert getattr(summary, name).tobytes() == getattr(four[key], name).tobytes()
    amounts, others = one["revenue"].amounts, four["revenue"].amounts
    assert amounts is not None and others is not None
    assert amounts.log_squares.tobytes() == others.log_squares.tobytes()


def test_values_are_those_that_are_analysed_capped(tmp_path: Path) -> None:
    small = world()
    cap = Cap(quantile=0.9)
    capped = metric(cap=cap, likelihood="hurdle_lognormal")
    found = small.extract(tmp_path, [capped]).units["revenue"]
    bare = small.extract(tmp_path, [metric(likelihood="hurdle_lognormal")]).units["revenue"]
    assert found.cap is not None and bare.cap is None
    assert found.amounts is not None and bare.amounts is not None
    assert found.amounts.percentile_99.max() == found.cap < bare.amounts.percentile_99.max()
    assert found.amounts.count.tolist() == bare.amounts.count.tolist()
    assert (found.total < bare.total).any()


def of_value(folder: Path, value: float | None, likelihood: str) -> UnitSummary:
    """The summary of a metric when one unit in the treatment has this value and the others have 2."""
    facts = [Fact(f"u{i}", START + DAY, value if i == 1 else 2.0) for i in range(6)]
    small = World([Exposure(f"u{i}", ARMS[i % 2], START) for i in range(6)], facts)
    return small.extract(folder, [metric(likelihood=likelihood)]).units["revenue"]


@pytest.mark.parametrize(
    ("likelihood", "value", "reason"),
    [
        ("gamma_poisson", 1.5, NOT_COUNTS),
        ("negative_binomial", -1.0, NOT_COUNTS),
        ("gamma_poisson", 7.0, ""),
        ("hurdle_lognormal", -0.01, NEGATIVE_VALUES),
        ("hurdle_lognormal", 0.0, ""),
        ("student_t", -5.0, ""),
        ("student_t", math.nan, NON_FINITE),
        ("hurdle_lognormal", math.inf, NON_FINITE),
        ("negative_binomial", 1e300, NON_FINITE),
        ("gamma_poisson", None, ""),
    ],
)
def test_values_that_a_likelihood_cannot_have_produced_are_refused_with_a_reason(
    tmp_path: Path, likelihood: str, value: float | None, reason: str
) -> None:
    found = of_value(tmp_path, value, likelihood)
    assert found.reason == reason
    assert found.count.tolist() == [3, 3]
    if reason:
        assert found.total.tolist() == [0, 0]
        assert found.table is None and found.amounts is None and found.histogram is None
    else:
        assert found.total.tolist() == [6, 4 + (value or 0.0)]


def test_a_fault_in_one_bucket_of_units_refuses_the_metric_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 16)
    assert of_value(tmp_path, 1.5, "gamma_poisson").reason == NOT_COUNTS
    assert of_value(tmp_path, math.inf, "student_t").reason == NON_FINITE


def test_units_of_clusters_have_no_likelihood_of_their_own(tmp_path: Path) -> None:
    small = random_world(tmp_path, 33, units=60, clustered=True)
    found = extract_experiment(plan_with(METRICS, cluster="account"), small.data)
    assert {summary.reason for summary in found.units.values()} == {CLUSTERED}


def test_only_metrics_that_ask_for_a_model_of_units_have_statistics_for_one() -> None:
    plan = plan_with((*METRICS, metric()))
    assert [item.metric_key for item in modelled(plan)] == [spec.key for spec in METRICS]
    assert modelled(plan_with(METRICS, engine="frequentist")) == ()
    assert modelled(plan.model_copy(update={"data": "summary"})) == ()
    watched = [item.model_copy(update={"role": Role.MONITOR}) for item in plan.metrics]
    assert modelled(plan.model_copy(update={"metrics": watched})) == ()


def test_an_experiment_without_units_has_empty_statistics(tmp_path: Path) -> None:
    found = World([], []).extract(tmp_path, [metric(likelihood="student_t"), metric("n", likelihood="gamma_poisson")])
    assert found.units["revenue"].count.tolist() == found.units["n"].count.tolist() == [0, 0]
    histogram, table = found.units["revenue"].histogram, found.units["n"].table
    assert histogram is not None and histogram.frequency.sum() == 0
    assert table is not None and table.frequency.sum() == 0


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e90, 1e90)))
def test_bins_hold_every_value_and_ascend(values: np.ndarray) -> None:
    edges = edges_of(values)
    assert len(edges) == BINS + 1 and np.isfinite(edges).all()
    assert edges[0] <= values.min() and values.max() <= edges[-1]
    assert (np.diff(edges) >= 0).all()
    assert np.histogram(values, edges)[0].sum() == len(values)
