"""The process that keeps the compiled segment model: right numbers, and nothing lost when it misbehaves."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from experiments.evidence import SegmentRequest
from stats.bayes.prior import Prior
from stats.bayes.segments import pool
from tests.workers.test_child import gone
from workers.model_process import ModelProcess, SegmentQuestion, model_cache_dir

pytestmark = pytest.mark.anyio


def request(seed: int = 0, levels: int = 6) -> SegmentRequest:
    random = np.random.default_rng(seed)
    errors = random.uniform(0.02, 0.04, levels)
    return SegmentRequest(
        metric_key="orders",
        variant_key="treatment",
        dimension="country",
        levels=tuple(f"c{i}" for i in range(levels)),
        log_lifts=random.normal(0.05, errors),
        standard_errors=errors,
        units=np.full(levels, 1000),
        ci_level=0.95,
        prior=Prior.default(),
    )


@pytest.fixture
async def misbehaving(tmp_path: Path) -> AsyncIterator[list[ModelProcess]]:
    opened: list[ModelProcess] = []
    yield opened
    for each in opened:
        await each.close()


async def test_the_compiled_model_is_reused_deterministic_cancellable_and_agrees_with_the_closed_form() -> None:
    models = ModelProcess(fit_seconds=60, cache_dir=model_cache_dir(), compile_seconds=280)
    try:
        models.warm_in_background()
        question = SegmentQuestion((request(1), request(2, levels=9)), seed=11)
        first = await models.answer(question, 290)
        process = models.process_id
        begun = time.monotonic()
        again = await models.answer(question, 60)
        assert time.monotonic() - begun < 20.0  # warm: no compilation
        assert again == first and models.process_id == process
        assert [model.status for model in first] == ["ok", "ok"]
        for asked, model in zip(question.requests, first, strict=True):
            exact = pool(asked.log_lifts[None], asked.standard_errors[None], asked.prior)
            assert model.tau == pytest.approx(exact.between_mean[0], abs=0.004)
            assert [e.lift for e in model.effects] == pytest.approx(exact.lift[0].tolist(), abs=0.004)

        waiting = asyncio.ensure_future(models.answer(SegmentQuestion(tuple(request(i) for i in range(50)), 1), 60))
        await asyncio.sleep(0.3)
        begun = time.monotonic()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert time.monotonic() - begun < 1.0
        assert await models.answer(question, 60) == first
        assert models.process_id == process
    finally:
        await models.close()
    assert process is not None and gone(process)


async def test_a_model_that_hangs_becomes_unreliable_and_its_process_is_ended(
    tmp_path: Path, misbehaving: list[ModelProcess]
) -> None:
    models = ModelProcess(fit_seconds=1.0, cache_dir=tmp_path, entry="tests.workers.tiny:never_fits")
    misbehaving.append(models)
    documents = await models.answer(SegmentQuestion((request(), request()), 1), 60)
    assert [d.status for d in documents] == ["unreliable", "unreliable"]
    assert documents[0].reason is not None and "no answer within 1 seconds" in documents[0].reason
    assert documents[0].effects[0].lift is None and documents[0].effects[0].raw_lift is not None
    assert models.process_id is None


async def test_a_model_that_takes_its_process_down_becomes_unreliable_and_the_next_one_gets_a_new_process(
    tmp_path: Path, misbehaving: list[ModelProcess]
) -> None:
    models = ModelProcess(fit_seconds=10.0, cache_dir=tmp_path, entry="tests.workers.tiny:kills_itself")
    misbehaving.append(models)
    for _ in range(2):
        documents = await models.answer(SegmentQuestion((request(),), 1), 60)
        assert documents[0].status == "unreliable"
        assert documents[0].reason is not None and "SIGKILL" in documents[0].reason


async def test_models_never_take_more_time_than_the_analysis_has_left(
    tmp_path: Path, misbehaving: list[ModelProcess]
) -> None:
    models = ModelProcess(fit_seconds=60.0, cache_dir=tmp_path, entry="tests.workers.tiny:never_fits")
    misbehaving.append(models)
    begun = time.monotonic()
    documents = await models.answer(SegmentQuestion((request(),), 1), 2.0)
    assert time.monotonic() - begun < 4.0
    assert documents[0].status == "unreliable"
