"""An experiment whose exposures and facts stay in PostgreSQL ends in the same result as one whose rows were sent."""

import json
import pickle
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy.engine import URL, make_url

from experiments import analysis_request, connection, experiment, fact_source, lifecycle, metric, north_star
from experiments.database import Database
from experiments.definitions import ExperimentSpec, MetricSpec, NorthStarSpec
from experiments.secret_keys import SecretKeys, new_key
from experiments.settings import Settings
from experiments.tables import Analysis, Experiment, Result
from experiments.types import utc_now
from stats.bayes.models.fit import ModelFit
from tests.experiments.launches import define_series, record_launch
from tests.servers import Postgres
from tests.workers.shop import EXPERIMENT, METRICS, open_shop
from workers.preparation import KINDS, prepare_experiment
from workers.run import Runner

pytestmark = pytest.mark.anyio
PLAIN = {"estimation": {"engine": "frequentist", "screen_interactions": False}}
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
    """The same experiment on the tables, with its metrics, named `..._there`, and their North Star."""
    place = {"kind": "postgres", "key": "dwh", "host": url.query.get("host", url.host), "port": url.port or 5432}
    login = {"database": url.database, "user": url.username, "tls": "disable"}
    table = {"kind": "table", "connection": "dwh"}
    who: dict[str, Any] = {"actor": "tests", "at": utc_now()}
    # Keys of metrics and sources end alike there.
    there_too = json.loads(
        re.sub(r'"(orders|sessions|active_users|orders_per_active)"', r'"\1_there"', json.dumps(METRICS))
    )
    star = {
        "key": "star_there",
        "name": "Orders",
        "metric_key": "orders_there",
        "formula": "active_users_there * orders_per_active_there",
        "input_metrics": [{"metric_key": "active_users_there"}, {"metric_key": "orders_per_active_there"}],
    }
    spec = {
        **EXPERIMENT,
        **PLAIN,
        "key": "there",
        "metrics": [{"metric_key": "orders_there", "role": "primary"}],
        "north_star_key": "star_there",
        "exposures": EXPOSURES,
    }
    async with database.write() as session:
        row = await connection.create(session, spec=connection.ADAPTER.validate_python(place | login), **who)
        secret = url.password or SECRET
        await connection.set_secret(session, connection=row, secret=secret, keys=SecretKeys.of(settings), **who)
        for source in (
            table | {"key": "shown", "table": "public.Shown", "unit_column": "user", "timestamp_column": "at"},
            *(
                table
                | {
                    "key": f"{event}s_there",
                    "table": "facts",
                    "unit_column": "u",
                    "timestamp_column": "at",
                    "day_column": "day",
                    "filters": [{"column": "name", "value": event}],
                }
                for event in ("order", "session")
            ),
        ):
            await fact_source.create(session, spec=fact_source.ADAPTER.validate_python(source), **who)
        for each in there_too:
            await metric.create(session, spec=MetricSpec.model_validate(each), **who)
        await north_star.create(session, spec=NorthStarSpec.model_validate(star), **who)
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


async def of_company(database: Database, runner: Runner, kind: str, **subject: Any) -> dict[str, Any]:
    """The document of a new analysis of a North Star or of a baseline."""
    async with database.write() as session:
        row, _ = await getattr(analysis_request, kind)(session, actor="tests", at=utc_now(), **subject)
    await runner.run(row.id)
    async with database.read() as session:
        again = await session.get(Analysis, row.id)
    assert again is not None
    return await document_of(database, again)


def flat(document: Any) -> dict[str, Any]:
    """Its values by where they are; keys there are those that were sent, without their ending."""
    found: dict[str, Any] = {}
    for name, value in document.items() if isinstance(document, dict) else enumerate(document):
        called = str(name).removesuffix("_there")
        inner = flat(value) if isinstance(value, dict | list) else {"": value}
        found |= {f"{called}/{rest}": each for rest, each in inner.items()}
    return found


def assert_same(mine: Any, theirs: Any) -> None:
    """Equal documents: the names there end in `_there`, and numbers are equal to 1e-9."""
    ours, others = flat(mine), flat(theirs)
    assert ours.keys() == others.keys()
    for name, value in others.items():
        if isinstance(value, float):
            assert ours[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
        else:
            assert str(ours[name]).removesuffix("_there") == str(value), name


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
    assert_same(found["rows"], sent["rows"])
    assert found["verdict"] == sent["verdict"]

    for mine, theirs in zip(found["topline"], sent["topline"], strict=True):
        assert theirs["source"] == "measured"
        assert_same(mine, theirs)

    # So are the weeks of the company, and histories for planning: of both places in one document.
    weekly = [await of_company(database, runner, "of_north_star", key=key) for key in ("orders", "star_there")]
    assert len(weekly[0]["points"]) > 2
    assert_same(weekly[1]["points"], weekly[0]["points"])
    history = await of_company(database, runner, "of_baseline", unit_type="user")
    known = {one["metric_key"]: one for one in history["metrics"]}
    assert len(known) == 6 and history["cumulative_units"][-1] > 100
    for key in ("orders", "active_users", "orders_per_active"):
        assert known[key]["mean"]
        assert_same(known[f"{key}_there"], known[key])

    # A launch is measured on facts of both places at once.
    step = {"at": utc_now() - timedelta(days=6), "coverage": 1, "mechanism": "all_at_once"}
    both = [{"series_key": key, "measure_for_days": 28} for key in ("orders_sent", "orders_told")]
    async with database.write() as session:
        for item, key in zip(both, ("orders", "orders_there"), strict=True):
            await define_series(session, item["series_key"], source="facts", metric_key=key)
        launched = await record_launch(session, at=utc_now(), rollout=[step], measurements=both)
    one, other = (await of_company(database, runner, "of_launch", launch=launched))["measurements"]
    assert len([point for point in one["periods"] if point["actual"] is not None]) > 10
    assert_same(other["periods"], one["periods"])

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
