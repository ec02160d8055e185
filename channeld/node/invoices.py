"""Invoices of our own: made, looked up, listed, as the socket shows them. What pays them is the desk's.

An invoice is on disk, with its preimage, before its text is told to anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from channeld.base.digests import Domain
from channeld.base.errors import Broken, Malformed, Refused
from channeld.base.keys import Key, sha256
from channeld.base.units import Address, Amount, LockKey, Preimage, Seconds, Timestamp
from channeld.core.channel import Phase
from channeld.node import shown
from channeld.node.asked import Asked
from channeld.node.config import Config
from channeld.node.gossip import Gossip
from channeld.node.ledger import Book
from channeld.node.shown import Json, hexed, read_cursor
from channeld.node.towers import Towers
from channeld.node.world import World
from channeld.storage.store import Batch, Store, narrow, wide
from channeld.wire import invoice
from channeld.wire.invoice import Invoice

_INVOICE: Final = (
    "SELECT n, text, state, received, paid_at, preimage, hold, hash, token, amount, created, expires FROM invoices"
)
USUAL_HOLD: Final = Seconds(3_600)
"""For which a payment can be held if the caller says nothing: as long as an invoice is open; one slot at every hop."""
FOR_OTHERS: Final = "NOT EXISTS (SELECT 1 FROM rebalances WHERE rebalances.hash = invoices.hash)"
"""Not of a payment to ourselves: such an invoice is told to nobody."""


def keep(
    batch: Batch, asked: Invoice, text: str, preimage: Preimage, *, hold: Seconds = Seconds(0), again: bool = False
) -> None:
    """The row of an invoice that we make. `again`: the batch may be saved more than once, else a second is Broken."""
    batch.add(
        f"INSERT {'OR IGNORE ' if again else ''}INTO invoices "
        "(hash, n, preimage, secret, text, token, amount, created, expires, hold, state) "
        "VALUES (?, (SELECT coalesce(max(n), 0) + 1 FROM invoices), ?, ?, ?, ?, ?, ?, ?, ?, 'open')",
        *(asked.payment_hash, preimage, asked.payment_secret, text, asked.token),
        *(None if asked.amount is None else wide(asked.amount), asked.created, asked.expires_at, hold),
    )


class Invoices:
    """See the file's head. `randomness(n)` gives n fresh random bytes, `settle_by(hash)` until when a held payment can
    be settled."""

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
        settle_by: Callable[[LockKey], Timestamp | None],
        node_key: Key,
        domain: Domain,
        randomness: Callable[[int], bytes],
    ) -> None:
        self._store, self._world, self._book, self._asked = store, world, book, asked
        self._config, self._gossip, self._towers, self._settle_by = config, gossip, towers, settle_by
        self._key, self._domain, self._randomness = node_key, domain, randomness

    async def make(
        self,
        *,
        token: str,
        amount: int | None,
        description: str,
        expiry: int,
        payment_hash: LockKey | None,
        hold_time: int | None,
        idempotency_key: str | None,
    ) -> Json:
        """With a `payment_hash` the preimage is not ours to know, and a payment is held (`holding`).

        Refused: `unknown_token`, `invoice_exists`, `idempotency_conflict`. Malformed: a time to hold what is not held.
        """
        if payment_hash is None and hold_time is not None:
            raise Malformed("hold_time is for invoices with a payment_hash: no other is held")
        async with self._asked.once(idempotency_key):
            request: list[object] = ["invoice", token, None if amount is None else str(amount), description, expiry]
            if payment_hash is not None:
                request += [payment_hash.hex(), hold_time]
            if (answer := self._asked.answered(idempotency_key, request)) is not None:
                return answer
            network, now = self._config.network, self._world.now
            preimage, hold = Preimage(b""), Seconds(hold_time or USUAL_HOLD)
            if payment_hash is None:
                preimage, hold = Preimage(self._randomness(32)), Seconds(0)
                payment_hash = LockKey(sha256(preimage))
            elif self._book.knows(payment_hash) or payment_hash in self._world.registered:
                raise _exists(payment_hash)
            coin = network.token(token)
            asked = Invoice(
                domain=self._domain,
                token=coin,
                amount=None if amount is None else Amount(amount),
                payment_hash=payment_hash,
                payment_secret=self._randomness(32),
                created=now,
                expiry=Seconds(expiry),
                description=description,
                payee=self._key.public,
                min_final_delta=Seconds(network.final_delta + hold),
                hints=tuple(self._gossip.hints(coin)),
            )
            text = invoice.encode(asked, self._key)
            batch = Batch()
            keep(batch, asked, text, preimage, hold=hold)
            answer = shown.invoice_of(asked, text, network, now=now, row=("open", None, 0, b"", hold))
            try:
                await self._asked.remember(idempotency_key, request, answer, batch)
            except Broken:
                if preimage:
                    raise
                raise _exists(payment_hash) from None  # made by another call in this moment
            return answer

    def lookup(self, payment_hash: bytes) -> Json:
        rows = self._store.rows(f"{_INVOICE} WHERE hash = ?", payment_hash)
        if not rows:
            text = f"no invoice of ours has the payment hash {hexed(payment_hash)}"
            raise Refused("unknown_invoice", text, "channeld invoice list")
        return self._invoice(rows[0])

    def _invoice(self, row: Sequence[Any]) -> Json:
        asked = invoice.decode(row[1]) if row[1] else self._unasked(*row[7:])
        told = shown.invoice_of(asked, row[1], self._config.network, now=self._world.now, row=row[2:7])
        if told["state"] == "held":
            told["settle_by"] = self._settle_by(asked.payment_hash)
        if told["state"] == "paid" and not self._counts(asked.payment_hash, int(told["received"])):
            told["state"] = "accepted"
        return told

    def _unasked(
        self, hash_: LockKey, token: Address, amount: bytes, created: Timestamp, expires: Timestamp
    ) -> Invoice:
        """What a keysend would have been asked for by; only to be shown."""
        return Invoice(
            domain=self._domain,
            token=token,
            amount=Amount(narrow(amount)),
            payment_hash=hash_,
            payment_secret=b"",
            created=created,
            expiry=Seconds(expires - created),
            payee=self._key.public,
            min_final_delta=self._config.network.final_delta,
        )

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
            "kind": "keysend" if told["keysend"] else "invoice",
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


def _exists(hash_: LockKey) -> Refused:
    text = f"the payment hash {hexed(hash_)} is in use already"
    return Refused("invoice_exists", text, "each invoice needs a preimage of its own, drawn by chance")
