"""A running application with clients of every scope, and a small shop to put into it."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import sqlalchemy as sa
from fastapi import FastAPI

from app.api import examples
from app.main import create_app
from experiments import api_key
from experiments.database import Database
from experiments.settings import Settings
from experiments.tables import Result, metadata

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)


@dataclass
class Clock:
    """The service's clock, moved by hand."""

    at: datetime = NOW

    def __call__(self) -> datetime:
        self.at += timedelta(microseconds=1)
        return self.at


@dataclass
class Service:
    """One client per scope (and one without a key), the clock, and the database behind."""

    app: FastAPI
    clock: Clock
    database: Database
    anonymous: httpx.AsyncClient
    keys: Mapping[str, str]
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    def __getattr__(self, scope: str) -> httpx.AsyncClient:
        try:
            return self.clients[scope]
        except KeyError:
            raise AttributeError(scope) from None

    async def counts(self) -> dict[str, int]:
        """Rows of every table."""
        async with self.database.read() as session:
            return {
                table.name: (await session.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()
                for table in metadata.sorted_tables
            }

    async def fill(self, *, experiment: bool = True, started: bool = False) -> None:
        """The small shop of the OpenAPI examples."""
        writer = self.write
        await created(writer, "/v1/fact-sources", examples.FACT_SOURCE)
        for key in ("orders_per_user", "refunds_per_user", "revenue_per_user", "cost_per_user"):
            await created(writer, "/v1/metrics", {**examples.METRIC, "key": key})
        await created(writer, "/v1/metrics", metric("active_users", kind="proportion"))
        await created(writer, "/v1/metrics", ratio("orders_per_active_user"))
        await created(writer, "/v1/north-stars", examples.NORTH_STAR)
        if experiment or started:
            await created(writer, "/v1/experiments", examples.EXPERIMENT)
        if started:
            answer = await writer.post("/v1/experiments/one-page-checkout/start", json={"at": "2026-10-01T00:00:00Z"})
            assert answer.status_code == 200, answer.text

    async def store_result(self, body: bytes, *, kind: str = "experiment", subject_key: str, **fields: Any) -> Result:
        """Put a finished result into the database, as a worker does."""
        fields = {"data_as_of": self.clock(), "created_at": self.clock()} | fields
        row = Result(kind=kind, subject_key=subject_key, body=body, etag=hashlib.sha256(body).hexdigest(), **fields)
        async with self.database.write() as session:
            session.add(row)
        return row


def metric(key: str, **changes: Any) -> dict[str, Any]:
    """A metric of the shop."""
    return {**deepcopy(examples.METRIC), "key": key, "name": key, **changes}


def ratio(key: str) -> dict[str, Any]:
    """A ratio of two counts of the shop's only fact source."""
    document = metric(key, kind="ratio")
    measure = document.pop("measure")
    active = {"fact_source": "orders", "aggregation": "any"}
    return {**document, "numerator": measure, "denominator": active}


def experiment(**changes: Any) -> dict[str, Any]:
    """The experiment of the shop, with changes."""
    return {**deepcopy(examples.EXPERIMENT), **changes}


async def created(client: httpx.AsyncClient, path: str, document: dict[str, Any]) -> httpx.Response:
    """POST that must succeed."""
    answer = await client.post(path, json=document)
    assert answer.status_code == 201, answer.text
    return answer


def assert_problem(answer: httpx.Response, slug: str, status: int) -> dict[str, Any]:
    """The answer is this problem, completely: type, title, status, detail, remedy, request id. Returns it."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem: dict[str, Any] = answer.json()
    assert (problem["type"], answer.status_code) == (f"/problems/{slug}", status), answer.text
    assert problem["status"] == status
    assert problem["title"] and problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


def pointers(problem: dict[str, Any]) -> list[str]:
    """Where the faults are."""
    return [fault["pointer"] for fault in problem["errors"]]


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Service]:
    """The application between its start-up and its shutdown."""
    clock = Clock()
    app = create_app(settings, clock=clock)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app):
        database: Database = app.state.database
        keys: dict[str, str] = {}
        async with database.write() as session:
            for scope in api_key.SCOPES:
                _, keys[scope] = await api_key.issue(session, name=scope, scopes=[scope], actor="tests", at=NOW)
        service = Service(app, clock, database, httpx.AsyncClient(transport=transport, base_url="http://test"), keys)
        for scope, key in keys.items():
            service.clients[scope] = httpx.AsyncClient(
                transport=transport, base_url="http://test", headers={"X-API-Key": key}
            )
        yield service
