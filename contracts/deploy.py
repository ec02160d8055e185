"""Init code for each contract, ready for a transaction without a receiver. Pure: sends nothing.

Constructor arguments are static ABI words, so they are packed here by hand and need no library.
"""

from __future__ import annotations

from typing import Final

from channeld.base.units import Address, Seconds, exactly
from contracts import artifact

MAX_PERIOD: Final = Seconds(30 * 86400)
"""Upper bound of a challenge period, a constant of the contract."""


def registry_code() -> bytes:
    """Init code of `SecretRegistry`; it takes no arguments."""
    return artifact("SecretRegistry").bytecode


def manager_code(registry: Address, min_period: Seconds) -> bytes:
    """Init code of `ChannelManager` over `registry` (20 bytes), with a least challenge period in seconds."""
    if not 0 < min_period <= MAX_PERIOD:
        raise ValueError(f"a challenge period of {min_period} s is out of range")
    arguments = bytes(12) + exactly(20, registry, "registry") + min_period.to_bytes(32, "big")
    return artifact("ChannelManager").bytecode + arguments


def token_code() -> bytes:
    """Init code of `TestToken`, the dev chain's money; it takes no arguments."""
    return artifact("TestToken").bytecode


def manager_immutables(deployed: bytes) -> tuple[Address, Seconds]:
    """(registry, least period) out of a deployed manager's code; only after `same_code` has said yes."""
    offset, length = artifact("ChannelManager").immutables
    words = deployed[offset : offset + length]
    return Address(words[12:32]), Seconds(int.from_bytes(words[32:64], "big"))
