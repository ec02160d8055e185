"""The store at work, for the power to fail: a channel's turns on the real schema, saved as the daemon saves them.

Each batch is one turn of a channel: its new value, the version it signed, a transfer's row, and a note that goes on a
list. Some are committed alone, some together; now and then the store is closed and opened again. After any power cut
the database must open, be whole, and stand exactly after some number of batches, at least as many as were promised.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import trio

from channeld.base.errors import ChanneldError
from channeld.base.units import Side
from channeld.core.channel import Channel
from channeld.core.saved import save
from channeld.storage.place import Origin
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch, wide
from tests.power.disk import Disk, connect, image
from tests.roles import Pair, open_pair, pay

TURNS: Final = 24
FILE: Final = "node.sqlite3"
RAM: Final = Path("/dev/shm")


class Lost(Exception):
    """An image that does not hold what was promised, or holds half of something."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The channel after so many batches, and what saves it."""

    channel: Channel
    batch: Batch


def turns(chance: Random, count: int = TURNS) -> list[Turn]:
    """The turns of one channel's payer."""
    both: Pair = open_pair(deposit_a=1_000_000)
    found = []
    for number in range(1, count + 1):
        if chance.random() < 0.5:
            both.do(Side.A, pay(chance.randint(1, 1_000), number))
        else:
            both.do(Side.B, pay(1, number))
        both.settle()
        channel, batch = both.opener.channel, Batch()
        batch.channel(channel)
        batch.add(
            "INSERT INTO transfers (channel, id, outgoing, amount, state, at) VALUES (?, ?, 1, ?, 'pending', 0)",
            *(channel.id, number.to_bytes(16, "big"), wide(number)),
        )
        batch.add("INSERT INTO notes VALUES (?, ?)", f"turn {number}", chance.randbytes(chance.choice((0, 40, 5_000))))
        found.append(Turn(channel, batch))
    return found


def play(disk: Disk, path: Path, every: list[Turn], chance: Random, *, synchronous: str = "FULL") -> None:
    """Commit all turns on `disk`, whose log then holds what happened and what was promised when."""
    trio.run(_play, disk, path, every, chance, synchronous)


async def _play(disk: Disk, path: Path, every: list[Turn], chance: Random, synchronous: str) -> None:
    opened = connect(disk.name, synchronous=synchronous, checkpoint=chance.choice((8, 30, 1_000)))
    store, done = SqliteStore(path, connect=opened), 0
    while done < len(every):
        together = every[done : done + chance.choice((1, 1, 1, 2, 5))]
        async with trio.open_nursery() as nursery:
            for turn in together:
                nursery.start_soon(store.commit, turn.batch)
                await trio.lowlevel.checkpoint()  # one after another into the same group
        done += len(together)
        disk.promise(done)
        if chance.random() < 0.1:
            store.close()
            store = SqliteStore(path, connect=opened)
    store.close()


def judge(folder: Path, every: list[Turn], promised: int) -> int:
    """How many batches the image in `folder` holds; `Lost` if it breaks the promise."""
    path = folder / FILE
    try:
        SqliteStore(path, origin=Origin.MOVED).close()
    except ChanneldError as fault:
        raise Lost(f"does not open: {fault}") from fault
    database = sqlite3.connect(path)
    try:
        if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise Lost("integrity_check fails")
        ((kept,),) = database.execute("SELECT count(*) FROM transfers").fetchall()
        if kept < promised:
            raise Lost(f"{promised} batches were promised, {kept} are there")
        found = (
            database.execute("SELECT saved FROM channels").fetchall(),
            database.execute("SELECT version, digest FROM signed").fetchall(),
            database.execute("SELECT id FROM transfers ORDER BY n").fetchall(),
            database.execute("SELECT name, value FROM notes ORDER BY rowid").fetchall(),
        )
    finally:
        database.close()
    if found != _expected(every[:kept]):
        raise Lost(f"half a batch: not what {kept} batches make")
    return int(kept)


def _expected(every: list[Turn]) -> tuple[list[tuple[object, ...]], ...]:
    if not every:
        return [], [], [], []
    last = every[-1].channel
    notes = [values for turn in every for sql, values in turn.batch.writes if "notes" in sql]
    return (
        [(save(last),)],
        [last.top],
        [(number.to_bytes(16, "big"),) for number in range(1, len(every) + 1)],
        notes,
    )


def campaign(seed: str, images: int, *, synchronous: str = "FULL") -> dict[str, int]:
    """Play one workload, and judge so many images of it at moments of chance.

    `Lost` says how to see it again.
    """
    chance = Random(seed)
    counts = {"images": 0, "batches beyond the promise": 0, "writes": 0, "syncs": 0}
    place = Path(tempfile.mkdtemp(prefix="channeld-power-", dir=RAM if RAM.is_dir() else None))
    disk = Disk(f"power {seed}")
    try:
        (place / "disk").mkdir()
        every = turns(chance)
        play(disk, place / "disk" / FILE, every, chance, synchronous=synchronous)
        counts["writes"] = sum(type(entry).__name__ == "Write" for entry in disk.log)
        counts["syncs"] = sum(type(entry).__name__ == "Sync" for entry in disk.log)
        for number in range(images):
            folder = place / "image"
            folder.mkdir()
            cut = chance.randint(0, len(disk.log))
            promised = image(disk.log, cut, chance, folder)
            try:
                kept = judge(folder, every, promised)
            except Lost as fault:
                raise Lost(f"seed {seed}, image {number}, cut after {cut} of {len(disk.log)}: {fault}") from None
            counts["images"] += 1
            counts["batches beyond the promise"] += kept - promised
            shutil.rmtree(folder)
    finally:
        disk.unregister()
        shutil.rmtree(place)
    return counts
