"""The store on SQLite: WAL, `synchronous=FULL`, one writer, group commit without timers.

`commit` joins the batches that wait. A lone batch is written where it stands; as soon as more wait, a worker
thread writes them, and what arrives meanwhile forms the next transaction. A batch that breaks a law takes only
itself down: the others of its transaction are written again without it. After a failing disk nothing more is
accepted, because what was signed could not be remembered.

A database has one owner: opening it raises its epoch, and every transaction asks first whether the epoch is still its
own. So a process that was taken over (a second start on the same file, by whatever way round the lock) cannot save, and
what is not saved is not signed away. A copy of the file is told by its place and token and refused (`storage.place`).
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import trio

from channeld.base.errors import Broken, Malformed, NotSaved, Refused, StoreFailed
from channeld.core.channel import Channel
from channeld.core.saved import load
from channeld.storage.place import NOWHERE, TOKEN_BYTES, Origin, place_of, put_tokens, tokens_beside
from channeld.storage.store import Batch, Row, checksum

log = logging.getLogger(__name__)
SCHEMA: Final = 7
MEMORY: Final = ":memory:"
MAX_JOINED: Final = 4_096
"""Most statements that one transaction joins, so that nobody waits for a very long one."""
SMALL: Final = 16
"""A transaction of fewer statements, with nobody behind it, is synced on the spot: a thread would cost more."""

_LAWS: Final = (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError)
"""What a batch itself is to blame for: a law of the schema, or a value that no column can hold."""
_DAMAGED: Final = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What a file that is damaged, or none of ours, ends in; SQLite shows the text of a damaged schema as it is."""


@dataclass(eq=False, slots=True)
class _Waiting:
    batch: Batch
    turn: trio.Event = field(default_factory=trio.Event)
    """Set once it is written, or once it has to write what waits."""
    written: bool = False
    fault: Exception | None = None


Connect = Callable[[str], sqlite3.Connection]
"""Opens a database in autocommit mode."""


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)


class SqliteStore:
    """`path`: the database file, made if it is not there; ":memory:" keeps nothing."""

    def __init__(
        self,
        path: Path | str,
        *,
        origin: Origin = Origin.SAME,
        connect: Connect = _connect,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Open the database and take it over: whoever had it saves nothing more.

        Args:
            origin: what its owner says of the file. A COPY stands nowhere until `stand_here`: whoever opens it before
                has to say again what it is.
            randomness: of the token that tells this file from copies of it.

        Raises:
            Refused: `bad_database`: not a database of ours, or one of a newer program; `copied_database`: it stands
                where it was not left.
        """
        self._waiting: list[_Waiting] = []
        self._busy = False
        self._open = False
        """Whether a transaction is being synced."""
        self._failed: StoreFailed | None = None
        self._fallen = trio.Event()
        try:
            self._writer = _open(path, connect, _migrate)
            self._reader = self._writer if str(path) == MEMORY else _open(path, connect)
        except (*_DAMAGED, Malformed, Broken) as fault:
            raise Refused("bad_database", f"{path}: {fault}", "is it a channeld database?") from fault
        try:
            self._path = None if str(path) == MEMORY else Path(path)
            self._randomness = randomness
            self._place = b"" if self._path is None else place_of(self._path)
            self.epoch = self._take_over(origin)
        except (Refused, OSError):
            self.close()
            raise

    def close(self) -> None:
        """After the last commit. Leaves one file, without journal."""
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
            if any(one.batch.followed for one in self._waiting):
                await trio.lowlevel.checkpoint()
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
        told, taken = taken, [one for one in taken if self._rests_on_saved(one)]
        if taken and self._fill(taken):
            self._open = True
            in_memory = self._reader is self._writer  # nothing to sync, and a reader would see what stands open
            if in_memory or (len(taken) == 1 and not self._waiting and size < SMALL):
                self._sync(taken)
            else:
                await trio.to_thread.run_sync(self._sync, taken)
            self._open = False
        for one in told:
            one.batch.after.clear()  # decided: else each would keep alive all that came before it
            one.written = True
            one.turn.set()
        if self._failed is not None:
            self._fallen.set()

    def _rests_on_saved(self, one: _Waiting) -> bool:
        if any(batch.failed for batch in one.batch.after):
            one.batch.failed, one.fault = True, NotSaved("what it rests on was not saved")
        return one.fault is None

    def _write(self, taken: list[_Waiting]) -> None:
        if self._fill(taken):
            self._sync(taken)

    def _fill(self, taken: list[_Waiting]) -> bool:
        """Run the statements of a transaction, which then stands open. False: it does not, and all have had their turn.

        This is done by whoever calls and not in the thread that syncs: there each statement would wait for the
        interpreter, which the thread gives away and asks for again round every call of SQLite.
        """
        if self._failed is not None:
            for one in taken:
                one.fault = self._failed
            return False
        return self._tried(taken, partial(self._run, [one.batch for one in taken]))

    def _sync(self, taken: list[_Waiting]) -> bool:
        """Commit what `_fill` has left open."""
        return self._tried(taken, self._commit)

    def _tried(self, taken: list[_Waiting], act: Callable[[], None]) -> bool:
        try:
            act()
        except _LAWS as fault:
            if len(taken) == 1:
                taken[0].batch.failed, taken[0].fault = True, Broken(f"the database refuses: {fault}")
                return False
            for one in taken:
                if self._rests_on_saved(one):
                    self._write([one])
            return False
        except StoreFailed as fault:
            self._fail(taken, fault)
            return False
        except sqlite3.Error as fault:
            text = f"the database cannot be written: {fault}; nothing more is signed"
            self._fail(taken, StoreFailed("disk_failed", text, "make room or mend the disk, then start again"))
            return False
        return True

    def _fail(self, taken: list[_Waiting], fault: StoreFailed) -> None:
        """From here on nothing is accepted: a transaction that failed may be on disk or not."""
        self._failed = fault
        log.critical("store=%s %s", fault.code, fault.text)
        for one in taken:
            one.fault = fault

    async def watch(self) -> None:
        """Wait for as long as the store can remember. StoreFailed: it cannot any more, whoever was told of it."""
        await self._fallen.wait()
        if self._failed is not None:
            raise self._failed

    def _run(self, batches: list[Batch]) -> None:
        cursor = self._writer.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        done = False
        try:
            self._must_own(cursor)
            for sql, writes in groupby((one for batch in batches for one in batch.writes), key=itemgetter(0)):
                cursor.executemany(sql, [values for _, values in writes])
            done = True
        finally:
            if not done:
                self._roll_back()

    def _commit(self) -> None:
        try:
            self._writer.execute("COMMIT")
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _must_own(self, cursor: sqlite3.Cursor) -> None:
        """Inside the transaction, which nobody can overtake."""
        ((epoch,),) = cursor.execute("SELECT max(epoch) FROM owner").fetchall()
        if epoch != self.epoch:
            text = f"another process has opened the database (epoch {epoch}, ours is {self.epoch}); nothing is signed"
            raise StoreFailed("fenced", text, "run one daemon on a data directory")

    def stand_here(self) -> None:
        """A copy's channels are in recovery, on disk: from here on its place is its own. Refused: as when opened."""
        self.epoch = self._take_over(Origin.MOVED)

    def _take_over(self, origin: Origin) -> int:
        """Raise the epoch; the new one. Refused: `copied_database`, `bad_database`."""
        try:
            return self._raise_epoch(origin)
        except (*_DAMAGED, OSError) as fault:
            raise Refused(
                "bad_database", f"the owner cannot be written: {fault}", "is there room on the disk?"
            ) from fault

    def _raise_epoch(self, origin: Origin) -> int:
        cursor = self._writer.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            rows = cursor.execute("SELECT epoch, place, token FROM owner").fetchall()
            if len(rows) != 1:
                raise Refused(
                    "bad_database", "the database has no owner's row", "the file is damaged: do not go on with it"
                )
            ((epoch, known, token),) = rows
            strange = self._path is not None and token != b"" and token not in tokens_beside(self._path)
            if (strange or known not in (b"", self._place)) and origin is Origin.SAME:
                text = "the database is not where channeld left it: it was copied, moved or restored"
                hint = "--restored if there is or was another copy: its channels will only be closed; else --moved"
                raise Refused("copied_database", text, hint)
            stands = NOWHERE if origin is Origin.COPY else self._place
            fresh = self._randomness(TOKEN_BYTES)
            if self._path is not None:
                put_tokens(self._path, (token, fresh) if token else (fresh,))
            cursor.execute("UPDATE owner SET epoch = ?, place = ?, token = ?", (epoch + 1, stands, fresh))
            cursor.execute("COMMIT")
        finally:
            if self._writer.in_transaction:
                cursor.execute("ROLLBACK")
        if self._path is not None:
            put_tokens(self._path, (fresh,))  # from here on a copy from before this start is told
        return int(epoch) + 1

    def put_note(self, name: str, value: bytes) -> None:
        """Remember a small thing before anything runs; like `commit`, on disk when it returns, and with its errors."""
        mine = _Waiting(Batch())
        mine.batch.add("INSERT INTO notes VALUES (?, ?)", name, value)
        self._write([mine])
        if self._failed is not None:
            self._fallen.set()
        if mine.fault is not None:
            raise mine.fault

    def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        # The writer's cache outlives its own commits, the reader's does not; but what stands open is for nobody to see.
        connection = self._reader if self._open or self._writer.in_transaction else self._writer
        return connection.execute(sql, values).fetchall()

    def channels(self) -> Iterator[Channel]:
        signed = {id_: (version, digest) for id_, version, digest in self.rows("SELECT * FROM signed")}
        for id_, saved, sum_ in self.rows("SELECT id, saved, sum FROM channels ORDER BY rowid"):
            try:
                if checksum(saved) != sum_:
                    raise Malformed("its bytes have changed since they were saved")
                channel = load(saved)
            except (Malformed, Broken) as fault:
                text = f"channel {id_.hex()} cannot be read: {fault}"
                raise Refused("bad_database", text, "the file is damaged: do not go on with it") from fault
            if channel.id != id_ or (channel.top[0] and signed.get(id_) != channel.top):
                text = f"channel {id_.hex()} does not fit its name, or the highest version it has signed"
                raise Refused("bad_database", text, "the file is damaged: do not go on with it")
            yield channel


def _open(
    path: Path | str, connect: Connect, prepare: Callable[[sqlite3.Connection], None] | None = None
) -> sqlite3.Connection:
    """A connection that keeps the promise; closed again if it cannot, or if `prepare` refuses."""
    connection = connect(str(path))
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA recursive_triggers = ON")  # else REPLACE deletes past the triggers
        # Some builds write zeros over each page that is let go, and so every long channel twice. Whoever reads the file
        # finds there what matters anyway.
        connection.execute("PRAGMA secure_delete = OFF").fetchall()
        if prepare is not None:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise Refused("bad_database", f"{path} is damaged: {found}", "do not go on with it")
            prepare(connection)
            # After a failed sync the kernel may show pages that are on no disk: what a start finds is written anew.
            ((busy, *_),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if busy:  # what is in the journal stays unsynced for all we know
                raise Refused("already_running", f"{path} is in use by another process", "stop it first")
    except (*_DAMAGED, Refused, Malformed, Broken):
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, one step a transaction: a crash in between leaves a whole schema of one number."""
    ((have,),) = connection.execute("PRAGMA user_version").fetchall()
    if have > SCHEMA:
        raise Refused("bad_database", f"the database has schema {have}, this program knows {SCHEMA}", "update channeld")
    folder = resources.files("channeld.storage").joinpath("migrations")
    for script in sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql")):
        number = int(script[:4])
        if number > have:
            try:
                connection.executescript(f"BEGIN IMMEDIATE;\n{folder.joinpath(script).read_text(encoding='utf-8')}")
                if number in _FILL:
                    _FILL[number](connection)
                connection.execute(f"PRAGMA user_version = {number}")
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")


def _fill_phases(connection: sqlite3.Connection) -> None:
    """Schema 2: what each saved channel says of itself becomes columns. Malformed: one cannot be read."""
    for id_, saved in connection.execute("SELECT id, saved FROM channels").fetchall():
        channel = load(saved)
        connection.execute(
            "UPDATE channels SET phase = ?, recovering = ?, sum = ? WHERE id = ?",
            (channel.phase.name, int(channel.recovering), checksum(saved), id_),
        )


_FILL: Final[dict[int, Callable[[sqlite3.Connection], None]]] = {2: _fill_phases}
"""What a migration does that SQL cannot, in its transaction."""
