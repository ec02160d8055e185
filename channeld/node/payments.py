"""A payment of our own: find a way, offer a lock, learn from what comes back, try again, tell one outcome.

The payer fixes amount, fee budget and deadline before any peer speaks. A payment is a row before its first lock is
offered; each attempt is a row in the transaction that queues its lock. While an attempt is out there is no other,
so at most one lock can be taken, and its preimage is the proof of payment. After a restart the same loop goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import trio

from channeld.base.digests import Domain
from channeld.base.errors import ChanneldError, Malformed, Refused
from channeld.base.pack import pack, unpack
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


@dataclass(eq=False, slots=True)
class _Running:
    """A payment whose outcome is open. `returned` brings the reason of an attempt that came back."""

    done: trio.Event = field(default_factory=trio.Event)
    back: trio.Event = field(default_factory=trio.Event)
    returned: tuple[Name, bytes] | None = None
    fulfilled: bool = False
    """Its outcome is on disk: paid, or not to be known."""


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

    async def pay(self, text: str, amount: Amount | None, max_fee: Amount | None, timeout: int) -> Payment:
        """Pay an invoice and wait for the outcome. Asked again, it tells the first outcome again.

        Refused: the codes of `pay_invoice` in api.schema.
        """
        asked = self.read(text)
        if asked.payment_hash not in self._running:  # else somebody has just asked, and it may not be saved yet
            found = self.find(asked.payment_hash)
            if found is None or found.state == "failed":
                await self._begin(asked, text, amount, max_fee, timeout)
        running = self._running.get(asked.payment_hash)
        if running is not None:
            with trio.move_on_after(timeout + 5):
                await running.done.wait()
        found = self.find(asked.payment_hash)
        if found is None:
            raise Refused("payment_failed", "the payment was not begun")
        if found.state == "failed":
            raise Refused(found.code or "payment_failed", found.text, "nothing was paid; it may be tried again")
        if found.state == "unknown":
            raise Refused(found.code, found.text, "ask the payee; a new invoice can be paid")
        return found

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

    async def _begin(
        self, asked: Invoice, text: str, amount: Amount | None, max_fee: Amount | None, timeout: int
    ) -> None:
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
        budget = max_fee if max_fee is not None else Amount(max(pays // 100, 1_000))
        self._count += 1
        batch = Batch()
        batch.add("DELETE FROM payments WHERE hash = ? AND state = 'failed'", asked.payment_hash)
        batch.add(
            f"INSERT INTO payments (n, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 'pending', x'', '', '', ?, 0)",
            *(self._count, asked.payment_hash, text, asked.token, asked.payee, wide(pays), wide(0), wide(budget)),
            *(now + timeout, now),
        )
        running = self._running[asked.payment_hash] = _Running()
        try:
            await self._store.commit(batch)
        except ChanneldError:
            del self._running[asked.payment_hash]
            running.done.set()
            raise
        self._nursery.start_soon(self._drive, asked, running)

    def resume(self) -> None:
        """After a restart: go on with what was pending."""
        for row in self._store.rows(f"SELECT {_COLUMNS} FROM payments WHERE state = 'pending'"):
            payment = payment_of(row)
            running = self._running[payment.hash] = _Running()
            out = self._store.rows(
                "SELECT channel, lock FROM attempts WHERE hash = ? AND state = 'offered'",
                payment.hash,
            )
            self._nursery.start_soon(self._drive, self.read(payment.invoice), running, bool(out))

    # -- heard from the book

    def fulfilled(self, hash_: LockKey, preimage: Preimage) -> None:
        running = self._running.pop(hash_, None)
        if running is not None:
            running.fulfilled = True
            running.back.set()
            running.done.set()

    def returned(self, name: Name, hash_: LockKey, reason: bytes) -> None:
        running = self._running.get(hash_)
        if running is not None and running.returned is None:
            running.returned = (name, reason)
            running.back.set()

    def forgotten(self, hash_: LockKey) -> None:
        """In recovery: it may have been paid, so it is not tried again."""
        running = self._running.pop(hash_, None)
        if running is not None:
            running.fulfilled = True
            running.back.set()
            running.done.set()

    # -- the loop of one payment

    async def _drive(self, asked: Invoice, running: _Running, out: bool = False) -> None:
        code, text = "payment_failed", "no attempt could be made"
        exclude: set[Direction] = set()
        for _ in range(MAX_ATTEMPTS):
            if not out:
                payment = self.find(asked.payment_hash)
                if payment is None or self._world.now > payment.give_up:
                    code = "payment_timeout"
                    break
                try:
                    await self._attempt(asked, payment, exclude)
                except Refused as fault:
                    code, text = _NO_WAY.get(fault.code, fault.code), fault.text
                    break
            await running.back.wait()
            if running.fulfilled or running.returned is None:
                return
            name, reason = running.returned
            running.returned, running.back, out = None, trio.Event(), False
            code, text, final = self._lesson(name, reason, exclude)
            if final:
                break
        await self._fail(asked.payment_hash, code, text)

    async def _fail(self, hash_: LockKey, code: str, text: str) -> None:
        batch = Batch()
        batch.add(
            "UPDATE payments SET state = 'failed', code = ?, text = ?, settled_at = ? "
            "WHERE hash = ? AND state = 'pending'",
            *(code, text[:500], self._world.now, hash_),
        )
        self._book.events.add(batch, "payment_failed", payment_hash=hash_, code=code)
        await self._store.commit(batch)
        self._book.events.ring()
        running = self._running.pop(hash_, None)
        if running is not None:
            running.done.set()

    async def _attempt(self, asked: Invoice, payment: Payment, exclude: set[Direction]) -> None:
        """One lock on its way; Refused if there is no way or our own channel will not take it."""
        self._world.must_be_safe()
        now = self._world.now
        route = find_route(
            self._graph,
            source=self._us,
            target=asked.payee,
            token=asked.token,
            amount=payment.amount,
            final_expiry_delta=Seconds(asked.min_final_delta + 3 * self._world.network.clock_skew),
            own_channels=self._own_channels(),
            max_fee=payment.max_fee,
            now=now,
            hints=_hints(asked),
            exclude=exclude,
            liquidity=self.liquidity,
        )
        built = self._onion(asked, payment, route, now)
        hops = [[hop.channel_id, int(hop.side), hop.source, hop.target, str(hop.amount)] for hop in route.hops]
        saved = pack([list(built.secrets), hops])
        tag = self._book.tag(Attempt(hash=asked.payment_hash, route=saved))
        first = route.hops[0]
        offer = Offer(
            tag=tag,
            amount=first.amount,
            key=asked.payment_hash,
            expiry=Timestamp(now + first.expiry_delta),
            onion=built.packet,
        )
        writes = Batch()
        writes.add(
            "UPDATE payments SET fee = ?, hops = ? WHERE hash = ?",
            *(wide(route.fee), len(route.hops), asked.payment_hash),
        )
        try:
            await self._book.actors[first.channel_id].ask(offer, writes=writes)
        except ChanneldError:
            self._book.untag(tag)
            raise

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
