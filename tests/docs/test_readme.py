"""What the documents promise is what happens: commands run, outputs are the ones shown, links lead somewhere."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from app.cli.commands import cli
from app.cli.definitions import read_definitions
from experiments.settings import Settings
from tests.docs.blocks import Block, assert_shows, relative_links, run, shell_blocks
from tests.servers import REPOSITORY
from tests.test_repository import committed

README = REPOSITORY / "README.md"
API = REPOSITORY / "docs" / "api.md"
DEPLOY = REPOSITORY / "docs" / "deploy.md"
DOCUMENTS = sorted(path for path in committed("*.md") if "static" not in path.parts)
type Outputs = list[tuple[int, str]]


@pytest.fixture(scope="module")
def tour(stranger: Mapping[str, str]) -> Outputs:
    """The README's blocks, run once from top to bottom."""
    return run(shell_blocks(README), stranger)


@pytest.fixture(scope="module")
def api(stranger: Mapping[str, str], tour: Outputs) -> Outputs:
    """The blocks of docs/api.md, run after the tour, whose shop they continue."""
    return run(shell_blocks(API), stranger)


def numbered(document: Path) -> Any:
    blocks = shell_blocks(document)
    return pytest.mark.parametrize(
        ("position", "block"), list(enumerate(blocks)), ids=[f"{document.name}:{block.line}" for block in blocks]
    )


def assert_as_shown(block: Block, outcome: tuple[int, str]) -> None:
    code, output = outcome
    assert code == 0, output
    if block.shown is not None:
        assert_shows(block.shown, output)


@numbered(README)
def test_each_command_of_the_tour_prints_what_the_readme_shows(tour: Outputs, position: int, block: Block) -> None:
    assert_as_shown(block, tour[position])


@numbered(API)
def test_each_example_of_the_api_page_prints_what_it_shows(api: Outputs, position: int, block: Block) -> None:
    assert_as_shown(block, api[position])


def test_the_tour_shows_the_output_of_nearly_every_command() -> None:
    assert len(shell_blocks(README)) >= 10
    assert sum(block.shown is None for block in shell_blocks(README)) <= 1
    assert sum(block.shown is None for block in shell_blocks(API)) <= 1


def test_every_relative_link_leads_to_a_file() -> None:
    links = relative_links(DOCUMENTS)
    assert len(links) > 15
    broken = [f"{document.name}: {target}" for document, target in links if not (document.parent / target).exists()]
    assert broken == []


def anchors(document: Path) -> set[str]:
    """The anchors that a forge gives to headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_to_a_heading_leads_to_one() -> None:
    broken = []
    for document in DOCUMENTS:
        for target, anchor in re.findall(r"\]\(([^)\s:#]*)#([^)\s]+)\)", document.read_text(encoding="utf-8")):
            if anchor not in anchors((document.parent / target) if target else document):
                broken.append(f"{document.name}: {target}#{anchor}")
    assert broken == []


def code_of(document: Path) -> list[str]:
    """Code blocks, with continued lines joined, and inline code."""
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|shell|)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [*(block.replace("\\\n", " ") for block in blocks), *re.findall(r"`([^`\n]+)`", text)]


def northlift_calls() -> list[str]:
    """Every `northlift …` that a document shows."""
    call = re.compile(r"^(?:docker compose run --rm api )?(?:\.venv/bin/)?northlift (.+)$", re.MULTILINE)
    code = "\n".join(code for document in DOCUMENTS for code in code_of(document))
    return sorted({found.partition(" #")[0].strip() for found in call.findall(code)})


@pytest.mark.parametrize("call", northlift_calls())
def test_every_command_that_a_document_shows_is_understood(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("NORTHLIFT_KEY", "nl_any")
    command, words = typer.main.get_command(cli), shlex.split(call)
    parent = None
    while isinstance(command, click.Group):
        parent = click.Context(command, parent=parent, info_name=command.name)
        found = command.get_command(parent, words.pop(0))
        assert found is not None, call
        command = found
    command.make_context(command.name, words, parent=parent)


def test_the_documents_show_every_command_but_the_help() -> None:
    shown = {call.split()[0] for call in northlift_calls()}
    assert {"serve", "worker", "migrate", "apply", "import", "analyze", "keys", "doctor", "dev"} <= shown


def test_every_make_target_that_a_document_shows_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join(code for document in DOCUMENTS for code in code_of(document))
    used = set(re.findall(r"^make ([a-z][a-z-]*)", code, re.MULTILINE))
    assert {"demo", "test", "dev"} <= used <= targets


def test_the_definitions_that_the_readme_shows_are_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        found = read_definitions(path)
        assert {source["kind"] for source in yaml.safe_load(block)["fact_sources"]} == {"file", "duckdb"}
        assert len(found["metrics"]) == 1


def settings_table() -> str:
    """All settings as docs/deploy.md has them."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "none" if field.default is None else f"`{field.default}`"
        default = default.lower() if isinstance(field.default, bool) else default
        lines.append(f"| `NORTHLIFT_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_deploy_page_has_every_setting_with_its_default() -> None:
    table = re.search(r"<!-- settings -->\n(.*?)\n?<!-- /settings -->", DEPLOY.read_text(), re.DOTALL)
    assert table is not None
    assert table[1].strip() == settings_table(), "paste what this test expects between the markers"
