"""Children that are killed while they measure for others. Imports little: every child imports it."""

import os
import signal
import threading

from experiments.lease import StoredResult
from workers.child import Channel
from workers.jobs import ExperimentJob, run_experiment


def run(payload: tuple[ExperimentJob, float], channel: Channel) -> StoredResult:
    """A death is at a number of seconds, or just before the n-th file is made safe."""
    job, death = payload

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if isinstance(death, float):
        threading.Timer(death, kill).start()
    else:
        sync, left = os.fsync, [death]

        def counted(descriptor: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                kill()
            sync(descriptor)

        os.fsync = counted
    return run_experiment(job, channel)
