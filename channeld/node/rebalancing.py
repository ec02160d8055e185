"""Rebalancing: a payment to ourselves, out over one channel and home over another, so that the second can send more.

It is an ordinary payment with us at both ends. We make an invoice that is told to nobody; it is saved with the
payment's row in the transaction that queues the first lock, so its preimage is on disk before anything leaves. The way
is found by `Finder.round`: one part, over just those two channels, with the fee budget for all of it. What comes back
teaches and is tried another way, like any payment; what arrives the desk judges and takes, like any invoice (R21). The
hash-lock makes it all or nothing, whatever crashes when: together our channels lose the fee or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from channeld.base.digests import Domain
from channeld.base.errors import Refused
from channeld.base.keys import Key, sha256
from channeld.base.units import Address, Amount, ChannelId, LockKey, Preimage, Seconds
from channeld.node import invoices
from channeld.node.asked import Asked
from channeld.node.ledger import Book
from channeld.node.payment_row import Circle, Payment
from channeld.node.payments import Payments
from channeld.node.shown import hexed
from channeld.node.world import World
from channeld.wire import invoice
from channeld.wire.invoice import Invoice

LATE: Final = 3_600
"""Seconds after the payment is given up for which a lock that is still on its way is taken."""


class Rebalancing:
    """See the file's head. `randomness(n)` gives n fresh random bytes."""

    def __init__(
        self,
        payments: Payments,
        book: Book,
        world: World,
        asked: Asked,
        *,
        node_key: Key,
        domain: Domain,
        randomness: Callable[[int], bytes],
    ) -> None:
        self._payments, self._book, self._world, self._asked = payments, book, world, asked
        self._key, self._domain, self._randomness = node_key, domain, randomness
        self._begun: dict[str, tuple[LockKey, list[str]]] = {}
        """By key, payments that may not be saved yet, and what was asked."""

    async def move(
        self, out: ChannelId, into: ChannelId, amount: Amount, max_fee: Amount, timeout: int, key: str | None
    ) -> Payment:
        """Move `amount` from `out` to `into`, and wait for the outcome. Under a key that was used the first outcome
        is told again. Refused: see `rebalance` of the schema."""
        request = ["rebalance", hexed(out), hexed(into), str(amount)]
        async with self._asked.once(key):
            hash_ = self._known(key, request)
            if hash_ is None:
                hash_ = self._begin(Circle(out, into), amount, max_fee, timeout, key, request)
            return await self._payments.outcome(hash_, timeout)

    def _known(self, key: str | None, request: list[str]) -> LockKey | None:
        """What was begun under that key, on disk or not yet: a caller that went before it was saved may ask again."""
        told = self._asked.answered(key, request)
        if told is not None:
            return LockKey(bytes.fromhex(told["id"][2:]))
        self._begun = {name: one for name, one in self._begun.items() if self._payments.find(one[0]) is None}
        hash_, asked = self._begun.get(key or "", (None, request))
        if asked != request:
            raise Refused("idempotency_conflict", f"the key {key!r} was used for something else", "use a new key")
        return hash_

    def _begin(
        self, circle: Circle, amount: Amount, max_fee: Amount, timeout: int, key: str | None, request: list[str]
    ) -> LockKey:
        ours, text, preimage = self._invoice(self._token(circle), amount, timeout)
        claim = self._asked.claim(key, request, {"id": hexed(ours.payment_hash)}, lasts=True)
        invoices.keep(claim, ours, text, preimage, again=True)
        claim.add("INSERT OR IGNORE INTO rebalances VALUES (?, ?, ?)", ours.payment_hash, circle.out, circle.into)
        self._payments.go_round(ours, text, circle, max_fee, timeout, claim)
        if key is not None:
            self._begun[key] = ours.payment_hash, request
        return ours.payment_hash

    def _token(self, circle: Circle) -> Address:
        """Of two channels between which something can be moved at all."""
        channels = []
        for id_ in (circle.out, circle.into):
            actor = self._book.actors.get(id_)
            if actor is None:
                raise Refused("unknown_channel", f"no channel of ours is {hexed(id_)}", "channeld channels")
            channels.append(actor.channel)
        first, second = channels
        if first.id == second.id or first.token != second.token:
            raise Refused("bad_circle", "it goes from one channel to another of the same token", "channeld channels")
        return first.token

    def _invoice(self, token: Address, amount: Amount, timeout: int) -> tuple[Invoice, str, Preimage]:
        preimage = Preimage(self._randomness(32))
        ours = Invoice(
            domain=self._domain,
            token=token,
            amount=amount,
            payment_hash=LockKey(sha256(preimage)),
            payment_secret=self._randomness(32),
            created=self._world.now,
            expiry=Seconds(timeout + LATE),
            payee=self._key.public,
            min_final_delta=self._world.network.final_delta,
        )
        return ours, invoice.encode(ours, self._key), preimage
