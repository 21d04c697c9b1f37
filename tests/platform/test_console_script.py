"""The installed `northlift` command offers what the documents and the containers call."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.servers import REPOSITORY


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The console script of the environment that runs this test."""
    script = Path(sys.executable).with_name("northlift")
    assert script.exists(), "run `make setup`: the package is not installed in this environment"
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"}
    return subprocess.run([str(script), *arguments], capture_output=True, text=True, check=False, env=environment)


def test_the_console_script_answers_help_and_offers_the_documented_commands() -> None:
    answer = run("--help")
    assert answer.returncode == 0, answer.stderr
    for command in ("serve", "worker", "migrate", "demo", "keys"):
        assert re.search(rf"\b{command}\b", answer.stdout), command


def compose_commands() -> list[list[str]]:
    services = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    commands = [services[name]["command"] for name in ("api", "worker", "migrate")]
    return [
        *commands,
        services["worker"]["healthcheck"]["test"][1:],
        ["northlift", "keys", "create", "--scope", "admin"],
    ]


@pytest.mark.parametrize("command", compose_commands(), ids=" ".join)
def test_the_console_script_knows_the_commands_of_the_compose_file(command: list[str]) -> None:
    subcommands = [word for word in command[1:] if word.isalpha() and f"--scope {word}" not in " ".join(command)]
    answer = run(*subcommands, "--help")
    assert answer.returncode == 0, answer.stderr
    for option in (word for word in command if word.startswith("--")):
        assert option in answer.stdout, f"{' '.join(subcommands)} has no {option}"
