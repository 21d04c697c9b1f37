"""Refreshes in processes that die on the way: `python -m tests.warehouse.killed_refresh FILE`.

FILE is a pickle of (plan, [(slice, death)]): a death is at a number of seconds, or just before the n-th file is made
safe. After each one the refresh is done again, and compared with a full pass.
"""

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.plan import AnalysisPlan
from tests.warehouse.deliveries import assert_same_moments
from warehouse.data_slice import DataSlice
from warehouse.extract import extract_experiment
from warehouse.state.lane import FOLDER, code_fingerprint
from warehouse.state.refresh import extract_incrementally


def die_at(death: float) -> None:
    """Let this process be killed."""

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if isinstance(death, float):
        threading.Timer(death, kill).start()
        return
    sync, left = os.fsync, [death]

    def counted(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            kill()
        sync(descriptor)

    os.fsync = counted


def in_a_child(work: Callable[[], None]) -> int:
    """How a process that does this ends."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    plan, orders = pickle.loads(Path(sys.argv[1]).read_bytes())
    died = 0
    # Whoever edits the code meanwhile must not make another lane.
    code_fingerprint()
    for data, death in orders:
        code = in_a_child(partial(suffer, plan, data, death))
        assert code in (0, -signal.SIGKILL), code
        died += code != 0
        assert in_a_child(partial(check, plan, data)) == 0, (data.data_as_of, death)
    sys.stdout.write(f"{died}\n")


def suffer(plan: AnalysisPlan, data: DataSlice, death: float) -> None:
    die_at(death)
    extract_incrementally(plan, data, fewest_exposures=0)


def check(plan: AnalysisPlan, data: DataSlice) -> None:
    assert_same_moments(extract_incrementally(plan, data, fewest_exposures=0), extract_experiment(plan, data))
    assert data.data_dir is not None
    (lane,) = (data.data_dir / FOLDER).glob("*/*")
    hidden = [path.name for path in lane.iterdir() if path.name.startswith(".")]
    assert not hidden, hidden


if __name__ == "__main__":
    main()
