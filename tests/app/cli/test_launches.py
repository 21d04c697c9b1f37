"""`northlift launches` prints what shipped, what every method says of it, and how much to believe it."""

import io
from typing import Any

from rich.console import Console
from typer.testing import CliRunner

from app.cli.commands import cli
from app.cli.launches import launches_table, print_launch
from experiments.launch_effects import flat
from experiments.result import LaunchResult
from tests.app.launch_documents import launch_result, measured, not_estimable, unmeasured


def printed(document: LaunchResult) -> str:
    written = io.StringIO()
    print_launch(document.model_dump(mode="json"), Console(width=200, file=written))
    return written.getvalue()


def listed(launches: list[dict[str, Any]], effects: list[dict[str, Any]]) -> str:
    written = io.StringIO()
    Console(width=200, file=written).print(launches_table(launches, effects))
    return written.getvalue()


def test_the_leading_method_comes_first_and_every_other_has_its_interval_or_its_reason() -> None:
    document = measured()
    lines = printed(launch_result(document)).splitlines()
    assert f"grade {document.grade.grade}" in lines[0]
    table = lines[next(i for i, line in enumerate(lines) if line.strip().startswith("method")) :]
    assert "(leads)" in "".join(table[:3]), table
    for estimate in document.estimates:
        line = next(line for line in table if line.strip().startswith(estimate.method.replace("_", " ")))
        wanted = f"{estimate.lift:+.2%}" if estimate.lift is not None else (estimate.reason or "").replace("_", " ")
        assert wanted in line


def test_what_was_not_measured_is_never_shown_as_an_effect() -> None:
    text = printed(launch_result(unmeasured()))
    assert "grade U" in text and "not measured" in text and "what is believed of launches" in text
    assert "what is believed" not in printed(launch_result(measured()))
    nothing = printed(launch_result(not_estimable()))
    assert (
        "Nothing was measured." in nothing
        and nothing.count("not measured") == 3
        and nothing.count("too little history") == 2
    )


def test_a_list_has_the_effect_on_the_primary_series_and_dashes_where_nothing_is_known() -> None:
    document = launch_result(measured())
    step = {"at": "2026-09-01T00:00:00Z"}
    series = document.measurements[0].series_key
    launches = [
        {"key": document.launch_key, "name": "A", "rollout": [step], "measurements": [{"series_key": series}]},
        {"key": "unmeasured", "name": "B", "rollout": [step], "measurements": []},
    ]
    effects = [row for row in flat(document) if row["leads"]]
    with_effect, without = (line for line in listed(launches, effects).splitlines() if "2026-09-01" in line)
    assert f"{effects[0]['lift']:+.2%}" in with_effect and effects[0]["evidence_grade"] in with_effect.split()
    assert without.split()[-4:] == ["–"] * 4


def test_an_absent_service_ends_with_a_message() -> None:
    for command in (["list"], ["show", "x"], ["analyze", "x"]):
        absent = CliRunner().invoke(cli, ["launches", *command, "--key", "k", "--url", "http://127.0.0.1:9"])
        assert absent.exit_code == 1 and "No service answers" in absent.output
