"""A database has one owner. Whoever opens it takes it over; who had it before saves, and so signs, nothing more.

Two stores in one process, two processes, a copy of the file, a folder that was moved: each is the real thing.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio
import trio.testing

from channeld.base.errors import Refused, StoreFailed
from channeld.base.units import Side
from channeld.core.channel import Channel
from channeld.core.events import Propose
from channeld.core.machine import step
from channeld.storage.place import Origin, place_of
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch
from tests.roles import OPENER_KEY, Pair, open_pair, pay


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "owner.sqlite3"


def note(name: str) -> Batch:
    batch = Batch()
    batch.add("INSERT INTO notes VALUES (?, x'')", name)
    return batch


def names(store: SqliteStore) -> list[str]:
    return [name for (name,) in store.rows("SELECT name FROM notes ORDER BY rowid")]


def batch_of(channel: Channel) -> Batch:
    batch = Batch()
    batch.channel(channel)
    return batch


def paid() -> tuple[Pair, Batch]:
    """A channel that can pay, and a batch that saves it."""
    both = open_pair()
    both.do(Side.A, pay(1))
    both.settle()
    return both, batch_of(both.opener.channel)


# -- the epoch


async def test_each_open_raises_the_epoch(path: Path):
    epochs = []
    for _ in range(3):
        store = SqliteStore(path)
        epochs.append(store.epoch)
        store.close()
    assert epochs == [1, 2, 3]


async def test_who_was_taken_over_saves_nothing(path: Path):
    first = SqliteStore(path)
    await first.commit(note("first"))
    second = SqliteStore(path)
    with pytest.raises(StoreFailed) as told:
        await first.commit(note("late"))
    assert told.value.code == "fenced"
    await second.commit(note("second"))
    with pytest.raises(StoreFailed):
        first.put_note("aside", b"")
    assert names(second) == ["first", "second"]
    first.close()
    second.close()


async def test_two_daemons_do_not_sign_one_version_twice(path: Path):
    """T05: both go on from the same saved state; only the owner's proposal is ever saved, and so only it is sent."""
    both, batch = paid()
    old = SqliteStore(path)
    await old.commit(batch)
    new = SqliteStore(path)
    told: list[str] = []
    proposed: list[Channel] = []
    for store, amount in ((old, 5), (new, 7)):
        queued = step(both.opener.channel, pay(amount, amount), OPENER_KEY).channel
        done = step(queued, Propose(), OPENER_KEY)
        assert done.sends, "it would go to the peer once it is saved"
        proposed.append(done.channel)
        try:
            await store.commit(batch_of(done.channel))
        except StoreFailed as fault:
            told.append(fault.code)
        else:
            told.append("saved")
    assert told == ["fenced", "saved"]
    first, second = (channel.top for channel in proposed)
    assert first[0] == second[0]
    assert first[1] != second[1], "one version, two contents"
    assert new.rows("SELECT version, digest FROM signed") == [second]
    old.close()
    new.close()


async def test_all_who_wait_are_told_that_it_was_taken_over(path: Path):
    first = SqliteStore(path)
    SqliteStore(path).close()
    told: list[str] = []

    async def one(at: int) -> None:
        try:
            await first.commit(note(f"n{at}"))
        except StoreFailed as fault:
            told.append(fault.code)

    async with trio.open_nursery() as nursery:
        for at in range(50):
            nursery.start_soon(one, at)
    assert told == ["fenced"] * 50
    assert names(first) == []
    first.close()


async def test_whoever_watches_hears_of_it(path: Path, nursery: trio.Nursery):
    """A caller may swallow its fault; the watch ends the process all the same."""
    first = SqliteStore(path)
    ended: list[str] = []

    async def watch() -> None:
        try:
            await first.watch()
        except StoreFailed as fault:
            ended.append(fault.code)

    nursery.start_soon(watch)
    await first.commit(note("fine"))
    await trio.testing.wait_all_tasks_blocked()
    assert ended == []
    SqliteStore(path).close()
    with pytest.raises(StoreFailed):
        await first.commit(note("late"))
    await trio.testing.wait_all_tasks_blocked()
    assert ended == ["fenced"]
    first.close()


def test_the_epoch_is_never_lowered(path: Path):
    SqliteStore(path).close()
    connection = sqlite3.connect(path)
    for sql in ("UPDATE owner SET epoch = 0", "UPDATE owner SET epoch = epoch", "DELETE FROM owner"):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(sql)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO owner (one, epoch, place) VALUES (2, 9, x'')")
    connection.close()


PAIR = """
    import sys, trio
    from channeld.base.errors import StoreFailed
    from channeld.storage.sqlite import SqliteStore
    from channeld.storage.store import Batch

    async def main():
        store = SqliteStore(sys.argv[1])
        print("open", flush=True)
        for at in range(100_000):
            batch = Batch()
            batch.add("INSERT INTO notes VALUES (?, x'')", f"{sys.argv[2]}.{at}")
            try:
                await store.commit(batch)
            except StoreFailed as fault:
                print(fault.code, at, flush=True)
                return
            await trio.sleep(0.001)  # or SQLite's lock is never free for long enough, on a machine with much to do
            if at == 20:
                print("twenty", flush=True)
                if sys.argv[2] == "second":
                    store.close()
                    return

    trio.run(main)
"""


def test_of_two_processes_only_the_later_goes_on(path: Path):
    def start(who: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PAIR), str(path), who],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    with start("first") as first:
        assert first.stdout is not None
        assert [first.stdout.readline().strip() for _ in range(2)] == ["open", "twenty"]
        with start("second") as second:
            assert second.stdout is not None
            assert second.stdout.read().split() == ["open", "twenty"]
        code, count = first.stdout.read().split()
    assert (code, first.returncode, second.returncode) == ("fenced", 0, 0)
    connection = sqlite3.connect(path)
    found = [name for (name,) in connection.execute("SELECT name FROM notes ORDER BY rowid")]
    connection.close()
    assert [name for name in found if name.startswith("second")] == found[-21:], "nobody writes between"
    assert found[:-21] == [f"first.{at}" for at in range(int(count))], "and nothing that was promised is gone"


# -- the place


async def test_a_copy_is_refused_until_its_owner_has_said_what_it_is(path: Path, tmp_path: Path):
    store = SqliteStore(path)
    await store.commit(note("kept"))
    store.close()
    copy = tmp_path / "copy.sqlite3"
    shutil.copyfile(path, copy)
    for _ in range(2):
        with pytest.raises(Refused) as told:
            SqliteStore(copy)
        assert told.value.code == "copied_database"
        assert "--restored" in told.value.hint
    accepted = SqliteStore(copy, origin=Origin.MOVED)
    assert names(accepted) == ["kept"]
    accepted.close()
    SqliteStore(copy).close()
    again = SqliteStore(path)
    assert names(again) == ["kept"], "the original is as good as before"
    again.close()


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_restore_that_dies_halfway_must_be_said_again(path: Path, tmp_path: Path, elsewhere: bool):
    """Its channels are not in recovery yet: a start without a word would go on signing from an old state."""
    SqliteStore(path).close()
    copy = tmp_path / "copy.sqlite3" if elsewhere else path
    if elsewhere:
        shutil.copyfile(path, copy)
    SqliteStore(copy, origin=Origin.COPY).close()  # and dies
    with pytest.raises(Refused) as told:
        SqliteStore(copy)
    assert told.value.code == "copied_database"
    again = SqliteStore(copy, origin=Origin.COPY)
    await again.commit(note("in recovery"))
    again.stand_here()
    await again.commit(note("goes on"))
    again.close()
    SqliteStore(copy).close()


def test_a_folder_that_is_renamed_is_no_copy(tmp_path: Path):
    (tmp_path / "before").mkdir()
    SqliteStore(tmp_path / "before" / "node.sqlite3").close()
    (tmp_path / "before").rename(tmp_path / "after")
    SqliteStore(tmp_path / "after" / "node.sqlite3").close()


def test_another_machine_is_another_place(path: Path, tmp_path: Path):
    path.write_bytes(b"")
    here, there, none = tmp_path / "here", tmp_path / "there", tmp_path / "none"
    here.write_text("4d3c\n")
    there.write_text("9a8b\n")
    places = {place_of(path, machine) for machine in (here, there, none)}
    assert len(places) == 3
    assert place_of(path, here) == place_of(path, here)
    assert {len(place) for place in places} == {16}


@pytest.mark.parametrize("at", range(3))
def test_an_epoch_or_place_of_garbage_is_no_way_in(path: Path, at: int):
    """A row somebody has taken out or changed: refused, not repaired."""
    SqliteStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER owner_is_kept")
    connection.execute("DROP TRIGGER owner_only_grows")
    connection.execute(("DELETE FROM owner", "UPDATE owner SET place = x'00'", "UPDATE owner SET epoch = 2")[at])
    connection.commit()
    connection.close()
    if at < 2:
        with pytest.raises(Refused) as told:
            SqliteStore(path)
        assert told.value.code == ("bad_database", "copied_database")[at]
    else:
        store = SqliteStore(path)
        assert store.epoch == 3
        store.close()


def test_the_other_daemon_is_told_in_words(path: Path):
    """What people read when their daemon was taken over."""
    first = SqliteStore(path)
    SqliteStore(path).close()
    with pytest.raises(StoreFailed) as told:
        first.put_note("late", b"")
    said = json.dumps({"text": told.value.text, "hint": told.value.hint})
    assert "another process has opened the database" in said
    assert "one daemon" in said
    first.close()
