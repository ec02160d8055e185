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
from channeld.node.shown import Json, hexed
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

    async def move(
        self, out: ChannelId, into: ChannelId, amount: Amount, max_fee: Amount, timeout: int, key: str | None
    ) -> Payment:
        """Move `amount` from `out` to `into`, and wait for the outcome. Under a key that was used the first outcome
        is told again. Refused: see `rebalance` of the schema."""
        request = ["rebalance", hexed(out), hexed(into), str(amount)]
        async with self._asked.once(key):
            told = self._asked.answered(key, request)
            if told is None:
                told = self._begin(Circle(out, into), amount, max_fee, timeout, key, request)
            return await self._payments.outcome(LockKey(bytes.fromhex(told["id"][2:])), timeout)

    def _begin(
        self, circle: Circle, amount: Amount, max_fee: Amount, timeout: int, key: str | None, request: list[str]
    ) -> Json:
        ours, text, preimage = self._invoice(self._token(circle), amount, timeout)
        answer = {"id": hexed(ours.payment_hash)}
        claim = self._asked.claim(key, request, answer, lasts=True)
        invoices.keep(claim, ours, text, preimage, again=True)
        claim.add("INSERT OR IGNORE INTO rebalances VALUES (?, ?, ?)", ours.payment_hash, circle.out, circle.into)
        self._payments.go_round(ours, text, circle, max_fee, timeout, claim)
        self._asked.begun(key, request, answer)
        return answer

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
