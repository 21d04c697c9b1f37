"""What is kept between passes never changes what they find."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from experiments.definitions import Cap, Filter, Measure, MetricSpec
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from tests.warehouse.cases import DAY, START
from tests.warehouse.deliveries import Store, assert_same_moments, deliver, random_rows
from tests.warehouse.plain import CLOSED, plan_with
from warehouse.data_slice import DataSlice
from warehouse.extract import extract_experiment
from warehouse.state.refresh import extract_incrementally

CAPPED = MetricSpec(
    key="capped", name="c", kind="mean", window_days=2.5, pre_period_days=3, cap=Cap(quantile=0.9),
    measure=Measure(fact_source="orders", aggregation="sum"), likelihood="hurdle_lognormal",
)  # fmt: skip
MEDIAN = MetricSpec(
    key="median", name="m", kind="quantile", quantile=0.5, window_days=3, quantile_of="unit", pre_period_days=0,
    measure=Measure(fact_source="orders", aggregation="max"),
)  # fmt: skip
ACTIVE = MetricSpec(
    key="active", name="a", kind="proportion", window_days=1, pre_period_days=2,
    measure=Measure(
        fact_source="visits", aggregation="any", filters=[Filter(column="value", op=">", value=6.0)],
    ),
)  # fmt: skip


def days_of(seed: int, store: Store, days: int = 13, **rows: int) -> Iterator[datetime]:
    """Times to look at a store that fills up between them, some at the very end of a day."""
    rng = np.random.default_rng(seed)
    left = random_rows(seed, **rows)
    at = START
    while at < START + days * DAY:
        step = timedelta(days=float(rng.uniform(0.2, 3)))
        at = at + step if rng.random() < 0.7 else START + ((at - START) // DAY + 1) * DAY
        ready = [row for row in left if row.at <= at - timedelta(seconds=200)]
        left = left[len(ready) :]
        deliver(store, ready, at, rng)
        yield at


def refreshed(plan: AnalysisPlan, data: DataSlice) -> MomentSet:
    return extract_incrementally(plan, data, fewest_exposures=0)


def follow(plan: AnalysisPlan, store: Store, seed: int, **rows: int) -> None:
    for at in days_of(seed, store, **rows):
        data = store.as_of(at)
        if data.exposure_files:
            assert_same_moments(refreshed(plan, data), extract_experiment(plan, data))


@pytest.mark.parametrize("seed", range(4))
def test_every_refresh_of_a_filling_store_equals_a_full_pass(tmp_path: Path, seed: int) -> None:
    plan = plan_with(
        (*CLOSED, CAPPED, MEDIAN, ACTIVE),
        segments=("platform", "country"),
        two_way_segments=[("platform", "country")],
        stratify_by=["country"],
    )
    follow(plan, Store(tmp_path), seed)
