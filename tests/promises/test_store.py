"""What every Store promises: a batch is whole, on disk and lawful when `commit` returns, or it is not there at all.

The same tests hold a store in a file and one in memory to it; only what needs a disk (a second process, a kill, a disk
that is full) is asked of the file alone. Outcomes are counted, not times.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from channeld.base.errors import Broken, Refused, StoreFailed
from channeld.base.units import Digest, Side, Version
from channeld.storage.sqlite import SCHEMA, SqliteStore
from channeld.storage.store import Batch, narrow, wide
from tests.roles import open_pair, pay

CHANNEL = b"c" * 32
OTHER = b"o" * 32


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "promise.sqlite3" if request.param == "file" else ":memory:")
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "promise.sqlite3"


def note(name: str, value: bytes = b"x") -> Batch:
    batch = Batch()
    batch.add("INSERT INTO notes VALUES (?, ?)", name, value)
    return batch


def names(store: SqliteStore) -> list[str]:
    return [name for (name,) in store.rows("SELECT name FROM notes ORDER BY rowid")]


def signed(version: int, digest: bytes, channel: bytes = CHANNEL) -> Batch:
    batch = Batch()
    batch.add(
        "INSERT INTO signed VALUES (?, ?, ?) ON CONFLICT (channel) DO UPDATE "
        "SET version = excluded.version, digest = excluded.digest",
        *(channel, version, digest),
    )
    return batch


class Trace:
    """Which transactions the store's own connection ran; in WAL with synchronous=FULL each COMMIT is one sync."""

    def __init__(self, store: SqliteStore) -> None:
        self.commits = self.rollbacks = 0
        store._writer.set_trace_callback(self._ran)

    def _ran(self, sql: str) -> None:
        self.commits += sql == "COMMIT"
        self.rollbacks += sql == "ROLLBACK"


async def outcome(store: SqliteStore, batch: Batch) -> str:
    """What became of a batch: "" or the name of the error."""
    try:
        await store.commit(batch)
    except (Broken, StoreFailed) as fault:
        return type(fault).__name__
    return ""


async def outcomes(store: SqliteStore, batches: list[Batch]) -> list[str]:
    """All of them at once, so that they wait together."""
    told = [""] * len(batches)

    async def one(at: int) -> None:
        told[at] = await outcome(store, batches[at])

    async with trio.open_nursery() as nursery:
        for at in range(len(batches)):
            nursery.start_soon(one, at)
    return told


# -- whole, in order, or not at all


async def test_what_was_committed_can_be_read(store: SqliteStore):
    await store.commit(note("first", b"\0\1"))
    assert store.rows("SELECT name, value FROM notes") == [("first", b"\0\1")]


async def test_a_batch_is_whole_or_nothing(store: SqliteStore):
    await store.commit(note("taken"))
    batch = note("before")
    batch.extend(note("taken"))
    batch.extend(note("after"))
    assert await outcome(store, batch) == "Broken"
    assert names(store) == ["taken"]
    await store.commit(note("afterwards"))
    assert names(store) == ["taken", "afterwards"]


async def test_statements_of_a_batch_keep_their_order(store: SqliteStore):
    batch = note("one")
    batch.add("UPDATE notes SET name = 'two' WHERE name = 'one'")
    batch.extend(note("one"))
    await store.commit(batch)
    assert names(store) == ["two", "one"]


async def test_what_is_not_committed_is_not_seen(path: Path):
    store = SqliteStore(path)
    store._writer.execute("BEGIN IMMEDIATE")
    store._writer.execute("INSERT INTO notes VALUES ('half', x'')")
    assert names(store) == []
    store._writer.execute("ROLLBACK")
    store.close()


async def test_a_cancelled_commit_still_ends_one_way(store: SqliteStore):
    """Who is cancelled while its batch waits may act on nothing, but the batch is not torn."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.commit(note("kept"))
    assert names(store) == ["kept"]
    await store.commit(note("next"))
    assert names(store) == ["kept", "next"]


async def test_a_number_that_no_column_can_hold_breaks_only_its_batch(store: SqliteStore):
    told = await outcomes(store, [note("good"), signed(2**63, b"d" * 32), note("fine")])
    assert told == ["", "Broken", ""]
    assert sorted(names(store)) == ["fine", "good"]


# -- what rests on another


@pytest.mark.parametrize("pause", [0, 1, 3, 50], ids="after {} passes".format)
async def test_what_rests_on_a_batch_that_breaks_a_law_is_not_saved(store: SqliteStore, pause: int):
    """Whether they come so close together that they share a transaction, or one after the other."""
    await store.commit(note("taken"))
    broken, resting, other = note("taken"), note("resting"), note("other")
    resting.after.append(broken)
    told: dict[str, str] = {}

    async def one(name: str, batch: Batch) -> None:
        told[name] = await outcome(store, batch)

    async with trio.open_nursery() as nursery:
        for name, batch in (("other", other), ("broken", broken), ("resting", resting)):
            nursery.start_soon(one, name, batch)
            for _ in range(pause + 1):
                await trio.lowlevel.checkpoint()
    assert told == {"other": "", "broken": "Broken", "resting": "NotSaved"}
    assert sorted(names(store)) == ["other", "taken"]
    last = note("last")
    last.after.append(resting)
    assert await outcome(store, last) == "NotSaved"


async def test_what_rests_on_a_batch_that_never_came_is_not_saved(store: SqliteStore):
    never, resting = note("never"), note("resting")
    never.failed = True
    resting.after.append(never)
    assert await outcome(store, resting) == "NotSaved"
    assert names(store) == []


async def test_what_rests_on_a_batch_joins_its_transaction(store: SqliteStore):
    trace, first, second = Trace(store), note("first"), note("second")
    first.followed = True
    second.after.append(first)

    async def late() -> None:
        await trio.lowlevel.checkpoint()
        await store.commit(second)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.commit, first)
        nursery.start_soon(late)
    assert (names(store), trace.commits) == (["first", "second"], 1)


async def test_a_saved_batch_keeps_nothing_alive_that_it_rested_on(store: SqliteStore):
    """A hub's turns rest on one another without end."""
    first, second = note("first"), note("second")
    second.after.append(first)
    await store.commit(first)
    await store.commit(second)
    assert (names(store), second.after) == (["first", "second"], [])


# -- synced, and shared


async def test_the_connection_syncs_before_a_commit_returns(path: Path):
    store = SqliteStore(path)
    for connection in (store._writer, store._reader):
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
    store.close()


async def test_another_process_sees_it_when_commit_returns(path: Path):
    store = SqliteStore(path)
    await store.commit(note("seen"))
    stranger = sqlite3.connect(path)
    assert stranger.execute("SELECT name FROM notes").fetchall() == [("seen",)]
    stranger.close()
    store.close()


async def test_batches_that_wait_share_one_transaction(store: SqliteStore):
    trace = Trace(store)
    assert set(await outcomes(store, [note(f"n{at}") for at in range(200)])) == {""}
    assert len(names(store)) == 200
    assert trace.commits <= 2, "two hundred batches at once are to cost one sync, two at most"


async def test_batches_one_after_another_are_one_transaction_each(store: SqliteStore):
    trace = Trace(store)
    for at in range(5):
        await store.commit(note(f"n{at}"))
    assert trace.commits == 5


async def test_what_comes_while_one_is_written_forms_the_next(store: SqliteStore):
    """Nobody waits for a timer, and nobody is left behind."""
    trace = Trace(store)
    told: list[int] = []

    async def committer(at: int) -> None:
        for again in range(20):
            await store.commit(note(f"{at}.{again}"))
            told.append(at)

    async with trio.open_nursery() as nursery:
        for at in range(20):
            nursery.start_soon(committer, at)
    assert len(names(store)) == len(told) == 400
    assert trace.commits < 200, "twenty at a time are to share"


# -- laws


async def test_a_batch_that_breaks_a_law_takes_only_itself_down(store: SqliteStore):
    await store.commit(note("taken"))
    trace = Trace(store)
    batches = [note(f"n{at}") for at in range(20)]
    batches[7] = note("mine")
    batches[7].extend(note("taken"))
    told = await outcomes(store, batches)
    assert told == ["Broken" if at == 7 else "" for at in range(20)]
    assert sorted(names(store)) == sorted(["taken", *(f"n{at}" for at in range(20) if at != 7)])
    assert trace.rollbacks == 2, "the joint one, then the culprit alone"


async def test_no_version_is_signed_twice(store: SqliteStore):
    """R3's `top`: the last line, below all other checks."""
    await store.commit(signed(5, b"five" * 8))
    await store.commit(signed(5, b"five" * 8))
    assert await outcome(store, signed(5, b"FIVE" * 8)) == "Broken"
    assert await outcome(store, signed(4, b"four" * 8)) == "Broken"
    await store.commit(signed(4, b"four" * 8, OTHER))
    await store.commit(signed(6, b"six." * 8))
    assert store.rows("SELECT version, digest FROM signed WHERE channel = ?", CHANNEL) == [(6, b"six." * 8)]


async def test_what_was_signed_is_not_forgotten(store: SqliteStore):
    await store.commit(signed(5, b"five" * 8))
    batch = Batch()
    batch.add("DELETE FROM signed WHERE channel = ?", CHANNEL)
    assert await outcome(store, batch) == "Broken"
    assert store.rows("SELECT version FROM signed") == [(5,)]


async def test_a_channel_is_saved_with_the_highest_version_it_signed(store: SqliteStore):
    both = open_pair()
    fresh, opener = both.opener.channel, both.opener
    batch = Batch()
    batch.channel(fresh)
    await store.commit(batch)
    assert store.rows("SELECT * FROM signed") == []
    both.do(Side.A, pay(1))
    both.settle()
    batch = Batch()
    batch.channel(opener.channel)
    await store.commit(batch)
    version, digest = opener.channel.top
    assert version > 0
    assert store.rows("SELECT version, digest FROM signed") == [(version, digest)]
    (loaded,) = store.channels()
    assert loaded.current == opener.channel.current
    forged = Batch()
    forged.writes = [(sql, values) for sql, values in batch.writes if "signed" in sql]
    forged.writes[0] = (forged.writes[0][0], (opener.channel.id, Version(version), Digest(bytes(32))))
    assert await outcome(store, forged) == "Broken"


async def test_a_lock_goes_out_for_one_forward_only(store: SqliteStore):
    for in_lock, expected in ((1, ""), (2, "Broken")):
        batch = Batch()
        batch.add(
            "INSERT INTO forwards (in_channel, in_lock, out_channel, out_lock, key, amount_in, amount_out, secret, "
            "state, at) VALUES (x'01', ?, x'02', 1, x'', x'', x'', x'', 'offered', 0)",
            in_lock,
        )
        assert await outcome(store, batch) == expected


async def test_a_column_takes_its_own_type_only(store: SqliteStore):
    batch = Batch()
    batch.add("INSERT INTO notes VALUES ('n', 'text')")
    assert await outcome(store, batch) == "Broken"


# -- a database of other hands, or of another time


def test_a_newer_schema_is_refused(path: Path):
    SqliteStore(path).close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()
    with pytest.raises(Refused, match=f"schema {SCHEMA + 1}") as told:
        SqliteStore(path)
    assert told.value.code == "bad_database"


def test_a_file_that_is_no_database_is_refused(path: Path):
    path.write_bytes(b"this is a diary" * 1_000)
    with pytest.raises(Refused) as told:
        SqliteStore(path)
    assert told.value.code == "bad_database"
    assert path.read_bytes().startswith(b"this is a diary")


async def test_opened_again_it_is_as_it_was_left(path: Path):
    store = SqliteStore(path)
    await store.commit(note("first"))
    store.put_note("second", b"")
    store.close()
    left = {file.name for file in path.parent.iterdir()}
    assert left == {path.name, f"{path.name}.token"}, "no journal is left, only what tells it from a copy"
    store = SqliteStore(path)
    assert names(store) == ["first", "second"]
    store.close()


@pytest.mark.parametrize("amount", [0, 1, 255, 256, 2**63, 2**88 - 1, 2**128 - 1])
def test_wide_integers_sort_as_numbers_do(amount: int):
    assert narrow(wide(amount)) == amount
    assert len(wide(amount)) == 16
    assert amount == 0 or wide(amount - 1) < wide(amount)


# -- death and disks


def child(script: str, *args: str, wait: bool = True) -> subprocess.Popen[str]:
    """A process of its own that runs `script` on the store."""
    started = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *args],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if wait:
        started.wait(60)
    return started


ENDLESS = """
    import sys, trio
    from channeld.storage.sqlite import SqliteStore
    from channeld.storage.store import Batch

    async def committer(store, who):
        for at in range(1_000_000):
            batch = Batch()
            batch.add("INSERT INTO notes VALUES (?, x'01')", f"{who}.{at}.left")
            batch.add("INSERT INTO notes VALUES (?, x'02')", f"{who}.{at}.right")
            await store.commit(batch)
            print(f"{who}.{at}", flush=True)

    async def main():
        store = SqliteStore(sys.argv[1])
        async with trio.open_nursery() as nursery:
            for who in range(8):
                nursery.start_soon(committer, store, who)

    trio.run(main)
"""


@pytest.mark.parametrize("lines", [1, 97, 400])
def test_a_killed_process_loses_nothing_that_was_promised(path: Path, lines: int):
    """kill -9 at any moment; what `commit` returned for is there, and every batch is whole."""
    process = child(ENDLESS, str(path), wait=False)
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().splitlines(keepends=True)
    told += [line.strip() for line in rest if line.endswith("\n")]
    process.stdout.close()
    assert process.wait(10) == -signal.SIGKILL
    store = SqliteStore(path)
    found = set(names(store))
    store.close()
    assert all({f"{name}.left", f"{name}.right"} <= found for name in told)
    assert {name.rpartition(".")[0] for name in found if name.endswith("left")} == {
        name.rpartition(".")[0] for name in found if name.endswith("right")
    }


async def test_after_a_full_disk_nothing_more_is_accepted(store: SqliteStore):
    await store.commit(note("before"))
    ((pages,),) = store._writer.execute("PRAGMA page_count").fetchall()
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    assert await outcome(store, note("big", bytes(1_000_000))) == "StoreFailed"
    store._writer.execute("PRAGMA max_page_count = 1000000")
    assert await outcome(store, note("small")) == "StoreFailed", "there is room again, but who knows what was lost"
    assert names(store) == ["before"]
    with pytest.raises(StoreFailed):
        store.put_note("aside", b"")


async def test_a_full_disk_fails_everybody_who_waits(store: SqliteStore):
    ((pages,),) = store._writer.execute("PRAGMA page_count").fetchall()
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    told = await outcomes(store, [note(f"n{at}", bytes(100_000)) for at in range(20)])
    assert set(told) == {"StoreFailed"}
    assert names(store) == []


LIMITED = """
    import json, resource, sys, trio
    from channeld.base.errors import StoreFailed
    from channeld.storage.sqlite import SqliteStore
    from channeld.storage.store import Batch

    async def main():
        store = SqliteStore(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
        told, refused = [], 0
        for at in range(500):
            batch = Batch()
            batch.add("INSERT INTO notes VALUES (?, ?)", str(at), bytes(5_000))
            try:
                await store.commit(batch)
            except StoreFailed:
                refused += 1
            else:
                told.append(str(at))
        print(json.dumps({"told": told, "refused": refused}))

    trio.run(main)
"""


def test_a_disk_that_takes_no_more_loses_nothing_that_was_promised(path: Path):
    process = child(LIMITED, str(path))
    assert process.stdout is not None
    answer = json.loads(process.stdout.read())
    process.stdout.close()
    assert process.returncode == 0
    told = answer["told"]
    assert 0 < len(told) < 500
    assert told == [str(at) for at in range(len(told))], "after the first refusal nothing is accepted"
    assert answer["refused"] == 500 - len(told)
    store = SqliteStore(path)
    assert names(store) == told
    store.close()
