"""Payments made and received, looked up and listed as the socket shows them: over invoices and without one, direct
transfers, and what we have moved between channels of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final

from channeld.base.errors import Refused
from channeld.base.keys import Key
from channeld.base.units import LockKey
from channeld.node import shown
from channeld.node.config import Config
from channeld.node.invoices import FOR_OTHERS, Invoices
from channeld.node.ledger import Book
from channeld.node.payment_row import circle_of
from channeld.node.payments import Payments
from channeld.node.shown import Json, hexed, read_cursor
from channeld.storage.store import Store
from channeld.wire import invoice

_TRANSFER: Final = "SELECT channel, id, outgoing, amount, state, at, settled_at, n FROM transfers"


class Journal:
    """See the file's head."""

    def __init__(
        self, store: Store, book: Book, payments: Payments, invoices: Invoices, *, config: Config, node_key: Key
    ) -> None:
        self._store, self._book, self._payments, self._invoices = store, book, payments, invoices
        self._config, self._key = config, node_key

    def lookup(self, id: bytes) -> Json:
        if len(id) == 32:
            found = self._payments.find(LockKey(id))
            if found is not None:
                return self._payment(found.hash)
        else:
            rows = self._store.rows(f"{_TRANSFER} WHERE id = ?", id)
            if rows:
                return self._transfer(rows[0])
        raise Refused("unknown_payment", f"no payment of ours is {hexed(id)}", "channeld payments")

    def _payment(self, hash_: bytes) -> Json:
        found = self._payments.find(LockKey(hash_))
        if found is None:
            raise Refused("unknown_payment", f"no payment of ours is {hexed(hash_)}")
        circle = circle_of(self._store, found.hash) if found.payee == self._key.public else None
        description = invoice.decode(found.invoice).description if found.invoice else ""
        return shown.payment_of(found, self._config.network, description, circle)

    def _transfer(self, row: Sequence[Any]) -> Json:
        actor = self._book.actors.get(row[0])
        return shown.transfer_of(row[:7], actor.channel if actor else None, self._config.network)

    def list(self, *, limit: int, cursor: str | None) -> Json:
        """Newest first over payments, received invoices and transfers; the cursor says how far each of them was shown.

        Each has an index in its own order, so a page costs the same however long the history is, and what comes in
        meanwhile moves nothing.
        """
        paid, received, received_n, sent = read_cursor(cursor, 4)
        out = self._store.rows(
            "SELECT at, 'out', n, hash FROM payments WHERE n < ? ORDER BY n DESC LIMIT ?", paid, limit
        )
        in_ = self._store.rows(
            "SELECT paid_at, 'in', n, hash FROM invoices WHERE state = 'paid' AND (paid_at, n) < (?, ?) "
            f"AND {FOR_OTHERS} ORDER BY paid_at DESC, n DESC LIMIT ?",
            *(received, received_n, limit),
        )
        direct = self._store.rows(f"{_TRANSFER} WHERE n < ? ORDER BY n DESC LIMIT ?", sent, limit)
        of_transfers = [(row[5], "direct", row[7], row) for row in direct]
        told = []
        for at, kind, n, what in islice(merge(out, in_, of_transfers, key=lambda row: (-row[0], row[1])), limit):
            if kind == "out":
                paid = n
                told.append(self._payment(what))
            elif kind == "in":
                received, received_n = at, n
                told.append(self._invoices.received(what))
            else:
                sent = n
                told.append(self._transfer(what))
        following = f"{paid}.{received}.{received_n}.{sent}" if len(told) == limit else None
        return {"payments": told, "next": following}
