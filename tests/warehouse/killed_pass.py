"""Shared passes in processes that die on the way: `python -m tests.warehouse.killed_pass FILE`.

FILE is a pickle of (asked, deaths): a death is at a number of seconds, or just before the n-th file is made safe. After
each one every plan is measured by whoever asks for it, and compared with a pass of its own.
"""

import pickle
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.warehouse.killed_refresh import die_at, in_a_child
from tests.warehouse.test_shared_pass import same
from warehouse.extract import extract_experiment
from warehouse.kept_moments import FOLDER, forget_moments, is_kept
from warehouse.together import Asked, Together, measure_together


def asking(asked: Sequence[Asked], place: int) -> Together:
    """What a worker tells about one of them."""
    return Together(asked[place].key, tuple(one for one in asked if one is not asked[place]), 60.0)


def main() -> None:
    asked, deaths = pickle.loads(Path(sys.argv[1]).read_bytes())
    died = 0
    for death in deaths:
        code = in_a_child(partial(suffer, asked, death))
        assert code in (0, -signal.SIGKILL), code
        died += code != 0
        assert in_a_child(partial(check, asked)) == 0, death
    sys.stdout.write(f"{died}\n")


def suffer(asked: Sequence[Asked], death: float) -> None:
    die_at(death)
    measure_together(asked[0].plan, asked[0].data, asking(asked, 0))


def check(asked: Sequence[Asked]) -> None:
    for place in reversed(range(len(asked))):
        one = asked[place]
        found = measure_together(one.plan, one.data, asking(asked, place))
        if found is not None:
            same(found, extract_experiment(one.plan, one.data), exactly=True)
        else:
            assert all(is_kept(data_dir_of(other), other.key) for other in asked if other is not one)
    forget_moments(data_dir_of(asked[0]))
    assert [path.name for path in (data_dir_of(asked[0]) / FOLDER).iterdir()] == ["gate"]


def data_dir_of(asked: Asked) -> Path:
    """Where its moments are kept."""
    assert asked.data.data_dir is not None
    return asked.data.data_dir


if __name__ == "__main__":
    main()
