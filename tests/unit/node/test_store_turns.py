"""Group commit is fair: who writes for the others is let go when its own batch is on disk."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.lowlevel

from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch


def batch(name: str) -> Batch:
    made = Batch()
    made.add("INSERT OR REPLACE INTO notes VALUES (?, x'')", name)
    return made


async def test_a_commit_ends_while_others_keep_coming(tmp_path: Path) -> None:
    """Else the guard's commit could wait behind busy channels for ever."""
    store = SqliteStore(tmp_path / "node.sqlite3")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def busy(number: int) -> None:
                while True:
                    await store.commit(batch(f"busy{number}"))
                    await trio.lowlevel.checkpoint()

            for number in range(3):
                nursery.start_soon(busy, number)
            for number in range(20):
                await store.commit(batch(f"mine{number}"))
            nursery.cancel_scope.cancel()
    assert len(store.rows("SELECT name FROM notes WHERE name LIKE 'mine%'")) == 20
    store.close()


async def test_every_commit_of_a_crowd_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "node.sqlite3")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def one(number: int) -> None:
                await store.commit(batch(f"note{number}"))
                assert store.rows("SELECT 1 FROM notes WHERE name = ?", f"note{number}")

            for number in range(200):
                nursery.start_soon(one, number)
    store.close()
