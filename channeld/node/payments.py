"""A payment of our own: find a way, offer a lock, learn from what comes back, try again, tell one outcome.

The payer fixes amount, fee budget and deadline before any peer speaks. A payment becomes a row in the transaction that
queues its first lock, each further attempt in that of its own lock: nothing is offered that is not on disk, and a
payment that goes well costs no transaction of its own. While an attempt is out there is no other, so at most one lock
can be taken, and its preimage is the proof of payment. What comes back calls the next attempt; after a restart the
payments that are pending go on in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import trio

from channeld.base.digests import Domain
from channeld.base.errors import Malformed, Refused
from channeld.base.pack import pack, unpack
from channeld.base.quick import replace
from channeld.base.units import Address, Amount, ChannelId, LockKey, NodeId, Preimage, Seconds, Side, Timestamp
from channeld.core.channel import Channel, Session
from channeld.core.events import Offer
from channeld.node.ledger import Attempt, Book, Name
from channeld.node.world import World
from channeld.storage.store import Batch, Store, narrow, wide
from channeld.wire import failure, invoice, onion, payload
from channeld.wire.failure import FailureCode
from channeld.wire.invoice import Invoice
from channeld.wire.payload import FinalPayload, ForwardPayload
from routing.fees import Policy
from routing.graph import Direction, Edge, Graph
from routing.liquidity import Liquidity
from routing.search import OwnChannel, Route, find_route

log = logging.getLogger(__name__)
MAX_ATTEMPTS: Final = 20
_NO_WAY: Final = {
    "own_channels_short": "insufficient_balance",
    "unknown_payee": "no_route",
    "fee_budget": "no_route",
    "too_long": "no_route",
}
"""What callers are told of `routing.search.NoRoute`'s reasons; the text says more."""

_decode = lru_cache(maxsize=1_024)(invoice.decode)
"""An invoice is read several times on its way to being paid; the same text always says the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What is known of one payment; `state` is pending, succeeded, failed, or unknown after a restore."""

    hash: LockKey
    invoice: str
    token: Address
    payee: NodeId
    amount: Amount
    fee: Amount
    max_fee: Amount
    give_up: Timestamp
    hops: int
    state: str
    preimage: bytes
    code: str
    text: str
    at: Timestamp
    settled_at: Timestamp


_COLUMNS: Final = (
    "hash, invoice, token, payee, amount, fee, max_fee, give_up, hops, state, preimage, code, text, at, settled_at"
)


def payment_of(row: Sequence[Any]) -> Payment:
    hash_, text, token, payee, amount, fee, max_fee, give_up, hops, state, preimage, code, why, at, settled = row
    return Payment(
        hash=hash_,
        invoice=text,
        token=token,
        payee=payee,
        amount=Amount(narrow(amount)),
        fee=Amount(narrow(fee)),
        max_fee=Amount(narrow(max_fee)),
        give_up=give_up,
        hops=hops,
        state=state,
        preimage=preimage,
        code=code,
        text=why,
        at=at,
        settled_at=settled,
    )


@dataclass(eq=False, slots=True, kw_only=True)
class _Running:
    """A payment whose outcome is open."""

    asked: Invoice
    payment: Payment
    """As it began; with its outcome once that is on disk."""
    fee: Amount = Amount(0)
    hops: int = 0
    """Of the newest attempt."""
    claim: Batch = field(default_factory=Batch)
    """What is saved with the row."""
    fresh: bool = False
    """Whether the row is still to be made."""
    exclude: set[Direction] = field(default_factory=set)
    refusal: Refused | None = None
    """The first of a channel of ours that would not take an attempt."""
    tried: int = 0
    """Attempts that left us."""
    out: Attempt | None = None
    """The one that is under way: while there is one there is no other."""
    done: trio.Event = field(default_factory=trio.Event)
    """Its outcome is on disk: paid, failed, or not to be known."""


class Payments:
    """Pays invoices. `randomness(n)` gives n fresh random bytes."""

    def __init__(
        self,
        book: Book,
        store: Store,
        world: World,
        graph: Graph,
        *,
        domain: Domain,
        us: NodeId,
        randomness: Callable[[int], bytes],
        nursery: trio.Nursery,
    ) -> None:
        self._book, self._store, self._world, self._graph = book, store, world, graph
        self._domain, self._us, self._randomness, self._nursery = domain, us, randomness, nursery
        self._running: dict[LockKey, _Running] = {}
        self.liquidity = Liquidity()
        ((self._count,),) = store.rows("SELECT coalesce(max(n), 0) FROM payments")

    # -- asked from outside

    async def pay(
        self,
        text: str,
        amount: Amount | None,
        max_fee: Amount | None,
        timeout: int,
        *,
        again: bool = True,
        claim: Batch | None = None,
    ) -> Payment:
        """Pay an invoice and wait for the outcome. Asked again, it tells the first outcome again.

        Args:
            again: whether the caller knows that it may have been asked before; else a paid invoice is refused.
            claim: saved with the payment's row.

        Refused: the codes of `pay_invoice` in api.schema.
        """
        asked = self.read(text)
        running = self._running.get(asked.payment_hash)  # perhaps somebody has just asked, and it is not saved yet
        if running is None:
            found = self.find(asked.payment_hash)
            if found is not None and found.state != "failed":
                if found.state == "succeeded" and not again:
                    raise Refused(
                        "invoice_paid", "this invoice was paid by us already", "channeld payments shows the payment"
                    )
                return _outcome(found)
            running = self._begin(asked, text, amount, max_fee, timeout, claim, found)
        elif claim:  # the same payment under another key
            await self._store.commit(claim)
        with trio.move_on_after(timeout + 5):
            await running.done.wait()
        return _outcome(running.payment)

    def read(self, text: str) -> Invoice:
        """Refused (invoice_malformed, invoice_wrong_chain): not an invoice for us to look at."""
        try:
            asked = _decode(text)
        except Malformed as fault:
            raise Refused("invoice_malformed", str(fault), "copy the whole invoice again") from fault
        if asked.domain != self._domain:
            raise Refused(
                "invoice_wrong_chain",
                f"the invoice is for chain {asked.domain.chain_id}, contract 0x{asked.domain.manager.hex()}",
                f"this node is on chain {self._domain.chain_id}",
            )
        return asked

    def find(self, hash_: LockKey) -> Payment | None:
        rows = self._store.rows(f"SELECT {_COLUMNS} FROM payments WHERE hash = ?", hash_)
        return payment_of(rows[0]) if rows else None

    def _begin(
        self,
        asked: Invoice,
        text: str,
        amount: Amount | None,
        max_fee: Amount | None,
        timeout: int,
        claim: Batch | None,
        failed: Payment | None,
    ) -> _Running:
        self._world.must_be_safe()
        now = self._world.now
        if asked.payee == self._us:
            raise Refused("invoice_own", "the invoice is our own", "it is for others to pay")
        if asked.is_expired(now):
            raise Refused("invoice_expired", f"the invoice expired {now - asked.expires_at} s ago", "ask for a new one")
        if asked.amount is not None and amount is not None and amount != asked.amount:
            raise Refused("amount_fixed", f"the invoice is for {asked.amount}", "leave the amount out")
        pays = asked.amount if asked.amount is not None else amount
        if pays is None:
            raise Refused("amount_required", "the invoice leaves the amount to the payer", "name an amount")
        if asked.payment_hash in self._world.registered:
            raise Refused("invoice_paid", "the invoice's preimage is public already", "ask for a new one")
        payment = Payment(
            hash=asked.payment_hash,
            invoice=text,
            token=asked.token,
            payee=asked.payee,
            amount=pays,
            fee=Amount(0),
            max_fee=max_fee if max_fee is not None else Amount(max(pays // 100, 1_000)),
            give_up=Timestamp(now + timeout),
            hops=0,
            state="pending",
            preimage=b"",
            code="",
            text="",
            at=now,
            settled_at=Timestamp(0),
        )
        running = self._running[payment.hash] = _Running(asked=asked, payment=payment, fresh=True)
        if failed is not None:
            running.claim.add("DELETE FROM payments WHERE hash = ? AND state = 'failed'", payment.hash)
        if claim is not None:
            running.claim.extend(claim)
        begun = False
        try:
            self._try(running)
            begun = True
        finally:
            if not begun:
                del self._running[payment.hash]
        return running

    def _row(self, running: _Running) -> Batch:
        """What makes the row of a payment that begins, as it is now."""
        payment = running.payment
        self._count += 1
        row = Batch()
        row.extend(running.claim)
        row.add(
            f"INSERT INTO payments (n, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', x'', '', '', ?, 0)",
            *(self._count, payment.hash, payment.invoice, payment.token, payment.payee),
            *(wide(payment.amount), wide(running.fee), wide(payment.max_fee), payment.give_up, running.hops),
            payment.at,
        )
        return row

    def resume(self) -> None:
        """After a restart: go on with what was pending."""
        for row in self._store.rows(f"SELECT {_COLUMNS} FROM payments WHERE state = 'pending'"):
            payment = payment_of(row)
            running = self._running[payment.hash] = _Running(
                asked=self.read(payment.invoice), payment=payment, fee=payment.fee, hops=payment.hops
            )
            out = self._store.rows(
                "SELECT channel, lock FROM attempts WHERE hash = ? AND state = 'offered'",
                payment.hash,
            )
            if out:
                running.out = self._book.attempt(out[0])
            else:
                self._try(running)

    # -- heard from the book

    def fulfilled(self, hash_: LockKey, preimage: Preimage, at: Timestamp) -> None:
        self._over(hash_, state="succeeded", preimage=preimage, settled_at=at)

    def forgotten(self, hash_: LockKey) -> None:
        """In recovery: it may have been paid, so it is not tried again."""
        if hash_ in self._running and (found := self.find(hash_)) is not None:
            self._over(hash_, state=found.state, code=found.code, text=found.text, settled_at=found.settled_at)

    def returned(self, name: Name, what: Attempt, reason: bytes) -> None:
        """What came back may be an older attempt than the one that is under way: a close can give a lock back twice."""
        running = self._running.get(what.hash)
        if running is not None and running.out is what:
            running.out = None
            running.fresh = False  # the row was saved with the attempt that has come back
            code, text, final = self._lesson(name, reason, running.exclude)
            if final:
                self._fail(running, code, text)
            else:
                self._try(running, code, text)

    def _over(self, hash_: LockKey, **outcome: Any) -> None:
        """The outcome is on disk."""
        running = self._running.pop(hash_, None)
        if running is not None:
            running.payment = replace(running.payment, fee=running.fee, hops=running.hops, **outcome)
            running.done.set()

    # -- the attempts of one payment

    def _try(self, running: _Running, code: str = "payment_failed", text: str = "no attempt could be made") -> None:
        """Make the next attempt. If there is to be none, the payment has failed: by `code` and `text` of the last."""
        if running.tried >= MAX_ATTEMPTS:
            self._fail(running, code, text)
        elif self._world.now > running.payment.give_up:
            self._fail(running, "payment_timeout", text)
        else:
            running.tried += 1
            try:
                self._attempt(running)
            except Refused as no_way:
                fault = running.refusal or no_way  # the rest of the ways may be none only because of it
                self._fail(running, _NO_WAY.get(fault.code, fault.code), fault.text)

    def _fail(self, running: _Running, code: str, text: str) -> None:
        outcome: dict[str, Any] = {"state": "failed", "code": code, "text": text[:500], "settled_at": self._world.now}
        hash_ = running.asked.payment_hash
        batch = self._row(running) if running.fresh else Batch()
        batch.add(
            "UPDATE payments SET state = 'failed', code = ?, text = ?, settled_at = ? "
            "WHERE hash = ? AND state = 'pending'",
            *(code, text[:500], outcome["settled_at"], hash_),
        )
        self._book.events.add(batch, "payment_failed", payment_hash=hash_, code=code)
        self._nursery.start_soon(self._save_failed, hash_, outcome, batch)

    async def _save_failed(self, hash_: LockKey, outcome: dict[str, Any], batch: Batch) -> None:
        await self._store.commit(batch)
        self._book.events.ring()
        self._over(hash_, **outcome)

    def _attempt(self, running: _Running) -> None:
        """One lock on its way; Refused if there is no way. It is saved with the payment's row, or is not made."""
        self._world.must_be_safe()
        asked, now = running.asked, self._world.now
        route = find_route(
            self._graph,
            source=self._us,
            target=asked.payee,
            token=asked.token,
            amount=running.payment.amount,
            final_expiry_delta=Seconds(asked.min_final_delta + 3 * self._world.network.clock_skew),
            own_channels=self._own_channels(),
            max_fee=running.payment.max_fee,
            now=now,
            hints=_hints(asked),
            exclude=running.exclude,
            liquidity=self.liquidity,
        )
        built = self._onion(asked, running.payment, route, now)
        hops = [[hop.channel_id, int(hop.side), hop.source, hop.target, str(hop.amount)] for hop in route.hops]
        saved = pack([list(built.secrets), hops])
        running.out = attempt = Attempt(hash=asked.payment_hash, route=saved)
        tag = self._book.tag(attempt)
        first = route.hops[0]
        offer = Offer(
            tag=tag,
            amount=first.amount,
            key=asked.payment_hash,
            expiry=Timestamp(now + first.expiry_delta),
            onion=built.packet,
        )
        running.fee, running.hops = route.fee, len(route.hops)
        if running.fresh:
            writes = self._row(running)
        else:
            writes = Batch()
            writes.add(
                "UPDATE payments SET fee = ?, hops = ? WHERE hash = ?",
                *(wide(route.fee), len(route.hops), asked.payment_hash),
            )

        def refused(fault: Refused) -> None:
            """Others took what the channel had, since we looked: over another one, if there is another."""
            self._book.untag(tag)
            running.out = None
            running.exclude.add(first.direction)
            running.refusal, running.tried = running.refusal or fault, running.tried - 1
            self._try(running)

        self._book.actors[first.channel_id].post(offer, writes=writes, on_refusal=refused)

    def _onion(self, asked: Invoice, payment: Payment, route: Route, now: Timestamp) -> onion.Built:
        payloads: list[tuple[NodeId, bytes]] = []
        for hop, onward in zip(route.hops, route.hops[1:], strict=False):
            told = ForwardPayload(
                next_channel=onward.channel_id,
                amount=onward.amount,
                expiry=Timestamp(now + onward.expiry_delta),
            )
            payloads.append((hop.target, payload.encode(told)))
        last = route.hops[-1]
        final = FinalPayload(
            amount=last.amount,
            expiry=Timestamp(now + last.expiry_delta),
            payment_secret=asked.payment_secret,
            total=payment.amount,
        )
        payloads.append((last.target, payload.encode(final)))
        while True:
            try:
                return onion.build(payloads, asked.payment_hash, self._randomness(32))
            except ValueError:  # 32 bytes that are no private key: chance 2**-127
                log.warning("an unusable session key was drawn")

    def _own_channels(self) -> Iterable[OwnChannel]:
        for actor in self._book.actors.values():
            channel = actor.channel
            if channel.session is Session.LIVE and channel.signs and not channel.leaving and not actor.broken:
                room = channel.max_locks - channel.newest_body.count(channel.we) - channel.reserved_locks
                yield OwnChannel(
                    channel_id=channel.id,
                    side=channel.we,
                    peer=channel.peer,
                    token=channel.token,
                    spendable=channel.spendable if room > 0 else Amount(0),
                )

    def _lesson(self, name: Name, reason: bytes, exclude: set[Direction]) -> tuple[str, str, bool]:
        """What a returned lock teaches: error code, text, and whether trying again is vain."""
        ((route,),) = self._store.rows("SELECT route FROM attempts WHERE channel = ? AND lock = ?", *name)
        secrets, hops = unpack(route)
        now = self._world.now
        if not reason:
            exclude.add((ChannelId(hops[0][0]), Side(hops[0][1])))
            return "payment_failed", "the first channel gave the lock back unexplained", False
        try:
            at, message = onion.unwrap_error(secrets, reason)
            told = failure.decode(message)
        except Malformed:
            exclude.add((ChannelId(hops[0][0]), Side(hops[0][1])))
            return "payment_failed", "a hop answered with an error nobody can read", False
        text = f"{told.code.name.lower()} at hop {at + 1} of {len(hops)} (0x{hops[at][3].hex()[:16]}…)"
        if told.code.at_payee and at == len(hops) - 1:
            return _payee_code(told.code), text, True
        blamed = hops[min(at + 1, len(hops) - 1)]
        direction = (ChannelId(blamed[0]), Side(blamed[1]))
        exclude.add(direction)
        self.liquidity.failed(direction, Amount(int(blamed[4])), now)
        return ("safe_mode" if told.code is FailureCode.SAFE_MODE else "payment_failed"), text, False


def _outcome(payment: Payment) -> Payment:
    """What is told of a payment that succeeded or is pending; Refused for others."""
    if payment.state == "failed":
        raise Refused(payment.code or "payment_failed", payment.text, "nothing was paid; it may be tried again")
    if payment.state == "unknown":
        raise Refused(payment.code, payment.text, "ask the payee; a new invoice can be paid")
    return payment


def _payee_code(code: FailureCode) -> str:
    return {FailureCode.UNKNOWN_PAYMENT: "payment_rejected", FailureCode.PAYMENT_TIMEOUT: "payment_timeout"}.get(
        code,
        "payment_failed",
    )


def _hints(asked: Invoice) -> list[Edge]:
    edges = []
    for way in asked.hints:
        for hop, after in zip(way, [*[step.node for step in way[1:]], asked.payee], strict=True):
            edges.append(
                Edge(
                    channel_id=hop.channel,
                    side=Side.A,
                    source=hop.node,
                    target=after,
                    policy=Policy(
                        fee_base=hop.fee_base,
                        fee_ppm=hop.fee_ppm,
                        expiry_delta=hop.expiry_delta,
                    ),
                ),
            )
    return edges


def spendable(channels: Iterable[Channel]) -> Amount:
    """What the open channels can send together."""
    return Amount(sum(channel.spendable for channel in channels if channel.signs))
