"""What is kept survives the death of whoever advances it, at any moment."""

import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deaths import moment_of_death
from tests.servers import REPOSITORY
from tests.warehouse.deliveries import Store
from tests.warehouse.test_state import PLAIN, RICH, days_of


def survive(folder: Path, plan: object, deaths: list[float], *, seed: int, units: int, certain: bool = False) -> int:
    """Refresh a filling store in processes that die; how many did.

    With `certain` the first at each time dies before its first file: there is something new, so one is written.
    """
    store, orders = Store(folder), []
    times = list(days_of(seed, store, units=units, step=6))
    for i, death in enumerate(deaths):
        at = times[i * len(times) // len(deaths)]
        new = i == 0 or at != times[(i - 1) * len(times) // len(deaths)]
        orders.append((store.as_of(at), 0 if certain and new else death))
    file = folder / "orders"
    file.write_bytes(pickle.dumps((plan, orders)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.warehouse.killed_refresh", str(file)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_refresh_that_is_killed_leaves_what_was_kept_before(tmp_path: Path) -> None:
    # Before the first file, between files, and on both sides of the manifest.
    assert survive(tmp_path, PLAIN, [0, 4, 1], seed=23, units=30) >= 2


@pytest.mark.chaos
def test_refreshes_are_killed_all_the_time(tmp_path: Path) -> None:
    chance = random.Random(29)
    deaths = [moment_of_death(chance, 0.6) if chance.random() < 0.6 else chance.randrange(40) for _ in range(60)]
    assert survive(tmp_path, RICH, deaths, seed=29, units=200, certain=True) >= 3
