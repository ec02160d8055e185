"""Invoices of our own: made, looked up, listed, as the socket shows them. What pays them is the desk's.

An invoice is on disk, with its preimage, before its text is told to anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from channeld.base.digests import Domain
from channeld.base.errors import Refused
from channeld.base.keys import Key, sha256
from channeld.base.units import Amount, LockKey, Preimage, Seconds
from channeld.core.channel import Phase
from channeld.node import shown
from channeld.node.asked import Asked
from channeld.node.config import Config
from channeld.node.gossip import Gossip
from channeld.node.ledger import Book
from channeld.node.shown import Json, hexed, read_cursor
from channeld.node.towers import Towers
from channeld.node.world import World
from channeld.storage.store import Batch, Store, wide
from channeld.wire import invoice
from channeld.wire.invoice import Invoice

_INVOICE: Final = "SELECT n, text, state, received, paid_at, preimage FROM invoices"
FOR_OTHERS: Final = "NOT EXISTS (SELECT 1 FROM rebalances WHERE rebalances.hash = invoices.hash)"
"""Not of a payment to ourselves: such an invoice is told to nobody."""


def keep(batch: Batch, asked: Invoice, text: str, preimage: Preimage) -> None:
    """The row of an invoice that we make. The batch may be saved more than once."""
    batch.add(
        "INSERT OR IGNORE INTO invoices (hash, n, preimage, secret, text, token, amount, created, expires, state) "
        "VALUES (?, (SELECT coalesce(max(n), 0) + 1 FROM invoices), ?, ?, ?, ?, ?, ?, ?, 'open')",
        *(asked.payment_hash, preimage, asked.payment_secret, text, asked.token),
        *(None if asked.amount is None else wide(asked.amount), asked.created, asked.expires_at),
    )


class Invoices:
    """See the file's head. `randomness(n)` gives n fresh random bytes."""

    def __init__(
        self,
        store: Store,
        world: World,
        book: Book,
        asked: Asked,
        *,
        config: Config,
        gossip: Gossip,
        towers: Towers,
        node_key: Key,
        domain: Domain,
        randomness: Callable[[int], bytes],
    ) -> None:
        self._store, self._world, self._book, self._asked = store, world, book, asked
        self._config, self._gossip, self._towers = config, gossip, towers
        self._key, self._domain, self._randomness = node_key, domain, randomness

    async def make(
        self, *, token: str, amount: int | None, description: str, expiry: int, idempotency_key: str | None
    ) -> Json:
        async with self._asked.once(idempotency_key):
            request = ["invoice", token, None if amount is None else str(amount), description, expiry]
            if (answer := self._asked.answered(idempotency_key, request)) is not None:
                return answer
            network, now = self._config.network, self._world.now
            preimage = Preimage(self._randomness(32))
            coin = network.token(token)
            asked = Invoice(
                domain=self._domain,
                token=coin,
                amount=None if amount is None else Amount(amount),
                payment_hash=LockKey(sha256(preimage)),
                payment_secret=self._randomness(32),
                created=now,
                expiry=Seconds(expiry),
                description=description,
                payee=self._key.public,
                min_final_delta=network.final_delta,
                hints=tuple(self._gossip.hints(coin)),
            )
            text = invoice.encode(asked, self._key)
            batch = Batch()
            keep(batch, asked, text, preimage)
            answer = shown.invoice_of(asked, text, network, now=now)
            await self._asked.remember(idempotency_key, request, answer, batch)
            return answer

    def lookup(self, payment_hash: bytes) -> Json:
        rows = self._store.rows(f"{_INVOICE} WHERE hash = ?", payment_hash)
        if not rows:
            text = f"no invoice of ours has the payment hash {hexed(payment_hash)}"
            raise Refused("unknown_invoice", text, "channeld invoice list")
        return self._invoice(rows[0])

    def _invoice(self, row: Sequence[Any]) -> Json:
        asked = invoice.decode(row[1])
        told = shown.invoice_of(asked, row[1], self._config.network, now=self._world.now, row=row[2:])
        if told["state"] == "paid" and not self._counts(asked.payment_hash, int(told["received"])):
            told["state"] = "accepted"
        return told

    def _counts(self, hash_: LockKey, received: int) -> bool:
        """Whether enough towers guard the channels it came by; the money is ours in any case (towers.receipts)."""
        wanted = self._config.tower_receipts
        if not wanted or received <= self._config.tower_receipts_above:
            return True
        rows = self._store.rows("SELECT DISTINCT channel FROM parts WHERE hash = ?", hash_)
        actors = [self._book.actors[channel] for (channel,) in rows if channel in self._book.actors]
        return all(a.channel.phase is not Phase.OPEN or self._towers.guards(a.channel.id) >= wanted for a in actors)

    def list(self, *, limit: int, cursor: str | None) -> Json:
        (before,) = read_cursor(cursor, 1)
        rows = self._store.rows(f"{_INVOICE} WHERE n < ? AND {FOR_OTHERS} ORDER BY n DESC LIMIT ?", before, limit)
        following = str(rows[-1][0]) if len(rows) == limit else None
        return {"invoices": [self._invoice(row) for row in rows], "next": following}

    def received(self, hash_: bytes) -> Json:
        told = self._invoice(self._store.rows(f"{_INVOICE} WHERE hash = ?", hash_)[0])
        return {
            "id": told["payment_hash"],
            "kind": "invoice",
            "direction": "in",
            "state": "succeeded",
            "token": told["token"],
            "symbol": told["symbol"],
            "amount": told["received"],
            "fee": "0",
            "peer": None,
            "created_at": told["created_at"],
            "settled_at": told["paid_at"],
            "preimage": told["preimage"],
            "description": told["description"],
        }
