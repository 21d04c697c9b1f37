"""The bootstrap finds a Python that runs, and knows when there is nothing to do."""

import ast
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.servers import REPOSITORY

SCRIPT = REPOSITORY / "scripts" / "bootstrap.py"


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(path: Path, script: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_it_is_written_in_the_oldest_python_that_it_promises_to_run_on() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 8))


def test_an_interpreter_that_answers_to_its_name_and_fails_is_passed_over(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = command(tmp_path / "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    monkeypatch.setenv("PYTHON", shim)
    assert bootstrap.version_of(shim) is None
    found = bootstrap.find_python()
    assert found is not None and found != shim
    assert bootstrap.suits(found)


def test_a_python_too_old_is_passed_over(bootstrap: ModuleType, tmp_path: Path) -> None:
    assert not bootstrap.suits(command(tmp_path / "python3", "echo 3 11"))
    assert bootstrap.suits(sys.executable)


def test_a_python_that_is_only_in_pyenv_is_found(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = command(tmp_path / "versions" / "3.13.9" / "bin" / "python3", f'exec {sys.executable} "$@"')
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("PYTHON", raising=False)
    monkeypatch.setattr(sys, "executable", command(tmp_path / "old" / "python3", "echo 3 9"))
    assert bootstrap.find_python() == real


def test_nothing_is_installed_while_the_stamp_matches(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHON", "VEGA", "STAMP"):
        path = tmp_path / name
        path.write_text("")
        monkeypatch.setattr(bootstrap, name, path)
    monkeypatch.setattr(bootstrap, "LOCK", tmp_path / "requirements.lock")
    bootstrap.LOCK.write_text("arq==0.28.0")
    bootstrap.STAMP.write_text(bootstrap.fingerprint())
    installed: list[str] = []
    monkeypatch.setattr(bootstrap, "install", lambda: installed.append("environment"))
    monkeypatch.setattr(bootstrap, "build_vega", lambda: installed.append("charts"))
    assert bootstrap.main([]) == 0
    assert installed == []

    bootstrap.LOCK.write_text("arq==0.28.1")
    assert bootstrap.main([]) == 0
    assert installed == ["environment", "charts"]
    assert bootstrap.STAMP.read_text() == bootstrap.fingerprint()


def test_a_step_that_fails_leaves_no_stamp(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "stamp")

    def fail() -> None:
        raise bootstrap.Failed("no network")

    monkeypatch.setattr(bootstrap, "install", fail)
    assert bootstrap.main([]) == 1
    assert "no network" in capsys.readouterr().err
    assert not bootstrap.STAMP.exists()


def test_the_same_files_in_another_place_are_another_environment(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = bootstrap.fingerprint()
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_bytes((REPOSITORY / "pyproject.toml").read_bytes())
    assert bootstrap.fingerprint() != here, "a virtual environment that was moved does not run"


def test_a_script_is_executable() -> None:
    for path in (SCRIPT, REPOSITORY / ".ci" / "run"):
        assert os.access(path, os.X_OK), path
