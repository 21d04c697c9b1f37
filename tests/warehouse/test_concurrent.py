"""What other experiments gave the units of this one, and which experiments an analysis takes for concurrent."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import lifecycle
from experiments.definitions import EventSource
from experiments.tables import Experiment, Phase
from tests.warehouse.cases import DAY, START, Exposure, assert_same, plan_of, write_exposures
from tests.warehouse.plain import AS_OF, CLOSED, OPEN, moments_of, plan_with, random_world, unit_rows
from tests.warehouse.test_extract_cases import metric
from tests.warehouse.test_ingest import NOW, STARTED, World, exposure, world
from warehouse.catalog import MAX_CONCURRENT, slice_for
from warehouse.data_slice import ConcurrentExposures
from warehouse.extract import extract_experiment

__all__ = ["world"]

A, B, C = "base", "blue", "green"


def elsewhere(folder: Path, seed: int, units: int) -> tuple[ConcurrentExposures, dict[str, set[str]]]:
    """Another experiment on some of the units, and the variants in which each was seen while it ran."""
    rng = np.random.default_rng(seed)
    rows = [
        Exposure(f"unit {i}", [A, B, C, "withdrawn"][int(rng.integers(3 + (i % 9 == 0)))], at)
        for i in range(units)
        if rng.random() < 0.8
        for at in [START + float(rng.uniform(-3, 9)) * DAY for _ in range(1 + (i % 6 == 0))]
    ]
    start, end = START - DAY, START + 6 * DAY
    half = len(rows) // 2
    files = (write_exposures(folder, rows[:half]), write_exposures(folder, rows[half:]))
    seen: dict[str, set[str]] = {}
    for row in rows:
        if start <= row.at < end:
            seen.setdefault(row.unit, set()).add(row.variant)
    return ConcurrentExposures(f"other {seed}", (A, B, C), files, start, end), seen


@pytest.mark.parametrize("metrics", [CLOSED, (*CLOSED, OPEN)])
def test_units_are_split_by_what_other_experiments_gave_them(tmp_path: Path, metrics: Any) -> None:
    world = random_world(tmp_path, 41, units=600)
    others = [elsewhere(tmp_path, seed, 600) for seed in (1, 2)]
    data = replace(world.data, concurrent=tuple(other for other, _ in others))
    found = extract_experiment(plan_with(metrics), data, threads=1)
    again = extract_experiment(plan_with(metrics), data, threads=3)
    rows = unit_rows(metrics, world.exposures, world.facts, look=AS_OF, data_as_of=AS_OF)
    assert set(found.concurrent) == {"other 1", "other 2"}
    for other, seen in others:
        cells = found.concurrent[other.key]
        assert cells.variants == (A, B, C)
        for i, variant in enumerate(cells.variants):
            inside = [row for row in rows if seen.get(row.unit) == {variant}]
            assert_same(cells.moments[i], moments_of(inside, len(found.columns)))
        assert cells.moments.comoment.tobytes() == again.concurrent[other.key].moments.comoment.tobytes()
        assert cells.moments.count.sum() < found.last.count.sum()


def test_experiments_with_few_common_units_are_left_out(tmp_path: Path) -> None:
    world = random_world(tmp_path, 42, units=150)
    other, _ = elsewhere(tmp_path, 3, 150)
    found = extract_experiment(plan_with(), replace(world.data, concurrent=(other,)))
    assert found.concurrent == {}


async def register(world: World, key: str, start: datetime, stop: datetime | None = None, **fields: Any) -> None:
    """Another experiment like `checkout`, and one exposure in it."""
    like = await world.experiment()
    spec = {**like.spec, "key": key, **fields.pop("spec", {})}
    spec["variants"] = spec["variants"][::-1]
    times = {"created_at": STARTED, "updated_at": STARTED, **fields}
    async with world.database.write() as session:
        session.add(Experiment(key=key, name=key, spec=spec, status="running", started_at=start, **times))
    row = exposure(experiment_key=key, exposed_at=(start + DAY / 2).isoformat())
    assert (await world.send("exposures", [row], f"of {key}")).accepted == 1
    async with world.database.write() as session:
        found = await session.get(Experiment, (await world.experiment(key)).id)
        assert found is not None
        found.stopped_at = stop


@pytest.mark.anyio
async def test_concurrent_are_other_experiments_on_such_units_that_overlap(world: World) -> None:
    await register(world, "before", STARTED - 20 * DAY, STARTED)
    await register(world, "early", STARTED - 20 * DAY, STARTED + DAY)
    await register(world, "within", STARTED + DAY, STARTED + 4 * DAY)
    await register(world, "accounts", STARTED, spec={"unit_type": "account"})
    await register(world, "unknown", STARTED, created_at=NOW + DAY)
    planned = plan_of([metric("revenue")], sources=[EventSource(key="orders", event="order")])
    experiment = await world.experiment()
    async with world.database.read() as session:
        data = await slice_for(session, world.settings, planned, experiment, NOW)
        off = planned.estimation.model_copy(update={"screen_interactions": False})
        for plan in (planned.model_copy(update={"cluster": "a"}), planned.model_copy(update={"estimation": off})):
            assert (await slice_for(session, world.settings, plan, experiment, NOW)).concurrent == ()
    # `other` runs as well, and never saw anybody; `summed` has no exposures.
    assert [other.key for other in data.concurrent] == ["within", "early"]
    within = data.concurrent[0]
    assert within.variants == ("control", "treatment")
    assert (within.started_at, within.ended_at) == (STARTED + DAY, STARTED + 4 * DAY)
    assert len(within.exposure_files) == 1


@pytest.mark.anyio
async def test_a_stop_that_is_dated_back_changes_no_earlier_analysis(world: World) -> None:
    await register(world, "running", STARTED)
    planned = plan_of([metric("revenue")])
    experiment, later = await world.experiment(), NOW + DAY

    async def concurrent(known_at: datetime) -> list[datetime]:
        async with world.database.read() as session:
            data = await slice_for(session, world.settings, planned, experiment, NOW, known_at)
        return [other.ended_at for other in data.concurrent]

    assert await concurrent(NOW) == [NOW]
    async with world.database.write() as session:
        row = await session.get(Experiment, (await world.experiment("running")).id)
        assert row is not None
        await lifecycle.stop(session, experiment=row, actor="tests", at=later, effective_at=STARTED + DAY)
    assert await concurrent(NOW) == [NOW]
    assert await concurrent(later) == [STARTED + DAY]


@pytest.mark.anyio
async def test_of_many_concurrent_experiments_those_with_the_longest_overlap_count(world: World) -> None:
    for i in range(MAX_CONCURRENT + 2):
        await register(world, f"e{i}", STARTED + (i + 1) * timedelta(hours=1))
    planned = plan_of([metric("revenue")])
    async with world.database.read() as session:
        data = await slice_for(session, world.settings, planned, await world.experiment(), NOW)
    # `other` overlaps longest, but nobody was exposed to it.
    assert [other.key for other in data.concurrent] == [f"e{i}" for i in range(MAX_CONCURRENT)]


@pytest.mark.anyio
async def test_the_stages_of_a_ramp_are_the_phases_with_other_weights(world: World) -> None:
    experiment = await world.experiment()
    weights = [(0.9, 0.1), (0.9, 0.1), (0.5, 0.5), (0.4, 0.6)]
    async with world.database.write() as session:
        for day, (control, treatment) in zip((0, 2, 4, 40), weights, strict=True):
            session.add(
                Phase(
                    experiment_id=experiment.id, started_at=STARTED + day * DAY, coverage=0.1 + day / 100,
                    weights={"treatment": treatment, "control": control},
                )
            )  # fmt: skip
    planned = plan_of([metric("revenue")])
    async with world.database.read() as session:
        data = await slice_for(session, world.settings, planned, experiment, NOW)
    assert data.allocation == ((STARTED, (0.9, 0.1)), (STARTED + 4 * DAY, (0.5, 0.5))), "later stages were not known"
