"""Rules of the repository that no other tool checks."""

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.servers import REPOSITORY

PACKAGES = ("app", "experiments", "stats", "warehouse", "workers")
LONGEST_MODULE = 350
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def committed(*patterns: str) -> list[Path]:
    """The files of the repository, without what git ignores (an unpacked archive without git has all of them)."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [path for name in listed.stdout.split("\0") if name and (path := REPOSITORY / name).is_file()]
    return [path for pattern in patterns for path in REPOSITORY.rglob(pattern) if path.is_file()]


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]


@pytest.mark.parametrize(("name", "least"), [("requirements.lock", 50), ("requirements-spark.lock", 10)])
def test_the_lock_pins_and_hashes_every_package_and_names_no_host(name: str, least: int) -> None:
    lock = (REPOSITORY / name).read_text()
    pinned = re.findall(r"^[a-z0-9][a-z0-9.\-]*==\S+", lock, re.MULTILINE)
    assert len(pinned) >= least
    unindented = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(unindented) == len(pinned), "every requirement is an exact version"
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"https?://|file:|--(?:extra-)?index-url|--find-links|@ ", lock)


def test_every_declared_dependency_is_in_the_lock() -> None:
    locked = set(re.findall(r"^([a-z0-9][a-z0-9.\-]*)==", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE))
    project = PYPROJECT["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\s\[<>=;!~]", requirement, maxsplit=1)[0] for requirement in declared}
    assert names <= locked


def test_no_file_names_the_place_that_packages_come_from() -> None:
    assert not (REPOSITORY / "uv.lock").exists() or "uv.lock" in (REPOSITORY / ".gitignore").read_text().split()
    for name in ("package-lock.json", "poetry.lock", "Pipfile.lock", "pylock.toml"):
        assert not committed(name), name


def test_modules_are_short_enough_to_read_in_one_sitting() -> None:
    lengths = {path.relative_to(REPOSITORY): len(path.read_text().splitlines()) for path in modules()}
    assert {str(path): length for path, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_modules_are_named_for_what_they_are_about() -> None:
    shapeless = {"base", "common", "core", "helper", "helpers", "manager", "misc", "util", "utils"}
    assert [str(path) for path in modules() if path.stem in shapeless or path.parent.name in shapeless] == []


def test_scipy_stats_never_hides_our_own_stats() -> None:
    hiding = re.compile(r"^\s*from scipy import .*\bstats\b|^\s*import scipy\.stats as stats\b", re.MULTILINE)
    assert [str(path) for path in committed("*.py") if hiding.search(path.read_text())] == []


def test_every_package_is_typed_and_documented() -> None:
    for package in PACKAGES:
        assert (REPOSITORY / package / "py.typed").exists(), package
    for path in modules():
        text = path.read_text().strip()
        assert not text or path.name == "__main__.py" or text.startswith(('"""', 'r"""')), (
            f"{path} does not say what it is about"
        )


def test_the_migrations_folder_does_not_hide_the_library() -> None:
    assert not (REPOSITORY / "alembic" / "__init__.py").exists()


def test_nothing_is_left_for_later_or_silenced_wholesale() -> None:
    later = re.compile(r"#.*\b(?:TODO|FIXME|XXX)\b|# type: ignore(?!\[)|# noqa(?!: [A-Z])|except Exception:\s*pass")
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in modules()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if later.search(line)
    ]
    assert found == []


def test_the_licence_is_apache_2() -> None:
    text = (REPOSITORY / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text and len(text) > 10_000
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    assert all((REPOSITORY / name).exists() for name in PYPROJECT["project"]["license-files"])


def test_vendored_scripts_are_what_their_licence_file_says() -> None:
    static = REPOSITORY / "app" / "pages" / "static"
    table = (static / "THIRD_PARTY.md").read_text()
    recorded = dict(re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", table, re.MULTILINE))
    assert set(recorded) == {"htmx.min.js", "hx-sse.min.js"}
    for name, digest in recorded.items():
        assert hashlib.sha256((static / name).read_bytes()).hexdigest() == digest, name


def test_pages_load_nothing_from_another_host() -> None:
    loading = re.compile(
        r"""(?:src|href|action)=["'](?:https?:)?//[^"']+\.(?:js|css|woff2?|png|svg)|@import|url\(["']?https?:"""
    )
    folder = REPOSITORY / "app" / "pages"
    found = [
        path for kind in ("*.html", "*.css", "*.j2") for path in folder.rglob(kind) if loading.search(path.read_text())
    ]
    assert found == []


def test_the_service_knows_nothing_of_the_tests_and_their_data() -> None:
    foreign = re.compile(r"^\s*(?:from|import) (?:tests|benchmarks|scripts)\b|NORTHLIFT_SHARED", re.MULTILINE)
    assert [str(path) for path in modules() if foreign.search(path.read_text())] == []


def test_each_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (REPOSITORY / name).read_text()
        used = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE))
        assert used <= targets, name
