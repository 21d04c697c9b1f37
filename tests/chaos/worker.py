"""A real worker process that runs the tiny analyses; says "ready" on its standard output when it takes work."""

import faulthandler
import signal
import sys

from experiments.settings import Settings
from tests.workers.tiny import KINDS
from workers.logs import configure
from workers.main import work


def ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    configure(json=False)
    work(Settings(), kinds=KINDS, ready=ready)
