"""The compiled models of one worker: asked by its analyses, answered by processes that outlive them (METHODS C4, I3).

A question needs the program of its model in its size class. If a bundle of it is on disk, the sampling process loads it
in milliseconds; if not, the compiling process makes one, once per machine. Whatever goes wrong costs the fits that it
concerns, which end `unreliable` with the reason; the analysis goes on.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.fit import ModelFit, Question, Status
from workers import telemetry
from workers.models import compiling, quick_start
from workers.models.catalogue import always_wanted, library
from workers.models.folder import BundleFolder
from workers.models.messages import (
    Compile,
    Compiled,
    Failed,
    Fit,
    Fitted,
    Load,
    Loaded,
    Memory,
    ModelQuestion,
    NotThere,
    SizedModel,
    Unusable,
)
from workers.models.process import ModelProcess, NoAnswer, ProcessDied, Work
from workers.models.slots import Slots

COMPILE_SECONDS: Final = 300.0
START_SECONDS: Final = 60.0
"""Longest wait for a process to take up its work: it starts within a second where nothing is busy."""
LOAD_SECONDS: Final = 120.0
# The share of what is left of an analysis's time that its models may take: the rest of it must still be handed in.
_SHARE: Final = 0.8
# Two attempts to sample must fit into the time of one fit, and something must remain for the summary.
_PATIENCE_SHARE: Final = 0.45
_LONGEST_PATIENCE_SECONDS: Final = 30.0
_TRIES: Final = 4

log = structlog.get_logger(__name__)


class _Unavailable(Exception):
    """No program, no process: the message is the reason that people read."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question of an analysis, and what is known about it before anything is fitted."""

    question: Question
    seed: int
    model: SizedModel
    alone: bool
    """Whether it is the only one of its analysis, so that it may use every core."""
    progress: Callable[[float], None]

    def without_numbers(self, status: Status, reason: str) -> ModelFit:
        return _without_numbers(self.question, self.seed, status, reason)


class ModelPool:
    """Fits questions in processes that outlive the analyses. Use it from one event loop, and `close` it."""

    def __init__(
        self,
        *,
        folder: BundleFolder,
        fit_seconds: float,
        memory_bytes: int,
        compile_seconds: float = COMPILE_SECONDS,
        idle_seconds: float = compiling.IDLE_SECONDS,
        cores: int = 2,
    ) -> None:
        """`memory_bytes` bounds the sampling process; the compiling one leaves after `idle_seconds` without work."""
        self._folder = folder
        self._fit_seconds = fit_seconds
        self._memory_bytes = memory_bytes
        self._compile_seconds = compile_seconds
        self._patience_seconds = min(_LONGEST_PATIENCE_SECONDS, _PATIENCE_SHARE * fit_seconds)
        self._sampler = ModelProcess("sampler", quick_start.run, folder.path, folder.limit_bytes, memory_bytes)
        self._compiler = ModelProcess("compiler", compiling.run, folder, idle_seconds)
        self._cores = Slots(cores)
        self._workbench = Slots(1)
        self._compiled: dict[SizedModel, tuple[float, str]] = {}
        """When a compilation ended last, and how it failed if it did."""
        self._unusable: dict[SizedModel, int] = {}
        self._unfrozen: set[SizedModel] = set()
        """Models whose program is no bundle: the compiling process samples them itself."""
        self._background: set[asyncio.Task[Any]] = set()

    async def answer(
        self, question: ModelQuestion, seconds: float, progress: Callable[[float], None] = lambda fraction: None
    ) -> list[ModelFit]:
        """One fit per question, in order; whatever happens, within `seconds`. `progress` gets the share that is done.

        The same question and seed give the same bits, whatever runs beside it. Cancelling this stops the sampling.
        """
        questions, seed = question.questions, question.seed
        fits: list[ModelFit | None] = [None] * len(questions)
        done = [0.0] * len(questions)
        lanes = asyncio.Semaphore(self._cores.total)  # so that a large analysis does not shut out a small one

        def note(position: int, fraction: float) -> None:
            done[position] = fraction
            progress(sum(done) / len(done))

        async def answer_one(position: int, each: Question) -> None:
            report = functools.partial(note, position)
            fits[position] = await self._answer(each, seed, len(questions) == 1, lanes, report)
            report(1.0)

        try:
            async with asyncio.timeout(max(_SHARE * seconds, 0.0)), asyncio.TaskGroup() as group:
                for position, each in enumerate(questions):
                    group.create_task(answer_one(position, each))
        except TimeoutError:
            log.warning("models_missing", models=fits.count(None), seconds=round(seconds, 1))
        late = "the analysis had no time left for this model"
        found = [
            _without_numbers(each, seed, "unreliable", late) if known is None else known
            for each, known in zip(questions, fits, strict=True)
        ]
        for fit in found:
            telemetry.MODEL_FITS.labels(fit.model, fit.status).inc()
        return found

    def warm_in_background(self) -> None:
        """Load what is on disk and compile what nearly every analysis needs, so that the first need not wait."""
        self._keep(asyncio.ensure_future(self._warm()))

    async def close(self) -> None:
        """End both processes."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(self._sampler.stop(), self._compiler.stop())

    @property
    def process_ids(self) -> tuple[int | None, int | None]:
        """The sampling and the compiling process now in use."""
        return self._sampler.process_id, self._compiler.process_id

    # --- one question -------------------------------------------------------------------------------------------------

    async def _answer(
        self, question: Question, seed: int, alone: bool, lanes: asyncio.Semaphore, progress: Callable[[float], None]
    ) -> ModelFit:
        try:
            model = SizedModel(question.definition, question.size)
        except ImpossibleData as error:
            return _without_numbers(question, seed, "not_estimable", str(error))
        asked = _Asked(question, seed, model, alone, progress)
        deaths = 0
        try:
            for _ in range(_TRIES):
                try:
                    async with lanes:
                        found = await self._fit(asked, exclusive=deaths > 0)
                except ProcessDied as death:
                    # It may have been a neighbour's fault: once more, with the process to itself.
                    deaths += 1
                    if deaths > 1:
                        raise _Unavailable(str(death)) from death
                    continue
                if found is not None:
                    return found
                await self._compile(model)
            raise _Unavailable("its compiled program disappeared again and again")
        except (_Unavailable, NoAnswer) as problem:
            log.warning("model_unavailable", model=model.definition.name, reason=str(problem))
            return asked.without_numbers("unreliable", str(problem))

    async def _fit(self, asked: _Asked, *, exclusive: bool) -> ModelFit | None:
        """The fit; None where there is no bundle, or none to use. Raises ProcessDied, NoAnswer, _Unavailable."""
        unfrozen = asked.model in self._unfrozen
        every = exclusive or (asked.alone and self._cores.idle)
        body = await self._sample(
            self._compiler if unfrozen else self._sampler,
            Fit(asked.question, asked.seed, self._cores.total if every else 1, self._patience_seconds),
            begins_within=self._compile_seconds if unfrozen else START_SECONDS,
            progress=asked.progress,
        )
        match body:
            case Fitted(fit, memory):
                if not unfrozen:
                    self._watch(memory)
                return fit
            case NotThere():
                return None
            case Unusable(reason):
                log.warning("bundle_rejected", model=asked.model.definition.name, reason=reason)
                self._unusable[asked.model] = self._unusable.get(asked.model, 0) + 1
                if self._unusable[asked.model] > 1:  # compiled anew, and still no good here
                    self._unfrozen.add(asked.model)
                return None
            case Failed(reason):
                return asked.without_numbers("unreliable", reason)
        raise _Unavailable("the fit was cancelled")

    async def _sample(self, process: ModelProcess, work: Fit, **options: Any) -> Any:
        """The answer of a process that has `work.cores` cores for it. Cancelling this ends the sampling."""
        await self._cores.take(work.cores)
        asked: Work | None = None
        try:
            asked = await process.ask(work, "gave no answer", limit_seconds=self._fit_seconds, **options)
        finally:
            if asked is None:
                self._cores.give(work.cores)
        # Not when we let go, but when the computation has ended.
        asked.answered.add_done_callback(lambda _: self._cores.give(work.cores))
        try:
            return await asyncio.shield(asked.answered)
        except asyncio.CancelledError:
            asked.cancel()
            raise

    def _watch(self, memory: Memory) -> None:
        telemetry.MODELS_LOADED.set(memory.programs)
        telemetry.SAMPLER_BYTES.set(memory.resident_bytes)
        if memory.resident_bytes > self._memory_bytes:
            self._keep(asyncio.ensure_future(self._renew(self._sampler.process_id)))

    async def _renew(self, process_id: int | None) -> None:
        """Start the sampling process anew between two fits: evicting programs did not make it small enough."""
        await self._cores.take(self._cores.total)
        try:
            if process_id is not None and self._sampler.process_id == process_id:
                log.info("sampler_renewed", process_id=process_id)
                await self._sampler.stop()
        finally:
            self._cores.give(self._cores.total)

    # --- programs -----------------------------------------------------------------------------------------------------

    async def _compile(self, model: SizedModel, *, urgent: bool = True) -> None:
        """Have a bundle made, or a program in the compiling process. Raises _Unavailable, NoAnswer."""
        since = asyncio.get_running_loop().time()
        for last in (False, True):
            if model in self._unfrozen:
                return
            await self._workbench.take(urgent=urgent)
            asked: Work | None = None
            try:
                when, problem = self._compiled.get(model, (-1.0, ""))
                if when >= since:  # somebody else asked while we waited for our turn
                    if problem:
                        raise _Unavailable(problem)
                    return
                asked = await self._compiler.ask(
                    Compile(model),
                    "was not compiled",
                    begins_within=START_SECONDS,
                    limit_seconds=self._compile_seconds,
                )
            except ProcessDied as death:
                raise _Unavailable(str(death)) from death
            finally:
                if asked is None:
                    self._workbench.give()
            # A compilation goes on when nobody waits for it any more: its bundle is for everybody.
            asked.answered.add_done_callback(functools.partial(self._note_compilation, model))
            try:
                await asyncio.shield(asked.answered)
            except ProcessDied as death:
                if last:
                    raise _Unavailable(f"while it was compiled, {death}") from death
                continue
            if problem := self._compiled[model][1]:
                raise _Unavailable(problem)
            return

    def _note_compilation(self, model: SizedModel, answered: asyncio.Future[Any]) -> None:
        self._workbench.give()
        error = answered.exception()
        if isinstance(error, ProcessDied):  # it may be luckier next time
            return
        problem = str(error)
        match None if error else answered.result():
            case Compiled(seconds, kept_because):
                problem = ""
                telemetry.COMPILE_SECONDS.labels(model.definition.name).observe(seconds)
                log.info("model_compiled", model=model.definition.name, seconds=round(seconds, 1), kept=kept_because)
                if kept_because:
                    self._unfrozen.add(model)
            case Failed(reason):
                problem = f"it could not be compiled: {reason}"
        if problem:
            log.warning("model_not_compiled", model=model.definition.name, reason=problem)
        self._compiled[model] = (asyncio.get_running_loop().time(), problem)

    async def _warm(self) -> None:
        try:
            loaded = await self._load(await asyncio.to_thread(library))
            for model in always_wanted():
                if model not in loaded:
                    await self._compile(model, urgent=False)
                    await self._load((model,))
        except (_Unavailable, NoAnswer, ProcessDied) as error:
            log.warning("models_not_ready", reason=str(error))

    async def _load(self, models: tuple[SizedModel, ...]) -> tuple[SizedModel, ...]:
        asked = await self._sampler.ask(
            Load(models), "was not loaded", begins_within=START_SECONDS, limit_seconds=LOAD_SECONDS
        )
        match await asyncio.shield(asked.answered):
            case Loaded(found, memory):
                self._watch(memory)
                log.info("models_loaded", programs=memory.programs)
                return found
            case Failed(reason):
                log.warning("models_not_loaded", reason=reason)
        return ()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _without_numbers(question: Question, seed: int, status: Status, reason: str) -> ModelFit:
    definition = question.definition
    return ModelFit(definition.name, definition.version, status, reason=reason, seed=seed)
