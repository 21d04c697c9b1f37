"""The whole service as a user runs it: API, worker and queue in processes of their own."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.client import ApiClient
from app.cli.services import LocalService


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    """One running service for all system tests; each test uses keys of its own."""
    home: Path = tmp_path_factory.mktemp("service")
    with LocalService(home, host="127.0.0.1", port=free_port()) as running:
        yield running


@pytest.fixture(scope="session")
def client(service: LocalService) -> Iterator[ApiClient]:
    """An administrator's client of that service."""
    with ApiClient(service.url, service.sign_in_key()) as client:
        yield client
