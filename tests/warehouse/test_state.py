"""What is kept between passes never changes what they find."""

import fcntl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.definitions import Cap, ExposureSource, Filter, Measure, MetricSpec, Trigger
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from tests.warehouse.cases import DAY, START, Exposure, Fact
from tests.warehouse.deliveries import Row, Store, assert_same_moments, deliver, random_rows
from tests.warehouse.plain import ARMS, CLOSED, OPEN, plan_with
from tests.warehouse.test_reach import star_of
from warehouse.data_slice import ConcurrentExposures, DataSlice
from warehouse.extract import extract_experiment
from warehouse.scratch import STAGING
from warehouse.state.lane import FOLDER, forget_lanes, forget_unused_lanes
from warehouse.state.refresh import extract_incrementally, why_in_full

CAPPED = MetricSpec(
    key="capped", name="c", kind="mean", window_days=2.5, pre_period_days=3, cap=Cap(quantile=0.9),
    measure=Measure(fact_source="orders", aggregation="sum"), likelihood="hurdle_lognormal",
)  # fmt: skip
MEDIAN = MetricSpec(
    key="median", name="m", kind="quantile", quantile=0.5, window_days=3, quantile_of="unit", pre_period_days=0,
    measure=Measure(fact_source="orders", aggregation="max"),
)  # fmt: skip
SLOWEST = MEDIAN.model_copy(update={"key": "slowest", "quantile_of": "event", "quantile": 0.9})
ACTIVE = MetricSpec(
    key="active", name="a", kind="proportion", window_days=1, pre_period_days=2,
    measure=Measure(
        fact_source="visits", aggregation="any", filters=[Filter(column="value", op=">", value=6.0)],
    ),
)  # fmt: skip
RICH = plan_with(
    (*CLOSED, CAPPED, MEDIAN, SLOWEST, ACTIVE),
    segments=("platform", "country"),
    two_way_segments=[("platform", "country")],
    stratify_by=["country"],
)
PLAIN = plan_with(CLOSED)


def refreshed(plan: AnalysisPlan, data: DataSlice) -> MomentSet:
    return extract_incrementally(plan, data, fewest_exposures=0)


def days_of(seed: int, store: Store, *, step: float = 3, **rows: int) -> Iterator[datetime]:
    """Times to look at a store that fills up between them, some at the very end of a day."""
    rng = np.random.default_rng(seed)
    left = random_rows(seed, **rows)
    at = START + 2 * DAY
    while at < START + 13 * DAY:
        ready = [row for row in left if row.at <= at - timedelta(seconds=200)]
        left = left[len(ready) :]
        deliver(store, ready, at, rng)
        yield at
        whole = START + ((at - START) // DAY + int(rng.integers(1, step + 1))) * DAY
        at = whole if rng.random() < 0.4 else at + timedelta(days=float(rng.uniform(0.2, step)))


def follow(plan: AnalysisPlan, store: Store, seed: int, **changes: Any) -> DataSlice:
    """Refresh as the store fills up; every result is that of a full pass. The last slice."""
    for at in days_of(seed, store, **{name: changes.pop(name) for name in ("step", "units") if name in changes}):
        data = store.as_of(at, **changes)
        assert_same_moments(refreshed(plan, data), extract_experiment(plan, data))
    return data


def lanes(data: DataSlice) -> list[Path]:
    assert data.data_dir is not None
    return list((data.data_dir / FOLDER).glob("*/*"))


def files(data: DataSlice) -> set[str]:
    (lane,) = lanes(data)
    return {path.name for path in lane.iterdir()}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.simulation) for seed in range(1, 12))])
def test_every_refresh_of_a_filling_store_equals_a_full_pass(tmp_path: Path, seed: int) -> None:
    data = follow(RICH, Store(tmp_path), seed, units=40, step=5)
    # It is the same to the last bit whatever way led there.
    advanced = refreshed(RICH, data)
    assert forget_lanes(tmp_path / "data") == 1 and not lanes(data)
    assert_same_moments(refreshed(RICH, data), advanced, exactly=True)


@pytest.mark.parametrize(
    "plan",
    [
        PLAIN,
        plan_with(CLOSED, trigger=Trigger(fact_source="visits", filters=[Filter(column="value", op=">", value=5.0)])),
        plan_with(CLOSED, north_star=star_of("revenue")),
        plan_with(CLOSED, method="group_sequential", look_every_days=3, looks=4),
    ],
    ids=["plain", "trigger", "north_star", "planned_looks"],
)
def test_other_kinds_of_plans_are_refreshed(tmp_path: Path, plan: AnalysisPlan) -> None:
    assert lanes(follow(plan, Store(tmp_path), 5, units=30, step=8))


def test_exposures_that_are_facts_are_refreshed(tmp_path: Path) -> None:
    named = ExposureSource(fact_source="visits", variant_column="arm")
    store, rng = Store(tmp_path), np.random.default_rng(7)
    rows = [row for row in random_rows(7, units=40) if row.source == "orders"]
    shown = {row.row.unit: ARMS[int(rng.integers(2))] for row in rows}
    rows += [
        Row(Fact(unit, START + float(at) * DAY, 1.0, {"arm": arm}), "visits", START + float(at + late) * DAY)
        for unit, arm in shown.items()
        for at, late in zip(rng.uniform(0, 10, 2), rng.uniform(0, 2, 2), strict=True)
    ]
    plan = plan_with(CLOSED[:1], exposures=named)
    for day in (5, 8, 13):
        at = START + day * DAY
        deliver(store, [row for row in rows if at - 5 * DAY < row.at <= at or (row.at <= at and day == 5)], at, rng)
        rows = [row for row in rows if row.at > at]
        data = store.as_of(at)
        assert_same_moments(refreshed(plan, data), extract_experiment(plan, data))
    assert lanes(data)


def test_what_other_experiments_gave_is_of_now(tmp_path: Path) -> None:
    store, beside = Store(tmp_path), Store(tmp_path)
    rng = np.random.default_rng(3)
    for at in days_of(3, store, units=330, days=5, step=8):
        shown = [
            Exposure(f"unit {int(i)}", ARMS[int(i % 2 if rng.random() < 0.97 else rng.integers(2))], at - DAY)
            for i in rng.integers(0, 330, 500)
        ]
        beside.expose(shown, at)
        other = ConcurrentExposures("other", ARMS, beside.as_of(at).exposure_files, START, at)
        data = store.as_of(at, concurrent=(other,))
        found = refreshed(PLAIN, data)
        assert_same_moments(found, extract_experiment(PLAIN, data))
    assert found.concurrent


def test_batches_may_be_compacted_before_or_after_they_are_seen(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for i, at in enumerate(days_of(11, store, step=8, units=30)):
        if i % 2:
            store.compact()
        data = store.as_of(at)
        assert_same_moments(refreshed(PLAIN, data), extract_experiment(PLAIN, data))
    assert lanes(data)


def test_a_refresh_reads_again_only_what_changed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.expose([Exposure(f"unit {i}", ARMS[i % 2], START + (i % 5 + 0.5) * DAY) for i in range(50)], START + 6 * DAY)
    store.happen("orders", [Fact(f"unit {i}", START + (i % 5 + 1) * DAY, i) for i in range(50)], START + 6 * DAY)
    data = store.as_of(START + 9 * DAY)
    refreshed(PLAIN, data)
    before = files(data)
    # Nothing new: nothing is written but the manifest.
    refreshed(PLAIN, data)
    assert files(data) == before
    # A late fact of a unit of the first cohort: its facts and its parts.
    store.happen("orders", [Fact("unit 0", START + 2 * DAY, 7.0)], START + 9.5 * DAY)
    data = store.as_of(START + 9.5 * DAY)
    assert_same_moments(refreshed(PLAIN, data), extract_experiment(PLAIN, data))
    assert len(files(data) - before) == 2 and len(before - files(data)) == 2


def test_the_end_of_exposure_is_followed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for at in days_of(13, store, units=30, step=9):
        ended = START + 6 * DAY if at >= START + 6 * DAY else None
        data = store.as_of(at, ended_at=ended)
        assert_same_moments(refreshed(PLAIN, data), extract_experiment(PLAIN, data))
    # An end that is dated back makes everything anew.
    data = replace(data, ended_at=START + 4 * DAY)
    assert_same_moments(refreshed(PLAIN, data), extract_experiment(PLAIN, data))


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Store, DataSlice]:
    """A store, and its slice of which state is kept."""
    store = Store(tmp_path)
    for at in days_of(17, store, units=30, step=9):
        data = store.as_of(at)
    refreshed(PLAIN, data)
    return store, data


def damage(store: Store, data: DataSlice) -> DataSlice:
    (lane,) = lanes(data)
    for path in lane.glob("[0-9a-f]*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    return store.as_of(data.data_as_of + DAY)


def lose_manifest(store: Store, data: DataSlice) -> DataSlice:
    (lane,) = lanes(data)
    (lane / "manifest.npz").write_bytes(b"half")
    return data


def erase(store: Store, data: DataSlice) -> DataSlice:
    return store.as_of(data.data_as_of, erasures=1)


def drop_a_batch(store: Store, data: DataSlice) -> DataSlice:
    del store.events["order"][0]
    return store.as_of(data.data_as_of)


def write_text(store: Store, data: DataSlice) -> DataSlice:
    at = data.data_as_of + DAY
    store.happen("visits", [Fact("unit 1", at - DAY, 1.0, {"value": "x"})], at)
    return store.as_of(at)


@pytest.mark.parametrize("happens", [damage, lose_manifest, erase, drop_a_batch, write_text])
def test_what_is_kept_is_made_anew_where_it_does_not_hold(
    kept: tuple[Store, DataSlice], happens: Callable[[Store, DataSlice], DataSlice]
) -> None:
    data = happens(*kept)
    found = refreshed(PLAIN, data)
    assert_same_moments(found, extract_experiment(PLAIN, data))
    assert_same_moments(refreshed(PLAIN, data), found, exactly=True)


def test_an_older_slice_and_a_second_pass_at_once_leave_what_is_kept(kept: tuple[Store, DataSlice]) -> None:
    store, data = kept
    before = files(data)
    older = store.as_of(data.data_as_of - 3 * DAY)
    assert_same_moments(refreshed(PLAIN, older), extract_experiment(PLAIN, older))
    (lane,) = lanes(data)
    with (lane / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        later = store.as_of(data.data_as_of + DAY)
        assert_same_moments(refreshed(PLAIN, later), extract_experiment(PLAIN, later))
        assert forget_lanes(store.folder / "data") == 0
    assert files(data) == before


def test_lanes_that_nobody_uses_are_removed(kept: tuple[Store, DataSlice]) -> None:
    store, data = kept
    root = store.folder / "data"
    assert forget_unused_lanes(root, days=2) == 0
    assert forget_unused_lanes(root, days=2, now=time.time() + 3 * 86_400) == 1
    assert not list((root / FOLDER).iterdir())
    assert_same_moments(refreshed(PLAIN, data), extract_experiment(PLAIN, data))
    # Another version of a metric is another lane.
    refreshed(plan_with(CLOSED[:1]), data)
    assert len(lanes(data)) == 2
    assert not list((root / STAGING).iterdir())


@pytest.mark.parametrize(
    ("plan", "changes", "reason"),
    [
        (plan_with(CLOSED, cluster="account"), {}, "clusters"),
        (plan_with((*CLOSED, OPEN)), {}, "open_window"),
        (plan_with((OPEN,)), {}, "open_window"),
        (PLAIN, {"data_dir": None}, "no_arrivals"),
        (PLAIN, {"exposure_arrivals": ()}, "no_arrivals"),
        (PLAIN, {"event_arrivals": {}}, "no_arrivals"),
    ],
)
def test_some_plans_are_computed_in_full(
    kept: tuple[Store, DataSlice], plan: AnalysisPlan, changes: dict[str, Any], reason: str
) -> None:
    data = replace(kept[1], **changes)
    assert why_in_full(plan, data) == reason
    assert_same_moments(refreshed(plan, data), extract_experiment(plan, data), exactly=True)
