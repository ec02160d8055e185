"""Payments without an invoice (keysend): the payer draws the preimage and tells it to the payee inside the onion.

Only the payee's own layer shows it, so nobody on the way can take a lock by it. Everything else is as if the payee
had made an invoice: locks of one hash, a payment secret that all parts carry, and the whole amount or nothing (R21).
What the payer learns at the end proves nothing about the payee's wishes, only that the payee has the money.

The payer's preimage is in the payment's row, in the transaction that queues the first lock: after a restart the same
payment goes on with the same hash, so the payee cannot be paid twice. The secret follows from it.

The payee takes such a payment only if its setting says so (`payments.accept_keysend`), which is off unless it is
asked for: each one is a row that is kept for good, a stranger may make any number of them for little, and to whom the
money belongs no invoice says. Never is one taken whose hash is known here already: not that of an invoice of ours,
which it must not mark as paid, nor one that came before. One that is not worth resolving on chain is given back,
however whole it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from channeld.base.digests import Domain, Lock
from channeld.base.keys import sha256
from channeld.base.units import Address, Amount, LockKey, NodeId, Preimage, Seconds, Timestamp
from channeld.node.asked import Asked
from channeld.node.invoice_row import OwnInvoice
from channeld.node.payment_row import Payment
from channeld.node.shown import Json
from channeld.node.world import World
from channeld.wire.invoice import DEFAULT_EXPIRY, Invoice
from channeld.wire.payload import FinalPayload

if TYPE_CHECKING:
    from channeld.node.payments import Payments


class Keysends:
    """The payer's part of the file's head. `randomness(n)` gives n fresh random bytes."""

    def __init__(
        self, payments: Payments, world: World, asked: Asked, *, domain: Domain, randomness: Callable[[int], bytes]
    ) -> None:
        self._payments, self._world, self._asked = payments, world, asked
        self._domain, self._randomness = domain, randomness

    async def pay(
        self, payee: NodeId, token: Address, amount: Amount, max_fee: Amount, timeout: int, key: str | None
    ) -> Payment:
        """Pay, and wait for the outcome. Under a key that was used the first outcome is told again.

        Refused: see `pay_keysend` of the schema.
        """
        request = ["keysend", payee.hex(), token.hex(), str(amount)]
        async with self._asked.once(key):
            told = self._asked.answered(key, request)
            if told is None:
                told = self._begin(payee, token, amount, max_fee, timeout, key, request)
            return await self._payments.outcome(LockKey(bytes.fromhex(told["payment_hash"])), timeout)

    def _begin(
        self,
        payee: NodeId,
        token: Address,
        amount: Amount,
        max_fee: Amount,
        timeout: int,
        key: str | None,
        request: list[str],
    ) -> Json:
        drawn = Preimage(self._randomness(32))
        asked = asked_of(
            drawn,
            domain=self._domain,
            payee=payee,
            token=token,
            amount=amount,
            at=self._world.now,
            final_delta=self._world.network.final_delta,
        )
        answer = {"payment_hash": asked.payment_hash.hex()}
        claim = self._asked.claim(key, request, answer, lasts=True)
        self._payments.send(asked, drawn, max_fee, timeout, claim)
        self._asked.begun(key, request, answer)
        return answer


def asked_of(
    drawn: Preimage,
    *,
    domain: Domain,
    payee: NodeId,
    token: Address,
    amount: Amount,
    at: Timestamp,
    final_delta: Seconds,
) -> Invoice:
    """What the payee would have asked for. Nobody has signed it, and it never becomes text."""
    return Invoice(
        domain=domain,
        token=token,
        amount=amount,
        payment_hash=LockKey(sha256(drawn)),
        payment_secret=sha256(b"channeld keysend\n" + drawn),
        created=at,
        expiry=DEFAULT_EXPIRY,
        payee=payee,
        min_final_delta=final_delta,
    )


def asked_again(payment: Payment, domain: Domain, final_delta: Seconds) -> Invoice:
    """The same of a payment that was begun."""
    return asked_of(
        Preimage(payment.drawn),
        domain=domain,
        payee=payment.payee,
        token=payment.token,
        amount=payment.amount,
        at=payment.at,
        final_delta=final_delta,
    )


def came(lock: Lock, token: Address, told: FinalPayload, now: Timestamp) -> OwnInvoice | None:
    """The invoice that a keysend stands in for; None if its preimage is not that of the lock."""
    if sha256(told.preimage) != lock.key:
        return None
    return OwnInvoice(
        hash=lock.key,
        preimage=Preimage(told.preimage),
        secret=told.payment_secret,
        token=token,
        amount=told.total,
        expires=now,
        unasked=True,
    )
