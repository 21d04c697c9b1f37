"""An empty service of its own for the documents: a stranger starts with nothing."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from app.cli.services import LocalService
from tests.system.conftest import free_port


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment of somebody who has just started Northlift and copied its address and key."""
    home: Path = tmp_path_factory.mktemp("stranger")
    with LocalService(home, host="127.0.0.1", port=free_port()) as service:
        yield {
            "NORTHLIFT_URL": service.url,
            "NORTHLIFT_KEY": service.sign_in_key(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
