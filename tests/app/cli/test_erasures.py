"""`northlift erase`: the id is read from standard input where it should be in no history, and printed nowhere."""

import io

import pytest
from rich.console import Console
from typer.testing import CliRunner

from app.cli.client import ApiClient
from app.cli.commands import cli
from app.cli.erasure_commands import table_of


def test_an_erasure_is_asked_for_with_an_id_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def post(client: ApiClient, path: str, body: object = None) -> object:
        asked.append((path, body))
        return {"items": [{"id": "e1", "state": "queued"}, {"id": "e2", "state": "queued"}]}

    monkeypatch.setattr(ApiClient, "post", post)
    command = ["erase", "user", "-", "--key", "k", "--reason", "ticket", "--also", "d1", "--refuse-future"]
    done = CliRunner().invoke(cli, command, input="u 1\n")
    assert done.exit_code == 0, done.output
    wanted = {"unit_type": "user", "unit_id": "u 1", "also_ids": ["d1"], "reason": "ticket", "refuse_future": True}
    assert asked == [("/v1/erasures", wanted)]
    assert done.output.splitlines() == ["Erasure e1 is queued.", "Erasure e2 is queued."]


def test_the_table_says_what_went() -> None:
    row = {"id": "e1", "unit_type": "user", "state": "queued", "requested_at": "2026-11-02T09:00:00Z", "effects": None}
    effects = {"rows": {"events": {"orders": 2}, "exposures": {"a": 1}}, "experiments": {"a": {"control": 1}}}
    written = io.StringIO()
    Console(width=160, file=written).print(table_of([row, {**row, "state": "done", "effects": effects}]))
    waiting, done = written.getvalue().splitlines()[-2:]
    assert waiting.split() == ["e1", "user", "queued", "2026-11-02", "09:00"]
    assert done.split() == ["e1", "user", "done", "2026-11-02", "09:00", "3", "a"]
