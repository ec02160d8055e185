"""Every message that two nodes, or a node and a tower, say to each other, with the limits of each field.

A message is a frozen value; on the wire it is a msgpack array `[number, *fields]` of fixed arity, and one
Noise message carries one of them. `decode` gives a message or raises `Malformed`, whatever the bytes, and
accepts only the form that `encode` writes: `encode(decode(b)) == b`. Amounts travel as eleven big-endian
bytes; msgpack bytes are never signed or hashed. Numbers below 64 are the peer protocol, from 64 the tower's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from channeld.base.digests import LOCK_BYTES
from channeld.base.units import (
    Address,
    Amount,
    ChannelId,
    Digest,
    LockId,
    LockKey,
    LockKind,
    NodeId,
    PaymentId,
    Preimage,
    Seconds,
    Side,
    Signature,
    Timestamp,
    Version,
)
from channeld.wire import fields as f

PROTOCOL: Final = 1
MAX_MESSAGE: Final = 65_535
"""Longest Noise message (BOLT 8): its length field has two bytes."""
ONION_BYTES: Final = 1_366
MAX_PAGE: Final = 64_000
"""Most bytes of messages in a `GossipPage`: with what stands beside them it is a message."""
MAX_REASON: Final = 512
"""Longest `FailLock.reason`: an error onion has 292 bytes (BOLT 4)."""
MAX_LOCKS: Final = 512
"""Most locks the contract takes in one list."""
BLOB_BYTES: Final = 1_024
"""An appointment's blob has one length, so that it says nothing; see `wire.appointment`."""
NO_CHANNEL: Final = ChannelId(bytes(32))
"""`Error.channel_id` and `Warning.channel_id` when the whole connection is meant."""

NO_DIGEST: Final = Digest(bytes(32))
NONE: Final = Version(0)
NEVER: Final = Timestamp(0)


class Message:
    """What all messages have in common: nothing but being one."""

    __slots__ = ()


MESSAGES: Final = f.Family[Message]("message", MAX_MESSAGE)


# ---- the connection


@MESSAGES.member(1)
@dataclass(frozen=True, slots=True, kw_only=True)
class Init(Message):
    """First message of either side: which chain and contract it means, and what it can do (a bit set)."""

    protocol: Annotated[int, f.UINT8] = PROTOCOL
    chain_id: Annotated[int, f.UINT64]
    manager: Annotated[Address, f.BYTES20]
    features: Annotated[int, f.UINT64] = 0


@MESSAGES.member(2)
@dataclass(frozen=True, slots=True, kw_only=True)
class Error(Message):
    """The sender will not go on with this channel, or with the connection when `channel_id` is zero."""

    channel_id: Annotated[ChannelId, f.BYTES32] = NO_CHANNEL
    code: Annotated[str, f.text(32)]
    text: Annotated[str, f.text(256)] = ""


@MESSAGES.member(3)
@dataclass(frozen=True, slots=True, kw_only=True)
class Warning(Message):
    """Something was odd; nothing follows from it."""

    channel_id: Annotated[ChannelId, f.BYTES32] = NO_CHANNEL
    code: Annotated[str, f.text(32)]
    text: Annotated[str, f.text(256)] = ""


@MESSAGES.member(4)
@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Message):
    """Answered by a `Pong` with the same number."""

    pad: Annotated[int, f.UINT16] = 0


@MESSAGES.member(5)
@dataclass(frozen=True, slots=True, kw_only=True)
class Pong(Message):
    pad: Annotated[int, f.UINT16] = 0


# ---- opening


@MESSAGES.member(16)
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenChannel(Message):
    """The opener (side A) proposes the terms; `salt` is its own. Deposits are what each side means to put in."""

    open_id: Annotated[Digest, f.BYTES32]
    token: Annotated[Address, f.BYTES20]
    participant: Annotated[Address, f.BYTES20]
    payout: Annotated[Address, f.BYTES20]
    challenge_period: Annotated[Seconds, f.UINT32]
    close_bond: Annotated[int, f.wide(16)]
    nonce: Annotated[int, f.UINT64]
    salt: Annotated[bytes, f.BYTES32]
    deposit_opener: Annotated[Amount, f.AMOUNT]
    deposit_acceptor: Annotated[Amount, f.AMOUNT]
    max_locks: Annotated[int, f.UINT16]
    public: Annotated[bool, f.BOOL]


@MESSAGES.member(17)
@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptChannel(Message):
    """The acceptor's half of the terms; `sealed` is its part of the deposit memo (`wire.memo`)."""

    open_id: Annotated[Digest, f.BYTES32]
    participant: Annotated[Address, f.BYTES20]
    payout: Annotated[Address, f.BYTES20]
    salt: Annotated[bytes, f.BYTES32]
    max_locks: Annotated[int, f.UINT16]
    sealed: Annotated[bytes, f.BYTES48]


@MESSAGES.member(18)
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelAgreed(Message):
    """The opener's part of the memo; from here on both know the channel."""

    channel_id: Annotated[ChannelId, f.BYTES32]
    sealed: Annotated[bytes, f.BYTES48]


@MESSAGES.member(19)
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRefused(Message):
    open_id: Annotated[Digest, f.BYTES32]
    code: Annotated[str, f.text(32)]
    text: Annotated[str, f.text(256)] = ""


# ---- updating


@MESSAGES.member(32)
@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Message):
    """A direct payment from the proposer; `payment_id` names it once per channel."""

    channel_id: Annotated[ChannelId, f.BYTES32]
    version: Annotated[Version, f.UINT40]
    payment_id: Annotated[PaymentId, f.BYTES16]
    amount: Annotated[Amount, f.POSITIVE_AMOUNT]


@MESSAGES.member(33)
@dataclass(frozen=True, slots=True, kw_only=True)
class AddLock(Message):
    """The proposer offers a lock; `onion` says to its receiver what to do with it."""

    channel_id: Annotated[ChannelId, f.BYTES32]
    version: Annotated[Version, f.UINT40]
    lock_id: Annotated[LockId, f.uint(64, least=1)]
    kind: Annotated[LockKind, f.LOCK_KIND] = LockKind.HASH
    amount: Annotated[Amount, f.POSITIVE_AMOUNT]
    key: Annotated[LockKey, f.BYTES32]
    expiry: Annotated[Timestamp, f.uint(32, least=1)]
    onion: Annotated[bytes, f.fixed(ONION_BYTES)]


@MESSAGES.member(34)
@dataclass(frozen=True, slots=True, kw_only=True)
class FulfilLock(Message):
    channel_id: Annotated[ChannelId, f.BYTES32]
    version: Annotated[Version, f.UINT40]
    lock_id: Annotated[LockId, f.uint(64, least=1)]
    preimage: Annotated[Preimage, f.BYTES32]


@MESSAGES.member(35)
@dataclass(frozen=True, slots=True, kw_only=True)
class FailLock(Message):
    """The lock's receiver gives it back; `reason` is an error onion for the payer."""

    channel_id: Annotated[ChannelId, f.BYTES32]
    version: Annotated[Version, f.UINT40]
    lock_id: Annotated[LockId, f.uint(64, least=1)]
    reason: Annotated[bytes, f.upto(MAX_REASON)]


@MESSAGES.member(36)
@dataclass(frozen=True, slots=True, kw_only=True)
class Commit(Message):
    """Ends a proposal: state `version` is the current one and the `count` updates before this (R2)."""

    channel_id: Annotated[ChannelId, f.BYTES32]
    version: Annotated[Version, f.UINT40]
    base: Annotated[Version, f.UINT40]
    count: Annotated[int, f.UINT16]
    signature: Annotated[Signature, f.SIGNATURE]


@MESSAGES.member(37)
@dataclass(frozen=True, slots=True, kw_only=True)
class CommitAck(Message):
    """The other signature on state `version`; `receipt` (65 bytes or none) is for its transfers."""

    channel_id: Annotated[ChannelId, f.BYTES32]
    version: Annotated[Version, f.UINT40]
    signature: Annotated[Signature, f.SIGNATURE]
    receipt: Annotated[bytes, f.MAYBE_SIGNATURE] = b""


@MESSAGES.member(38)
@dataclass(frozen=True, slots=True, kw_only=True)
class DepositSeen(Message):
    """The deposits that the sender counts with, at its own finality (R6)."""

    channel_id: Annotated[ChannelId, f.BYTES32]
    deposit_a: Annotated[Amount, f.AMOUNT]
    deposit_b: Annotated[Amount, f.AMOUNT]


# ---- reconnecting, taking money out


@MESSAGES.member(39)
@dataclass(frozen=True, slots=True, kw_only=True)
class Reestablish(Message):
    """Where the sender stands (R9); `outstanding` and `coop_version` are 0 when there is none."""

    channel_id: Annotated[ChannelId, f.BYTES32]
    version: Annotated[Version, f.UINT40]
    hash: Annotated[Digest, f.BYTES32]
    outstanding: Annotated[Version, f.UINT40] = NONE
    outstanding_hash: Annotated[Digest, f.BYTES32] = NO_DIGEST
    base: Annotated[Version, f.UINT40]
    coop_version: Annotated[Version, f.UINT40] = NONE
    coop_digest: Annotated[Digest, f.BYTES32] = NO_DIGEST
    coop_valid_until: Annotated[Timestamp, f.UINT64] = NEVER


@MESSAGES.member(40)
@dataclass(frozen=True, slots=True, kw_only=True)
class StateProof(Message):
    """A whole state with both signatures, for a side that lost it (R9). The blind is recomputed."""

    channel_id: Annotated[ChannelId, f.BYTES32]
    version: Annotated[Version, f.UINT40]
    net: Annotated[int, f.signed(12)]
    locked_ab: Annotated[Amount, f.AMOUNT]
    locked_ba: Annotated[Amount, f.AMOUNT]
    locks: Annotated[bytes, f.upto(LOCK_BYTES * MAX_LOCKS, multiple=LOCK_BYTES)]
    signature_a: Annotated[Signature, f.SIGNATURE]
    signature_b: Annotated[Signature, f.SIGNATURE]


@MESSAGES.member(41)
@dataclass(frozen=True, slots=True, kw_only=True)
class CoopPropose(Message):
    """Unsigned: shall we take money out together (R11)? `version`, `hash`: the current state it starts from."""

    channel_id: Annotated[ChannelId, f.BYTES32]
    version: Annotated[Version, f.UINT40]
    hash: Annotated[Digest, f.BYTES32]
    coop_version: Annotated[Version, f.UINT40]
    net: Annotated[int, f.signed(12)]
    valid_until: Annotated[Timestamp, f.UINT64]


@MESSAGES.member(42)
@dataclass(frozen=True, slots=True, kw_only=True)
class CoopNo(Message):
    channel_id: Annotated[ChannelId, f.BYTES32]
    coop_version: Annotated[Version, f.UINT40]


@MESSAGES.member(43)
@dataclass(frozen=True, slots=True, kw_only=True)
class CoopSign(Message):
    channel_id: Annotated[ChannelId, f.BYTES32]
    coop_version: Annotated[Version, f.UINT40]
    signature: Annotated[Signature, f.SIGNATURE]


# ---- gossip


@MESSAGES.member(48)
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAnnouncement(Message):
    node_id: Annotated[NodeId, f.BYTES33]
    timestamp: Annotated[Timestamp, f.UINT32]
    addresses: Annotated[tuple[str, ...], f.texts(4, 128)] = ()
    alias: Annotated[str, f.text(32)] = ""
    features: Annotated[int, f.UINT64] = 0
    signature: Annotated[Signature, f.SIGNATURE]


@MESSAGES.member(49)
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelAnnouncement(Message):
    """`terms`: the eight ABI words; the four signatures are over `base.digests.announcement_digest`."""

    chain_id: Annotated[int, f.UINT64]
    manager: Annotated[Address, f.BYTES20]
    token: Annotated[Address, f.BYTES20]
    terms: Annotated[bytes, f.fixed(256)]
    node_a: Annotated[NodeId, f.BYTES33]
    node_b: Annotated[NodeId, f.BYTES33]
    node_signature_a: Annotated[Signature, f.SIGNATURE]
    node_signature_b: Annotated[Signature, f.SIGNATURE]
    participant_signature_a: Annotated[Signature, f.SIGNATURE]
    participant_signature_b: Annotated[Signature, f.SIGNATURE]


@MESSAGES.member(50)
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelUpdate(Message):
    """What `side` asks for forwarding out of its end of the channel."""

    channel_id: Annotated[ChannelId, f.BYTES32]
    side: Annotated[Side, f.SIDE]
    timestamp: Annotated[Timestamp, f.UINT32]
    disabled: Annotated[bool, f.BOOL] = False
    fee_base: Annotated[Amount, f.AMOUNT]
    fee_ppm: Annotated[int, f.UINT32]
    expiry_delta: Annotated[Seconds, f.UINT32]
    min_lock: Annotated[Amount, f.AMOUNT]
    max_lock: Annotated[Amount, f.AMOUNT]
    signature: Annotated[Signature, f.SIGNATURE]


@MESSAGES.member(51)
@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncementSignatures(Message):
    channel_id: Annotated[ChannelId, f.BYTES32]
    node_signature: Annotated[Signature, f.SIGNATURE]
    participant_signature: Annotated[Signature, f.SIGNATURE]


@MESSAGES.member(52)
@dataclass(frozen=True, slots=True, kw_only=True)
class GossipQuery(Message):
    """Send me the next messages of the class numbered `kind`, in the order in which you learned them: those after
    (`since`, `after`), which the last page told. `since` is by your clock; nothing after it: from that time on."""

    kind: Annotated[int, f.UINT8]
    since: Annotated[Timestamp, f.UINT32] = NEVER
    after: Annotated[bytes, f.upto(33)] = b""


@MESSAGES.member(53)
@dataclass(frozen=True, slots=True, kw_only=True)
class GossipPage(Message):
    """Some of what a `GossipQuery` asked for, see `wire.pages`; no more pages come after `last` until the next query.

    (`since`, `after`): where to go on. `more`: there is something after that.
    """

    kind: Annotated[int, f.UINT8]
    since: Annotated[Timestamp, f.UINT32]
    after: Annotated[bytes, f.upto(33)]
    last: Annotated[bool, f.BOOL]
    more: Annotated[bool, f.BOOL]
    messages: Annotated[bytes, f.upto(MAX_PAGE)]


# ---- the tower's port


@MESSAGES.member(64)
@dataclass(frozen=True, slots=True, kw_only=True)
class TowerInfoRequest(Message):
    pass


@MESSAGES.member(65)
@dataclass(frozen=True, slots=True, kw_only=True)
class TowerInfo(Message):
    """`payout` is where a delegation must send the bond; `max_validity` in seconds from a receipt's head."""

    payout: Annotated[Address, f.BYTES20]
    chain_id: Annotated[int, f.UINT64]
    manager: Annotated[Address, f.BYTES20]
    min_period: Annotated[Seconds, f.UINT32]
    max_validity: Annotated[Seconds, f.UINT32]


@MESSAGES.member(66)
@dataclass(frozen=True, slots=True, kw_only=True)
class PutAppointment(Message):
    """Signed by the connection's own static key over `wire.appointment.update_digest`."""

    chain_id: Annotated[int, f.UINT64]
    manager: Annotated[Address, f.BYTES20]
    hint: Annotated[Digest, f.BYTES32]
    seq: Annotated[int, f.uint(64, least=1)]
    blob: Annotated[bytes, f.fixed(BLOB_BYTES)]
    signature: Annotated[Signature, f.SIGNATURE]


@MESSAGES.member(67)
@dataclass(frozen=True, slots=True, kw_only=True)
class AppointmentReceipt(Message):
    """The tower's promise, signed over `wire.appointment.receipt_digest`; after a delete `blob_hash` is zero."""

    hint: Annotated[Digest, f.BYTES32]
    seq: Annotated[int, f.uint(64, least=1)]
    blob_hash: Annotated[Digest, f.BYTES32]
    head_number: Annotated[int, f.UINT64]
    head_time: Annotated[Timestamp, f.UINT32]
    valid_until: Annotated[Timestamp, f.UINT32]
    signature: Annotated[Signature, f.SIGNATURE]


@MESSAGES.member(68)
@dataclass(frozen=True, slots=True, kw_only=True)
class TowerError(Message):
    """`seq`, `blob_hash`: what the tower holds, zeros for nothing; a client that is behind learns it here."""

    code: Annotated[str, f.text(32)]
    text: Annotated[str, f.text(256)] = ""
    seq: Annotated[int, f.UINT64] = 0
    blob_hash: Annotated[Digest, f.BYTES32] = NO_DIGEST


@MESSAGES.member(69)
@dataclass(frozen=True, slots=True, kw_only=True)
class GetAppointment(Message):
    """What do you hold for this connection's static key? Answered by `Appointment` or `TowerError`."""


@MESSAGES.member(70)
@dataclass(frozen=True, slots=True, kw_only=True)
class Appointment(Message):
    """What the tower holds: the client's own last `PutAppointment`, and the receipt it gave for it."""

    chain_id: Annotated[int, f.UINT64]
    manager: Annotated[Address, f.BYTES20]
    hint: Annotated[Digest, f.BYTES32]
    seq: Annotated[int, f.uint(64, least=1)]
    blob: Annotated[bytes, f.fixed(BLOB_BYTES)]
    signature: Annotated[Signature, f.SIGNATURE]
    head_number: Annotated[int, f.UINT64]
    head_time: Annotated[Timestamp, f.UINT32]
    valid_until: Annotated[Timestamp, f.UINT32]
    receipt: Annotated[Signature, f.SIGNATURE]


@MESSAGES.member(71)
@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAppointment(Message):
    """Forget it: signed like an update, with `seq` one higher and a blob hash of zero."""

    seq: Annotated[int, f.uint(64, least=1)]
    signature: Annotated[Signature, f.SIGNATURE]


# ---- both ways


def encode(message: Message) -> bytes:
    """The message as the bytes of one Noise message, at most `MAX_MESSAGE`; ValueError outside its limits."""
    return MESSAGES.encode(message)


def decode(data: bytes) -> Message:
    """The message in `data`. Malformed for anything that `encode` would not have written."""
    return MESSAGES.decode(data)


def kinds() -> dict[int, type[Message]]:
    """All message classes by number."""
    return MESSAGES.kinds()
