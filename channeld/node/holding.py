"""Held payments: invoices of ours whose preimage somebody else has (R22).

Whoever asks for such an invoice names its payment hash and not the preimage. Once the whole set stands (R21) the
invoice is *held*: saved as that, then told (`invoice_held`). Its locks stay as they are, over any number of restarts,
until one of three things: it is settled with the preimage, it is canceled, or a lock of it has so little time left
that a preimage could not be registered any more before it expires. Then it is canceled by itself, so no channel has
to close for it. Only if this node has learned the preimage meanwhile, because it paid the same hash onwards, it is
settled by itself: a known preimage makes failing impossible.

The outcome is decided once, in memory, before anything is awaited, and saved before anything of it leaves: a preimage
in one transaction that says which locks it takes, so that after a crash all of them are claimed (`Desk.recover`); and
a canceled invoice before the first lock is given back, so that none can be settled of which a part is gone. While
locks stand no channel is closed together (R11); one that closes alone takes its locks to the chain, where settling
registers the preimage in time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from channeld.base.errors import Refused
from channeld.base.keys import sha256
from channeld.base.units import Amount, ChannelId, LockId, LockKey, Preimage, Timestamp
from channeld.core.channel import Channel, Phase
from channeld.core.closing import final_body
from channeld.core.events import Fail
from channeld.node.events import keep_preimage
from channeld.node.ledger import Book
from channeld.node.world import World
from channeld.storage.store import Batch, Store, wide
from channeld.wire.failure import FailureCode

log = logging.getLogger(__name__)
_CODES: Final = {FailureCode.REJECTED_BY_PAYEE: "canceled", FailureCode.PAYMENT_TIMEOUT: "hold_expired"}
"""Why a held invoice is canceled, as the event says it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A lock that pays a part of an invoice, or all of it. `secret` is shared with the payer, to wrap errors; `asked`
    is the payment secret that came with it."""

    channel: ChannelId
    lock: LockId
    amount: Amount
    total: Amount
    secret: bytes = field(repr=False)
    expiry: Timestamp
    at: Timestamp
    asked: bytes = field(default=b"", repr=False)


@dataclass(eq=False, slots=True)
class _Held:
    """A set that stands whole. `outcome`: decided, and on disk once `over` is set."""

    parts: list[Part]
    saved: trio.Event = field(default_factory=trio.Event)
    outcome: str = ""
    over: trio.Event = field(default_factory=trio.Event)


class Holding:
    """See the file's head."""

    def __init__(self, book: Book, store: Store, world: World) -> None:
        self._book, self._store, self._world = book, store, world
        self._held: dict[LockKey, _Held] = {}
        self._voided: dict[LockKey, trio.Event] = {}
        """Open invoices that are being canceled."""

    def takes_none(self, hash_: LockKey) -> bool:
        """Whether that invoice is not open any more, though the disk may still say so."""
        return hash_ in self._held or hash_ in self._voided

    def settle_by(self, hash_: LockKey) -> Timestamp | None:
        """Until when a held invoice can be settled; None: it is not held."""
        held = self._held.get(hash_)
        return None if held is None or held.outcome else self._last(held)

    def _last(self, held: _Held) -> Timestamp:
        network = self._world.network
        first = min(part.expiry for part in held.parts)
        return Timestamp(first - network.delta_inclusion - network.clock_skew - 1)

    # -- from the desk

    def hold(self, hash_: LockKey, parts: Sequence[Part]) -> None:
        """The set is whole, and each lock has time to spare: from here on nothing else pays the invoice."""
        held = self._held[hash_] = _Held(list(parts))
        received = str(sum(part.amount for part in parts))
        writes = Batch()
        writes.add("UPDATE invoices SET state = 'held', received = ? WHERE hash = ?", wide(int(received)), hash_)
        for part in parts:
            writes.add(
                "INSERT OR IGNORE INTO parts VALUES (?, ?, ?, ?, ?)",
                *(part.channel, part.lock, hash_, wide(part.amount), part.at),
            )
        self._book.events.add(writes, "invoice_held", payment_hash=hash_, amount=received, settle_by=self._last(held))
        self._book.tasks.start_soon(self._save_held, held, writes)

    async def _save_held(self, held: _Held, writes: Batch) -> None:
        await self._store.commit(writes)
        self._book.events.ring()
        held.saved.set()

    def sweep(self) -> None:
        """Cancel what has no time left, or has lost a part on chain."""
        for hash_, held in self._held.items():
            if not held.saved.is_set() or held.outcome or self._stands(hash_, held):
                continue
            if (preimage := self._known(hash_)) is not None:
                self._settle(hash_, held, preimage)
            else:
                self._cancel(hash_, held, FailureCode.PAYMENT_TIMEOUT)

    # -- asked from outside

    async def settle(self, preimage: Preimage) -> LockKey:
        """Take a held payment; its payment hash. On disk when this returns; asked again, it does nothing more.

        Refused: `unknown_invoice`, `invoice_not_held` (nobody has paid it yet), `invoice_canceled`, `hold_expired`.
        """
        hash_ = LockKey(sha256(preimage))
        held = self._held.get(hash_)
        if held is not None:
            await held.saved.wait()
            if not held.outcome:
                if not self._stands(hash_, held):
                    text = "too little time is left to be sure of the money: the payment is given back"
                    raise Refused("hold_expired", text, "ask for a longer hold_time, and settle before settle_by")
                self._settle(hash_, held, preimage)
            await held.over.wait()
        state = self._state(hash_)
        if state == "canceled":
            raise Refused("invoice_canceled", "the invoice was canceled, and its payment given back")
        if state != "paid":
            raise Refused("invoice_not_held", "nobody has paid the invoice yet", "wait for the event invoice_held")
        return hash_

    async def cancel(self, hash_: LockKey) -> None:
        """Give a held payment back, or make an open invoice void. On disk when this returns; again, it does nothing.

        Refused: `unknown_invoice`, `invoice_paid`, `preimage_known`.
        """
        held = self._held.get(hash_)
        if held is not None:
            await held.saved.wait()
            if not held.outcome:
                if self._known(hash_) is not None:
                    text = "this node has paid the same hash and knows the preimage: the payment is not given back"
                    raise Refused("preimage_known", text, "settle it with the preimage of the payment")
                self._cancel(hash_, held, FailureCode.REJECTED_BY_PAYEE)
            await held.over.wait()
        elif self._state(hash_) == "open":
            if hash_ not in self._voided:
                self._voided[hash_] = trio.Event()
                self._book.tasks.start_soon(self._void, hash_, self._voided[hash_])
            await self._voided[hash_].wait()
        if self._state(hash_) == "paid":
            raise Refused("invoice_paid", "the invoice is paid, and what is paid is not given back")

    def _state(self, hash_: LockKey) -> str:
        rows = self._store.rows("SELECT state FROM invoices WHERE hash = ?", hash_)
        if not rows:
            text = f"no invoice of ours has the payment hash 0x{hash_.hex()}"
            raise Refused("unknown_invoice", text, "channeld invoice list")
        return str(rows[0][0])

    def _known(self, hash_: LockKey) -> Preimage | None:
        rows = self._store.rows("SELECT preimage FROM known WHERE key = ?", hash_)
        return Preimage(rows[0][0]) if rows else None

    # -- outcomes

    def _settle(self, hash_: LockKey, held: _Held, preimage: Preimage) -> None:
        held.outcome = "paid"
        self._book.tasks.start_soon(self._pay, hash_, held, preimage)

    async def _pay(self, hash_: LockKey, held: _Held, preimage: Preimage) -> None:
        received = str(sum(part.amount for part in held.parts))
        writes = Batch()
        writes.add(
            "UPDATE invoices SET state = 'paid', preimage = ?, received = ?, paid_at = ? WHERE hash = ?",
            *(preimage, wide(int(received)), self._world.now, hash_),
        )
        keep_preimage(writes, hash_, preimage)
        for part in held.parts:
            writes.add("DELETE FROM arrivals WHERE channel = ? AND lock = ?", part.channel, part.lock)
        self._book.events.add(writes, "payment_received", payment_hash=hash_, amount=received)
        await self._store.commit(writes)
        self._book.events.ring()
        for part in held.parts:  # one whose time is over by now is registered by the guard
            self._book.fulfil(part.channel, part.lock, preimage)
        self._end(hash_, held)

    def _cancel(self, hash_: LockKey, held: _Held, code: FailureCode) -> None:
        held.outcome = "canceled"
        self._book.tasks.start_soon(self._save_canceled, hash_, held, code)

    async def _save_canceled(self, hash_: LockKey, held: _Held, code: FailureCode) -> None:
        log.info("invoice=%s given back: %s", hash_.hex(), code.name)
        await self._store.commit(self._canceled(hash_, _CODES[code]))
        self._book.events.ring()
        for part in held.parts:
            give_back(self._book, part.channel, part.lock, part.secret, code)
        self._end(hash_, held)

    async def _void(self, hash_: LockKey, over: trio.Event) -> None:
        await self._store.commit(self._canceled(hash_, "canceled"))
        self._book.events.ring()
        del self._voided[hash_]
        over.set()

    def _canceled(self, hash_: LockKey, code: str) -> Batch:
        writes = Batch()
        writes.add("UPDATE invoices SET state = 'canceled', received = NULL WHERE hash = ?", hash_)
        self._book.events.add(writes, "invoice_canceled", payment_hash=hash_, code=code)
        return writes

    def _end(self, hash_: LockKey, held: _Held) -> None:
        del self._held[hash_]
        held.over.set()

    # -- time

    def _stands(self, hash_: LockKey, held: _Held) -> bool:
        """R22: whether every part can be taken, and will be if we say so now: on time, or by a registered secret."""
        at = self._world.registered.get(hash_)
        for part in held.parts:
            in_time = self._world.may_fulfil(part.expiry) or (at is not None and at <= part.expiry)
            actor = self._book.actors.get(part.channel)
            if not in_time or actor is None or not _can_be_taken(actor.channel, part.lock):
                return False
        return True

    # -- restart

    def was(self, channel: ChannelId, lock: LockId) -> tuple[str, Timestamp] | None:
        """For an arrival that is no news: the state of the invoice that it was held for, and when it came."""
        rows = self._store.rows(
            "SELECT i.state, p.at FROM parts p JOIN invoices i ON i.hash = p.hash WHERE p.channel = ? AND p.lock = ?",
            *(channel, lock),
        )
        return (str(rows[0][0]), Timestamp(rows[0][1])) if rows else None

    def recover(self, parts: Sequence[tuple[LockKey, Part]]) -> None:
        """After a restart: `parts` are the locks that stand of held invoices, all there are."""
        for (hash_,) in self._store.rows("SELECT hash FROM invoices WHERE state = 'held'"):
            held = self._held[hash_] = _Held([part for key, part in parts if key == hash_])
            held.saved.set()
            ((received,),) = self._store.rows("SELECT received FROM invoices WHERE hash = ?", hash_)
            if wide(sum(part.amount for part in held.parts)) != received:
                log.error("invoice=%s parts that were held are gone", hash_.hex())
                self._cancel(hash_, held, FailureCode.PAYMENT_TIMEOUT)


def _can_be_taken(channel: Channel, lock: LockId) -> bool:
    """Whether a preimage still wins that lock: it stands in the state that counts, or will count once we challenge."""
    name, case = (channel.we.other, lock), channel.onchain
    if channel.phase is Phase.CLOSED:
        return False
    if case is not None and case.settled:
        return name in case.left
    if case is not None and case.final:
        body = final_body(channel)
        return body is not None and name in body.locks
    return name in channel.current.body.locks


def give_back(
    book: Book, channel: ChannelId, lock: LockId, secret: bytes, code: FailureCode, data: bytes = b""
) -> None:
    """Fail a lock that came in, `data` beside the code; without a secret its payer is not told why."""
    writes = Batch()
    writes.add("DELETE FROM arrivals WHERE channel = ? AND lock = ?", channel, lock)
    writes.add("DELETE FROM parts WHERE channel = ? AND lock = ?", channel, lock)
    reason = book.failure(secret, code, data) if secret else b""
    book.actors[channel].post(Fail(lock_id=lock, reason=reason), writes=writes)
