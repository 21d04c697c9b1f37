"""A signed-in browser (httpx) over the real application and a database that real services have filled."""

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app.main import create_app
from experiments import lifecycle
from experiments.database import Database
from experiments.definitions import Estimation, Sequential
from experiments.plan import PriorPlan, document
from experiments.settings import Settings
from tests.app.complete_beliefs import learned_prior
from tests.app.complete_document import complete
from tests.app.documents import START
from tests.app.world import NOW, Keys, build, issue_keys, run, spec_of, store

TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


@dataclass
class Reader:
    """A browser without JavaScript."""

    http: httpx.AsyncClient
    keys: Keys
    database: Database

    async def sign_in(self, key: str, *, next: str = "/") -> httpx.Response:
        page = await self.http.get("/sign-in", params={"next": next})
        token = TOKEN.search(page.text)
        assert token
        return await self.http.post("/sign-in", data={"csrf_token": token[1], "key": key, "next": next})

    async def token(self, path: str = "/catalogue") -> str:
        found = TOKEN.search((await self.http.get(path)).text)
        assert found
        return found[1]

    async def submit(self, path: str, **fields: str) -> httpx.Response:
        return await self.http.post(path, data={"csrf_token": await self.token(), **fields})


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Pages ask the registry, whose own tests and those of the API run on both databases."""
    return sqlite_url


@pytest.fixture(scope="module")
def module_database_url(module_sqlite_url: str) -> str:
    """The same for what the tests of a module share."""
    return module_sqlite_url


def application(database_url: str, redis_url: str) -> FastAPI:
    settings = Settings(database_url=database_url, redis_url=redis_url, sqlite_synchronous="OFF")
    return create_app(settings, clock=lambda: NOW)


async def add_complete(session: AsyncSession) -> None:
    """A stopped experiment whose plan uses the complete engine, with a result that says everything."""
    spec = spec_of(
        "scheduled",
        "Scheduled looks",
        team="Core",
        tags=["core"],
        segments=["country", "platform"],
        two_way_segments=[("country", "platform")],
        estimation=Estimation(
            stratify_by=["country"],
            sequential=Sequential(method="group_sequential", futility="non_binding", look_every_days=7),
        ),
    )
    row = await run(session, spec)
    assert row.plan is not None
    body = complete(experiment_key="scheduled")
    await store(session, "experiment", "scheduled", row.plan, body, START + timedelta(days=28))
    await lifecycle.stop(session, experiment=row, actor="ada", at=START + timedelta(days=29))
    learned = document(PriorPlan(metric_key="orders", version=3, effects=[]))
    await store(session, "prior", "orders", learned, learned_prior(), START + timedelta(days=20))


@asynccontextmanager
async def browsing(app: FastAPI) -> AsyncIterator[Reader]:
    """A browser of nobody yet, in an empty company."""
    async with app.router.lifespan_context(app):
        database: Database = app.state.database
        async with database.write() as session:
            keys = await issue_keys(session)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://northlift.test") as http:
            yield Reader(http, keys, database)


@pytest.fixture
def app(database_url: str, redis_url: str) -> FastAPI:
    return application(database_url, redis_url)


@pytest.fixture
async def visitor(app: FastAPI) -> AsyncIterator[Reader]:
    """Nobody yet, in an empty company."""
    async with browsing(app) as reader:
        yield reader


@pytest.fixture
async def newcomer(visitor: Reader) -> Reader:
    """Signed in to write, in an empty company."""
    assert (await visitor.sign_in(visitor.keys.write)).status_code == 303
    return visitor


@pytest.fixture
async def writer(newcomer: Reader) -> Reader:
    """Signed in to write, in a company with everything."""
    async with newcomer.database.write() as session:
        await build(session)
    return newcomer


@pytest.fixture
async def reader(visitor: Reader) -> Reader:
    """Signed in to read, in a company with everything."""
    async with visitor.database.write() as session:
        await build(session)
    assert (await visitor.sign_in(visitor.keys.read)).status_code == 303
    return visitor


@pytest.fixture(scope="module")
def module_sqlite_url(migrated_sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that the tests of one module share, where it does not matter which kind it is."""
    path = tmp_path_factory.mktemp("module") / "northlift.sqlite3"
    shutil.copyfile(migrated_sqlite_file, path)
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture(scope="module")
async def company(module_database_url: str, redis_url: str) -> AsyncIterator[Reader]:
    """Signed in to write, in a company with everything that the tests of a module share and do not change."""
    async with browsing(application(module_database_url, redis_url)) as reader:
        async with reader.database.write() as session:
            await build(session)
            await add_complete(session)
        assert (await reader.sign_in(reader.keys.write)).status_code == 303
        yield reader
