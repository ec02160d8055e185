"""What two peers say about a channel, before it has bytes; `wire.messages` gives each its form.

The same values are heard (`events.Got`) and said (`effects.Step.sends`). An update belongs to the commit that
carries it: nothing untagged survives a cut (protocol R2).
"""

from __future__ import annotations

from dataclasses import dataclass

from channeld.base.digests import Lock
from channeld.base.units import Amount, Digest, LockId, PaymentId, Preimage, Timestamp, Version
from channeld.core.channel import Body


@dataclass(frozen=True, slots=True)
class Transfer:
    """A direct payment: `amount` changes hands with the commit that carries it."""

    payment_id: PaymentId
    amount: Amount


@dataclass(frozen=True, slots=True)
class AddLock:
    """Offers a lock. `onion` (1,366 bytes) tells the receiver what to do with it."""

    lock: Lock
    onion: bytes


@dataclass(frozen=True, slots=True)
class FulfilLock:
    """Takes a lock the other side offered, by showing its preimage."""

    lock_id: LockId
    preimage: Preimage


@dataclass(frozen=True, slots=True)
class FailLock:
    """Gives a lock back. `reason`: an error onion of at most 512 bytes, for the payer alone."""

    lock_id: LockId
    reason: bytes


Update = Transfer | AddLock | FulfilLock | FailLock


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    version: Version
    base: Version
    updates: tuple[Update, ...]
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """`receipt`: the payee's signature for the commit's transfers, empty when it had none."""

    version: Version
    signature: bytes
    receipt: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositSeen:
    deposit_a: Amount
    deposit_b: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Reestablish:
    """R9: where the speaker stands. `outstanding` and `coop_version` are 0 for none."""

    version: Version
    hash: Digest
    outstanding: Version
    outstanding_hash: Digest
    base: Version
    coop_version: Version
    coop_digest: Digest
    coop_valid_until: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A whole state with both signatures, shown to a peer that seems to have forgotten it."""

    version: Version
    body: Body
    signature_a: bytes
    signature_b: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CoopPropose:
    """R11, unsigned: let us take everything out, on the state (`version`, `hash`)."""

    version: Version
    hash: Digest
    coop_version: Version
    net: int
    valid_until: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class CoopNo:
    coop_version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class CoopSign:
    coop_version: Version
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The peer's (or our) word that the channel is broken; the channel freezes."""

    code: str
    text: str


Message = Commit | Ack | DepositSeen | Reestablish | Proof | CoopPropose | CoopNo | CoopSign | Fault
