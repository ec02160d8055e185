"""What a step asks of the world: messages for the peer and notes for the node.

A step is saved whole before any of it is done. Messages need no outbox of their own: what is lost in a cut is
rebuilt, byte for byte, from the saved channel by `reconnecting`. Acts on chain are not in a step either: they
follow from the channel and the time (`closing.due`), so a restart finds them again.
"""

from __future__ import annotations

from dataclasses import dataclass

from channeld.base.digests import Lock
from channeld.base.units import Amount, LockId, PaymentId, Preimage, Version
from channeld.core.channel import Channel
from channeld.core.messages import Message, Update

# -- notes: facts about payments that the node must write down in the same transaction as the channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Both have announced a deposit: the channel can pay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """Our `Offer` got its number."""

    tag: bytes
    lock_id: LockId


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A lock of the peer's is in `current`: act on it (R8)."""

    lock: Lock
    onion: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A direct transfer was credited with `version`."""

    payment_id: PaymentId
    amount: Amount
    version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Our direct transfer is in `current`. `receipt` is the payee's signature over the commit's transfers."""

    payment_id: PaymentId
    amount: Amount
    version: Version
    receipt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Our lock is in `current` and enforceable by the peer from now on."""

    lock_id: LockId


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """The preimage of a lock we offered is known (from a fulfil, an ignored proposal, or the registry)."""

    lock_id: LockId
    preimage: Preimage


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A lock we offered is ours again, for good (R8): upstream may be failed. `reason`: error onion, or empty."""

    lock_id: LockId
    reason: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """In recovery: what became of our lock or transfer was decided while we did not look, and cannot be told."""

    what: LockId | PaymentId
    """A transfer's id is bytes, a lock's number an int."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A queued update of ours can no longer be made; nothing was signed that still counts."""

    update: Update


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """`current` has a new version: towers want to know."""

    version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CoopReady:
    """Both signatures of a cooperate are here: put it on chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoopDenied:
    """The peer cannot close together just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Nothing is left of the channel."""


Note = (
    Opened
    | Queued
    | Arrived
    | Received
    | Sent
    | Held
    | Learned
    | Returned
    | Forgotten
    | Dropped
    | Advanced
    | Frozen
    | CoopReady
    | CoopDenied
    | Ended
)


@dataclass(frozen=True, slots=True)
class Step:
    """What an event makes of a channel: save `channel` and what `notes` say, then send `sends` in order."""

    channel: Channel
    sends: tuple[Message, ...] = ()
    notes: tuple[Note, ...] = ()
