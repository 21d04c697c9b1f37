"""The command line forgets what is kept of one experiment, and of no other."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.state_commands import state_cli
from experiments.settings import settings
from warehouse.state.lane import Lane, experiment_folder


def test_the_state_of_one_experiment_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORTHLIFT_DATA_DIR", str(tmp_path))
    settings.cache_clear()
    for key in ("checkout", "search"):
        with Lane.held(experiment_folder(tmp_path, key) / "lane") as lane:
            assert lane is not None
    found = CliRunner().invoke(state_cli, ["rebuild", "checkout"])
    settings.cache_clear()
    assert found.exit_code == 0 and "Forgot 1 state of checkout" in found.stdout
    assert not list(experiment_folder(tmp_path, "checkout").iterdir())
    assert list(experiment_folder(tmp_path, "search").iterdir())
