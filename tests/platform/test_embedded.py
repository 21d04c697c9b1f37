"""The embedded Valkey belongs to its owner: private while it lives, gone when the owner is."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.patience import comes
from tests.servers import REPOSITORY
from workers.embedded import EmbeddedServerError, private_directory, start_valkey

OWNER = """
import time
from workers.embedded import start_valkey
server = start_valkey()
print(server.process.pid, server.directory, flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")
    except FileNotFoundError:
        return False


def test_it_is_a_real_server_that_only_its_owner_can_reach() -> None:
    with start_valkey() as server:
        with redis.from_url(server.url) as client:
            assert client.ping()
            assert client.config_get("save")["save"] == ""
            assert client.config_get("port")["port"] == "0", "nothing listens on the network"
        assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700


def test_stopping_ends_the_process_and_removes_its_directory_and_may_be_repeated() -> None:
    server = start_valkey()
    server.stop()
    assert server.process.returncode == 0
    assert not server.directory.exists()
    server.stop()


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short path, as /tmp/northlift-x: pytest's own are too deep for a socket on macOS."""
    home = private_directory()
    yield home
    shutil.rmtree(home)


def test_a_directory_of_the_caller_is_kept_and_can_be_used_again(home: Path) -> None:
    with start_valkey(home / "queue") as server:
        assert server.url == f"unix://{home}/queue/valkey.sock"
    assert (home / "queue" / "valkey.log").exists()
    with start_valkey(home / "queue") as server, redis.from_url(server.url) as client:
        assert client.ping()


def test_a_socket_that_a_killed_server_left_behind_is_no_obstacle(home: Path) -> None:
    killed = start_valkey(home)
    killed.process.kill()
    killed.process.wait()
    assert (home / "valkey.sock").exists()
    with start_valkey(home) as server, redis.from_url(server.url) as client:
        assert client.ping()


def test_two_servers_never_share_a_directory(home: Path) -> None:
    with start_valkey(home), pytest.raises(EmbeddedServerError, match="another server already listens"):
        start_valkey(home)


def test_a_directory_too_deep_for_a_socket_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="shorter directory"):
        start_valkey(tmp_path / ("deep" * 30))


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_it_does_not_outlive_an_owner_that_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert owner.stdout is not None
    pid, directory = owner.stdout.readline().split()
    assert is_running(int(pid))
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert comes(lambda: not is_running(int(pid))), "the server survived its owner"
    for leftover in Path(directory).iterdir():
        leftover.unlink()
    Path(directory).rmdir()
