"""The book that ties channels to payments: every note of the core is written down with the channel that made it.

`record` adds rows to the channel's own transaction; `follow` runs after it is on disk and tells whoever is concerned:
a forward's other channel, a payment, the invoices. What `follow` starts can be lost in a crash; `recover` finds it
again from the rows, and everything it starts is safe to start twice. An offered lock belongs to a `Forward` or to an
`Attempt`, named by (channel, lock number), never by hash.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from channeld.base.digests import Lock
from channeld.base.errors import Refused
from channeld.base.keys import sha256
from channeld.base.units import Amount, ChannelId, LockId, LockKey, PaymentId, Preimage, Timestamp
from channeld.core import effects as note
from channeld.core.channel import Channel, Phase
from channeld.core.events import CloseAlone, Event, Fail, Fulfil, SeenSecret
from channeld.core.messages import AddLock, Commit, FulfilLock, Transfer
from channeld.core.updating import our_locks
from channeld.node.actors import Actors
from channeld.node.claiming import Claims
from channeld.node.events import Events, forget_payments, keep_preimage
from channeld.node.old import OldStore
from channeld.storage.store import Batch, Store, narrow, wide
from channeld.wire import failure, onion
from channeld.wire.failure import Failure, FailureCode

if TYPE_CHECKING:
    from channeld.node.loop import Actor
    from channeld.node.world import World

log = logging.getLogger(__name__)
Name = tuple[ChannelId, LockId]
"""An offered lock: its channel and its number there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A lock that came in and goes out again. `secret` is shared with the payer, to wrap errors."""

    in_channel: ChannelId
    in_lock: LockId
    key: LockKey
    amount_in: Amount
    amount_out: Amount
    secret: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A lock of a payment of our own; `route` as `payments` packs it."""

    hash: LockKey
    route: bytes


class Arrivals(Protocol):
    """Decides what becomes of a lock that came in (`forwarding`)."""

    def at_once(self, channel: Channel, lock: Lock, onion_: bytes, turn: Batch) -> tuple[Event, Batch] | None: ...

    def arrived(self, channel: Channel, lock: Lock, onion_: bytes) -> None: ...


class Payer(Protocol):
    """Hears what became of its attempts (`payments`)."""

    def fulfilled(self, what: Attempt, preimage: Preimage, at: Timestamp) -> None: ...

    def returned(self, what: Attempt, reason: bytes) -> None: ...

    def forgotten(self, hash_: LockKey) -> None: ...


@dataclass(eq=False, slots=True)
class _Several:
    """Transfers that somebody waits for together."""

    left: int
    over: trio.Event = field(default_factory=trio.Event)


class Book:
    """See the file's head. `actors` is filled by the node; `tasks` lives as long as it does."""

    def __init__(self, store: Store, world: World, nursery: trio.Nursery) -> None:
        self.actors = Actors()
        self.events = Events(store, lambda: world.now)
        self.arrivals: Arrivals
        self.payer: Payer
        self.changed: Callable[[Channel], None] = lambda _: None
        """Told when a channel's `current` is new: towers, gossip and whoever waits for a phase."""
        self._store, self._world, self.tasks = store, world, nursery
        self._old = OldStore(self.actors)
        self._claims = Claims(store)
        self._offers: dict[bytes, Forward | Attempt] = {}
        self._offered: dict[Name, Forward | Attempt] = {}
        self._secured: set[tuple[ChannelId, LockId]] = set()
        self._waiters: dict[tuple[ChannelId, bytes], _Several] = {}
        self._count = 0
        self._times: dict[ChannelId, Timestamp] = {}
        """When each channel's last turn was recorded."""

    def attempt(self, name: Name) -> Attempt | None:
        """The attempt of a payment of ours that this lock is."""
        what = self._offered.get(name)
        return what if isinstance(what, Attempt) else None

    def passed_through(self, channel: Channel) -> Amount:
        """What locks that we passed on bind in an outgoing channel as it is saved, base units."""
        standing = our_locks(channel).items()
        return Amount(sum(lock.amount for id_, lock in standing if self._is_forward((channel.id, id_))))

    def _is_forward(self, name: Name) -> bool:
        return isinstance(self._offered.get(name), Forward)

    def passed_on(self) -> list[tuple[Name, Forward]]:
        """Forwards by their outgoing lock, those with an outcome included as long as they are remembered."""
        return [(name, what) for name, what in self._offered.items() if isinstance(what, Forward)]

    @property
    def remembered(self) -> int:
        """How many offered locks are known by name, those with an outcome that are not forgotten yet included."""
        return len(self._offered)

    def forget(self) -> None:
        """Drop what has had its outcome, or memory would grow with each payment. A restart does not load it either.

        Only of an open channel, and only a lock that its saved state has known (a turn that is being saved may hold
        more) and that no state or queue of ours holds any more; of a forward, when upstream is done with it too.
        """
        by_channel: dict[ChannelId, list[LockId]] = {}
        for channel_id, lock in self._offered:
            by_channel.setdefault(channel_id, []).append(lock)
        for channel_id, numbers in by_channel.items():
            actor = self.actors.get(channel_id)
            if actor is None or actor.channel.phase is not Phase.OPEN:
                continue
            standing = our_locks(actor.channel)
            for lock in numbers:
                what = self._offered[channel_id, lock]
                waits = isinstance(what, Forward) and self._waits_upstream(what)
                if lock < actor.channel.next_lock and lock not in standing and not waits:
                    del self._offered[channel_id, lock]
                    self._secured.discard((channel_id, lock))

    # -- before

    def tag(self, what: Forward | Attempt) -> bytes:
        """A name for an offer that gets its number later."""
        self._count += 1
        tag = self._count.to_bytes(8, "big")
        self._offers[tag] = what
        return tag

    def untag(self, tag: bytes) -> None:
        """The offer has its number, on disk, or was refused."""
        self._offers.pop(tag, None)

    def knows(self, key: LockKey) -> bool:
        """Whether we know that lock's preimage, or may any moment: of an invoice of ours, or from another lock."""
        sql = "SELECT 1 FROM known WHERE key = ? UNION ALL SELECT 1 FROM invoices WHERE hash = ? LIMIT 1"
        return bool(self._store.rows(sql, key, key))

    def watch_transfers(self, channel: ChannelId, ids: Collection[bytes]) -> trio.Event:
        """Set when all these outgoing transfers, which nobody else is about to send, have had their outcome."""
        several = _Several(len(ids))
        for id_ in ids:
            self._waiters[channel, id_] = several
        return several.over

    def unwatch_transfers(self, channel: ChannelId, ids: Collection[bytes]) -> None:
        """Nobody waits for them any more: `watch_transfers` undone, if there is anything left of it."""
        for id_ in ids:
            self._waiters.pop((channel, id_), None)

    # -- with the channel

    def record(self, channel: Channel, notes: tuple[note.Note, ...], batch: Batch) -> None:
        self.actors.begin(channel)
        now = self._times[channel.id] = self._world.now
        for one in notes:
            self._record(channel, one, batch, now)
        if self._old.record(channel, batch):
            forget_payments(batch, self.events, now)  # the original may have paid them

    def _record(self, channel: Channel, one: note.Note, batch: Batch, now: Timestamp) -> None:
        match one:
            case note.Queued():
                self._record_offer(channel.id, one.lock_id, self._offers[one.tag], batch)
            case note.Arrived():
                batch.add("INSERT INTO arrivals VALUES (?, ?, ?)", channel.id, one.lock.id, one.onion)
            case note.Received():
                batch.add(
                    "INSERT OR IGNORE INTO transfers (channel, id, outgoing, amount, state, version, at, settled_at) "
                    "VALUES (?, ?, 0, ?, 'succeeded', ?, ?, ?)",
                    *(channel.id, one.payment_id, wide(one.amount), one.version, now, now),
                )
            case note.Sent():
                batch.add(
                    "UPDATE transfers SET state = 'succeeded', version = ?, receipt = ?, settled_at = ? "
                    "WHERE channel = ? AND id = ? AND outgoing = 1",
                    *(one.version, one.receipt, now, channel.id, one.payment_id),
                )
            case note.Learned():
                self._record_learned(channel, one, batch, now)
            case note.Returned():
                self._record_returned(channel.id, one.lock_id, one.reason, batch)
            case note.Forgotten():
                self._record_forgotten(channel.id, one.what, batch)
            case note.Dropped(update=AddLock(lock=lock)):
                self._record_returned(channel.id, lock.id, b"", batch)
            case note.Dropped(update=Transfer() as transfer):
                batch.add(
                    "UPDATE transfers SET state = 'failed', settled_at = ? "
                    "WHERE channel = ? AND id = ? AND outgoing = 1 AND state = 'pending'",
                    *(now, channel.id, transfer.payment_id),
                )
            case note.Opened():
                self.events.add(batch, "channel_open", channel_id=channel.id, peer=channel.peer)
            case note.Frozen():
                self.events.add(batch, "channel_frozen", channel_id=channel.id, reason=one.reason)
            case note.Ended():
                self.events.add(batch, "channel_closed", channel_id=channel.id)
            case _:
                pass

    def _record_offer(self, channel: ChannelId, lock: LockId, what: Forward | Attempt, batch: Batch) -> None:
        self._offered[channel, lock] = what
        if isinstance(what, Attempt):
            batch.add(
                "INSERT INTO attempts (channel, lock, hash, route, state) VALUES (?, ?, ?, ?, 'offered')",
                *(channel, lock, what.hash, what.route),
            )
            return
        batch.add(
            "INSERT INTO forwards (in_channel, in_lock, out_channel, out_lock, key, amount_in, amount_out, secret, "
            "state, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'offered', ?)",
            *(what.in_channel, what.in_lock, channel, lock, what.key),
            *(wide(what.amount_in), wide(what.amount_out), what.secret, self._world.now),
        )
        batch.add("DELETE FROM arrivals WHERE channel = ? AND lock = ?", what.in_channel, what.in_lock)

    def _record_learned(self, channel: Channel, one: note.Learned, batch: Batch, now: Timestamp) -> None:
        what = self._offered.get((channel.id, one.lock_id))
        table = "attempts" if isinstance(what, Attempt) else "forwards"
        names = ("channel", "lock") if isinstance(what, Attempt) else ("out_channel", "out_lock")
        over = ", route = x''" if isinstance(what, Attempt) else ""  # it was kept to learn from a failure
        batch.add(
            f"UPDATE {table} SET state = 'fulfilled'{over} WHERE {names[0]} = ? AND {names[1]} = ? "
            "AND state IN ('offered', 'unknown')",
            *(channel.id, one.lock_id),
        )
        if isinstance(what, Attempt):
            pending = "EXISTS (SELECT 1 FROM payments WHERE hash = ? AND state IN ('pending', 'unknown'))"
            self.events.add_if(pending, what.hash, batch, "payment_sent", payment_hash=what.hash)
            batch.add(
                "UPDATE payments SET state = 'succeeded', preimage = ?, settled_at = ? "
                "WHERE hash = ? AND state IN ('pending', 'unknown')",
                *(one.preimage, now, what.hash),
            )
        keep_preimage(batch, LockKey(sha256(one.preimage)), one.preimage)

    def _record_returned(self, channel: ChannelId, lock: LockId, reason: bytes, batch: Batch) -> None:
        what = self._offered.get((channel, lock))
        table = "attempts" if isinstance(what, Attempt) else "forwards"
        names = ("channel", "lock") if isinstance(what, Attempt) else ("out_channel", "out_lock")
        batch.add(
            f"UPDATE {table} SET state = 'returned', reason = ? "
            f"WHERE {names[0]} = ? AND {names[1]} = ? AND state = 'offered'",
            *(reason, channel, lock),
        )

    def _record_forgotten(self, channel: ChannelId, what: LockId | PaymentId, batch: Batch) -> None:
        """Neither paid nor returned, as far as we can tell (I28). A forward stays as it is: upstream is not failed."""
        if isinstance(what, bytes):
            batch.add(
                "UPDATE transfers SET state = 'unknown', settled_at = ? "
                "WHERE channel = ? AND id = ? AND outgoing = 1 AND state = 'pending'",
                *(self._world.now, channel, what),
            )
            return
        mine = self._offered.get((channel, what))
        if isinstance(mine, Attempt):
            batch.add(
                "UPDATE attempts SET state = 'unknown' WHERE channel = ? AND lock = ? AND state = 'offered'",
                *(channel, what),
            )
            forget_payments(batch, self.events, self._world.now, mine.hash)

    # -- after

    def follow(self, channel: Channel, notes: tuple[note.Note, ...]) -> None:
        for one in notes:
            self._follow(channel, one)
        if notes:
            self.events.ring()
        for lock_id, preimage in self._claims.known(channel):
            self.fulfil(channel.id, lock_id, preimage)
        if self._old.tell():
            for (hash_,) in self._store.rows("SELECT hash FROM payments WHERE state = 'unknown'"):
                self.payer.forgotten(hash_)
        self.changed(channel)
        self.actors.end(channel.id)

    def at_once(self, channel: Channel, arrived: note.Arrived, turn: Batch) -> tuple[Event, Batch] | None:
        """The answer to a lock that is not saved yet, to be saved with it; None if it is to be recorded."""
        return self.arrivals.at_once(channel, arrived.lock, arrived.onion, turn)

    def pass_back(self, channel: Channel, learned: note.Learned, turn: Batch) -> None:
        """The preimage of a lock that we passed on takes the one that came in."""
        what = self._offered.get((channel.id, learned.lock_id))
        if isinstance(what, Forward):
            self.fulfil(what.in_channel, what.in_lock, learned.preimage, after=turn)

    def why_old(self, channel: Channel) -> str:
        """Why this channel must go into recovery before its turn; empty if it need not."""
        return self._old.why(channel)

    def _follow(self, channel: Channel, one: note.Note) -> None:
        match one:
            case note.Queued():
                self.untag(one.tag)
            case note.Arrived():
                self.arrivals.arrived(channel, one.lock, one.onion)
            case note.Learned():
                self._tell_learned((channel.id, one.lock_id), one.preimage)
            case note.Returned():
                self._tell_returned((channel.id, one.lock_id), one.reason)
            case note.Dropped(update=AddLock(lock=lock)):
                self._tell_returned((channel.id, lock.id), b"")
            case note.Forgotten(what=bytes() as name) | note.Sent(payment_id=name):
                self._tell_transfer(channel.id, name)
            case note.Dropped(update=Transfer(payment_id=name)):
                self._tell_transfer(channel.id, name)
            case note.Forgotten(what=int() as lock_id):
                mine = self._offered.get((channel.id, LockId(lock_id)))
                if isinstance(mine, Attempt):
                    self.payer.forgotten(mine.hash)
            case _:
                pass

    def _tell_transfer(self, channel: ChannelId, name: bytes) -> None:
        several = self._waiters.pop((channel, name), None)
        if several is not None:
            several.left -= 1
            if not several.left:
                several.over.set()

    def _tell_learned(self, name: Name, preimage: Preimage) -> None:
        """A forward's upstream has been told already (`pass_back`)."""
        what = self._offered.get(name)
        if isinstance(what, Attempt):
            self.payer.fulfilled(what, preimage, self._times[name[0]])

    def _tell_returned(self, name: Name, reason: bytes) -> None:
        what = self._offered.get(name)
        if isinstance(what, Attempt):
            self.payer.returned(what, reason)
        elif what is not None:
            self._give_back(what, reason)

    def fulfil(
        self,
        channel: ChannelId,
        lock: LockId,
        preimage: Preimage,
        writes: Batch | None = None,
        after: Batch | None = None,
    ) -> None:
        """Take an incoming lock; past its cut-off the preimage is only remembered, and the guard registers it.

        writes, after: as for `Actor.post`.
        """
        actor = self.actors.get(channel)
        if actor is None:
            return
        held = actor.channel.current.body.locks.get((actor.channel.we.other, lock))
        off_chain = held is not None and (held.key in self._world.registered or self._world.may_fulfil(held.expiry))
        actor.post(Fulfil(lock_id=lock, preimage=preimage, off_chain=off_chain), writes=writes, after=after)

    def _give_back(self, what: Forward, reason: bytes) -> None:
        actor = self.actors.get(what.in_channel)
        if actor is not None:
            wrapped = onion.wrap_error(what.secret, reason) if reason else self.failure(what.secret)
            actor.post(Fail(lock_id=what.in_lock, reason=wrapped))

    @staticmethod
    def failure(secret: bytes, code: FailureCode = FailureCode.TEMPORARY_CHANNEL_FAILURE, data: bytes = b"") -> bytes:
        """An error onion of our own."""
        return onion.create_error(secret, failure.encode(Failure(code=code, data=data)))

    # -- R17: a fulfil that comes late

    def late(self, channel: Channel, commit: Commit) -> tuple[LockId, ...]:
        """Forwarded locks that this commit fulfils past their cut-off and whose secret is not yet safe upstream."""
        if channel.phase is not Phase.OPEN:
            return ()  # it answers no commit: this one only teaches preimages, and they are wanted
        found = []
        for update in commit.updates:
            if not isinstance(update, FulfilLock) or (channel.id, update.lock_id) in self._secured:
                continue
            lock = channel.current.body.locks.get((channel.we, update.lock_id))
            forwarded = isinstance(self._offered.get((channel.id, update.lock_id)), Forward)
            if lock is None or not forwarded or self._world.may_fulfil(lock.expiry):
                continue
            if sha256(update.preimage) != lock.key:
                continue  # a lie: the core says so
            if self._world.registered.get(lock.key, lock.expiry + 1) > lock.expiry:
                found.append(update.lock_id)
        return tuple(found)

    def secure(self, actor: Actor, late: tuple[LockId, ...], commit: Commit) -> None:
        preimages = {u.lock_id: u.preimage for u in commit.updates if isinstance(u, FulfilLock)}
        for lock_id in late:
            lock = actor.channel.current.body.locks.get((actor.channel.we, lock_id))
            if lock is not None:
                self.tasks.start_soon(self._secure, actor, lock_id, lock, preimages[lock_id], late)

    async def _secure(
        self, actor: Actor, lock_id: LockId, lock: Lock, preimage: Preimage, late: tuple[LockId, ...]
    ) -> None:
        """Take the money upstream first: at its cut-off the guard registers it. Then the peer's commit may go on."""
        name = (actor.channel.id, lock_id)
        actor.post(SeenSecret(key=lock.key, preimage=preimage, at=self._world.now))
        while not self._taken_upstream(name, lock.key):
            if self._world.now > lock.expiry + self._world.network.forward_delta:
                with suppress(Refused):  # it is on its way to the chain already
                    await actor.ask(CloseAlone(reason=f"lock {lock_id} was fulfilled too late"))
                actor.release()  # frozen now: what was held teaches preimages and nothing else
                return
            await trio.sleep(self._world.network.poll)
        self._secured.add(name)
        if all((actor.channel.id, one) in self._secured for one in late):
            actor.release()

    def _taken_upstream(self, name: Name, key: LockKey) -> bool:
        """Whether the lock upstream is ours for good: agreed off chain, or registered by its own expiry."""
        what = self._offered.get(name)
        if not isinstance(what, Forward) or (actor := self.actors.get(what.in_channel)) is None:
            return False
        lock = actor.channel.current.body.locks.get((actor.channel.we.other, what.in_lock))
        if lock is not None:
            return self._world.registered.get(key, lock.expiry + 1) <= lock.expiry
        rows = self._store.rows(
            "SELECT state FROM forwards WHERE out_channel = ? AND out_lock = ?",
            *name,
        )
        return bool(rows) and rows[0][0] == "fulfilled"  # gone, and it was not we who gave it back

    # -- start

    def load(self) -> None:
        """Read what is offered, before the chain or a peer can say what became of it."""
        for channel, lock, hash_, route in self._store.rows(
            "SELECT channel, lock, hash, route FROM attempts WHERE state = 'offered'"
        ):
            self._offered[channel, lock] = Attempt(hash=hash_, route=route)
        for channel_id, actor in self.actors.items():  # from what stands, as few have not had their outcome
            current, they = actor.channel.current.body, actor.channel.we.other
            for side, lock_id in current.locks:
                if side is they:
                    self._load_forward(channel_id, lock_id)

    def _load_forward(self, channel: ChannelId, lock: LockId) -> None:
        """The forward of that incoming lock, if there is one."""
        for out_channel, out_lock, key, amount_in, amount_out, secret in self._store.rows(
            "SELECT out_channel, out_lock, key, amount_in, amount_out, secret FROM forwards "
            "WHERE in_channel = ? AND in_lock = ?",
            *(channel, lock),
        ):
            self._offered[out_channel, out_lock] = Forward(
                in_channel=channel,
                in_lock=lock,
                key=key,
                amount_in=Amount(narrow(amount_in)),
                amount_out=Amount(narrow(amount_out)),
                secret=secret,
            )

    def _waits_upstream(self, what: Forward) -> bool:
        actor = self.actors.get(what.in_channel)
        return actor is not None and (actor.channel.we.other, what.in_lock) in actor.channel.current.body.locks

    def recover(self) -> Iterator[tuple[Channel, Lock, bytes]]:
        """Start again what a crash cut off, and give the arrivals nobody has decided."""
        for name, what in list(self._offered.items()):
            if isinstance(what, Forward):
                self._recover_forward(name, what)
        for channel, lock_id, packet in self._store.rows("SELECT channel, lock, onion FROM arrivals"):
            actor = self.actors.get(channel)
            if actor is None:
                continue
            lock = actor.channel.current.body.locks.get((actor.channel.we.other, lock_id))
            if lock is not None:
                yield actor.channel, lock, packet

    def _recover_forward(self, name: Name, what: Forward) -> None:
        if not self._waits_upstream(what):
            return  # upstream is done with it
        found = self._store.rows("SELECT preimage FROM known WHERE key = ?", what.key)
        row = self._store.rows("SELECT state, reason FROM forwards WHERE out_channel = ? AND out_lock = ?", *name)
        state = row[0][0] if row else ""
        if found and state == "fulfilled":  # by this very lock: the same hash may have others, with other outcomes
            self.fulfil(what.in_channel, what.in_lock, found[0][0])
        elif state == "returned":
            self._give_back(what, row[0][1])
        elif (out := self.actors.get(name[0])) is None or name[1] not in our_locks(out.channel):
            # of a channel restored from a copy: the peer may have taken it, so upstream is not failed (R8)
            log.error("forward of lock %s of %s has no outgoing lock", what.in_lock, what.in_channel.hex()[:8])
