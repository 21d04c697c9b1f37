"""Erasures in processes that die on the way: `python -m tests.warehouse.killed_erasure URL DATA_DIR AT DEATH...`.

A death is just before the n-th file is made safe, or, with a point in it, at a number of seconds. Prints how many died.
"""

import asyncio
import sys
from datetime import datetime
from functools import partial
from pathlib import Path

from experiments.database import Database
from experiments.settings import Settings
from tests.warehouse.killed_refresh import die_at, in_a_child
from warehouse.erasure import erase_units


def work(url: str, data_dir: Path, at: datetime, death: float) -> None:
    async def erase() -> None:
        database = Database(url, synchronous="OFF")
        die_at(death)
        await erase_units(database, Settings(database_url=url, data_dir=data_dir, analysis_threads=1), at=at)

    asyncio.run(erase())


def main() -> None:
    url, data_dir, at = sys.argv[1], Path(sys.argv[2]), datetime.fromisoformat(sys.argv[3])
    deaths = [float(text) if "." in text else int(text) for text in sys.argv[4:]]
    ends = [in_a_child(partial(work, url, data_dir, at, death)) for death in deaths]
    assert set(ends) <= {0, -9}, ends
    sys.stdout.write(f"{ends.count(-9)}\n")


if __name__ == "__main__":
    main()
