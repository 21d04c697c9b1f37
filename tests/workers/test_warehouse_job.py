"""An experiment whose exposures and facts stay in PostgreSQL ends in the same result as one whose rows were sent."""

import json
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy.engine import URL, make_url

from experiments import analysis_request, connection, experiment, fact_source, lifecycle, metric
from experiments.database import Database
from experiments.definitions import ExperimentSpec, MetricSpec
from experiments.secret_keys import SecretKeys, new_key
from experiments.settings import Settings
from experiments.tables import Analysis, Experiment, Result
from experiments.types import utc_now
from stats.bayes.models.fit import ModelFit
from tests.servers import Postgres
from tests.workers.shop import EXPERIMENT, open_shop
from workers.preparation import KINDS, prepare_experiment
from workers.run import Runner

pytestmark = pytest.mark.anyio
PLAIN = {"north_star_key": None, "estimation": {"engine": "frequentist", "screen_interactions": False}}
EXPOSURES = {"fact_source": "shown", "variant_column": "arm", "segments": {"country": "Land"}}
SECRET = "hunter2"


@pytest.fixture
def worker_settings(sqlite_url: str, tmp_path: Path) -> Settings:
    """The warehouse is PostgreSQL; where the service keeps its own rows does not matter."""
    return Settings(
        database_url=sqlite_url,
        data_dir=tmp_path / "data",
        redis_url="unix:///nowhere/redis.sock",
        sqlite_synchronous="OFF",
        secret_keys=SecretStr(new_key()),
    )


@pytest.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    database = Database(sqlite_url, synchronous="OFF")
    yield database
    await database.dispose()


def fill(url: URL, folder: Path) -> None:
    """The rows that were sent, as tables; names that need quoting, and a column without values."""
    exposures = [json.loads(line) for line in (folder / "exposures.ndjson").read_text().splitlines()]
    events = [json.loads(line) for line in (folder / "events.ndjson").read_text().splitlines()]
    with psycopg.connect(
        host=str(url.query.get("host", url.host)),
        port=url.port or 5432,
        dbname=url.database,
        user=url.username,
        password=url.password,
    ) as session:
        session.execute('CREATE TABLE "Shown" ("user" text, at timestamptz, arm text, "Land" text)')
        session.execute("CREATE TABLE facts (name text, u text, at timestamptz, day date, amount numeric)")
        shown = [(e["unit_id"], e["exposed_at"], e["variant_key"], e["segments"]["country"]) for e in exposures]
        facts = [(e["event"], e["unit_id"], e["occurred_at"], e["occurred_at"][:10], e.get("value")) for e in events]
        with session.cursor() as cursor:
            cursor.executemany('INSERT INTO "Shown" VALUES (%s, %s, %s, %s)', shown)
            cursor.executemany("INSERT INTO facts VALUES (%s, %s, %s, %s, %s)", facts)


async def measured_there(database: Database, settings: Settings, url: URL, sent: Experiment) -> Experiment:
    """The same experiment, with its metrics, on the tables."""
    place = {"kind": "postgres", "key": "dwh", "host": url.query.get("host", url.host), "port": url.port or 5432}
    login = {"database": url.database, "user": url.username, "tls": "disable"}
    table = {"kind": "table", "connection": "dwh"}
    who: dict[str, Any] = {"actor": "tests", "at": utc_now()}
    orders = {"fact_source": "orders_there", "aggregation": "count"}
    metrics = [{"key": "orders_there", "name": "Orders", "kind": "mean", "measure": orders, "pre_period_days": 0}]
    spec = {
        **EXPERIMENT,
        **PLAIN,
        "key": "there",
        "metrics": [{"metric_key": "orders_there", "role": "primary"}],
        "exposures": EXPOSURES,
    }
    async with database.write() as session:
        row = await connection.create(session, spec=connection.ADAPTER.validate_python(place | login), **who)
        secret = url.password or SECRET
        await connection.set_secret(session, connection=row, secret=secret, keys=SecretKeys.of(settings), **who)
        for source in (
            table | {"key": "shown", "table": "public.Shown", "unit_column": "user", "timestamp_column": "at"},
            table
            | {
                "key": "orders_there",
                "table": "facts",
                "unit_column": "u",
                "timestamp_column": "at",
                "day_column": "day",
                "filters": [{"column": "name", "value": "order"}],
            },
        ):
            await fact_source.create(session, spec=fact_source.ADAPTER.validate_python(source), **who)
        for each in metrics:
            await metric.create(session, spec=MetricSpec.model_validate(each), **who)
        there = await experiment.create(session, spec=ExperimentSpec.model_validate(spec), **who)
        await lifecycle.start(session, experiment=there, actor="tests", at=utc_now(), effective_at=sent.started_at)
    return there


async def analysed(database: Database, runner: Runner, *experiments: Experiment) -> list[Analysis]:
    at = utc_now()
    rows = []
    for each in experiments:
        async with database.write() as session:
            row, _ = await analysis_request.of_experiment(session, experiment=each, actor="tests", at=at)
        await runner.run(row.id)
        async with database.read() as session:
            again = await session.get(Analysis, row.id)
            assert again is not None
            rows.append(again)
    return rows


async def document_of(database: Database, row: Analysis) -> dict[str, Any]:
    assert row.state == "succeeded", row.error
    async with database.read() as session:
        result = await session.get(Result, row.result_id)
    assert result is not None
    found: dict[str, Any] = json.loads(result.body)
    return found


async def unfitted(question: Any, *args: Any) -> list[ModelFit]:
    """Models that have no answer in time: the rest of a result does not wait for them."""
    return [ModelFit("segments", 1, "unreliable", "not fitted here") for _ in question.questions]


async def nothing(*args: Any) -> None: ...


async def test_rows_that_stay_in_postgresql_give_the_result_of_rows_that_were_sent(
    database: Database, worker_settings: Settings, postgres: Postgres, tmp_path: Path
) -> None:
    shop = await open_shop(database, worker_settings, tmp_path, utc_now(), units=200, **PLAIN)
    url = make_url(postgres.create(migrated=False))
    fill(url, tmp_path)
    there = await measured_there(database, worker_settings, url, shop.experiment)
    runner = Runner(database, worker_settings, KINDS, unfitted, nothing)
    sent_row, there_row = await analysed(database, runner, shop.experiment, there)
    sent, found = await document_of(database, sent_row), await document_of(database, there_row)
    assert len(found["rows"]) == len(sent["rows"]) >= 4
    for mine, theirs in zip(found["rows"], sent["rows"], strict=True):
        assert mine["metric_key"] == theirs["metric_key"] + "_there"
        for name, value in theirs.items():
            if isinstance(value, float):
                assert mine[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
            elif name != "metric_key":
                assert mine[name] == value, name
    assert found["verdict"] == sent["verdict"]

    # Where the warehouse is away, the analysis says so, and neither it nor the job shows the password.
    async with database.read() as session:
        job = await prepare_experiment(session, worker_settings, there_row)
    assert job.access is not None and SECRET not in repr(job)
    assert pickle.loads(pickle.dumps(job)).access == job.access
    postgres.drop(url.render_as_string(hide_password=False))
    (lost,) = await analysed(database, runner, there)
    assert lost.state == "failed" and lost.error is not None
    assert lost.error["type"] == "source-unreadable" and "cannot be opened" in lost.error["detail"]
    assert SECRET not in str(lost.error)
