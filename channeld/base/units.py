"""One type for each quantity, so that a swapped version and amount is a type error.

All amounts are integers in the token's base unit; all times are `block.timestamp` seconds. Byte strings
carry their length in the type's docstring; `exactly` is the one check that holds them to it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NewType

Amount = NewType("Amount", int)
"""Base units of one token, 0 .. MAX_AMOUNT."""
Version = NewType("Version", int)
"""Version of a channel's state, 0 .. MAX_VERSION; 0 is the state nobody signed."""
Seconds = NewType("Seconds", int)
"""A span of chain time."""
Timestamp = NewType("Timestamp", int)
"""A moment of chain time: `block.timestamp`, seconds since 1970."""
BlockNumber = NewType("BlockNumber", int)

ChannelId = NewType("ChannelId", bytes)
"""32 bytes, `base.digests.channel_id`."""
Address = NewType("Address", bytes)
"""20 bytes, an EVM address; also names a token, where twenty zeros are the native coin."""
NodeId = NewType("NodeId", bytes)
"""33 bytes, a node's compressed secp256k1 public key."""
Digest = NewType("Digest", bytes)
"""32 bytes that somebody signs, or that commit to something."""
Signature = NewType("Signature", bytes)
"""65 bytes, r ‖ s ‖ v, s in the lower half, v 27 or 28; never a name for a message."""
LockKey = NewType("LockKey", bytes)
"""32 bytes: for a hash-lock, the SHA-256 of the preimage (the payment hash)."""
Preimage = NewType("Preimage", bytes)
"""32 bytes that open a hash-lock. A secret until it is sent."""
LockId = NewType("LockId", int)
"""Number of a lock, strictly increasing per channel and direction, 1 .. MAX_LOCK_ID."""
PaymentId = NewType("PaymentId", bytes)
"""16 bytes that name a direct transfer within its channel."""

MAX_AMOUNT: Final = 2**88 - 1
MAX_VERSION: Final = 2**40 - 1
RECOVERY_FROM: Final = 2**39
"""From here on versions are drawn for cooperates of channels in recovery; no state and no other cooperate has one."""
MAX_LOCK_ID: Final = 2**63 - 1
"""The wire and the contract have room for 2**64 - 1; what no database column can hold is no number between peers."""
MAX_TIMESTAMP: Final = 2**32 - 1
NATIVE: Final = Address(bytes(20))


class Side(IntEnum):
    """A participant's place in a channel. The opener is side A and signs odd versions (protocol R1)."""

    A = 0
    B = 1

    @property
    def other(self) -> Side:
        return Side.B if self is Side.A else Side.A


class LockKind(IntEnum):
    """What opens a lock; the number is part of what the contract hashes."""

    HASH = 1
    POINT = 2


def exactly(length: int, value: bytes, what: str) -> bytes:
    """`value` if it is bytes of `length`, else ValueError naming `what`."""
    if len(value) != length:
        raise ValueError(f"{what} must be {length} bytes, not {value!r:.80}")
    return value


def short(value: bytes) -> str:
    """The first eight hex digits: how ids are shown in logs."""
    return value[:4].hex()
