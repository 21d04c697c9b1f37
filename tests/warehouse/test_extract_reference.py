"""Extraction against a plain Python reference on random small worlds."""

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.definitions import EventSource, Filter, Measure, MetricSpec
from tests.warehouse.cases import (
    DAY,
    START,
    Exposure,
    Fact,
    assert_same,
    plan_of,
    reference,
    slice_of,
    write_exposures,
    write_facts,
)
from warehouse.extract import extract_experiment

SOURCES = (EventSource(key="orders", event="order"), EventSource(key="visits", event="visit"))
CLOSED = (
    MetricSpec(key="revenue", name="r", kind="mean", measure=Measure(fact_source="orders", aggregation="sum")),
    MetricSpec(
        key="buyers", name="b", kind="proportion", window_days=3, delay_days=1, pre_period_days=2,
        measure=Measure(fact_source="orders", aggregation="sum"),
    ),
    MetricSpec(
        key="largest", name="l", kind="mean", window_days=2.5, pre_period_days=0,
        measure=Measure(fact_source="orders", aggregation="max", filters=[Filter(column="plan", value="pro")]),
    ),
    MetricSpec(
        key="per_visit", name="p", kind="ratio", window_days=4, pre_period_days=7,
        numerator=Measure(fact_source="orders", aggregation="count"),
        denominator=Measure(fact_source="visits", aggregation="distinct_days"),
    ),
    MetricSpec(
        key="covaried", name="c", kind="mean", window_days=4, pre_period_days=3,
        measure=Measure(fact_source="visits", aggregation="any"),
        covariate=Measure(fact_source="orders", aggregation="sum", filters=[Filter(column="value", op=">", value=0.0)]),
    ),
)  # fmt: skip
OPEN = (
    MetricSpec(
        key="open_revenue", name="o", kind="mean", window_days=None, delay_days=0.5, pre_period_days=3,
        measure=Measure(fact_source="orders", aggregation="sum"),
    ),
    MetricSpec(
        key="open_days", name="d", kind="mean", window_days=None, pre_period_days=0,
        measure=Measure(fact_source="visits", aggregation="distinct_days"),
    ),
)  # fmt: skip


def times(first_day: int, last_day: int) -> st.SearchStrategy[datetime]:
    hours = st.integers(first_day * 24, last_day * 24).map(lambda hour: START + timedelta(hours=hour))
    return st.one_of(hours, hours.map(lambda at: at - timedelta(microseconds=1)))


units = st.sampled_from([f"u{i}" for i in range(9)] + ["a unit with a long name, and ünïcödé"])
values = st.one_of(
    st.none(), st.floats(-1e3, 1e3), st.integers(-5, 5).map(float), st.just(1e9), st.floats(1e9, 1e9 + 10)
)
exposures = st.lists(
    st.builds(
        Exposure, units, st.sampled_from(["control", "treatment"]), times(-1, 12),
        st.fixed_dictionaries({}, optional={"country": st.sampled_from(["DE", "US"])}),
    ),
    max_size=40,
)  # fmt: skip
facts = st.lists(
    st.builds(
        Fact, units, times(-10, 25), values,
        st.fixed_dictionaries({"plan": st.sampled_from(["pro", "free", None])}),
    ),
    max_size=60,
)  # fmt: skip
cases: Any = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("ended_after", [None, 9])
@given(data=st.data())
@cases
def test_moments_equal_the_reference_at_every_look_and_in_every_segment(
    data: st.DataObject, ended_after: int | None
) -> None:
    shown, orders = data.draw(exposures), data.draw(facts)
    visits = data.draw(facts)
    metrics = data.draw(st.sampled_from([CLOSED, (*CLOSED, *OPEN), OPEN]))
    as_of = data.draw(times(0, 20))
    ended_at = None if ended_after is None else START + ended_after * DAY
    by_source = {"orders": orders, "visits": visits}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        half = len(shown) // 2
        slice_ = slice_of(
            [write_exposures(folder, shown[:half]), write_exposures(folder, shown[half:])],
            {
                "order": [write_facts(folder, orders[i::2], properties=["plan"]) for i in (0, 1)],
                "visit": [write_facts(folder, visits, "visit")],
            },
            data_as_of=as_of,
            ended_at=ended_at,
        )
        plan = plan_of(metrics, sources=SOURCES, segments=["country"])
        found = extract_experiment(plan, slice_, threads=2)
    found.validate()
    arms = ["control", "treatment"]
    for i, look in enumerate(found.looks):
        wanted = reference(metrics, arms, shown, by_source, look=look, data_as_of=as_of, ended_at=ended_at)
        assert_same(found.overall[i], wanted)
    for i, segment in enumerate(found.segments):
        wanted = reference(
            metrics, arms, shown, by_source, look=found.looks[-1], data_as_of=as_of, ended_at=ended_at, segment=segment
        )
        assert_same(found.by_segment[i], wanted)
    if found.segments:
        np.testing.assert_array_equal(found.by_segment.count.sum(axis=0), found.last.count)
