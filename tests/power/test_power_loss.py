"""The power fails at any moment, whatever the disk had not synced is gone, torn or out of order: the promise holds."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import trio

from channeld.base.errors import StoreFailed
from channeld.storage.sqlite import SqliteStore
from tests.power.disk import Create, Disk, Entry, Promise, Sync, Write, connect, image
from tests.power.workload import FILE, Lost, campaign, judge, turns


def everything(synchronous: str) -> None:
    for seed in range(4):
        campaign(f"test/{seed}", 30, synchronous=synchronous)


def test_what_was_promised_is_there_and_nothing_by_halves():
    """Which commits share a sync is a matter of threads, and so is what an image holds: one seed alone may hold no more
    than was promised in all its images, four hardly ever do."""
    beyond = 0
    for seed in range(4):
        counts = campaign(f"test/{seed}", 30)
        assert counts["images"] == 30
        assert counts["syncs"] > 20
        beyond += counts["batches beyond the promise"]
    assert beyond > 0, "some images hold more than was promised: unsynced is not undone"


def test_without_a_sync_for_each_commit_it_would_be_lost():
    """The check of the check: the same store with synchronous=NORMAL."""
    with pytest.raises(Lost, match="were promised"):
        everything("NORMAL")


def test_without_any_sync_it_would_be_torn():
    with pytest.raises(Lost):
        everything("OFF")


@pytest.mark.parametrize("syncs", [1, 2, 3, 5])
def test_after_a_sync_that_fails_nothing_is_accepted_and_nothing_promised_is_lost(tmp_path: Path, syncs: int):
    """The disk says so itself; whatever is left of it then, a start finds whole batches, all that were promised."""
    kept = 0

    async def commit_all(store: SqliteStore) -> None:
        nonlocal kept
        for turn in every:
            await store.commit(turn.batch)
            kept += 1
            disk.promise(kept)

    async def play() -> None:
        store = SqliteStore(tmp_path / FILE, connect=connect(disk.name))
        disk.fails_after = syncs
        with pytest.raises(StoreFailed, match="nothing more is signed"):
            await commit_all(store)
        disk.fails_after = None  # it works again: that changes nothing
        with pytest.raises(StoreFailed):
            await store.commit(every[-1].batch)
        with pytest.raises(StoreFailed):
            await store.watch()

    disk, every = Disk(f"fails after {syncs}"), turns(Random(syncs), 12)
    trio.run(play)
    assert 0 < kept < 12
    for number in range(10):
        folder = tmp_path / f"image{number}"
        folder.mkdir()
        assert judge(folder, every, image(disk.log, len(disk.log), Random(number), folder)) >= kept
    disk.unregister()


def test_an_image_keeps_what_is_synced_and_may_lose_the_rest(tmp_path: Path):
    """Of the model of the disk itself."""
    log: list[Entry] = [
        Create(1, "f"),
        Write(1, 0, b"a" * 600),
        Sync(1),
        Write(1, 0, b"b" * 600),
        Promise(1),
        Create(2, "g"),
    ]
    seen = set()
    for number in range(300):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert image(log, len(log), Random(number), folder) == 1
        seen.add((bytes([(data := (folder / "f").read_bytes())[0], data[599]]), (folder / "g").exists()))
    assert {what for what, _ in seen} == {b"aa", b"bb", b"ab", b"ba"}
    assert {there for _, there in seen} == {True, False}
    folder = tmp_path / "early"
    folder.mkdir()
    assert image(log, 3, Random(1), folder) == 0
    assert (folder / "f").read_bytes() == b"a" * 600
