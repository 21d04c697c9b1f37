"""Where an embedded service keeps its things, and who wins when the environment says otherwise."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.services import KEPT_KEY, LocalService, StartupFailed, embedded_environment


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_an_embedded_service_keeps_everything_below_its_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NORTHLIFT_DATABASE_URL", raising=False)
    monkeypatch.delenv("NORTHLIFT_DATA_DIR", raising=False)
    environment = embedded_environment(tmp_path)
    assert environment["NORTHLIFT_DATABASE_URL"] == f"sqlite+aiosqlite:///{tmp_path}/northlift.sqlite3"
    assert environment["NORTHLIFT_DATA_DIR"] == str(tmp_path / "data")


def test_what_the_environment_sets_wins_and_what_the_caller_sets_wins_over_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORTHLIFT_DATA_DIR", "/of/the/environment")
    monkeypatch.setenv("NORTHLIFT_REFRESH_MINUTES", "7")
    service = LocalService(tmp_path, host="127.0.0.1", port=1, environment={"NORTHLIFT_REFRESH_MINUTES": "9"})
    assert service.settings.data_dir == Path("/of/the/environment")
    assert service.settings.refresh_minutes == 9


def test_a_taken_port_is_named_before_anything_is_started(tmp_path: Path, busy_port: int) -> None:
    home = tmp_path / "home"
    with (
        pytest.raises(StartupFailed, match=f"127.0.0.1:{busy_port} cannot be used .* choose another with --port"),
        LocalService(home, host="127.0.0.1", port=busy_port),
    ):
        pytest.fail("it started")
    assert not home.exists()


def leave_traces(home: Path) -> None:
    (home / "data" / "events").mkdir(parents=True)
    for name in (
        "northlift.sqlite3",
        "northlift.sqlite3-wal",
        "api.log",
        KEPT_KEY,
        "data/events/a.parquet",
        "mine.txt",
    ):
        (home / name).write_text("x")


def test_starting_again_removes_what_a_service_kept_and_nothing_else(tmp_path: Path) -> None:
    leave_traces(tmp_path)
    LocalService(tmp_path, host="127.0.0.1", port=0).forget()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_removed_while_a_service_runs(tmp_path: Path, busy_port: int) -> None:
    leave_traces(tmp_path)
    with pytest.raises(StartupFailed):
        LocalService(tmp_path, host="127.0.0.1", port=busy_port).forget()
    assert (tmp_path / "northlift.sqlite3").exists()


def test_forgetting_a_home_that_never_was_changes_nothing(tmp_path: Path) -> None:
    LocalService(tmp_path / "never", host="127.0.0.1", port=0).forget()
    assert list(tmp_path.iterdir()) == []
