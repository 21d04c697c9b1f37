"""Moments that one analysis makes for another are those that the other would have made, or are not there."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import warehouse.together
from experiments.definitions import FileSource
from stats.moment_set import MomentSet
from tests.patience import LONG
from tests.warehouse.cases import DAY, START
from tests.warehouse.plain import AS_OF, CLOSED, OPEN, RICH, plan_with, random_world
from tests.warehouse.test_reach import star_of
from tests.warehouse.test_shared_pass import CAPPED, P90, same
from warehouse.data_slice import Arrival, ConcurrentExposures
from warehouse.engine import epoch_us
from warehouse.extract import extract_experiment
from warehouse.kept_moments import (
    FOLDER,
    Measured,
    claimed,
    forget_moments,
    is_kept,
    keep_moments,
    key_of,
    read_moments,
)
from warehouse.together import WAITING, Asked, Together, measure_together


def three(folder: Path, *, units: int = 30) -> list[Asked]:
    """Experiments on the same orders and visits."""
    worlds = [random_world(folder, seed, units=units) for seed in (1, 2, 3)]
    events = {event: sum((world.data.event_files[event] for world in worlds), ()) for event in ("order", "visit")}
    asked = []
    for world, plan in zip(
        worlds, (plan_with((*CLOSED, P90)), plan_with(RICH, segments=["country"]), plan_with((OPEN,))), strict=True
    ):
        data = replace(world.data, event_files=events, data_dir=folder / "data")
        asked.append(Asked(key_of(plan, data), plan, data))
    return asked


def asking(asked: Sequence[Asked], place: int) -> Together:
    """What a worker tells about one of them."""
    return Together(asked[place].key, tuple(one for one in asked if one is not asked[place]), 60.0)


def data_dir_of(asked: Asked) -> Path:
    assert asked.data.data_dir is not None
    return asked.data.data_dir


def test_one_pass_serves_all_that_are_due(tmp_path: Path) -> None:
    asked = three(tmp_path, units=12)
    said: list[str] = []
    for place, one in enumerate(asked):
        found = measure_together(
            one.plan, one.data, asking(asked, place), progress=lambda stage, fraction: said.append(stage)
        )
        assert found is not None
        same(found, extract_experiment(one.plan, one.data), exactly=True)
        if place == 0:
            assert said
        else:
            assert not said
        said.clear()
    kept = [read_moments(data_dir_of(one), one.key) for one in asked]
    # Alone they read two sources each.
    assert [(one.plans, one.readings) for one in kept if one] == [(3, 2)] * 3


def test_whoever_is_alone_is_told_so_and_leaves_nothing(tmp_path: Path) -> None:
    first, *_ = three(tmp_path)
    assert measure_together(first.plan, first.data, Together(first.key, (), 60.0)) is None
    assert [path.name for path in (data_dir_of(first) / FOLDER).iterdir()] == ["gate"]


def test_damaged_moments_are_measured_again(tmp_path: Path) -> None:
    one = three(tmp_path, units=10)[0]
    wanted = extract_experiment(one.plan, one.data)
    keep_moments(data_dir_of(one), one.key, Measured(wanted, 1, 2))
    path = data_dir_of(one) / FOLDER / f"{one.key}.npz"
    whole = path.read_bytes()
    for at in range(0, len(whole), 997):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        found = read_moments(data_dir_of(one), one.key)
        if found is not None:  # only names within the archive were hit
            same(found.moments, wanted, exactly=True)
    for damage in (b"", whole[: len(whole) // 2], b"PK\x03\x04 nothing"):
        path.write_bytes(damage)
        assert read_moments(data_dir_of(one), one.key) is None
        assert measure_together(one.plan, one.data, Together(one.key, (), 60.0)) is None


def test_moments_of_every_kind_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    world = random_world(tmp_path, 5, units=60, clustered=True)
    shown = (ConcurrentExposures("other", ("control", "treatment"), world.data.exposure_files, START, AS_OF),)
    data = replace(world.data, concurrent=shown)
    plans = [
        plan_with(
            (*CLOSED, OPEN, P90, CAPPED), segments=["country"], stratify_by=["country"], north_star=star_of("revenue")
        ),
        plan_with(CLOSED, cluster="account"),
    ]
    for plan in plans:
        moments = extract_experiment(plan, data)
        keep_moments(tmp_path, "key", Measured(moments, 1, 2))
        again = read_moments(tmp_path, "key")
        assert again is not None
        same(again.moments, moments, exactly=True)


def test_a_key_says_what_moments_depend_on_and_nothing_else(tmp_path: Path) -> None:
    one = three(tmp_path, units=5)[0]
    (tmp_path / "calls.csv").write_text("unit,at\n")
    calls = FileSource(key="calls", kind="file", path="calls.csv", unit_column="unit", timestamp_column="at")
    plan = one.plan.model_copy(update={"fact_sources": [*one.plan.fact_sources, calls]})
    batch = Arrival("one.parquet", 1, epoch_us(START), epoch_us(AS_OF), tmp_path / "one.parquet")
    data = replace(
        one.data, exposure_arrivals=(batch,), event_arrivals={"order": (batch,)}, file_source_dir=tmp_path,
        allocation=((START, (0.5, 0.5)),),
    )  # fmt: skip
    key = key_of(plan, data)
    compacted = replace(batch, path=None)
    same_data = replace(
        data, exposure_arrivals=(compacted,), exposure_files=(), event_arrivals={"order": (compacted,)},
        recorded_before_us=epoch_us(AS_OF), data_dir=tmp_path / "elsewhere",
        event_files={**data.event_files, "order": (tmp_path / "03-of-16.parquet",)},
    )  # fmt: skip
    assert key_of(plan, same_data) == key
    late = replace(batch, name="two.parquet")
    others = [
        replace(data, exposure_arrivals=(batch, late)),
        replace(data, event_arrivals={"order": (late,)}),
        replace(data, event_files={"order": data.event_files["order"]}),
        replace(data, data_as_of=AS_OF - DAY),
        replace(data, ended_at=AS_OF - DAY),
        replace(data, started_at=START - DAY),
        replace(data, erasures=1),
        replace(data, events_since_us=1),
        replace(data, allocation=((START, (0.4, 0.6)),)),
        replace(data, concurrent=(ConcurrentExposures("other", ("a", "b"), (), START, AS_OF),)),
    ]
    keys = [key_of(plan, other) for other in others]
    keys.append(key_of(plan.model_copy(update={"planned_units": 7}), data))
    beside = replace(data, concurrent=(replace(others[-1].concurrent[0], fact_sources=(calls,)),))
    keys.append(key_of(one.plan, beside))
    (tmp_path / "calls.csv").write_text("unit,at\nu,2026-01-01T00:00:00\n")
    keys += [key_of(plan, data), key_of(one.plan, beside)]
    assert len({key, *keys}) == 1 + len(others) + 4


def test_only_one_makes_moments_and_the_other_waits_for_them(tmp_path: Path) -> None:
    asked = three(tmp_path, units=12)
    one, folder = asked[0], data_dir_of(asked[0])
    wanted = extract_experiment(one.plan, one.data)
    waits = threading.Event()
    got: list[MomentSet | None] = []

    def wait(together: Together) -> threading.Thread:
        def tell(stage: str, fraction: float) -> None:
            assert stage == WAITING
            waits.set()

        thread = threading.Thread(
            target=lambda: got.append(measure_together(one.plan, one.data, together, progress=tell))
        )
        thread.start()
        return thread

    with claimed(folder, asked[1].key, [one.key]) as mine:
        assert mine == {asked[1].key, one.key}
        with claimed(folder, one.key, [asked[2].key]) as nothing:
            assert not nothing
        with claimed(folder, asked[2].key, [one.key]) as rest:
            assert rest == {asked[2].key}
        # Not for ever.
        assert measure_together(one.plan, one.data, replace(asking(asked, 0), seconds=0.0)) is None
        thread = wait(asking(asked, 0))
        assert waits.wait(LONG)
        keep_moments(folder, one.key, Measured(wanted, 2, 2))
        thread.join(LONG)
    assert len(got) == 1 and got[0] is not None
    same(got[0], wanted, exactly=True)


def test_there_is_an_end_to_what_is_done_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = three(tmp_path, units=10)
    one, folder = asked[0], data_dir_of(asked[0])
    monkeypatch.setattr(
        warehouse.together, "time", SimpleNamespace(monotonic=lambda: 100.0 if is_kept(folder, one.key) else 0.0)
    )
    # Its own moments come first, and then the time is over.
    assert measure_together(one.plan, one.data, asking(asked, 0)) is not None
    assert not any(is_kept(folder, other.key) for other in asked[1:])
    forget_moments(folder)
    assert measure_together(one.plan, one.data, replace(asking(asked, 0), seconds=-1.0)) is None


def test_what_goes_wrong_for_others_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = three(tmp_path, units=12)
    one = asked[0]

    def failing(error: Exception) -> Callable[..., Any]:
        def fail(*args: Any, **kwargs: Any) -> Any:
            raise error

        return fail

    real = warehouse.together.extract_experiments
    for error in (MemoryError(), ValueError("odd rows of another"), OSError("no room")):
        monkeypatch.setattr(warehouse.together, "extract_experiments", failing(error))
        assert measure_together(one.plan, one.data, asking(asked, 0)) is None
    monkeypatch.setattr(warehouse.together, "extract_experiments", real)
    # A disk that takes nothing costs the others their share, and not this one its moments.
    monkeypatch.setattr(warehouse.together, "keep_moments", failing(OSError("no room")))
    with caplog.at_level(logging.WARNING):
        found = measure_together(one.plan, one.data, asking(asked, 0))
    assert found is not None and "failed" in caplog.text
    assert not any(is_kept(data_dir_of(one), other.key) for other in asked)


def test_moments_that_nobody_came_for_go(tmp_path: Path) -> None:
    asked = three(tmp_path, units=5)
    one, folder = asked[0], data_dir_of(asked[0])
    moments = extract_experiment(one.plan, one.data)
    for key in ("old", "new"):
        keep_moments(folder, key, Measured(moments, 1, 2))
    long_ago = time.time() - timedelta(hours=2).total_seconds()
    os.utime(folder / FOLDER / "old.npz", (long_ago, long_ago))
    assert forget_moments(folder, older_than_hours=1.0) == 1
    assert is_kept(folder, "new") and not is_kept(folder, "old")
    assert forget_moments(folder) == 1 and forget_moments(folder / "nowhere") == 0
