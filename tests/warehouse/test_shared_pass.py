"""Buckets of units over loose and compacted files, and experiments that share a pass: nothing but rounding changes."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import warehouse.experiment_moments as experiment_moments
from experiments.definitions import Cap, DuckDBSource, FileSource, Filter, Measure, MetricSpec, Trigger
from experiments.errors import DomainError, SourceUnreadable
from stats.moment_set import ClusterTable, MomentSet
from tests.warehouse.cases import (
    DAY,
    START,
    Exposure,
    Fact,
    assert_same,
    plan_of,
    slice_of,
    write_exposures,
    write_facts,
)
from tests.warehouse.plain import AS_OF, CLOSED, OPEN, RICH, moments_of, plan_with, random_world, unit_rows
from warehouse import division, parquet
from warehouse.data_slice import ConcurrentExposures, DataSlice
from warehouse.engine import connect, epoch_us
from warehouse.extract import extract_experiment
from warehouse.shared_pass import extract_experiments

CAPPED = CLOSED[0].model_copy(update={"key": "capped", "cap": Cap(quantile=0.9)})
P90 = MetricSpec(
    key="p90", name="p", kind="quantile", quantile=0.9, window_days=3,
    measure=Measure(fact_source="orders", aggregation="sum"),
)  # fmt: skip


def compacted(folder: Path, batches: Sequence[tuple[Path, int]]) -> list[Path]:
    """The rows of batches in sixteen files by unit, each with when its batch was recorded."""
    tables = []
    for path, recorded_us in batches:
        table = pq.read_table(path)
        tables.append(table.append_column(parquet.RECORDED, pa.array([recorded_us] * len(table), pa.int64())))
        path.unlink()
    rows = pa.concat_tables(tables, promote_options="permissive")
    of_row = np.array([hashlib.md5(unit.encode()).digest()[7] >> 4 for unit in rows["unit_id"].to_pylist()])
    folder.mkdir()
    paths = [folder / parquet.bucket_file_name(bucket) for bucket in range(parquet.BUCKETS)]
    for bucket, path in enumerate(paths):
        pq.write_table(rows.filter(pa.array(of_row == bucket)), path)
    return paths


def same(one: MomentSet, other: MomentSet, *, exactly: bool) -> None:
    """Every field, to the last bit, or to rounding and the order of clusters."""
    if not exactly:
        one, other = in_order(one), in_order(other)
    for field in dataclasses.fields(MomentSet):
        _same(getattr(one, field.name), getattr(other, field.name), field.name, exactly=exactly)


def in_order(moments: MomentSet) -> MomentSet:
    """With its table of clusters sorted."""
    if moments.clusters is None:
        return moments
    values, variant = moments.clusters.values, moments.clusters.variant
    order = np.lexsort((*values.round(6).T, variant))
    return replace(moments, clusters=ClusterTable(values[order], variant[order]))


def _same(one: Any, other: Any, name: str, *, exactly: bool) -> None:
    assert type(one) is type(other), name
    if isinstance(one, np.ndarray):
        if exactly:
            assert one.tobytes() == other.tobytes(), name
        else:
            scale = float(np.abs(other).max(initial=0.0)) if other.dtype.kind == "f" else 0.0
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * scale + 1e-12, err_msg=name)
    elif isinstance(one, dict):
        assert list(one) == list(other), name
        for key, value in one.items():
            _same(value, other[key], f"{name}.{key}", exactly=exactly)
    elif dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            _same(getattr(one, field.name), getattr(other, field.name), f"{name}.{field.name}", exactly=exactly)
    elif isinstance(one, tuple | list):
        assert len(one) == len(other), name
        for a, b in zip(one, other, strict=True):
            _same(a, b, name, exactly=exactly)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-9, nan_ok=True), name
    else:
        assert one == other, name


@pytest.mark.parametrize(("layout", "seed"), [("loose", 1), ("compacted", 2), ("mixed", 3)])
def test_moments_are_those_of_the_reference_in_any_buckets_from_any_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, layout: str
) -> None:
    world = random_world(tmp_path, seed, units=60)
    metrics = (*CLOSED, *RICH, OPEN)
    data = world.data if layout == "loose" else stored(tmp_path, world.data, world.facts["orders"], layout)
    plan = plan_with(metrics, segments=["country"])
    whole = extract_experiment(plan, data)
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 7000 * seed)
    if layout == "compacted":
        monkeypatch.setattr(division, "LARGEST_LOOKUP", 0)
    found = extract_experiment(plan, data)
    rows = unit_rows(metrics, world.exposures, world.facts, look=whole.looks[-1], data_as_of=AS_OF)
    wanted = moments_of(rows, len(whole.columns))
    for moments in (whole, found):
        assert_same(moments.last, wanted)
    assert_same(found.overall, whole.overall)
    assert_same(found.by_segment, whole.by_segment)


def stored(folder: Path, data: DataSlice, orders: Sequence[Fact], layout: str) -> DataSlice:
    """The slice after compaction, of all files or of the first ones, with batches that were recorded after it."""
    seen_us, later_us = epoch_us(AS_OF), epoch_us(AS_OF) + 1
    later = write_facts(folder, [replace(fact, value=1e6) for fact in orders])
    first, second = data.event_files["visit"]
    visits = compacted(folder / "visits", [(first, seen_us)] + [(second, seen_us)] * (layout == "compacted"))
    shown = [(path, seen_us) for path in data.exposure_files][: None if layout == "compacted" else 1]
    exposures = compacted(folder / "shown", shown)
    return replace(
        data,
        exposure_files=(*exposures, *(path for path in data.exposure_files if path.exists())),
        event_files={
            "order": tuple(compacted(folder / "orders", [(data.event_files["order"][0], seen_us), (later, later_us)])),
            "visit": (*visits, *(path for path in (first, second) if path.exists())),
        },
        recorded_before_us=seen_us,
    )


def test_the_bucket_of_a_unit_is_that_of_its_md5() -> None:
    names = [f"unit {i}" for i in range(300)] + ["", "ünïcödé"]
    with connect(threads=1, memory_limit=None) as connection:
        sql = f"SELECT {parquet.bucket_expression('name')} FROM (SELECT unnest($names) AS name)"
        found = [row[0] for row in connection.execute(sql, {"names": names}).fetchall()]
    assert found == [hashlib.md5(name.encode()).digest()[7] >> 4 for name in names]


@pytest.mark.parametrize("bucket_bytes", [1 << 30, 9000])
def test_experiments_in_one_pass_have_the_moments_that_each_has_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket_bytes: int
) -> None:
    worlds = [random_world(tmp_path, seed, units=90, clustered=seed == 3) for seed in (1, 2, 3)]
    orders = {event: sum((world.data.event_files[event] for world in worlds), ()) for event in ("order", "visit")}
    first, second, third = (replace(world.data, event_files=orders) for world in worlds)
    shown = (ConcurrentExposures("other", ("control", "treatment"), second.exposure_files, START, AS_OF),)
    big = Trigger(fact_source="orders", filters=[Filter(column="value", op=">", value=5.0)])
    requests = [
        (plan_with((*CLOSED, OPEN, P90), segments=["country"]), replace(first, concurrent=shown)),
        (plan_with((*RICH, CAPPED), segments=["platform"], stratify_by=["country"]), second),
        (
            plan_with(CLOSED, trigger=big),
            replace(second, ended_at=AS_OF - DAY),
        ),
        (plan_with(CLOSED, cluster="account"), third),
        (plan_with(CLOSED), replace(first, data_as_of=AS_OF - 2 * DAY)),
    ]
    alone = [extract_experiment(*request) for request in requests]
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", bucket_bytes)
    together = extract_experiments(requests)
    for found, wanted in zip(together, alone, strict=True):
        assert isinstance(found, MomentSet)
        same(found, wanted, exactly=bucket_bytes > 9000)


def test_a_source_that_cannot_be_read_fails_only_the_plans_that_read_it(tmp_path: Path) -> None:
    world = random_world(tmp_path, 4, units=40)
    files = tmp_path / "files"
    files.mkdir()
    (files / "calls.csv").write_text(
        "unit,at,minutes\nunit 1,2026-01-06T00:00:00,12\nunit 2,2026-01-06T00:00:00,often\n"
    )
    data = replace(world.data, file_source_dir=files)
    calls = FileSource(key="calls", kind="file", path="calls.csv", unit_column="unit", timestamp_column="at")

    def plan_of_calls(**measure: Any) -> Any:
        spec = MetricSpec(
            key="calls", name="c", kind="mean", window_days=2, pre_period_days=0,
            measure=Measure(fact_source="calls", **measure),
        )  # fmt: skip
        return plan_with([spec]).model_copy(update={"fact_sources": [calls]})

    requests = [
        (plan_of_calls(aggregation="count"), data),
        (plan_of_calls(aggregation="sum", column="minutes"), data),
        (plan_of_calls(aggregation="sum", column="seconds"), data),
        (plan_with(CLOSED), data),
        (plan_with(CLOSED), data),
    ]
    good, text, missing, plain, again = extract_experiments(requests)
    assert isinstance(good, MomentSet) and isinstance(plain, MomentSet) and isinstance(again, MomentSet)
    same(good, extract_experiment(*requests[0]), exactly=True)
    same(plain, extract_experiment(*requests[3]), exactly=True)
    same(again, plain, exactly=True)
    for found, request in ((text, requests[1]), (missing, requests[2])):
        assert isinstance(found, DomainError)
        with pytest.raises(SourceUnreadable) as raised:
            extract_experiment(*request)
        assert found.detail.partition(":")[0] == raised.value.detail.partition(":")[0]


def test_text_where_a_number_must_be_is_unreadable_in_buckets_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = random_world(tmp_path, 5, units=30)
    facts = [Fact(f"unit {i}", START + 3 * DAY, None, {"price": "12" if i else "much"}) for i in range(30)]
    data = replace(shown.data, event_files={"order": (write_facts(tmp_path, facts),)})
    metric = MetricSpec(
        key="prices", name="p", kind="mean", window_days=2, pre_period_days=5,
        measure=Measure(fact_source="orders", aggregation="sum", column="price"),
    )  # fmt: skip
    plan = plan_with([metric])
    with pytest.raises(SourceUnreadable, match="orders"):
        extract_experiment(plan, data)
    monkeypatch.setattr(experiment_moments, "BUCKET_BYTES", 500)
    with pytest.raises(SourceUnreadable, match="orders"):
        extract_experiment(plan, data)
    nobody = replace(data, exposure_files=(write_exposures(tmp_path, []),))
    assert extract_experiment(plan, nobody).last.count.sum() == 0
    assert [isinstance(found, MomentSet) for found in extract_experiments([(plan, nobody)] * 2)] == [True, True]
    assert extract_experiments([]) == []


def test_plans_that_know_a_source_in_other_databases_each_read_their_own(tmp_path: Path) -> None:
    exposures = write_exposures(tmp_path, [Exposure("u", "control", START)])
    requests = []
    for name, value in (("old", 2.0), ("new", 3.0)):
        with duckdb.connect(str(tmp_path / f"{name}.duckdb")) as database:
            database.execute("CREATE TABLE orders AS SELECT 'u' AS who, ? AS at, ? AS value", [START, value])
        source = DuckDBSource(
            kind="duckdb", key="orders", path=f"{name}.duckdb", table="orders", unit_column="who", timestamp_column="at"
        )
        plan = plan_of([CLOSED[0]], sources=[source])
        requests.append((plan, slice_of([exposures], data_as_of=AS_OF, file_source_dir=tmp_path)))
    found = [moments.last.mean[0, 0] for moments in extract_experiments(requests) if isinstance(moments, MomentSet)]
    assert found == [2.0, 3.0]
