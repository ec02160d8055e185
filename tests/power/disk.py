"""A disk that remembers what was written and what was synced, and can show what a power cut would have left of it.

`Disk` is a VFS of SQLite's (apsw) that passes everything on to real files and writes a log: writes, truncations, syncs,
names made and taken away. `image` cuts the log at some moment and builds the files as they might be found afterwards:
what a file's last sync covers is there; of what came later each write is there, is not there, or is torn between its
512-byte sectors, in no order. Names are made and taken away in order, as in the journal of a file system; the first
sync of a new file makes its name last. Space that a file has got and whose bytes never came is zero or garbage.

`connect` opens SQLite on such a disk in the words of `sqlite3`, so that the store runs on it unchanged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, cast

import apsw

SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    file: int


@dataclass(frozen=True, slots=True)
class Create:
    file: int
    name: str


@dataclass(frozen=True, slots=True)
class Delete:
    name: str
    synced: bool


@dataclass(frozen=True, slots=True)
class Promise:
    """The store has said: so many batches are kept."""

    batches: int


Entry = Write | Truncate | Sync | Create | Delete | Promise


class Disk(apsw.VFS):
    """See the file's head. `fails_after`: syncs that still work; None: all of them."""

    def __init__(self, name: str, *, fails_after: int | None = None) -> None:
        super().__init__(name, "")
        self.name = name
        self.log: list[Entry] = []
        self.files: dict[str, int] = {}
        self.fails_after = fails_after
        self._made = 0

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            return apsw.VFSFile("", name, flags)
        there = Path(path).exists()
        opened = _File(self, path, name, flags)
        if not there:
            self._made += 1
            self.files[path] = self._made
            self.log.append(Create(self._made, Path(path).name))
        opened.number = self.files[path]
        return opened

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        super().xDelete(name, sync)
        self.files.pop(name, None)
        self.log.append(Delete(Path(name).name, sync))

    def promise(self, batches: int) -> None:
        self.log.append(Promise(batches))


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, path: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self.disk, self.path, self.number = disk, path, 0

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self.disk.log.append(Write(self.number, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        super().xTruncate(size)
        self.disk.log.append(Truncate(self.number, size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self.disk.fails_after is not None:
            self.disk.fails_after -= 1
            if self.disk.fails_after < 0:
                raise apsw.IOError("the disk does not sync")
        super().xSync(flags)
        self.disk.log.append(Sync(self.number))


# -- what is left


@dataclass(slots=True)
class _Inode:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write | Truncate] = field(default_factory=list)

    def sync(self) -> None:
        for one in self.pending:
            _apply(self.durable, one)
        self.pending.clear()


def image(log: Sequence[Entry], cut: int, chance: Random, folder: Path) -> int:
    """Build in `folder` what a power cut after the first `cut` entries may leave; how many batches were promised."""
    inodes: dict[int, _Inode] = {}
    names: dict[str, int] = {}
    unsure: list[Create | Delete] = []
    promised = 0
    for entry in log[:cut]:
        match entry:
            case Write() | Truncate():
                inodes[entry.file].pending.append(entry)
            case Create():
                inodes[entry.file] = _Inode()
                unsure.append(entry)
            case Delete():
                unsure.append(entry)
                if entry.synced:
                    _rename(names, unsure)
            case Sync():
                inodes[entry.file].sync()
                if any(isinstance(one, Create) and one.file == entry.file for one in unsure):
                    _rename(names, unsure)
            case Promise():
                promised = entry.batches
    del unsure[chance.randint(0, len(unsure)) :]
    _rename(names, unsure)
    for name, number in names.items():
        (folder / name).write_bytes(_left(inodes[number], chance))
    return promised


def _rename(names: dict[str, int], entries: list[Create | Delete]) -> None:
    for entry in entries:
        if isinstance(entry, Create):
            names[entry.name] = entry.file
        else:
            names.pop(entry.name, None)
    entries.clear()


def _left(inode: _Inode, chance: Random) -> bytes:
    """The synced bytes, and of what came later whatever chance leaves."""
    found = bytearray(inode.durable)
    keep, tear = chance.choice(((0.0, 0.0), (0.2, 0.2), (0.5, 0.3), (0.8, 0.2), (1.0, 0.5), (1.0, 0.0)))
    garbage = chance.random() < 0.3
    for one in inode.pending:
        kept = chance.random() < keep
        if isinstance(one, Truncate):
            if kept:
                _apply(found, one)
        elif chance.random() < tear:
            for part in _sectors(one):
                if chance.random() < 0.5:
                    _apply(found, part)
                elif garbage and part.offset + len(part.data) > len(found):
                    _apply(found, Write(part.file, part.offset, chance.randbytes(len(part.data))))
        elif kept:
            _apply(found, one)
    return bytes(found)


def _sectors(one: Write) -> Iterator[Write]:
    at, end = one.offset, one.offset + len(one.data)
    while at < end:
        stop = min(end, (at // SECTOR + 1) * SECTOR)
        yield Write(one.file, at, one.data[at - one.offset : stop - one.offset])
        at = stop


def _apply(content: bytearray, one: Write | Truncate) -> None:
    if isinstance(one, Truncate):
        del content[one.size :]
        return
    content.extend(bytes(max(0, one.offset - len(content))))
    content[one.offset : one.offset + len(one.data)] = one.data


# -- SQLite on it, in the words of sqlite3


def connect(disk: str, *, synchronous: str = "FULL", checkpoint: int = 1_000) -> Any:
    """What `SqliteStore` takes as `connect`, for a database on the VFS of that name.

    `synchronous`: anything but FULL breaks the store's promise on purpose. `checkpoint`: pages of the log after which
    SQLite copies them over, its own 1,000 if not given; few pages show more of that in a short run.
    """

    def opened(path: str) -> sqlite3.Connection:
        return cast("sqlite3.Connection", _Connection(path, disk, synchronous, checkpoint))

    return opened


class _Rows:
    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows[0] if self._rows else None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._rows)


@contextmanager
def _its_errors() -> Iterator[None]:
    """Those of `sqlite3`, for those of apsw."""
    try:
        yield
    except apsw.ConstraintError as fault:
        raise sqlite3.IntegrityError(str(fault)) from fault
    except apsw.Error as fault:
        raise sqlite3.OperationalError(str(fault)) from fault


class _Connection:
    """The part of `sqlite3.Connection` and its cursor that the store uses."""

    def __init__(self, path: str, vfs: str, synchronous: str, checkpoint: int) -> None:
        self._inner = apsw.Connection(path, vfs=vfs)
        self._inner.set_busy_timeout(10_000)
        self._inner.wal_autocheckpoint(checkpoint)
        self._synchronous = synchronous

    def execute(self, sql: str, values: Sequence[Any] = ()) -> _Rows:
        if sql == "PRAGMA synchronous = FULL":
            sql = f"PRAGMA synchronous = {self._synchronous}"
        with _its_errors():
            return _Rows(list(self._inner.execute(sql, tuple(values))))

    def executemany(self, sql: str, many: Iterable[Sequence[Any]]) -> None:
        with _its_errors():
            self._inner.executemany(sql, many)

    def executescript(self, sql: str) -> None:
        self.execute(sql)

    def cursor(self) -> _Connection:
        return self

    @property
    def in_transaction(self) -> bool:
        return self._inner.in_transaction

    def close(self) -> None:
        self._inner.close()
