"""The folder of compiled models, and the order in which fits get cores."""

import asyncio
import os
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stats.bayes.models.exchangeable import DEFINITION
from workers.models.catalogue import always_wanted, bundle_folder, first_sizes, library
from workers.models.folder import BundleFolder, key_of
from workers.models.messages import SizedModel
from workers.models.slots import Slots


def test_a_bundle_is_written_whole_and_found_by_what_its_code_depends_on(tmp_path: Path) -> None:
    folder = BundleFolder(tmp_path)
    model = SizedModel(DEFINITION, 1)
    assert folder.size(key_of(model)) is None
    folder.write(key_of(model), b"code")
    folder.write(key_of(model), b"more code")
    assert folder.read(key_of(model)) == b"more code" and folder.size(key_of(model)) == 9
    assert [path.suffix for path in tmp_path.iterdir()] == [".bundle"]
    other = SizedModel(replace(DEFINITION, version=DEFINITION.version + 1), 1)
    assert folder.size(key_of(other)) is None
    folder.remove(key_of(model))
    folder.remove(key_of(model))
    with pytest.raises(FileNotFoundError):
        folder.read(key_of(model))


def test_a_full_folder_first_forgets_other_versions_and_then_what_was_longest_unused(tmp_path: Path) -> None:
    folder = BundleFolder(tmp_path, limit_bytes=250)
    for age, key in ((100, "old-version"), (400, "ours-unused"), (300, "ours-used"), (50, "ours-new")):
        folder.write(key, bytes(100))
        when = time.time() - age
        os.utime(tmp_path / f"{key}.bundle", (when, when))
    folder.read("ours-unused")  # not any more
    abandoned = tmp_path / "x.123.part"
    abandoned.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    folder.tidy({"ours-unused", "ours-used", "ours-new"})
    assert {path.name for path in tmp_path.iterdir()} == {"ours-unused.bundle", "ours-new.bundle"}
    folder.tidy(set())
    assert folder.size("ours-new") == 100, "nothing is removed below the limit"


def test_only_one_at_a_time_makes_a_bundle(tmp_path: Path) -> None:
    folder = BundleFolder(tmp_path)
    inside: list[int] = []
    most: list[int] = []

    def make(number: int) -> None:
        with folder.alone("key"):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.02)
            inside.remove(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_code_is_never_run_from_a_folder_that_others_may_write_to(tmp_path: Path) -> None:
    wanted = tmp_path / "models"
    assert bundle_folder(wanted).path == wanted
    assert stat.S_IMODE(wanted.stat().st_mode) == 0o700
    wanted.chmod(0o777)
    instead = bundle_folder(wanted).path
    try:
        assert instead != wanted and stat.S_IMODE(instead.stat().st_mode) == 0o700
    finally:
        instead.rmdir()


def test_without_a_setting_bundles_are_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert bundle_folder(None).path == tmp_path / "northlift" / "models"


def test_workers_compile_the_segment_model_at_their_start() -> None:
    assert [model.definition for model in always_wanted()] == [DEFINITION]
    assert set(always_wanted()) <= set(first_sizes()) <= set(library())


@pytest.mark.anyio
async def test_slots_are_given_in_order_and_a_large_request_is_not_starved() -> None:
    slots = Slots(2)
    order: list[str] = []

    async def use(name: str, count: int, urgent: bool = True) -> None:
        await slots.take(count, urgent=urgent)
        order.append(name)
        await asyncio.sleep(0.001)
        slots.give(count)

    await slots.take()
    async with asyncio.TaskGroup() as group:
        for name, count, urgent in (("all", 2, True), ("later", 1, False), ("one", 1, True), ("two", 1, True)):
            group.create_task(use(name, count, urgent))
        await asyncio.sleep(0.01)
        assert order == [], "the large one waits for both, and those behind it wait for their turn"
        slots.give()
    assert order == ["all", "one", "two", "later"] and slots.idle


@pytest.mark.anyio
async def test_who_leaves_the_queue_takes_no_slot_along() -> None:
    slots = Slots(2)
    await slots.take(2)
    waiting = [asyncio.ensure_future(slots.take(2)), asyncio.ensure_future(slots.take(1))]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    slots.give(2)
    await waiting[1]
    # The one that is told to leave in the moment in which its turn comes.
    last = asyncio.ensure_future(slots.take(2))
    await asyncio.sleep(0)
    slots.give(1)
    last.cancel()
    await asyncio.gather(last, return_exceptions=True)
    assert slots.idle
