"""What wallets hear of, and what is kept of a payment's end whoever writes it: each in the batch it goes with.

Rows are numbered in the order they were told of; a listener that was away asks from the last number it saw.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import trio

from channeld.base.units import LockKey, Preimage
from channeld.storage.store import Batch, Store


class Events:
    """What happened, for wallets: numbered, told to who listens, and kept for a while (`pruning.KEPT_EVENTS`)."""

    def __init__(self, store: Store, now: Callable[[], int]) -> None:
        ((last,),) = store.rows("SELECT coalesce(max(n), 0) FROM events")
        self.last: int = last
        self.bell = trio.Event()
        self._now = now

    def add(self, batch: Batch, type_: str, **data: object) -> None:
        """Values: amounts as decimal strings, bytes as hex with 0x. The batch may be saved more than once."""
        self.add_if("? = x''", b"", batch, type_, **data)

    def add_if(self, condition: str, value: bytes, batch: Batch, type_: str, **data: object) -> None:
        """Only if `condition`, SQL with one value, holds when the batch is written."""
        self.last += 1
        shown = {name: f"0x{value.hex()}" if isinstance(value, bytes) else value for name, value in data.items()}
        batch.add(
            f"INSERT OR IGNORE INTO events SELECT ?, ?, ?, ? WHERE {condition}",
            *(self.last, type_, self._now(), json.dumps(shown), value),
        )

    def ring(self) -> None:
        """After the rows are on disk."""
        self.bell.set()
        self.bell = trio.Event()


def forget_payments(batch: Batch, events: Events, now: int, hash_: LockKey | None = None) -> None:
    """That payment, or every one that is pending: what became of it only its payee can say."""
    some = "state = 'pending'" if hash_ is None else "state = 'pending' AND hash = ?"
    values = () if hash_ is None else (hash_,)
    if hash_ is not None:
        pending = "EXISTS (SELECT 1 FROM payments WHERE hash = ? AND state = 'pending')"
        events.add_if(pending, hash_, batch, "payment_unknown", payment_hash=hash_)
    batch.add(
        f"UPDATE payments SET state = 'unknown', code = 'payment_unknown', text = ?, settled_at = ? WHERE {some}",
        *("the database was restored: whether it was paid is not known here", now, *values),
    )


def keep_preimage(batch: Batch, key: LockKey, preimage: Preimage) -> None:
    """Know it for good. After the row that it proves, if there is one: what stands there is not kept a second time."""
    batch.add(
        "INSERT OR IGNORE INTO preimages SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM known WHERE key = ?)",
        *(key, preimage, key),
    )
