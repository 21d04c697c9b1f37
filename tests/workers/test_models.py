"""The compiled models of a worker, with real processes and real sampling: right numbers, and nothing lost or left over.

The bundle is this machine's, compiled where it is missing; what compilations survive is asked in `tests.chaos`.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from experiments.analysis import request_cancel
from experiments.types import utc_now
from stats.bayes.models.exchangeable import DEFINITION, pool_questions
from stats.bayes.models.fit import ModelFit
from stats.bayes.sampling.contract import BundleRejected
from tests.patience import LONG, comes_about
from tests.workers.conftest import Desk
from tests.workers.hard_questions import Deadly, Defective, Impossible, Sleeping, like, long_segments, segments
from tests.workers.test_child import gone
from workers.models.catalogue import bundle_folder
from workers.models.folder import BundleFolder, key_of
from workers.models.messages import ModelQuestion, SizedModel
from workers.models.pool import ModelPool
from workers.models.sampling import Library

pytestmark = pytest.mark.anyio

MEGABYTE = 1024 * 1024
MODEL = SizedModel(DEFINITION, 1)
QUESTION = ModelQuestion((segments(1), segments(2, levels=9)), seed=11)


@dataclass(frozen=True)
class First:
    """The first answer, and a folder with its bundle."""

    folder: BundleFolder
    fits: list[ModelFit]


def open_pool(folder: BundleFolder, *, fit_seconds: float = 60.0, memory: int = 512 * MEGABYTE) -> ModelPool:
    return ModelPool(folder=folder, fit_seconds=fit_seconds, memory_bytes=memory, idle_seconds=0.2)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> First:
    machine, folder = bundle_folder(None), BundleFolder(tmp_path_factory.mktemp("bundles"))

    async def ask() -> list[ModelFit]:
        pool = open_pool(machine)
        try:
            return await pool.answer(QUESTION, 280.0)
        finally:
            await pool.close()

    fits = asyncio.run(ask())
    folder.write(key_of(MODEL), machine.read(key_of(MODEL)))
    return First(folder, fits)


@pytest.fixture(scope="module")
async def models(first: First) -> AsyncIterator[ModelPool]:
    """What most tests share: a pool that finds the bundle on disk."""
    pool = open_pool(first.folder)
    yield pool
    await pool.close()


def bits(fit: ModelFit) -> bytes:
    assert fit.status == "ok" and fit.effects is not None, fit.reason
    return fit.effects.lift.tobytes() + fit.effects.hdi_upper.tobytes()


def cpu_seconds(process_id: int | None) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_nuts_agrees_with_the_grid(first: First) -> None:
    for fit, exact in zip(first.fits, pool_questions([segments(1), segments(2, levels=9)]), strict=True):
        assert fit.effects is not None and exact.effects is not None
        assert fit.hyper["between"][0] == pytest.approx(exact.hyper["between"][0], abs=0.004)
        assert fit.effects.lift.tolist() == pytest.approx(exact.effects.lift.tolist(), abs=0.004)


async def test_after_a_restart_the_same_question_gives_the_same_bits_in_any_company(
    first: First, models: ModelPool
) -> None:
    """Alone on two cores, beside others on one, and in another process than the one that compiled."""
    wanted = bits(first.fits[0])
    (alone,) = await models.answer(ModelQuestion(QUESTION.questions[:1], 11), LONG)
    crowd = ModelQuestion((segments(5), QUESTION.questions[0], segments(6)), 11)
    together = await asyncio.gather(models.answer(crowd, LONG), models.answer(QUESTION, LONG))
    assert {bits(alone), bits(together[0][1]), bits(together[1][0])} == {wanted}
    assert bits((await models.answer(ModelQuestion(QUESTION.questions[:1], 12), LONG))[0]) != wanted
    assert models.process_ids[1] is None, "nothing was compiled"


async def test_progress_grows_from_nothing_to_everything(models: ModelPool) -> None:
    seen: list[float] = []
    asking = asyncio.ensure_future(models.answer(ModelQuestion((segments(1), long_segments()), 1), LONG, seen.append))
    assert await comes_about(lambda: len(seen) > 5 and seen[-1] > 0.5)
    assert seen == sorted(seen) and seen[-1] < 1.0
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await models.answer(QUESTION, LONG, seen.append)
    assert seen[-1] == 1.0


async def test_a_cancelled_question_stops_sampling_and_leaves_nothing_running(models: ModelPool, first: First) -> None:
    began: list[float] = []
    waiting = asyncio.ensure_future(
        models.answer(ModelQuestion((long_segments(), long_segments(1)), 1), LONG, began.append)
    )
    assert await comes_about(lambda: bool(began) and began[-1] > 0)
    process = models.process_ids[0]
    used = cpu_seconds(process)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0.5)
    if models.process_ids[0] == process:  # else it did not hear us in time, and was ended
        assert cpu_seconds(process) - used < 1.5, "CPU, not wall; all of it takes tens of seconds"
        used = cpu_seconds(process)
        await asyncio.sleep(0.3)
        assert cpu_seconds(process) - used < 0.1
    assert bits((await models.answer(QUESTION, LONG))[0]) == bits(first.fits[0])


async def test_a_sampler_killed_in_the_middle_costs_nothing(models: ModelPool, first: First) -> None:
    began: list[float] = []
    asking = asyncio.ensure_future(models.answer(QUESTION, LONG))
    long = asyncio.ensure_future(models.answer(ModelQuestion((long_segments(),), 1), LONG, began.append))
    assert await comes_about(lambda: bool(began) and began[-1] > 0)
    process = models.process_ids[0] or 0
    os.kill(process, signal.SIGKILL)
    assert [bits(fit) for fit in await asking] == [bits(fit) for fit in first.fits]
    assert await comes_about(lambda: models.process_ids[0] not in (None, process)), "sampling began again"
    long.cancel()
    await asyncio.gather(long, return_exceptions=True)
    assert gone(process)


async def test_a_question_that_kills_its_process_is_unreliable_and_its_neighbours_are_answered(
    models: ModelPool, first: First
) -> None:
    (deadly, kept), (other, _) = await asyncio.gather(
        models.answer(ModelQuestion((like(Deadly, segments()), segments(1)), 11), LONG), models.answer(QUESTION, LONG)
    )
    assert deadly.status == "unreliable" and "SIGKILL" in deadly.reason
    assert {bits(kept), bits(other)} == {bits(first.fits[0])}


async def test_a_question_that_hangs_is_ended_in_its_time_and_its_neighbours_are_answered(first: First) -> None:
    for patience in (1, 8, 64):  # a busy machine may need longer for the neighbour
        models = open_pool(first.folder, fit_seconds=patience)
        try:
            await models.answer(QUESTION, LONG)
            process = models.process_ids[0] or 0
            hanging, answered = await models.answer(ModelQuestion((like(Sleeping, segments()), segments(1)), 11), LONG)
            wanted = f"the model gave no answer within {patience} seconds"
            assert (hanging.status, hanging.reason) == ("unreliable", wanted)
            assert gone(process)
        finally:
            await models.close()
        if answered.status == "ok":
            break
    assert bits(answered) == bits(first.fits[0])


async def test_models_never_take_more_time_than_the_analysis_has_left(models: ModelPool, first: First) -> None:
    labels = {"model": "exchangeable", "status": "unreliable"}
    counted = REGISTRY.get_sample_value("northlift_model_fits_total", labels) or 0.0
    found = await models.answer(ModelQuestion((segments(1), long_segments(), long_segments(1)), 11), 2.5)
    late = [fit for fit in found if fit.reason == "the analysis had no time left for this model"]
    assert late[-2:] == found[-2:] and {fit.status for fit in late} == {"unreliable"}
    assert REGISTRY.get_sample_value("northlift_model_fits_total", labels) == counted + len(late)


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [(Impossible, "unreliable", "sampler failed"), (Defective, "unreliable", "KeyError: 'no such column'")],
)
async def test_what_cannot_be_sampled_ends_with_a_reason(
    models: ModelPool, kind: type[Impossible], status: str, reason: str
) -> None:
    await models.answer(QUESTION, LONG)  # the test before may have cost the process
    process = models.process_ids[0]
    (found,) = await models.answer(ModelQuestion((like(kind, segments()),), 1), LONG)
    assert (found.status, found.effects) == (status, None) and reason in found.reason
    assert models.process_ids[0] == process


async def test_a_family_of_one_is_not_estimable(models: ModelPool) -> None:
    (found,) = await models.answer(ModelQuestion((segments(1, levels=1),), 1), LONG)
    assert (found.status, found.reason) == ("not_estimable", "too_few_segments")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_analysis_reports_its_models_and_ends_their_sampling_when_it_is_cancelled(
    desk: Desk, models: ModelPool, first: First
) -> None:
    row = await desk.submit(fault="long models")
    running = asyncio.ensure_future(desk.runner(answer=models.answer).run(row.id))
    seen = await desk.until(row, lambda r: r.stage == "models" and r.fraction > 0.95)
    assert seen.fraction < 1.0
    async with desk.database.write() as session:
        await request_cancel(session, analysis_id=row.id, at=utc_now())
    await running
    assert (await desk.now(row)).state == "cancelled"
    assert bits((await models.answer(QUESTION, LONG))[0]) == bits(first.fits[0])


async def test_a_sampling_process_that_grew_too_large_is_renewed_between_two_fits(first: First) -> None:
    models = open_pool(first.folder, memory=20 * MEGABYTE)
    try:
        asking = asyncio.ensure_future(models.answer(QUESTION, LONG))
        assert await comes_about(lambda: models.process_ids[0] is not None)
        process = models.process_ids[0] or 0
        assert [bits(fit) for fit in await asking] == [bits(fit) for fit in first.fits]
        assert await comes_about(lambda: models.process_ids[0] is None and gone(process))
    finally:
        await models.close()


def test_programs_are_evicted_when_their_code_is_too_much_the_longest_unused_first(
    first: First, tmp_path: Path
) -> None:
    folder = BundleFolder(tmp_path)
    bundle = first.folder.read(key_of(MODEL))
    versions = [SizedModel(replace(DEFINITION, version=number), 1) for number in (90, 91, 92)]
    for model in versions:
        folder.write(key_of(model), bundle)
    shelf = Library(folder, memory_bytes=16 * 5 * len(bundle) // 2)  # a sixteenth is for code: two and a half bundles
    a, b, c = versions
    first_a = shelf.program(a)
    assert shelf.program(b) is shelf.program(b) and shelf.program(a) is first_a
    shelf.program(c)
    assert shelf.loaded == (a, c)
    assert shelf.program(a) is first_a


def test_a_bundle_that_fails_its_test_is_removed(first: First, tmp_path: Path) -> None:
    folder = BundleFolder(tmp_path)
    bundle = bytearray(first.folder.read(key_of(MODEL)))
    bundle[len(bundle) // 2] ^= 1
    folder.write(key_of(MODEL), bytes(bundle))
    with pytest.raises(BundleRejected):
        Library(folder, 512 * MEGABYTE).program(MODEL)
    assert folder.size(key_of(MODEL)) is None
