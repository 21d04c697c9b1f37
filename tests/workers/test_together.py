"""Experiments that are due at once, through workers: their facts are read once, and each has its own result."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col

from experiments import analysis, experiment, lifecycle, refresh
from experiments.database import Database
from experiments.definitions import ExperimentSpec
from experiments.settings import Settings
from experiments.tables import Analysis, Result
from experiments.types import utc_now
from stats.bayes.models.fit import ModelFit
from tests.deaths import Moments
from tests.workers.shop import EXPERIMENT, open_shop
from warehouse.ingest import ingest
from warehouse.kept_moments import FOLDER, forget_moments, is_kept, read_moments
from workers import companions
from workers.child import Channel, ComputationCrashed, Job, compute
from workers.jobs import ExperimentJob, run_experiment
from workers.preparation import KINDS, prepare_experiment
from workers.run import Runner

pytestmark = pytest.mark.anyio
PLAIN = {"north_star_key": None, "estimation": {"engine": "frequentist", "screen_interactions": False}}
KEYS = ("checkout", "search", "basket")
HOUR = timedelta(hours=1)
QUEUED = {"state": "queued", "attempt": 0, "stage": None, "cancel_requested_at": None}


@pytest.fixture
def worker_settings(sqlite_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=sqlite_url, data_dir=tmp_path / "data", redis_url="unix:///nowhere/redis.sock", worker_slots=2,
        lease_seconds=20.0, sqlite_synchronous="OFF",
    )  # fmt: skip


@pytest.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    database = Database(sqlite_url, synchronous="OFF")
    yield database
    await database.dispose()


@pytest.fixture
async def asked(database: Database, worker_settings: Settings, tmp_path: Path) -> list[Analysis]:
    """Three experiments on the same people and the same orders, as the schedule submits them."""
    now = utc_now()
    long_ago = now - 3 * HOUR
    shop = await open_shop(database, worker_settings, tmp_path, long_ago, units=120, **PLAIN)
    shown = [json.loads(line) for line in (tmp_path / "exposures.ndjson").read_text().splitlines()]
    for number, key in enumerate(KEYS[1:], 1):
        async with database.write() as session:
            row = await experiment.create(
                session, spec=ExperimentSpec.model_validate(EXPERIMENT | PLAIN | {"key": key}), actor="t", at=long_ago
            )
            started = shop.experiment.started_at
            await lifecycle.start(session, experiment=row, actor="t", at=long_ago, effective_at=started)
        body = tmp_path / f"{key}.ndjson"
        arms = ("control", "treatment")
        mine = [
            each | {"experiment_key": key, "variant_key": arms[i // number % 2]}
            for i, each in enumerate(shown[: 100 - 10 * number])
        ]
        body.write_text("".join(json.dumps(each) + "\n" for each in mine))
        report = await ingest(
            database, worker_settings, stream="exposures", batch_id=key, body=body, content_type="application/x-ndjson",
            actor="t", at=long_ago,
        )  # fmt: skip
        assert report.rejected == 0
    return await submitted(database)


async def submitted(database: Database) -> list[Analysis]:
    at = utc_now()
    async with database.read() as session:
        due = [one for one in await refresh.due(session, at=at, every=HOUR) if one.kind == "experiment"]
    rows = []
    for one in due:
        async with database.write() as session:
            rows.append((await refresh.submit_due(session, one, at=at, max_attempts=3))[0])
    assert sorted(row.subject_key for row in rows) == sorted(KEYS)
    return rows


async def claimed(database: Database, row: Analysis) -> Analysis:
    """As a worker claims it."""
    async with database.write() as session:
        found = await analysis.change(
            session, where=[col(Analysis.id) == row.id],
            values={"state": "running", "attempt": 1, "stage": "claimed"},
        )  # fmt: skip
    assert found is not None
    return found


async def prepared(database: Database, settings: Settings, row: Analysis) -> ExperimentJob:
    async with database.read() as session:
        return await prepare_experiment(session, settings, row)


class Silent(Channel):
    """For a job in this process: nobody listens."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def progress(self, stage: str, fraction: float) -> None:
        self.said.append(stage)

    def ask(self, question: Any, **_: Any) -> Any:
        return [ModelFit("segments", 1, "unreliable", "not fitted here") for _ in question.questions]


async def unfitted(question: Any, *args: Any) -> list[ModelFit]:
    return [ModelFit("segments", 1, "unreliable", "not fitted here") for _ in question.questions]


async def nothing(*args: Any) -> None: ...


async def bodies(database: Database, rows: list[Analysis]) -> list[bytes]:
    found = []
    async with database.read() as session:
        for row in rows:
            done = await session.get(Analysis, row.id)
            assert done is not None and done.state == "succeeded", done and done.error
            result = await session.get(Result, done.result_id)
            assert result is not None
            found.append(result.body)
    return found


async def test_three_that_are_due_at_once_read_their_facts_once_and_have_the_results_that_each_has_alone(
    database: Database, worker_settings: Settings, asked: list[Analysis]
) -> None:
    runner = Runner(database, worker_settings, KINDS, unfitted, nothing)
    await asyncio.gather(*(runner.run(row.id) for row in asked))
    kept = [
        read_moments(worker_settings.data_dir, path.stem) for path in (worker_settings.data_dir / FOLDER).glob("*.npz")
    ]
    # Alone each of them reads one source; here one pass read it, for all.
    assert [(one.plans, one.readings) for one in kept if one is not None] == [(3, 1)] * 3
    for row, body in zip(asked, await bodies(database, asked), strict=True):
        job = await prepared(database, worker_settings, row)
        alone = run_experiment(replace(job, together=None), Silent())
        assert body == alone.body


async def test_who_may_share_a_pass(
    database: Database, worker_settings: Settings, asked: list[Analysis], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = [await claimed(database, asked[0]), *asked[1:]]

    async def others(row: Analysis, **settings: Any) -> list[str] | None:
        job = await prepared(database, worker_settings.model_copy(update=settings), row)
        return None if job.together is None else [one.plan.experiment_key for one in job.together.companions]

    both = [second.subject_key, third.subject_key]
    assert await others(first) == both
    assert await others(first, pass_experiments=2) == both[:1]
    assert await others(first, pass_experiments=1) is None
    assert await others(first, analysis_memory_mb=0) == []
    # It is the same question, whoever asks: another worker finds what was made for it.
    mine = (await prepared(database, worker_settings, await claimed(database, second))).together
    its = (await prepared(database, worker_settings, first)).together
    assert mine is not None and its is not None and its.companions[0].key == mine.key
    assert first.subject_key in {one.plan.experiment_key for one in mine.companions}
    # What was tried before may be what processes die of.
    first.attempt = 2
    assert await others(first) == []
    first.attempt = 1
    # One is cancelled, the other measures already.
    async with database.write() as session:
        await analysis.request_cancel(session, analysis_id=third.id, at=utc_now())
        await analysis.change(
            session, where=[col(Analysis.id) == second.id],
            values={"stage": "computing moments"},
        )  # fmt: skip
    assert await others(first) == []

    # Who reads what it kept is better off alone, and is nobody's companion.
    async with database.write() as session:
        for row in asked:
            await analysis.change(session, where=[col(Analysis.id) == row.id], values=QUEUED)
    monkeypatch.setattr(companions, "FEWEST_EXPOSURES", 85)
    small, large = (next(row for row in asked if row.subject_key == key) for key in ("basket", "search"))
    assert await others(large) is None and await others(small) == []
    assert sorted(await others(large, keep_state=False) or []) == ["basket", "checkout"]


async def test_a_companion_that_is_cancelled_or_withdrawn_meanwhile_changes_nothing(
    database: Database, worker_settings: Settings, asked: list[Analysis]
) -> None:
    first, second, third = asked
    job = await prepared(database, worker_settings, first)
    assert job.together is not None and len(job.together.companions) == 2
    async with database.write() as session:
        await analysis.request_cancel(session, analysis_id=second.id, at=utc_now())
    found = run_experiment(job, Silent())
    assert found.body == run_experiment(replace(job, together=None), Silent()).body
    # The third one finds its moments; the second one's are for nobody, unless it is asked for again.
    last = await prepared(database, worker_settings, third)
    assert last.together is not None and not last.together.companions
    assert is_kept(worker_settings.data_dir, last.together.key)
    channel = Silent()
    assert run_experiment(last, channel).body == run_experiment(replace(last, together=None), Silent()).body
    assert "reading facts" not in channel.said and "reading exposures" not in channel.said


async def die(job: ExperimentJob, death: float) -> bool:
    """Whether a child that does this job was killed before it was done."""
    child = Job("tests.workers.dying:run", (job, death))
    try:
        await compute(child, limit_seconds=60, on_progress=lambda stage, fraction: None, answer=unfitted)
    except ComputationCrashed:
        return True
    return False


async def each_has_its_own_result(
    database: Database, settings: Settings, asked: list[Analysis], wanted: dict[str, bytes]
) -> None:
    for row in reversed(asked):
        job = await prepared(database, settings, row)
        if row.subject_key not in wanted:
            wanted[row.subject_key] = run_experiment(replace(job, together=None), Silent()).body
        assert run_experiment(job, Silent()).body == wanted[row.subject_key]


async def test_a_pass_that_is_killed_costs_the_others_nothing_but_time(
    database: Database, worker_settings: Settings, asked: list[Analysis]
) -> None:
    wanted: dict[str, bytes] = {}
    # Before its own moments are kept, and before the last ones are.
    for death in (0, 2):
        assert await die(await prepared(database, worker_settings, asked[0]), death)
        await each_has_its_own_result(database, worker_settings, asked, wanted)
        forget_moments(worker_settings.data_dir)
        assert [path.name for path in (worker_settings.data_dir / FOLDER).iterdir()] == ["gate"]


@pytest.mark.chaos
async def test_passes_are_killed_all_the_time(
    database: Database, worker_settings: Settings, asked: list[Analysis]
) -> None:
    moments = Moments(random.Random(31), 0.4)
    wanted: dict[str, bytes] = {}
    for _ in range(60):
        moment = moments.another()
        died = await die(await prepared(database, worker_settings, asked[0]), moment)
        moments.came(moment, in_time=died)
        await each_has_its_own_result(database, worker_settings, asked, wanted)
        forget_moments(worker_settings.data_dir)
    assert moments.killed >= 20
