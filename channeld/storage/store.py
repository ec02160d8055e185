"""The Store protocol: what a node asks of its memory, and what must be on disk before what.

A `Batch` gathers everything one decision changes: the channel, the rows of payments, the acts it owes. `commit`
writes a batch whole and synced or not at all, and returns only then; messages and transactions leave after it.
Batches that wait at the same time share one transaction and one sync (group commit). Reading happens beside the
writer and sees only what was committed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from channeld.core.channel import Channel
from channeld.core.saved import save

Row = tuple[Any, ...]


@dataclass(slots=True)
class Batch:
    """Changes that stand or fall together, in order."""

    writes: list[tuple[str, Row]] = field(default_factory=list)
    after: list[Batch] = field(default_factory=list)
    """Those it rests on: it is saved with them or after them, and if one of them is not saved it is not either."""
    followed: bool = False
    """Another one that rests on it is about to come."""
    failed: bool = False
    """It was not saved, and will not be."""

    def __bool__(self) -> bool:
        return bool(self.writes)

    def add(self, sql: str, *values: Any) -> None:
        """One statement of the store's schema with its values."""
        self.writes.append((sql, values))

    def extend(self, other: Batch) -> None:
        self.writes += other.writes
        self.after += other.after

    def channel(self, channel: Channel) -> None:
        """The channel's new value, and the highest version it has signed."""
        self.add(
            "INSERT INTO channels (id, saved, phase, recovering, sum) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE "
            "SET saved = excluded.saved, phase = excluded.phase, recovering = excluded.recovering, sum = excluded.sum",
            *(channel.id, saved := save(channel), channel.phase.name, int(channel.recovering), checksum(saved)),
        )
        version, digest = channel.top
        if version:
            self.add(
                "INSERT INTO signed VALUES (?, ?, ?) ON CONFLICT (channel) DO UPDATE "
                "SET version = excluded.version, digest = excluded.digest",
                channel.id,
                version,
                digest,
            )


class Store(Protocol):
    """See the file's head. Implementations: `sqlite.SqliteStore`, on disk or in memory."""

    async def commit(self, batch: Batch) -> None:
        """Write the batch and sync.

        Raises:
            Broken: it breaks a law of the database; nothing of it is there.
            NotSaved: something it rests on was not saved; nothing of it is there.
            StoreFailed: `disk_failed` or `fenced`. Whether it is there only the next start can tell; nothing more is
                accepted until then.
        """

    def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        """What a query finds among what is committed."""

    def channels(self) -> Iterator[Channel]:
        """Every channel, as last saved. Refused (bad_database): one cannot be read."""


def checksum(saved: bytes) -> bytes:
    """What stands beside a saved channel, 32 bytes, so that a byte that has changed since is noticed."""
    return hashlib.sha256(saved).digest()


def wide(amount: int) -> bytes:
    """An amount as the database keeps it: 16 big-endian bytes, so that blobs sort as numbers do."""
    return amount.to_bytes(16, "big")


def narrow(data: bytes) -> int:
    return int.from_bytes(data, "big")
