"""The store on SQLite: WAL, `synchronous=FULL`, one writer, group commit without timers.

`commit` joins the batches that wait. A lone batch is written where it stands; as soon as more wait, a worker
thread writes them, and what arrives meanwhile forms the next transaction. A batch that breaks a law takes only
itself down: the others of its transaction are written again without it. After a failing disk nothing more is
accepted, because what was signed could not be remembered.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import trio

from channeld.base.errors import Broken, Refused, Unreachable
from channeld.core.channel import Channel
from channeld.core.saved import load
from channeld.storage.store import Batch, Row

SCHEMA: Final = 1
MAX_JOINED: Final = 4_096
"""Most statements that one transaction joins, so that nobody waits for a very long one."""

_LAWS: Final = (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError)
"""What a batch itself is to blame for: a law of the schema, or a value that no column can hold."""


@dataclass(eq=False, slots=True)
class _Waiting:
    batch: Batch
    turn: trio.Event = field(default_factory=trio.Event)
    """Set once it is written, or once it has to write what waits."""
    written: bool = False
    fault: Exception | None = None


class SqliteStore:
    """`path`: the database file, made if it is not there; ":memory:" keeps nothing."""

    def __init__(self, path: Path | str) -> None:
        """Refused (bad_database): not a database of ours, or one of a newer program."""
        self._waiting: list[_Waiting] = []
        self._busy = False
        self._failed: str | None = None
        self._lock = threading.Lock()
        try:
            self._writer = _open(path, _migrate)
            self._reader = self._writer if str(path) == ":memory:" else _open(path)
        except sqlite3.DatabaseError as fault:
            raise Refused("bad_database", f"{path}: {fault}", "is it a channeld database?") from fault

    def close(self) -> None:
        """After the last commit. Leaves one file, without journal."""
        with self._lock:
            if self._reader is not self._writer:
                self._reader.close()
            self._writer.close()

    async def commit(self, batch: Batch) -> None:
        mine = _Waiting(batch)
        self._waiting.append(mine)
        with trio.CancelScope(shield=True):
            if self._busy:
                await mine.turn.wait()
            if not mine.written:
                await self._lead()
        if mine.fault is not None:
            raise mine.fault

    async def _lead(self) -> None:
        """Write one transaction, and leave the next to the oldest of those that have come meanwhile."""
        self._busy = True
        try:
            await trio.lowlevel.checkpoint()  # whoever is ready now joins
            await self._write_some()
        finally:
            if self._waiting:
                self._waiting[0].turn.set()
            else:
                self._busy = False

    async def _write_some(self) -> None:
        """One transaction of what waits, oldest first. Ends every waiter it took, whatever happens."""
        taken: list[_Waiting] = []
        size = 0
        while self._waiting and (not taken or size < MAX_JOINED):
            taken.append(self._waiting.pop(0))
            size += len(taken[-1].batch.writes)
        if len(taken) == 1 and not self._waiting and size < 16:
            self._write(taken)
        else:
            await trio.to_thread.run_sync(self._write, taken)
        for one in taken:
            one.written = True
            one.turn.set()

    def _write(self, taken: list[_Waiting]) -> None:
        if self._failed:
            for one in taken:
                one.fault = Unreachable(f"the disk failed before: {self._failed}")
            return
        try:
            self._transact([one.batch for one in taken])
        except _LAWS as fault:
            if len(taken) == 1:
                taken[0].fault = Broken(f"the database refuses: {fault}")
                return
            for one in taken:
                self._write([one])
        except sqlite3.Error as fault:
            self._failed = str(fault)
            for one in taken:
                one.fault = Unreachable(f"the disk failed: {fault}")

    def _transact(self, batches: list[Batch]) -> None:
        with self._lock:
            cursor = self._writer.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                for sql, writes in groupby((one for batch in batches for one in batch.writes), key=itemgetter(0)):
                    cursor.executemany(sql, (values for _, values in writes))
                cursor.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    cursor.execute("ROLLBACK")

    def put_note(self, name: str, value: bytes) -> None:
        """Remember a small thing before anything runs; like `commit`, on disk when it returns, and with its errors."""
        mine = _Waiting(Batch())
        mine.batch.add("INSERT INTO notes VALUES (?, ?)", name, value)
        self._write([mine])
        if mine.fault is not None:
            raise mine.fault

    def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        if self._reader is not self._writer:
            return self._reader.execute(sql, values).fetchall()
        with self._lock:
            return self._reader.execute(sql, values).fetchall()

    def channels(self) -> Iterator[Channel]:
        for (saved,) in self.rows("SELECT saved FROM channels ORDER BY rowid"):
            yield load(saved)


def _open(path: Path | str, prepare: Callable[[sqlite3.Connection], None] | None = None) -> sqlite3.Connection:
    """A connection that keeps the promise; closed again if it cannot, or if `prepare` refuses."""
    connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if prepare is not None:
            prepare(connection)
    except (sqlite3.DatabaseError, Refused):
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    (have,) = connection.execute("PRAGMA user_version").fetchone()
    if have > SCHEMA:
        raise Refused("bad_database", f"the database has schema {have}, this program knows {SCHEMA}", "update channeld")
    scripts = sorted(
        entry.name
        for entry in resources.files("channeld.storage").joinpath("migrations").iterdir()
        if entry.name.endswith(".sql")
    )
    for script in scripts:
        number = int(script[:4])
        if number > have:
            text = resources.files("channeld.storage").joinpath("migrations", script).read_text(encoding="utf-8")
            connection.executescript(f"BEGIN;\n{text}\nPRAGMA user_version = {number};\nCOMMIT;")
