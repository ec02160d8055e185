"""Between the words of the core and the messages of the wire, one to one.

The core's commit carries its updates; on the wire they travel in front of it, each tagged with its version (R2).
`Gatherer` puts them together again and forgets what a cut leaves behind.
"""

from __future__ import annotations

from types import MappingProxyType

from channeld.base.digests import LOCK_BYTES, Lock, pack_locks
from channeld.base.errors import Answer, Malformed, PeerFault
from channeld.base.units import Amount, ChannelId, LockId, LockKey, LockKind, Side, Timestamp
from channeld.core import messages as core
from channeld.core.channel import MAX_BATCH, Body
from channeld.wire import messages as wire


def to_wire(channel: ChannelId, message: core.Message, proposer: Side) -> list[wire.Message]:
    """What `message` of ours is on the wire, in order."""
    match message:
        case core.Commit():
            return [
                *(_update_to_wire(channel, message.version, update) for update in message.updates),
                wire.Commit(
                    channel_id=channel,
                    version=message.version,
                    base=message.base,
                    count=len(message.updates),
                    signature=message.signature,  # type: ignore[arg-type]
                ),
            ]
        case core.Proof():
            body = message.body
            return [
                wire.StateProof(
                    channel_id=channel,
                    version=message.version,
                    net=body.net,
                    locked_ab=body.locked_ab,
                    locked_ba=body.locked_ba,
                    locks=pack_locks(body.locks.values()),
                    signature_a=message.signature_a,  # type: ignore[arg-type]
                    signature_b=message.signature_b,  # type: ignore[arg-type]
                ),
            ]
        case _:
            return [_single(channel, message)]


def _single(channel: ChannelId, message: core.Message) -> wire.Message:
    match message:
        case core.Ack():
            return wire.CommitAck(
                channel_id=channel,
                version=message.version,
                signature=message.signature,  # type: ignore[arg-type]
                receipt=message.receipt,
            )
        case core.DepositSeen():
            return wire.DepositSeen(channel_id=channel, deposit_a=message.deposit_a, deposit_b=message.deposit_b)
        case core.Reestablish():
            return wire.Reestablish(
                channel_id=channel,
                version=message.version,
                hash=message.hash,
                outstanding=message.outstanding,
                outstanding_hash=message.outstanding_hash,
                base=message.base,
                coop_version=message.coop_version,
                coop_digest=message.coop_digest,
                coop_valid_until=message.coop_valid_until,
            )
        case core.CoopPropose():
            return wire.CoopPropose(
                channel_id=channel,
                version=message.version,
                hash=message.hash,
                coop_version=message.coop_version,
                net=message.net,
                valid_until=message.valid_until,
            )
        case core.CoopNo():
            return wire.CoopNo(channel_id=channel, coop_version=message.coop_version)
        case core.CoopSign():
            return wire.CoopSign(
                channel_id=channel,
                coop_version=message.coop_version,
                signature=message.signature,  # type: ignore[arg-type]
            )
        case core.Fault():
            return wire.Error(channel_id=channel, code=message.code[:32], text=_clean(message.text))
        case core.Commit() | core.Proof():
            raise ValueError("more than one message")


def _clean(text: str) -> str:
    return "".join(letter if 32 <= ord(letter) < 127 else "?" for letter in text)[:200]


def _update_to_wire(channel: ChannelId, version: int, update: core.Update) -> wire.Message:
    match update:
        case core.Transfer():
            return wire.Transfer(
                channel_id=channel,
                version=version,  # type: ignore[arg-type]
                payment_id=update.payment_id,
                amount=update.amount,
            )
        case core.AddLock(lock=lock):
            return wire.AddLock(
                channel_id=channel,
                version=version,  # type: ignore[arg-type]
                lock_id=lock.id,
                kind=lock.kind,
                amount=lock.amount,
                key=lock.key,
                expiry=lock.expiry,
                onion=update.onion,
            )
        case core.FulfilLock():
            return wire.FulfilLock(
                channel_id=channel,
                version=version,  # type: ignore[arg-type]
                lock_id=update.lock_id,
                preimage=update.preimage,
            )
        case core.FailLock():
            return wire.FailLock(
                channel_id=channel,
                version=version,  # type: ignore[arg-type]
                lock_id=update.lock_id,
                reason=update.reason,
            )


ChannelMessage = (
    wire.Transfer
    | wire.AddLock
    | wire.FulfilLock
    | wire.FailLock
    | wire.Commit
    | wire.CommitAck
    | wire.DepositSeen
    | wire.Reestablish
    | wire.StateProof
    | wire.CoopPropose
    | wire.CoopNo
    | wire.CoopSign
)
"""Messages that belong to one channel's machine."""


class Gatherer:
    """One session's incoming updates of one channel, until their commit comes."""

    def __init__(self, peer_side: Side) -> None:
        self._peer_side = peer_side
        self._version = 0
        self._updates: list[core.Update] = []

    def take(self, message: ChannelMessage) -> core.Message | None:
        """The core's message, or None while more is to come. PeerFault: updates that belong to no commit."""
        match message:
            case wire.Transfer() | wire.AddLock() | wire.FulfilLock() | wire.FailLock():
                self._add(message)
                return None
            case wire.Commit():
                updates, version = tuple(self._updates), self._version
                self._updates, self._version = [], 0
                if len(updates) != message.count or (updates and version != message.version):
                    raise PeerFault(Answer.DISCONNECT, f"a commit of {message.count} after {len(updates)} updates")
                return core.Commit(
                    version=message.version,
                    base=message.base,
                    updates=updates,
                    signature=message.signature,
                )
            case _:
                if self._updates:
                    raise PeerFault(Answer.DISCONNECT, "another message between updates and their commit")
                return _other(message)

    def _add(self, message: wire.Transfer | wire.AddLock | wire.FulfilLock | wire.FailLock) -> None:
        if self._updates and message.version != self._version:
            raise PeerFault(Answer.DISCONNECT, "updates of two versions")
        if len(self._updates) >= MAX_BATCH:
            raise PeerFault(Answer.DISCONNECT, "too many updates")
        self._version = message.version
        match message:
            case wire.Transfer():
                self._updates.append(core.Transfer(message.payment_id, message.amount))
            case wire.AddLock():
                lock = Lock(
                    id=message.lock_id,
                    sender=self._peer_side,
                    kind=message.kind,
                    amount=message.amount,
                    key=message.key,
                    expiry=message.expiry,
                )
                self._updates.append(core.AddLock(lock, message.onion))
            case wire.FulfilLock():
                self._updates.append(core.FulfilLock(message.lock_id, message.preimage))
            case wire.FailLock():
                self._updates.append(core.FailLock(message.lock_id, message.reason))


def _other(message: ChannelMessage) -> core.Message:
    match message:
        case wire.CommitAck():
            return core.Ack(version=message.version, signature=message.signature, receipt=message.receipt)
        case wire.DepositSeen():
            return core.DepositSeen(deposit_a=message.deposit_a, deposit_b=message.deposit_b)
        case wire.Reestablish():
            return core.Reestablish(
                version=message.version,
                hash=message.hash,
                outstanding=message.outstanding,
                outstanding_hash=message.outstanding_hash,
                base=message.base,
                coop_version=message.coop_version,
                coop_digest=message.coop_digest,
                coop_valid_until=message.coop_valid_until,
            )
        case wire.StateProof():
            return core.Proof(
                version=message.version,
                body=Body(message.net, MappingProxyType({(k.sender, k.id): k for k in unpack_locks(message.locks)})),
                signature_a=message.signature_a,
                signature_b=message.signature_b,
            )
        case wire.CoopPropose():
            return core.CoopPropose(
                version=message.version,
                hash=message.hash,
                coop_version=message.coop_version,
                net=message.net,
                valid_until=message.valid_until,
            )
        case wire.CoopNo():
            return core.CoopNo(coop_version=message.coop_version)
        case wire.CoopSign():
            return core.CoopSign(coop_version=message.coop_version, signature=message.signature)
        case _:
            raise ValueError(f"{type(message).__name__} is no message of its own")


def unpack_locks(data: bytes) -> list[Lock]:
    """The contract's flat list as locks; Malformed for one that cannot be."""
    if len(data) % LOCK_BYTES:
        raise Malformed(f"a lock list of {len(data)} bytes")
    locks = []
    for at in range(0, len(data), LOCK_BYTES):
        part = data[at : at + LOCK_BYTES]
        try:
            locks.append(
                Lock(
                    id=LockId(int.from_bytes(part[:8], "big")),
                    sender=Side(part[8]),
                    kind=LockKind(part[9]),
                    amount=Amount(int.from_bytes(part[10:21], "big")),
                    key=LockKey(part[21:53]),
                    expiry=Timestamp(int.from_bytes(part[53:], "big")),
                ),
            )
        except ValueError as fault:
            raise Malformed(f"lock list: {fault}") from fault
    return locks
