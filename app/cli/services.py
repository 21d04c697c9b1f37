"""Start the parts of the service as child processes of one command and take them down together."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from experiments.settings import Settings
from workers.embedded import EmbeddedValkey, die_with_parent, start_valkey

KEPT_KEY = "sign-in-key"
REPOSITORY = Path(__file__).resolve().parent.parent.parent


class StartupFailed(RuntimeError):
    """A part of the service ended or did not answer; the message carries its last words."""


def embedded_environment(home: Path) -> dict[str, str]:
    """Settings that keep everything of an embedded service below `home`; what the environment sets explicitly wins."""
    defaults = {
        "NORTHLIFT_DATABASE_URL": f"sqlite+aiosqlite:///{(home / 'northlift.sqlite3').absolute()}",
        "NORTHLIFT_DATA_DIR": str((home / "data").absolute()),
        # Each is a thread pool per process; here the processes are the parallelism.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    return {**defaults, **os.environ}


class LocalService:
    """API, workers and, unless NORTHLIFT_REDIS_URL is set, an embedded queue server. A context manager."""

    def __init__(
        self, home: Path, *, host: str, port: int, workers: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        self.home = home
        self.url = f"http://{host}:{port}"
        self._host, self._port, self._workers = host, port, workers
        self._queue: EmbeddedValkey | None = None
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {**embedded_environment(home), **(environment or {})}

    @property
    def settings(self) -> Settings:
        """The settings that the children run with."""
        names = {f"NORTHLIFT_{name.upper()}": name for name in Settings.model_fields}
        values = {names[key]: value for key, value in self.environment.items() if key in names}
        return Settings.model_validate(values)

    def forget(self) -> None:
        """Remove what an earlier service kept in `home`, and nothing else. Raises `StartupFailed` while one runs."""
        self._require_free_port()
        for kept in (*self.home.glob("northlift.sqlite3*"), *self.home.glob("*.log"), self.home / KEPT_KEY):
            kept.unlink(missing_ok=True)
        shutil.rmtree(self.home / "data", ignore_errors=True)

    def _require_free_port(self) -> None:
        """Another service on the port would answer in our place."""
        with socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, self._port))
            except OSError as error:
                raise StartupFailed(
                    f"{self._host}:{self._port} cannot be used ({error.strerror}); stop what runs there or choose "
                    "another with --port"
                ) from error

    def __enter__(self) -> Self:
        self._require_free_port()
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if "NORTHLIFT_REDIS_URL" not in self.environment:
            self._queue = start_valkey()
            self.environment["NORTHLIFT_REDIS_URL"] = self._queue.url
        try:
            self._start_all()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _start_all(self) -> None:
        from app.cli.migrations import upgrade

        upgrade(self.settings.database_url)
        command = ["-m", "uvicorn", "--factory", "app.main:create_app", "--host", self._host, "--port", str(self._port)]
        self._start("api", [*command, "--no-access-log", "--log-level", "warning"])
        for number in range(1, self._workers + 1):
            self._start(f"worker-{number}", ["-m", "workers"])
        self._await_api()

    def _start(self, name: str, arguments: list[str]) -> None:
        with self.log(name).open("ab") as log:
            self._children[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches us alone: we stop the parts in order.
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )

    def log(self, name: str) -> Path:
        """Where a part writes its log."""
        return self.home / f"{name}.log"

    def _await_api(self, timeout: float = 90.0) -> None:
        deadline = time.monotonic() + timeout
        while True:
            self.check()
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2.0).is_success:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            if time.monotonic() > deadline:
                raise StartupFailed(f"the API did not answer on {self.url} within {timeout:g} s; see {self.log('api')}")
            time.sleep(0.1)

    def process_id(self, name: str) -> int:
        """The process of a part: `api`, `worker-1`, …"""
        return self._children[name].pid

    def check(self) -> None:
        """Raise `StartupFailed` when a part has ended."""
        for name, child in self._children.items():
            if child.poll() is not None:
                last_words = self.log(name).read_text(errors="replace").strip()[-1500:]
                raise StartupFailed(f"{name} ended with exit code {child.returncode}:\n{last_words}")

    def wait(self) -> None:
        """Serve until interrupted or until a part ends."""
        while True:
            self.check()
            time.sleep(0.5)

    def stop(self, timeout: float = 15.0) -> None:
        """End the parts: first the API, then the workers (they hand back their leases), last the queue."""
        for child in self._children.values():
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + timeout
        for child in self._children.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children.clear()
        if self._queue is not None:
            self._queue.stop()
            self._queue = None

    def sign_in_key(self) -> str:
        """The admin key of this embedded service, made at the first start and kept readable by its owner only."""
        from app.cli.keys import create_key_blocking, is_valid_blocking

        kept = self.home / KEPT_KEY
        if kept.exists() and is_valid_blocking(self.settings, key := kept.read_text().strip()):
            return key
        key = create_key_blocking(self.settings, name="local administrator", scopes=["admin"])
        kept.unlink(missing_ok=True)
        handle = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(key + "\n")
        return key
