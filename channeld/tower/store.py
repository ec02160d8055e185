"""What a tower must not forget: appointments, hints that are no secret any more, intents, and how far it has read.

One SQLite file in WAL mode with `synchronous=FULL`, locked for one process. All work on it goes through one writer:
whatever is waiting when it is free is done in one transaction and synced once, and what arrives meanwhile forms the
next batch (no timers). A call returns only after its sync, so a receipt that left was on disk before. One row per
client key: a client replaces its appointment, so the store grows with channels, never with payments. Before a close
reveals a salt nothing here tells which channel, party or amount a row is about.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar, cast

import trio

from channeld.base.digests import Domain
from channeld.base.errors import Broken, Refused
from channeld.base.units import BlockNumber, ChannelId, Digest, NodeId, Signature, Timestamp
from channeld.tower.intents import INTENTS_SCHEMA

Result = TypeVar("Result")

APPLICATION_ID: Final = 0x63_68_74_77
"""Marks the file as a tower's store (`file` and `sqlite3` show it)."""
SCHEMA_VERSION: Final = 1
MAX_BATCH: Final = 512
"""Most jobs in one transaction: bounds how long the first of them waits."""
MAX_SEQ: Final = 2**63 - 1
"""Largest sequence number SQLite can order."""
GENESIS: Final = BlockNumber(0)

# A rowid table: rows of this size in a WITHOUT ROWID table take three times the space.
_SCHEMA: Final = (
    """CREATE TABLE appointments (
        id INTEGER PRIMARY KEY,
        auth BLOB NOT NULL,
        hint BLOB NOT NULL,
        seq INTEGER NOT NULL,
        blob BLOB NOT NULL,
        blob_hash BLOB NOT NULL,
        signature BLOB NOT NULL,
        head_number INTEGER NOT NULL,
        head_time INTEGER NOT NULL,
        valid_until INTEGER NOT NULL,
        receipt BLOB NOT NULL
    )""",
    "CREATE UNIQUE INDEX appointment_of ON appointments (auth)",
    "CREATE INDEX appointments_at ON appointments (hint)",
    "CREATE TABLE revealed (hint BLOB PRIMARY KEY, channel_id BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE earned (channel_id BLOB PRIMARY KEY, bond TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE notes (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    *INTENTS_SCHEMA,
)
_COLUMNS: Final = "auth, hint, seq, blob, blob_hash, signature, head_number, head_time, valid_until, receipt"


_INSERT: Final = f"INSERT INTO appointments ({_COLUMNS}) VALUES ({', '.join('?' * 10)})"
_UPDATE: Final = f"UPDATE appointments SET {_COLUMNS.replace(',', ' = ?,')} = ? WHERE auth = ?"
_STANDS: Final = "SELECT hint, seq, blob_hash FROM appointments WHERE auth = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An appointment as it is kept. `auth`: the client's key for this channel; `receipt`: our signature, 65 bytes."""

    auth: NodeId
    hint: Digest
    seq: int
    blob: bytes
    """As uploaded; empty once the client has deleted it."""
    blob_hash: Digest
    signature: Signature
    """The client's, over this update: shown when a client asks what we hold."""
    head_number: BlockNumber
    head_time: Timestamp
    valid_until: Timestamp
    receipt: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """On disk. `row` is what stands: for a repeated upload the one kept before, with its first receipt.

    `revealed`: a close has shown the salt behind its hint, so no cover may be promised.
    """

    row: Row
    revealed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """Not taken: we hold `row`, with a higher sequence, other bytes under the same, or another hint."""

    row: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """Not taken: as many channels as the policy allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """From where the chain must be read again after a restart.

    `block`: every block up to this one is final and done with. `closings`: how many closes these blocks hold, which
    is the index of the last one; None if none was seen since the store was made.
    """

    block: BlockNumber
    closings: int | None


class _Job(Generic[Result]):
    """Work on the database, what came of it, and the bell for whoever waits."""

    __slots__ = ("done", "failure", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Result]) -> None:
        self.work = work
        self.done = trio.Event()
        self.failure: Exception | None = None
        self.result: Result | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        self.result = self.work(connection)


class TowerStore:
    """The tower's memory; see `open_store`. Every method returns after its change is synced to disk."""

    def __init__(self, connection: sqlite3.Connection, bell: trio.MemorySendChannel[_Job[object]]) -> None:
        self._connection = connection
        self._bell = bell

    async def do(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` in the writer's thread, in the next transaction, and wait until that is on disk.

        `work` may be run twice, so it touches nothing but the connection. What it raises is raised here.
        """
        job = _Job(work)
        try:
            self._bell.send_nowait(cast("_Job[object]", job))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Broken("the tower's store has stopped") from None
        await job.done.wait()
        if job.failure is not None:
            raise job.failure
        return cast("Result", job.result)

    # -- appointments ------------------------------------------------------------------------------------------

    async def put(self, row: Row, *, room: int) -> Kept | Behind | Full:
        """Keep `row` in place of its client's older one. Sequences go strictly up; the same bytes are no change.

        Args:
            room: most appointments the store may hold.
        """
        return await self.do(lambda connection: _put(connection, row, room))

    async def by_auth(self, auth: NodeId) -> Row | None:
        return await self.do(lambda connection: _one(connection, auth))

    async def by_hint(self, hint: Digest, since: BlockNumber = GENESIS) -> tuple[Row, ...]:
        """All rows of a hint taken at head `since` or later: anybody may have put rows there, none may hide another."""
        return await self.do(lambda connection: _at(connection, hint, since))

    async def count(self) -> int:
        """How many appointments stand, deleted ones included until they are forgotten."""
        return await self.do(_count)

    async def forget_before(self, moment: Timestamp) -> int:
        """Drop what was promised until before `moment`; the number of rows dropped."""
        return await self.do(lambda connection: _forget(connection, moment))

    # -- the chain ---------------------------------------------------------------------------------------------

    async def reveal(self, hints: Mapping[Digest, ChannelId]) -> None:
        """Closes have shown the salts behind these hints: no cover is promised for them any more."""
        await self.do(lambda connection: _reveal(connection, hints))

    async def earn(self, channel_id: ChannelId, bond: int) -> None:
        """The bond of a channel was paid to us, in wei; 0 takes it back after a reorg."""
        await self.do(lambda connection: _earn(connection, channel_id, bond))

    async def earned(self) -> int:
        """All bonds paid to us, wei."""
        return await self.do(_earned)

    async def reading(self) -> Reading | None:
        return await self.do(_reading)

    async def read_up_to(self, reading: Reading) -> None:
        """Everything up to `reading.block` is final and needs no second look; never goes back."""
        await self.do(lambda connection: _read_up_to(connection, reading))


@asynccontextmanager
async def open_store(path: Path, *, domain: Domain, tower: NodeId) -> AsyncIterator[TowerStore]:
    """The store at `path` (made if missing, readable by its owner alone), for one tower on one chain.

    Raises:
        Refused: `store_in_use` by another process, `store_foreign` for another tower, chain or program.
        Broken: the file cannot be read or written.
    """
    connection = await trio.to_thread.run_sync(_open, path, domain, tower)
    try:
        async with trio.open_nursery() as nursery:
            bell, inbox = trio.open_memory_channel[_Job[object]](float("inf"))
            nursery.start_soon(_write, connection, inbox)
            with bell:
                yield TowerStore(connection, bell)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(connection.close)


async def _write(connection: sqlite3.Connection, inbox: trio.MemoryReceiveChannel[_Job[object]]) -> None:
    """The one writer: do whatever is waiting, sync once, tell those who wait; ends when the store is closed.

    What was asked for before a shutdown is finished, so this is shielded and ends with its inbox. Should it ever
    end otherwise, nobody is left waiting.
    """
    limiter = trio.CapacityLimiter(1)
    batch: list[_Job[object]] = []
    with trio.CancelScope(shield=True), inbox:
        try:
            async for first in inbox:
                batch = [first]
                _gather(inbox, batch, MAX_BATCH)
                await trio.to_thread.run_sync(_commit, connection, batch, limiter=limiter)
                for job in batch:
                    job.done.set()
        finally:
            _gather(inbox, batch, None)
            for job in batch:
                if not job.done.is_set():
                    job.failure = job.failure or Broken("the tower's store has stopped")
                    job.done.set()


def _gather(inbox: trio.MemoryReceiveChannel[_Job[object]], batch: list[_Job[object]], most: int | None) -> None:
    """Add what is waiting to `batch`, up to `most` jobs."""
    while most is None or len(batch) < most:
        try:
            batch.append(inbox.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            return


def _commit(connection: sqlite3.Connection, batch: list[_Job[object]]) -> None:
    """Do the jobs in one transaction; if one fails, each in its own, so that it fails alone."""
    try:
        _transaction(connection, batch)
    except (sqlite3.Error, Refused, Broken, ValueError) as failure:
        if len(batch) == 1:
            batch[0].failure = Broken(f"tower store: {failure}") if isinstance(failure, sqlite3.Error) else failure
            return
        for job in batch:
            _commit(connection, [job])


def _transaction(connection: sqlite3.Connection, batch: Iterable[_Job[object]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for job in batch:
            job.run(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _open(path: Path, domain: Domain, tower: NodeId) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as failure:
        raise Broken(f"cannot open the tower's store {path}: {failure}") from None
    try:
        _prepare(connection, b"%d/%b/%b" % (domain.chain_id, domain.manager, tower))
    except sqlite3.OperationalError as failure:
        connection.close()
        if "locked" not in str(failure):
            raise Broken(f"cannot use the tower's store {path}: {failure}") from None
        raise Refused("store_in_use", f"another process uses {path}", "stop the other tower first") from None
    except sqlite3.DatabaseError as failure:
        connection.close()
        raise Broken(f"{path} is no tower's store: {failure}") from None
    except Refused as refusal:
        connection.close()
        raise Refused(refusal.code, f"{path}: {refusal.text}", refusal.hint) from None
    return connection


def _prepare(connection: sqlite3.Connection, owner: bytes) -> None:
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN EXCLUSIVE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (program,) = connection.execute("PRAGMA application_id").fetchone()
    if version == 0 and not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("INSERT INTO notes VALUES ('owner', ?)", (owner,))
    elif program != APPLICATION_ID or version != SCHEMA_VERSION:
        connection.execute("ROLLBACK")
        raise Refused("store_foreign", "not a tower's store of this version")
    else:
        held = connection.execute("SELECT value FROM notes WHERE name = 'owner'").fetchone()
        if held is None or held[0] != owner:
            connection.execute("ROLLBACK")
            raise Refused(
                "store_foreign",
                "the store belongs to another tower key, chain or contract",
                "give each of them a data directory of its own",
            )
    connection.execute("COMMIT")


# -- the jobs themselves: run in the writer's thread, inside a transaction -----------------------------------------


def _row(values: tuple[object, ...]) -> Row:
    auth, hint, seq, blob, blob_hash, signature, number, time, until, receipt = values
    return Row(
        auth=NodeId(cast("bytes", auth)),
        hint=Digest(cast("bytes", hint)),
        seq=cast("int", seq),
        blob=cast("bytes", blob),
        blob_hash=Digest(cast("bytes", blob_hash)),
        signature=Signature(cast("bytes", signature)),
        head_number=BlockNumber(cast("int", number)),
        head_time=Timestamp(cast("int", time)),
        valid_until=Timestamp(cast("int", until)),
        receipt=Signature(cast("bytes", receipt)),
    )


def _one(connection: sqlite3.Connection, auth: NodeId) -> Row | None:
    found = connection.execute(f"SELECT {_COLUMNS} FROM appointments WHERE auth = ?", (auth,)).fetchone()
    return None if found is None else _row(found)


def _at(connection: sqlite3.Connection, hint: Digest, since: BlockNumber) -> tuple[Row, ...]:
    query = f"SELECT {_COLUMNS} FROM appointments WHERE hint = ? AND head_number >= ?"
    return tuple(_row(values) for values in connection.execute(query, (hint, since)))


def _count(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM appointments").fetchone()
    return cast("int", count)


def _put(connection: sqlite3.Connection, row: Row, room: int) -> Kept | Behind | Full:
    stands = connection.execute(_STANDS, (row.auth,)).fetchone()
    if stands is None:
        if _last_id(connection) >= room and _count(connection) >= room:
            return Full()
        connection.execute(_INSERT, _values(row))
        return Kept(row=row, revealed=_is_revealed(connection, row.hint))
    hint, seq, _ = stands
    if hint == row.hint and seq < row.seq:
        connection.execute(_UPDATE, (*_values(row), row.auth))
        return Kept(row=row, revealed=_is_revealed(connection, row.hint))
    held = _one(connection, row.auth)
    if held is None:
        raise Broken("an appointment is gone in the middle of its transaction")
    return Kept(row=held) if stands == (row.hint, row.seq, row.blob_hash) else Behind(row=held)


def _last_id(connection: sqlite3.Connection) -> int:
    """An upper bound of the number of rows, found without counting them."""
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM appointments").fetchone()
    return cast("int", last)


def _values(row: Row) -> tuple[object, ...]:
    return (
        row.auth,
        row.hint,
        row.seq,
        row.blob,
        row.blob_hash,
        row.signature,
        row.head_number,
        row.head_time,
        row.valid_until,
        row.receipt,
    )


def _forget(connection: sqlite3.Connection, moment: Timestamp) -> int:
    return connection.execute("DELETE FROM appointments WHERE valid_until < ?", (moment,)).rowcount


def _reveal(connection: sqlite3.Connection, hints: Mapping[Digest, ChannelId]) -> None:
    connection.executemany("INSERT OR REPLACE INTO revealed VALUES (?, ?)", hints.items())


def _earn(connection: sqlite3.Connection, channel_id: ChannelId, bond: int) -> None:
    connection.execute("INSERT OR REPLACE INTO earned VALUES (?, ?)", (channel_id, str(bond)))


def _earned(connection: sqlite3.Connection) -> int:
    return sum(int(bond) for (bond,) in connection.execute("SELECT bond FROM earned"))


def _is_revealed(connection: sqlite3.Connection, hint: Digest) -> bool:
    return connection.execute("SELECT 1 FROM revealed WHERE hint = ?", (hint,)).fetchone() is not None


def _reading(connection: sqlite3.Connection) -> Reading | None:
    found = connection.execute("SELECT value FROM notes WHERE name = 'reading'").fetchone()
    if found is None:
        return None
    block, closings = (int(number) for number in found[0].split())
    return Reading(block=BlockNumber(block), closings=None if closings < 0 else closings)


def _read_up_to(connection: sqlite3.Connection, reading: Reading) -> None:
    held = _reading(connection)
    if held is None or held.block < reading.block:
        value = b"%d %d" % (reading.block, -1 if reading.closings is None else reading.closings)
        connection.execute("INSERT OR REPLACE INTO notes VALUES ('reading', ?)", (value,))
