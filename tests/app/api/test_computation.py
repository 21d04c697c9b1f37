"""How a result was computed: the shown statement, run by anybody, gives the numbers that are stored."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot

from experiments import analysis_request, lease
from experiments.database import Database
from experiments.settings import Settings
from experiments.tables import Analysis
from stats.bayes.models.fit import ModelFit
from tests.app.api.service import Service, assert_problem, created, serving
from tests.workers.shop import EXPERIMENT, Shop, open_shop
from workers.jobs import run_experiment
from workers.models.messages import ModelQuestion
from workers.preparation import prepare_experiment

pytestmark = pytest.mark.anyio
PLAIN = {"estimation": {"engine": "frequentist", "screen_interactions": False}}
UNITS = 60


@dataclass
class Desk:
    """A service, its settings, and the experiment `checkout` with its first analysis."""

    service: Service
    settings: Settings
    shop: Shop
    analysis: Analysis


class Alone:
    """A worker's line for a job that is done in this process; models have no answer in time."""

    def progress(self, stage: str, fraction: float) -> None: ...

    def ask(self, question: ModelQuestion, **place: Any) -> list[ModelFit]:
        return [ModelFit("segments", 1, "unreliable", "not fitted here") for _ in question.questions]


async def analysed(database: Database, settings: Settings, shop: Shop, at: datetime) -> Analysis:
    async with database.write() as session:
        row, _ = await analysis_request.of_experiment(session, experiment=shop.experiment, actor="tests", at=at)
        await lease.claim(session, analysis_id=row.id, owner="tests", lease_seconds=30, at=at)
    async with database.write() as session:
        found = run_experiment(await prepare_experiment(session, settings, row), Alone())  # type: ignore[arg-type] # as a worker's
        assert await lease.finish(session, analysis_id=row.id, owner="tests", attempt=1, result=found, at=at)
    return row


@pytest.fixture(scope="module")
async def desk(
    migrated_sqlite_file: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    folder = tmp_path_factory.mktemp("shop")
    database_file = shutil.copyfile(migrated_sqlite_file, folder / "northlift.sqlite3")
    settings = Settings(
        database_url=f"sqlite+aiosqlite:///{database_file}",
        redis_url=redis_url,
        data_dir=folder / "data",
        sqlite_synchronous="OFF",
    )
    async with serving(settings) as service:
        database, now = service.database, service.clock()
        shop = await open_shop(database, settings, folder, now, units=UNITS, **PLAIN)
        row = await analysed(database, settings, shop, now)
        # What arrives later is no part of that analysis.
        later = {"event": "order", "unit_id": "u0", "occurred_at": (now - timedelta(days=19)).isoformat(), "value": 1}
        sent = await service.ingest.post("/v1/ingest/events?batch_id=later", json=[later])
        assert sent.status_code == 201, sent.text
        yield Desk(service, settings, shop, row)


async def stored_means(desk: Desk) -> dict[str, tuple[int, float]]:
    """By variant, units and the mean of `orders` in the latest result."""
    rows = (await desk.service.read.get("/v1/experiments/checkout/rows?metric_key=orders&overall=true")).json()["items"]
    (row,) = [row for row in rows if row["method"] == "unadjusted"] or rows[:1]
    return {
        "control": (row["n_control"], row["mean_control"]),
        "treatment": (row["n_treatment"], row["mean_treatment"]),
    }


async def test_the_statement_gives_the_numbers_of_the_stored_result(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = desk.service.read
    text = (await reader.get("/v1/experiments/checkout/sql", headers={"Accept": "text/plain"})).text
    assert str(desk.settings.data_dir) not in text
    assert "-- Experiment checkout, plan " in text and "intervals, tests" in text
    monkeypatch.chdir(desk.settings.data_dir)
    with contextlib.closing(duckdb.connect()) as connection:
        ran = connection.execute(text)
        names = [column[0] for column in ran.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in ran.fetchall()]
    wanted = await stored_means(desk)
    assert {row["variant"]: row["n"] for row in rows} == {key: n for key, (n, _) in wanted.items()}
    for row in rows:
        assert row["mean of orders"] == pytest.approx(wanted[row["variant"]][1], rel=1e-9)

    # The statement of that very analysis is the same; one that is asked for by its id never changes.
    of_analysis = (await reader.get(f"/v1/analyses/{desk.analysis.id}/sql?format=text")).text
    assert of_analysis == text
    document = (await reader.get(f"/v1/analyses/{desk.analysis.id}/sql")).json()
    assert document["analysis_id"] == str(desk.analysis.id) and document["plan_hash"] == desk.analysis.plan_hash
    assert document["runs_as_is"] and document["tables"] == [] and document["means"] in text
    assert "orders" in document["columns"]
    with contextlib.closing(duckdb.connect()) as connection:
        for each in document["setup"]:
            connection.execute(each)
        assert len(connection.execute(document["moments"]).fetchall()) > 10


async def test_other_dialects_name_the_tables_that_they_need(desk: Desk) -> None:
    for dialect in ("postgres", "spark"):
        document = (await desk.service.read.get(f"/v1/experiments/checkout/sql?dialect={dialect}")).json()
        assert not document["runs_as_is"]
        tables = {each["table"] for each in document["tables"]}
        assert tables == {"exposures.checkout", "events.order", "events.session"}
        for sql in (document["means"], document["moments"]):
            (parsed,) = sqlglot.parse(sql, read=dialect)
            assert parsed is not None and "READ_PARQUET" not in sql.upper()
            found = {f"{each.db}.{each.name}" for each in parsed.find_all(sqlglot.exp.Table) if each.db}
            assert found <= tables


async def test_who_may_ask_and_for_what(desk: Desk) -> None:
    service = desk.service
    for path in (
        "/v1/experiments/checkout/sql",
        "/v1/experiments/checkout/cost",
        f"/v1/analyses/{desk.analysis.id}/sql",
    ):
        assert_problem(await service.anonymous.get(path), "unauthenticated", 401)
        assert_problem(await service.ingest.get(path), "forbidden", 403)
    for path in (
        "/v1/experiments/none/sql",
        "/v1/experiments/none/cost",
        f"/v1/analyses/{desk.shop.experiment.id}/sql",
    ):
        assert_problem(await service.read.get(path), "not-found", 404)
    assert_problem(await service.read.get("/v1/experiments/checkout/sql?dialect=mysql"), "invalid-definition", 422)


async def test_what_an_analysis_would_read(desk: Desk) -> None:
    service = desk.service
    cost = (await service.read.get("/v1/experiments/checkout/cost")).json()
    of = {each["source"]: each for each in cost["sources"]}
    assert cost["engine"] == "embedded" and of.keys() == {None, "orders", "sessions"}
    assert of[None]["rows"] == UNITS and of[None]["times"] == 1
    events = f"SELECT event, count(*) FROM '{desk.settings.data_dir}/events/*/*.parquet' GROUP BY event"
    with contextlib.closing(duckdb.connect()) as connection:
        stored = dict(connection.execute(events).fetchall())
    # Orders are the North Star: they are read once more, for its share of the company.
    for key, event, times in (("orders", "order", 2), ("sessions", "session", 1)):
        assert of[key]["rows"] == stored[event]
        assert of[key]["times"] == times and of[key]["basis"] == "footers of the Parquet files"
    assert cost["rows"] == sum(each["rows"] * each["times"] for each in cost["sources"])
    assert 0 < cost["bytes"] < sum(path.stat().st_size for path in desk.settings.data_dir.rglob("*.parquet")) * 2


async def test_a_draft_has_a_price_and_no_statement(desk: Desk) -> None:
    service = desk.service
    draft = {**EXPERIMENT, **PLAIN, "key": "draft", "name": "Draft"}
    await created(service.write, "/v1/experiments", draft)
    assert_problem(await service.read.get("/v1/experiments/draft/sql"), "not-ready", 409)
    cost = (await service.read.get("/v1/experiments/draft/cost")).json()
    assert cost["assumed_days"] == 28 and cost["rows"] > 0
    assert {each["source"] for each in cost["sources"]} == {"orders", "sessions"}
    await created(service.write, "/v1/experiments", {**draft, "key": "nothing", "metrics": []})
    assert_problem(await service.read.get("/v1/experiments/nothing/cost"), "plan-incomplete", 422)
