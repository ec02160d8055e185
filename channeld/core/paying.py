"""Our own updates on their way into a proposal: queue, fulfil, fail, cancel.

Nothing here is signed: an update waits in the queue until `updating.propose` takes it. A preimage that is known
makes failing its lock impossible from the moment it is recorded in `claims`, which is saved with the step.
"""

from __future__ import annotations

from typing import Final

from channeld.base.digests import Lock
from channeld.base.errors import Refused
from channeld.base.keys import sha256
from channeld.base.quick import replace
from channeld.base.units import MAX_AMOUNT, Amount, LockId
from channeld.core.channel import Channel, Phase
from channeld.core.effects import Queued, Returned, Step
from channeld.core.events import Cancel, Fail, Fulfil, Offer, Pay
from channeld.core.messages import AddLock, FailLock, FulfilLock, Transfer, Update

MAX_QUEUE: Final = 16_384
"""Most updates that wait for a proposal; also what a saved channel can hold."""


def pay(channel: Channel, event: Pay) -> Step:
    for _, amount in event.transfers:
        _must_be_sendable(amount)
    total = Amount(sum(amount for _, amount in event.transfers))
    _may_offer(channel, total, len(event.transfers))
    queued = tuple(Transfer(name, amount) for name, amount in event.transfers)
    return Step(replace(channel, queue=channel.queue + queued, reserved=Amount(channel.reserved + total)))


def offer(channel: Channel, event: Offer) -> Step:
    _must_be_sendable(event.amount)
    _may_offer(channel, event.amount, 1)
    if channel.newest_body.count(channel.we) + channel.reserved_locks >= channel.max_locks:
        raise Refused("too_many_locks", f"channel {channel.name} has {channel.max_locks} locks pending")
    lock = Lock(
        id=channel.next_lock,
        sender=channel.we,
        amount=event.amount,
        key=event.key,
        expiry=event.expiry,
    )
    moved = replace(
        channel,
        queue=(*channel.queue, AddLock(lock, event.onion)),
        reserved=Amount(channel.reserved + event.amount),
        reserved_locks=channel.reserved_locks + 1,
        next_lock=LockId(channel.next_lock + 1),
    )
    return Step(moved, notes=(Queued(tag=event.tag, lock_id=lock.id),))


def fulfil(channel: Channel, event: Fulfil) -> Step:
    """Record the preimage for good and, while off-chain fulfilment is allowed (R17), queue it."""
    lock = _standing(channel, event.lock_id)
    if lock is None:
        return Step(channel)  # fulfilled before, and agreed
    if sha256(event.preimage) != lock.key:
        raise Refused("wrong_preimage", f"that preimage does not open lock {event.lock_id} of {channel.name}")
    if channel.outstanding and _removes(channel.outstanding.updates, event.lock_id, FailLock):
        raise Refused("already_failed", f"lock {event.lock_id} of {channel.name} has been given back")
    claims = {**channel.claims, event.lock_id: event.preimage}
    queue = tuple(u for u in channel.queue if not (isinstance(u, FailLock) and u.lock_id == event.lock_id))
    if event.off_chain and channel.phase is Phase.OPEN and not _removing(channel, event.lock_id, FulfilLock):
        queue += (FulfilLock(event.lock_id, event.preimage),)
    return Step(replace(channel, claims=claims, queue=queue))


def _standing(channel: Channel, lock_id: LockId) -> Lock | None:
    """The peer's lock of that number in `current`, or in an older state that stands on chain."""
    name = (channel.we.other, lock_id)
    lock = channel.current.body.locks.get(name)
    if lock is None and channel.onchain is not None and channel.onchain.body is not None:
        return channel.onchain.body.locks.get(name)
    return lock


def fail(channel: Channel, event: Fail) -> Step:
    if event.lock_id in channel.claims:
        raise Refused("preimage_known", f"lock {event.lock_id} of {channel.name} can be fulfilled: it is not failed")
    pending = (channel.we.other, event.lock_id) in channel.current.body.locks
    if not pending or channel.phase is not Phase.OPEN or _removing(channel, event.lock_id, FailLock):
        return Step(channel)
    return Step(replace(channel, queue=(*channel.queue, FailLock(event.lock_id, event.reason))))


def cancel(channel: Channel, event: Cancel) -> Step:
    """R8: once a close was seen, even a proposal that was dropped may still be enforced: nothing is taken back."""
    if channel.onchain is not None:
        raise Refused("already_offered", f"channel {channel.name} is closing: what it offered may stand there")
    if channel.recovering:
        raise Refused("already_offered", f"channel {channel.name} is in recovery: what it queued may have been offered")
    left = tuple(u for u in channel.queue if not (isinstance(u, AddLock) and u.lock.id == event.lock_id))
    if len(left) == len(channel.queue):
        raise Refused("already_offered", f"lock {event.lock_id} of {channel.name} is not in the queue any more")
    return Step(with_queue(channel, left), notes=(Returned(lock_id=event.lock_id, reason=b""),))


def with_queue(channel: Channel, queue: tuple[Update, ...]) -> Channel:
    return replace(
        channel,
        queue=queue,
        reserved=Amount(sum(takes(update) for update in queue)),
        reserved_locks=sum(isinstance(update, AddLock) for update in queue),
    )


def takes(update: Update) -> int:
    """What an update takes from its proposer's balance."""
    match update:
        case Transfer():
            return update.amount
        case AddLock():
            return update.lock.amount
        case _:
            return 0


def _must_be_sendable(amount: Amount) -> None:
    if not 0 < amount <= MAX_AMOUNT:
        raise Refused("bad_amount", f"an amount of {amount} cannot be sent")


def _may_offer(channel: Channel, amount: Amount, updates: int) -> None:
    if channel.phase is Phase.OPENING:
        raise Refused("channel_not_open", f"channel {channel.name} waits for its deposit to be confirmed")
    if channel.phase is not Phase.OPEN or channel.leaving or channel.coop is not None:
        raise Refused("channel_closing", f"channel {channel.name} is {channel.phase.value} and takes nothing new")
    if len(channel.queue) + updates > MAX_QUEUE:
        raise Refused("busy", f"channel {channel.name} has {MAX_QUEUE} updates waiting", "is the peer connected?")
    if amount > channel.spendable:
        raise Refused(
            "insufficient_balance",
            f"channel {channel.name} can send {channel.spendable}, not {amount}",
            "a deposit or an incoming payment raises what the channel can send",
        )


def _removing(channel: Channel, lock_id: LockId, kind: type[FulfilLock] | type[FailLock]) -> bool:
    signed = channel.outstanding.updates if channel.outstanding else ()
    return _removes(channel.queue, lock_id, kind) or any(_removes(signed, lock_id, k) for k in (FulfilLock, FailLock))


def _removes(updates: tuple[Update, ...], lock_id: LockId, kind: type[FulfilLock] | type[FailLock]) -> bool:
    return any(isinstance(u, kind) and u.lock_id == lock_id for u in updates)
