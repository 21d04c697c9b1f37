"""A signed-in browser (httpx) over the real application and a database that real services have filled."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from experiments.database import Database
from experiments.settings import Settings
from tests.app.world import NOW, Keys, build, issue_keys

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


def application(database_url: str, redis_url: str) -> FastAPI:
    settings = Settings(database_url=database_url, redis_url=redis_url, sqlite_synchronous="OFF")
    return create_app(settings, clock=lambda: NOW)


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
async def company(module_database_url: str, redis_url: str) -> AsyncIterator[Reader]:
    """Signed in to write, in a company with everything that the tests of a module share and do not change."""
    async with browsing(application(module_database_url, redis_url)) as reader:
        async with reader.database.write() as session:
            await build(session)
        assert (await reader.sign_in(reader.keys.write)).status_code == 303
        yield reader
