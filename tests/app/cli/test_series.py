"""`northlift series` against the real application: values in, what became of them, and series as tables."""

import asyncio
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.cli.client import ApiClient, ApiProblem
from app.cli.commands import cli
from app.cli.definitions import apply_definitions, read_definitions
from app.cli.launches import every_item
from app.cli.series import ask_design, print_design, print_series, push, said_of, series_table
from app.main import create_app
from experiments import api_key
from experiments.database import Database
from experiments.settings import Settings

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
DEFINITIONS = """
fact_sources:
  - {kind: events, key: orders, event: order}
metrics:
  - {key: orders_per_user, name: Orders, kind: mean, measure: {fact_source: orders}}
series:
  - {key: orders, name: Orders by country, dimension: country, metric_key: orders_per_user}
  - {key: from-facts, name: Orders from facts, source: facts, grain: week, metric_key: orders_per_user}
launches:
  - key: search
    name: Faster search
    rollout:
      - {at: 2026-10-01T08:00:00Z, coverage: 1, mechanism: all_at_once}
    measurements:
      - {series_key: orders}
"""


class LocalClient(ApiClient):
    """The client of the command line, with the application in this process, on the event loop of its lifespan."""

    def __init__(self, http: TestClient) -> None:
        self.url = "http://test"
        self._http = http


@pytest.fixture
def client(sqlite_url: str, redis_url: str, tmp_path: Path) -> Iterator[ApiClient]:
    settings = Settings(
        database_url=sqlite_url, redis_url=redis_url, data_dir=tmp_path / "data", sqlite_synchronous="OFF"
    )
    app = create_app(settings, clock=lambda: NOW)
    key = asyncio.run(_admin_key(settings))
    with TestClient(app, headers={"X-API-Key": key}) as http:
        yield LocalClient(http)


async def _admin_key(settings: Settings) -> str:
    database = Database(settings.database_url)
    async with database.write() as session:
        _, token = await api_key.issue(session, name="cli", scopes=["admin"], actor="tests", at=NOW)
    await database.dispose()
    return token


def applied(client: ApiClient, folder: Path, text: str = DEFINITIONS) -> list[str]:
    path = folder / "definitions.yaml"
    path.write_text(text)
    return [str(change) for change in apply_definitions(client, read_definitions(path))]


def printed(client: ApiClient, key: str) -> str:
    written = io.StringIO()
    print_series(client, key, Console(width=120, file=written), periods=3)
    return written.getvalue()


def test_series_and_launches_are_definitions_that_are_applied_once(client: ApiClient, tmp_path: Path) -> None:
    assert [line.split()[1] for line in applied(client, tmp_path) if line.startswith("created")] == [
        "fact_sources/orders",
        "metrics/orders_per_user",
        "series/orders",
        "series/from-facts",
        "launches/search",
    ]
    assert {line.split()[0] for line in applied(client, tmp_path)} == {"unchanged"}
    changed = applied(client, tmp_path, DEFINITIONS.replace("Faster search", "Much faster search"))
    assert [line for line in changed if "unchanged" not in line] == ["changed   launches/search"]


def test_sources_are_applied_before_those_that_map_by_them(client: ApiClient, tmp_path: Path) -> None:
    text = """
fact_sources:
  - key: opens
    kind: events
    event: open
    filters: [{column: platform, op: in, value: [ios]}]
    unit_mapping: {fact_source: logins, id_column: device}
  - {kind: events, key: logins, event: login}
"""
    assert applied(client, tmp_path, text) == ["created   fact_sources/logins", "created   fact_sources/opens"]
    assert {line.split()[0] for line in applied(client, tmp_path, text)} == {"unchanged"}


def test_values_go_in_from_files_and_are_shown_with_what_was_restated(client: ApiClient, tmp_path: Path) -> None:
    applied(client, tmp_path)
    days = "\n".join(f"{country},2026-10-{day},{day}0" for day in range(28, 32) for country in ("NO", "SE"))
    first = push(client, "orders", f"segment,at,value\n{days}\n".encode())
    assert said_of("orders", first) == "orders: 8 values: 8 new, 0 restated, 0 known already."
    restated = {"segment": "NO", "at": "2026-10-30", "value": 12345.5}
    second = json.dumps([restated, {"segment": "SE", "at": "2026-10-31", "value": None}]).encode()
    report = push(client, "orders", second, batch_id="fix")
    assert said_of("orders", report) == "orders: 2 values: 0 new, 2 restated, 0 known already."
    assert "in already" in said_of("orders", push(client, "orders", second, batch_id="fix"))
    assert "2 known already" in said_of("orders", push(client, "orders", second))
    early = push(client, "orders", b"segment,at,value\nNO,2026-11-02,5\n")
    assert "1 are of a period that goes on" in said_of("orders", early)
    text = printed(client, "orders")
    lines = [line.split() for line in text.splitlines()]
    assert ["2026-10-30", "12,345.5", "300"] in lines
    assert ["2026-10-31", "310", "–"] in lines
    assert ["2026-11-02", "(5)", "–"] in lines
    assert not any("2026-10-29" in line for line in lines), "three periods were asked for"
    assert any(line[1:] == ["2026-10-30", "NO", "300", "12,345.5"] for line in lines)
    assert "from the facts of orders_per_user" in printed(client, "from-facts")


def test_a_series_without_values_says_so_and_a_refused_file_names_its_row(client: ApiClient, tmp_path: Path) -> None:
    applied(client, tmp_path)
    assert "No values yet." in printed(client, "orders")
    written = io.StringIO()
    Console(width=120, file=written).print(series_table(every_item(client, "/v1/series")))
    keys = [line.split()[0] for line in written.getvalue().splitlines() if line.strip()]
    assert [key for key in keys if key in ("orders", "from-facts")] == ["from-facts", "orders"]
    with pytest.raises(ApiProblem, match="/2/at: not_a_period_start"):
        push(client, "orders", b"segment,at,value\nNO,2026-10-01,1\nNO,2026-10-01T05:00:00Z,1\n")


def test_a_rollout_is_designed_from_the_values_that_are_there(client: ApiClient, tmp_path: Path) -> None:
    applied(client, tmp_path)
    days = [NOW.date() - timedelta(days=left) for left in range(60, 0, -1)]
    rows = [
        f"{country},{day},{size * (100 + (7 * size * place) % 11)}"
        for size, country in enumerate(("DK", "EE", "FI", "IS", "NO", "PL", "SE"), start=1)
        for place, day in enumerate(days)
    ]
    push(client, "orders", "\n".join(["segment,at,value", *rows]).encode())
    written = io.StringIO()
    print_design(ask_design(client, "orders", [7, 50], ["NO", "DK, SE"], "", 60), Console(width=120, file=written))
    text = written.getvalue()
    assert "judged by 60 days up to 2026-11-01 of 7 segments" in " ".join(text.split())
    lines = [line.split() for line in text.splitlines()]
    assert [line[:3] for line in lines if line[:1] == ["NO"]] == [["NO", "18%", "7"], ["NO", "18%", "50"]]
    assert any("too little history" in line for line in text.splitlines())


def test_an_absent_service_ends_with_a_message() -> None:
    options = ["--key", "k", "--url", "http://127.0.0.1:9"]
    for command in (["list"], ["push", "orders", "-"]):
        absent = CliRunner().invoke(cli, ["series", *command, *options], input="segment,at,value\n")
        assert absent.exit_code == 1 and "No service answers" in absent.output
