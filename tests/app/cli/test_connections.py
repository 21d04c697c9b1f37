"""`northlift connections` and `northlift secrets`: a table without secrets, and keys that are rotated."""

import io

import pytest
from pydantic import SecretStr
from rich.console import Console
from typer.testing import CliRunner

from app.api import examples
from app.cli.commands import cli
from app.cli.connections import check_lines, connections_table, encrypt_again
from experiments import connection
from experiments.database import Database
from experiments.secret_keys import SecretKeys, new_key
from experiments.settings import Settings
from experiments.types import utc_now

pytestmark = pytest.mark.anyio


def test_the_table_says_where_connections_lead_and_how_their_last_check_went() -> None:
    warned = {"ok": True, "warnings": ["the role may write to 3 tables"]}
    rows = [
        {"key": "dwh", "definition": examples.CONNECTION, "has_secret": True, "check": warned},
        {"key": "lake", "definition": examples.SPARK_CONNECTION, "has_secret": False, "check": None},
    ]
    written = io.StringIO()
    Console(width=160, file=written).print(connections_table(rows))
    for part in ("northlift_reader@dwh.example.com/shop", "ok, 1 warnings", "sc://spark.example.com", "not checked"):
        assert part in written.getvalue()


def test_a_check_is_told_in_words() -> None:
    fine = {"ok": True, "server": "PostgreSQL 17", "latency_ms": 1.25, "read_only": True, "warnings": ["careful"]}
    assert list(check_lines(fine)) == [
        "PostgreSQL 17 answers in 1.25 ms.",
        "The role can only read.",
        "Warning: careful",
    ]
    failed = {"ok": False, "problem": "no route", "remedy": "open the port"}
    assert list(check_lines(failed)) == ["Failed: no route", "What to do: open the port"]


def test_an_absent_service_ends_with_a_message() -> None:
    url = ["--key", "k", "--url", "http://127.0.0.1:9"]
    for words in (["list"], ["check", "dwh"], ["delete", "dwh"], ["secret", "dwh"]):
        ended = CliRunner().invoke(cli, ["connections", *words, *url], input="hunter2\n")
        assert ended.exit_code == 1 and "No service answers" in ended.output and "hunter2" not in ended.output


async def test_secrets_are_encrypted_again_with_the_first_key(sqlite_url: str) -> None:
    made = CliRunner().invoke(cli, ["secrets", "new-key"])
    old, new = made.output.strip(), new_key()
    database = Database(sqlite_url, synchronous="OFF")
    spec = connection.ADAPTER.validate_python(examples.CONNECTION)
    who = {"actor": "ada", "at": utc_now()}
    async with database.write() as session:
        row = await connection.create(session, spec=spec, **who)  # type: ignore[arg-type]  # a string and a time
        await connection.set_secret(session, connection=row, secret="s", keys=SecretKeys(old), **who)  # type: ignore[arg-type]  # a string and a time
    settings = Settings(database_url=sqlite_url, secret_keys=SecretStr(f"{new},{old}"))
    assert await encrypt_again(settings) == 1
    async with database.read() as session:
        row = await connection.get(session, key="dwh")
    assert connection.access(row, SecretKeys(new)).secret == "s"
    await database.dispose()
