"""A database that has changed behind our back is refused in words. Every byte of every kind of saved channel is tried.

A wrong byte in a signature, a balance or a secret would still be a channel: only the sum beside it tells. What is not
even a channel must be `Malformed` or break a law, and never any other error: an error nobody expects is a node that
cannot be started and does not say why.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio

from channeld.base.errors import Broken, Malformed, Refused
from channeld.core.saved import load, save
from channeld.storage.place import Origin
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch
from tests.unit.core.test_saved import CHANNELS

MASKS = (0x01, 0x80, 0xFF)


@pytest.mark.parametrize("which", sorted(CHANNELS))
def test_any_changed_byte_is_malformed_or_a_channel(which: str):
    good, channels, errors = save(CHANNELS[which]()), 0, 0
    for at in range(len(good)):
        for mask in MASKS:
            bad = bytearray(good)
            bad[at] ^= mask
            try:
                load(bytes(bad))
            except (Malformed, Broken):
                errors += 1
            else:
                channels += 1
    assert errors > 50
    assert channels > 50, "so a sum is needed"
    assert channels + errors == len(good) * len(MASKS)


@pytest.mark.parametrize("which", sorted(CHANNELS))
def test_any_missing_or_added_byte_is_malformed(which: str):
    good = save(CHANNELS[which]())
    for bad in (*(good[:size] for size in range(len(good))), good + b"\0", b"\0" + good):
        with pytest.raises(Malformed):
            load(bad)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with one channel of each kind, under names of their own."""
    made = tmp_path / "node.sqlite3"

    async def fill() -> None:
        store = SqliteStore(made)
        batch = Batch()
        batch.channel(CHANNELS["busy"]())
        await store.commit(batch)
        store.close()

    trio.run(fill)
    return made


@contextmanager
def damaged(path: Path, *sql: str, values: tuple[object, ...] = ()) -> Iterator[SqliteStore]:
    with closing(sqlite3.connect(path)) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for one in sql:
            connection.execute(one, values)
        connection.commit()
    store = SqliteStore(path, origin=Origin.MOVED)
    try:
        yield store
    finally:
        store.close()


def test_every_changed_byte_of_a_saved_channel_is_refused_at_the_start(path: Path):
    with closing(sqlite3.connect(path)) as connection:
        ((good,),) = connection.execute("SELECT saved FROM channels").fetchall()
    refused = 0
    with damaged(path) as store:
        for at in range(len(good)):
            bad = bytearray(good)
            bad[at] ^= MASKS[at % len(MASKS)]
            store._writer.execute("UPDATE channels SET saved = ?", (bytes(bad),))
            with pytest.raises(Refused, match="cannot be read") as told:
                list(store.channels())
            refused += told.value.code == "bad_database"
        store._writer.execute("UPDATE channels SET saved = ?", (good,))
        assert [save(channel) for channel in store.channels()] == [good]
    assert refused == len(good) > 1_000


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE signed SET version = version + 1",
        "UPDATE signed SET digest = zeroblob(32)",
        "DELETE FROM signed",
        "UPDATE channels SET id = zeroblob(32)",
        "UPDATE channels SET sum = x''",
    ],
)
def test_a_channel_that_does_not_fit_what_it_signed_is_refused(path: Path, sql: str):
    with damaged(path, sql) as store, pytest.raises(Refused) as told:
        list(store.channels())
    assert told.value.code == "bad_database"


def test_a_damaged_page_is_refused_or_reads_the_same(path: Path, tmp_path: Path):
    """Every 97th byte of the file: an error in words, or every channel as it was."""
    told: list[str] = []
    with closing(SqliteStore(path)) as store:
        before = [save(channel) for channel in store.channels()]
    good = path.read_bytes()
    for at in range(0, len(good), 97 * 8):
        for left in tmp_path.glob("bad*"):
            left.unlink()
        bad = bytearray(good)
        bad[at] ^= 0xFF
        (tmp_path / "bad.sqlite3").write_bytes(bad)
        told.append(reads(tmp_path / "bad.sqlite3", before))
    assert set(told) == {"bad_database", "the same"}


def reads(path: Path, before: list[bytes]) -> str:
    try:
        with closing(SqliteStore(path, origin=Origin.MOVED)) as store:
            return "the same" if [save(channel) for channel in store.channels()] == before else "another"
    except Refused as fault:
        return fault.code


def test_a_file_cut_short_is_refused(path: Path, tmp_path: Path):
    short = tmp_path / "short.sqlite3"
    shutil.copyfile(path, short)
    with short.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(Refused) as told:
        SqliteStore(short, origin=Origin.MOVED)
    assert told.value.code == "bad_database"
