"""What becomes of a lock that came in: pass it on, keep it for an invoice of ours, or give it back with a reason.

The decision is made only for locks in `current` (R8) and rests on the onion, on our announced policy and on time
(R17, R18). It is written in the transaction that queues its consequence, so a crash before that asks it again.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from channeld.base.digests import Lock
from channeld.base.errors import Malformed, Refused
from channeld.base.keys import Key
from channeld.base.quick import replace
from channeld.base.units import Address, Amount, ChannelId, LockId, LockKey, Preimage, Timestamp
from channeld.core.channel import Channel, Phase, Session
from channeld.core.events import Event, Fulfil, Offer
from channeld.core.updating import our_locks
from channeld.node import invoice_row, keysend
from channeld.node.events import keep_preimage
from channeld.node.holding import Holding, Part, give_back
from channeld.node.invoice_row import OwnInvoice
from channeld.node.jamming import USUAL, Held, Limits, Room, Traffic
from channeld.node.ledger import Book, Forward
from channeld.node.world import World
from channeld.storage.store import Batch, Store, wide
from channeld.wire import onion, payload
from channeld.wire.failure import FailureCode
from channeld.wire.payload import FinalPayload, ForwardPayload, Payload
from routing.fees import Policy

log = logging.getLogger(__name__)
SET_TIMEOUT: Final = 60
"""Seconds that the parts of one payment wait for each other."""


class _No(Exception):
    """This lock is given back for `code`; `terms`: the channel whose policy forbids it."""

    def __init__(self, code: FailureCode, terms: Channel | None = None) -> None:
        super().__init__(code.name)
        self.code, self.terms = code, terms


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """What an onion told us, or why it is given back; `secret` is empty if it did not open at all."""

    told: Payload | FailureCode
    onward: bytes | None = None
    secret: bytes = b""


class Desk:
    """Decides arrivals. `policy` is what we ask for forwarding out of a channel; `costs` what resolving one lock of a
    token on chain costs, in its base units; `short` why the account could not enforce a further lock in a channel;
    `keysend` whether payments without an invoice are taken."""

    def __init__(
        self,
        book: Book,
        store: Store,
        world: World,
        node_key: Key,
        *,
        policy: Callable[[Channel], Policy],
        max_expiry: int,
        limits: Limits = USUAL,
        costs: Callable[[Address], Amount] = lambda _: Amount(0),
        short: Callable[[Channel], str | None] = lambda _: None,
        keysend: bool = False,
    ) -> None:
        self._book, self._store, self._world, self._key = book, store, world, node_key
        self._policy, self._max_expiry, self._costs, self._short = policy, max_expiry, costs, short
        self._keysend = keysend
        self._traffic = Traffic(limits, self._waits)
        self.holding = Holding(book, store, world)
        self._parts: dict[LockKey, list[Part]] = {}
        self._paid: dict[LockKey, Batch] = {}
        """Invoices that are paid in a turn which may not be saved yet."""
        self._opened: dict[tuple[ChannelId, LockId], _Opened] = {}
        """Of locks that are being saved, so that none is opened twice."""
        self._passed: set[tuple[ChannelId, LockId]] = set()
        """Those that go on in a turn that rests on the one that saves them."""
        self.word: Callable[[Channel], bytes] = lambda _: b""
        """Our policy for a channel as we said it last, an encoded `ChannelUpdate`; empty if we never did."""
        self._turning: Channel | None = None
        """The channel whose lock is being decided in its turn."""

    # -- arrivals

    def at_once(self, channel: Channel, lock: Lock, packet: bytes, turn: Batch) -> tuple[Event, Batch] | None:
        """The answer to a lock that pays a whole invoice of ours by itself, to be saved together with the lock.

        `channel` holds it in `current` and is about to be saved with `turn`. None: for all others. One that goes on is
        offered at once, in a turn of the other channel that rests on this one. The rest `arrived` decides once it is
        saved: what is given back, and what is counted by what channels hold.
        """
        self._passed.discard((channel.id, lock.id))  # an earlier turn that brought it may not have been saved
        opened = self._opened[channel.id, lock.id] = self._open(packet, lock.key)
        told = opened.told
        if isinstance(told, ForwardPayload) and opened.onward is not None:
            self._pass_on(channel, lock, told, opened, turn)
            return None
        if not isinstance(told, FinalPayload) or opened.onward is not None or lock.key in self._parts:
            return None
        if lock.amount < max(told.total, self._costs(channel.token)) or not self._world.may_fulfil(lock.expiry):
            return None
        try:
            self._must_take(channel, lock)
            invoice = self._asked_for(channel, lock, told)
        except _No:
            return None
        if invoice.hold:
            return None
        del self._opened[channel.id, lock.id]
        part = Part(channel.id, lock.id, lock.amount, told.total, opened.secret, lock.expiry, self._world.now)
        return Fulfil(lock_id=lock.id, preimage=invoice.preimage), self._claim(invoice, [part], turn)

    def arrived(self, channel: Channel, lock: Lock, packet: bytes) -> None:
        """Decide; the consequence is queued before this returns."""
        if (channel.id, lock.id) in self._passed:
            self._passed.discard((channel.id, lock.id))
            return
        opened = self._opened.pop((channel.id, lock.id), None) or self._open(packet, lock.key)
        told, onward, secret = opened.told, opened.onward, opened.secret
        try:
            if isinstance(told, FailureCode):
                raise _No(told)
            self._must_take(channel, lock)
            if isinstance(told, ForwardPayload) and onward is not None:
                self._forward(channel, lock, told, onward, secret)
            elif isinstance(told, FinalPayload) and onward is None:
                self._keep(channel, lock, told, secret)
            else:
                raise _No(FailureCode.INVALID_PAYLOAD)
        except _No as no:
            log.info("channel=%s lock=%s given back: %s", channel.name, lock.id, no.code.name)
            told_back = b"" if no.terms is None else self.word(no.terms)
            self._give_back(channel.id, lock.id, secret, no.code, told_back)

    def _pass_on(self, channel: Channel, lock: Lock, told: ForwardPayload, opened: _Opened, turn: Batch) -> None:
        """Offer a lock further while it is being saved; if it does not fit, `arrived` says so afterwards."""
        if opened.onward is None:
            return
        try:
            self._must_take(channel, lock)
            self._turning = channel
            self._forward(channel, lock, told, opened.onward, opened.secret, turn)
        except _No:
            return
        finally:
            self._turning = None
        del self._opened[channel.id, lock.id]
        self._passed.add((channel.id, lock.id))

    def _open(self, packet: bytes, key: LockKey) -> _Opened:
        """Our layer of an onion."""
        try:
            peeled = onion.peel(packet, self._key, key)
        except Malformed:
            return _Opened(told=FailureCode.INVALID_ONION)
        try:
            return _Opened(told=payload.decode(peeled.payload), onward=peeled.onward, secret=peeled.secret)
        except Malformed:
            return _Opened(told=FailureCode.INVALID_PAYLOAD, secret=peeled.secret)

    def _must_take(self, channel: Channel, lock: Lock) -> None:
        """What holds for every lock that is not given back."""
        if self._world.safe_mode is not None:
            raise _No(FailureCode.SAFE_MODE)
        if channel.phase is not Phase.OPEN:  # its state may have been settled without this lock
            raise _No(FailureCode.CHANNEL_CLOSING)
        if (why := self._short(channel)) is not None:
            log.warning("channel=%s lock=%s not taken: %s", channel.name, lock.id, why)
            raise _No(FailureCode.TEMPORARY_NODE_FAILURE)

    def _give_back(self, channel: ChannelId, lock: LockId, secret: bytes, code: FailureCode, data: bytes = b"") -> None:
        give_back(self._book, channel, lock, secret, code, data)

    # -- passing on

    def _forward(
        self,
        channel: Channel,
        lock: Lock,
        told: ForwardPayload,
        onward: bytes,
        secret: bytes,
        turn: Batch | None = None,
    ) -> None:
        out = self._book.actors.get(told.next_channel)
        if out is None or out.channel.token != channel.token or out.channel.session is not Session.LIVE:
            raise _No(FailureCode.UNKNOWN_NEXT_PEER)
        if out.channel.domain != channel.domain:  # another registry needs other margins (R19)
            raise _No(FailureCode.UNKNOWN_NEXT_PEER)
        if out.channel.id == channel.id or out.broken or out.channel.leaving or not out.channel.signs:
            raise _No(FailureCode.CHANNEL_CLOSING)
        if self._book.knows(lock.key):  # passed on, it could come back while we can take it: nobody gains by that
            raise _No(FailureCode.TEMPORARY_CHANNEL_FAILURE)
        self._check_terms(lock, told, out.channel)
        held = self._held(channel, lock.id, out.channel, told.amount, told.expiry)
        room = Room(
            slots=out.channel.max_locks,
            spendable=out.channel.spendable,
            passed=self._book.passed_through(out.channel),
        )
        why = self._traffic.why_not(held, room, self._world.now)
        if why is not None:
            log.info("channel=%s lock=%s not passed on: %s", channel.name, lock.id, why)
            raise _No(FailureCode.TEMPORARY_CHANNEL_FAILURE)
        self._traffic.add(held)
        what = Forward(
            in_channel=channel.id,
            in_lock=lock.id,
            key=lock.key,
            amount_in=lock.amount,
            amount_out=told.amount,
            secret=secret,
        )
        tag = self._book.tag(what)
        offer = Offer(tag=tag, amount=told.amount, key=lock.key, expiry=told.expiry, onion=onward)
        out.post(offer, on_refusal=lambda _: self._refused(tag, what, turn), after=turn)

    def _held(self, came: Channel, lock: LockId, out: Channel, amount: Amount, expiry: Timestamp) -> Held:
        return Held(
            came=(came.id, lock),
            neighbour=came.peer,
            out=out.id,
            amount=amount,
            expiry=expiry,
            dust=amount < self._costs(out.token),
        )

    def _waits(self, channel: ChannelId, lock: LockId) -> bool:
        """Whether that incoming lock still stands in what both have signed, or will in a turn that is not saved yet."""
        actor, turning = self._book.actors.get(channel), self._book.actors.turning.get(channel)
        if self._turning is not None and self._turning.id == channel:
            turning = self._turning
        values = ([] if actor is None else [actor.channel]) + ([] if turning is None else [turning])
        return any((one.we.other, lock) in one.current.body.locks for one in values)

    def _check_terms(self, lock: Lock, told: ForwardPayload, out: Channel) -> None:
        """Fees and times: R18 between the two locks, R17 for the outgoing one."""
        world, now, policy = self._world, self._world.now, self._policy(out)
        if not policy.min_lock <= told.amount <= policy.max_lock:
            raise _No(FailureCode.AMOUNT_BELOW_MINIMUM, out)
        if lock.amount < told.amount + policy.fee(told.amount):
            raise _No(FailureCode.FEE_INSUFFICIENT, out)
        if lock.expiry < told.expiry + max(policy.expiry_delta, world.network.forward_delta):
            raise _No(FailureCode.INCORRECT_EXPIRY, out)
        if told.expiry <= now + 2 * world.network.delta_inclusion + world.network.clock_skew:
            raise _No(FailureCode.EXPIRY_TOO_SOON)
        if lock.expiry > now + self._max_expiry:
            raise _No(FailureCode.EXPIRY_TOO_FAR)
        if lock.key in world.registered:
            raise _No(FailureCode.KEY_ALREADY_REGISTERED)

    def _refused(self, tag: bytes, what: Forward, turn: Batch | None) -> None:
        self._book.untag(tag)
        if turn is not None and turn.failed:
            return  # the lock is not ours to give back: if it comes again it is decided anew, and may be on its way
        self._give_back(what.in_channel, what.in_lock, what.secret, FailureCode.TEMPORARY_CHANNEL_FAILURE)

    # -- keeping

    def _keep(self, channel: Channel, lock: Lock, told: FinalPayload, secret: bytes) -> None:
        """R21: a part of a payment to us. Released when the whole set is here, each part with time to spare."""
        invoice = self._asked_for(channel, lock, told)
        if not self._is_worth_it(channel, lock, told.total):
            raise _No(FailureCode.FINAL_INCORRECT_AMOUNT)
        now, asked = self._world.now, told.payment_secret
        part = Part(channel.id, lock.id, lock.amount, told.total, secret, lock.expiry, now, asked)
        parts = self._parts.setdefault(lock.key, [])
        if any(other.asked != asked for other in parts):
            raise _No(FailureCode.UNKNOWN_PAYMENT)
        if any(other.total != told.total for other in parts):
            raise _No(FailureCode.FINAL_INCORRECT_AMOUNT)
        parts.append(part)
        if sum(one.amount for one in parts) < told.total:
            return  # its arrival stays on disk, undecided
        if not all(self._stands(one) for one in parts):
            self._return_set(lock.key)
        elif invoice.hold:
            self.holding.hold(lock.key, self._parts.pop(lock.key))
        else:
            self._release(invoice, parts)

    def _asked_for(self, channel: Channel, lock: Lock, told: FinalPayload) -> OwnInvoice:
        """The invoice of ours that a lock pays, or pays a part of, or what a keysend stands in for; _No if it does not
        do so as it should."""
        invoice = self._unasked(channel, lock, told) if told.preimage else self.invoice(lock.key)
        world = self._world
        if invoice is None or not invoice.open or invoice.expires < world.now:
            raise _No(FailureCode.UNKNOWN_PAYMENT)
        if channel.token != invoice.token:
            raise _No(FailureCode.UNKNOWN_PAYMENT)
        if not hmac.compare_digest(told.payment_secret, invoice.secret) or lock.key in world.registered:
            raise _No(FailureCode.UNKNOWN_PAYMENT)
        if lock.amount < told.amount or (invoice.amount is not None and told.total < invoice.amount):
            raise _No(FailureCode.FINAL_INCORRECT_AMOUNT)
        least = world.now + world.network.final_delta - world.network.clock_skew + invoice.hold
        if lock.expiry < told.expiry or lock.expiry < least:
            raise _No(FailureCode.FINAL_INCORRECT_EXPIRY)
        if lock.expiry > world.now + self._max_expiry:
            raise _No(FailureCode.FINAL_INCORRECT_EXPIRY)
        return invoice

    def _is_worth_it(self, channel: Channel, lock: Lock, total: Amount) -> bool:
        """R21: a part that nobody would resolve on chain counts nothing towards its set, so it is given back. A payment
        that is so small as a whole risks itself only; it is taken, and counted with all that are not worth it."""
        if lock.amount >= self._costs(channel.token):
            return True
        if lock.amount < total:
            return False
        why = self._traffic.keep(self._held(channel, lock.id, channel, lock.amount, lock.expiry))
        if why is not None:
            log.info("channel=%s lock=%s not kept: %s", channel.name, lock.id, why)
            raise _No(FailureCode.PAYMENT_TIMEOUT)
        return True

    def _stands(self, part: Part) -> bool:
        """R21: in a channel that can still pay it, with time to spare."""
        actor = self._book.actors[part.channel]
        open_ = actor.channel.phase is Phase.OPEN and not actor.broken
        return open_ and self._world.may_fulfil(part.expiry)

    def _release(self, invoice: OwnInvoice, parts: list[Part]) -> None:
        """The preimage goes out. Every part's transaction says that the invoice is paid, and by which parts: whichever
        is saved first before a crash, the others are claimed after it."""
        writes = self._claim(invoice, parts, Batch())
        for part in parts:
            writes.add("DELETE FROM arrivals WHERE channel = ? AND lock = ?", part.channel, part.lock)
        for part in parts:
            self._book.fulfil(part.channel, part.lock, invoice.preimage, writes)
        del self._parts[invoice.hash]

    def _claim(self, invoice: OwnInvoice, parts: list[Part], turn: Batch) -> Batch:
        """What says that `parts` pay the invoice; from here on nothing else does, unless `turn` is not saved."""
        received = Amount(sum(part.amount for part in parts))
        writes = Batch()
        if invoice.unasked:
            invoice_row.add_unasked(writes, invoice, self._world.now)
        writes.add(
            "UPDATE invoices SET state = 'paid', received = ?, paid_at = ? WHERE hash = ?",
            *(wide(received), self._world.now, invoice.hash),
        )
        keep_preimage(writes, invoice.hash, invoice.preimage)
        for part in parts:
            writes.add(
                "INSERT OR IGNORE INTO parts VALUES (?, ?, ?, ?, ?)",
                *(part.channel, part.lock, invoice.hash, wide(part.amount), part.at),
            )
        of_others = "NOT EXISTS (SELECT 1 FROM rebalances WHERE hash = ?)"  # our own is told as `payment_sent`
        told = {"payment_hash": invoice.hash, "amount": str(received)}
        self._book.events.add_if(of_others, invoice.hash, writes, "payment_received", **told)
        self._paid[invoice.hash] = turn
        return writes

    def invoice(self, hash_: LockKey) -> OwnInvoice | None:
        """Our invoice of that payment hash. One that is being paid, held or canceled is not open, though the disk may
        still say so."""
        found = invoice_row.find(self._store, hash_)
        if found is not None and (self._is_being_paid(hash_) or self.holding.takes_none(hash_)):
            return replace(found, open=False)
        return found

    def _unasked(self, channel: Channel, lock: Lock, told: FinalPayload) -> OwnInvoice | None:
        """What a keysend stands in for; None if we take none, or know its hash already."""
        if not self._keysend or self._book.knows(lock.key) or self._is_being_paid(lock.key):
            return None
        if lock.amount < self._costs(channel.token):
            raise _No(FailureCode.FINAL_INCORRECT_AMOUNT)
        return keysend.came(lock, channel.token, told, self._world.now)

    async def cancel(self, hash_: LockKey) -> None:
        """Make an invoice void, and give back what has been paid of it. Refused: as by `Holding.cancel`."""
        if self._is_being_paid(hash_):
            raise Refused("invoice_paid", "the invoice is being paid just now")
        if self.invoice(hash_) is not None:
            for part in self._parts.pop(hash_, []):
                self._give_back(part.channel, part.lock, part.secret, FailureCode.REJECTED_BY_PAYEE)
        await self.holding.cancel(hash_)

    # -- time and restart

    def sweep(self) -> None:
        """Give back sets that did not become whole in time, or a part of which has too little time left (R21, R22).
        What is over, in the book and among the paid invoices that are on disk, is forgotten."""
        self._book.forget()
        self._paid = {
            hash_: turn
            for hash_, turn in self._paid.items()
            if self._is_being_paid(hash_) and not self._is_paid_on_disk(hash_)
        }
        for hash_, parts in list(self._parts.items()):
            old = self._world.now > min(part.at for part in parts) + SET_TIMEOUT
            if old or not all(self._stands(part) for part in parts):
                self._return_set(hash_)
        self.holding.sweep()

    def _is_being_paid(self, hash_: LockKey) -> bool:
        turn = self._paid.get(hash_)
        return turn is not None and not turn.failed

    def _is_paid_on_disk(self, hash_: LockKey) -> bool:
        return bool(self._store.rows("SELECT 1 FROM invoices WHERE hash = ? AND state = 'paid'", hash_))

    def _return_set(self, hash_: LockKey) -> None:
        for part in self._parts.pop(hash_, []):
            self._give_back(part.channel, part.lock, part.secret, FailureCode.PAYMENT_TIMEOUT)

    def recover(self) -> None:
        """Claim again what belongs to paid invoices; count again what is passed on; decide again what nobody has
        decided."""
        for (out, number), what in self._book.passed_on():
            there, here = self._book.actors.get(out), self._book.actors.get(what.in_channel)
            lock = None if there is None else our_locks(there.channel).get(number)
            if there is not None and here is not None and lock is not None:
                self._traffic.add(self._held(here.channel, what.in_lock, there.channel, what.amount_out, lock.expiry))
        claimed = set()
        for channel, actor in self._book.actors.items():
            for (side, number), standing in actor.channel.current.body.locks.items():
                preimage = None if side is actor.channel.we else self._shown(channel, number)
                if preimage is not None:
                    claimed.add((channel, number))
                    self._traffic.add_kept(
                        self._held(actor.channel, number, actor.channel, standing.amount, standing.expiry)
                    )
                    self._book.fulfil(channel, number, preimage)
        held = []
        for channel_, lock_, packet in list(self._book.recover()):
            if (channel_.id, lock_.id) in claimed:
                continue
            was = self.holding.was(channel_.id, lock_.id)
            if was is None:
                self.arrived(channel_, lock_, packet)
                continue
            opened = self._open(packet, lock_.key)
            if was[0] == "held" and isinstance(opened.told, FinalPayload):
                self._traffic.add_kept(self._held(channel_, lock_.id, channel_, lock_.amount, lock_.expiry))
                total, secret, expiry = opened.told.total, opened.secret, lock_.expiry
                held.append((lock_.key, Part(channel_.id, lock_.id, lock_.amount, total, secret, expiry, was[1])))
            else:
                self._give_back(channel_.id, lock_.id, opened.secret, FailureCode.REJECTED_BY_PAYEE)
        self.holding.recover(held)

    def _shown(self, channel: ChannelId, lock: LockId) -> Preimage | None:
        """The preimage of an invoice that this lock is on our books to have paid, or paid a part of."""
        rows = self._store.rows(
            "SELECT i.preimage FROM parts p JOIN invoices i ON i.hash = p.hash "
            "WHERE p.channel = ? AND p.lock = ? AND i.state = 'paid'",
            *(channel, lock),
        )
        return Preimage(rows[0][0]) if rows else None
