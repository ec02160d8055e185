"""Init code for each contract, and the address it gets from the deterministic deployment proxy. Pure: sends nothing.

Constructor arguments are static ABI words, so they are packed here by hand and need no library.

The proxy is a contract that anyone may put on a chain, at the same address on each: a transaction to it with a salt
and init code creates the contract by CREATE2. Our salt is 32 zeros, always: the init code is part of the address, and
all that tells two deployments apart stands in it (code, registry, Permit2, least period). So whoever deploys the same
gets the same address, on every chain, and can check beforehand whether it is there already.

The proxy itself gets its address from a transaction without a chain id whose signature was written down, not computed:
nobody has the key of its sender, the sender's first transaction is the only one it will ever make. Source of its bytes:
github.com/Arachnid/deterministic-deployment-proxy (public domain).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from channeld.base.keys import keccak
from channeld.base.units import Address, Seconds, exactly
from contracts import artifact

MAX_PERIOD: Final = Seconds(30 * 86400)
"""Upper bound of a challenge period, a constant of the contract."""
PERMIT2: Final = Address(bytes.fromhex("000000000022d473030f116ddee9f6b43ac78ba3"))
"""Where Permit2 is on the chains that have it."""

SALT: Final = bytes(32)
PROXY: Final = Address(bytes.fromhex("4e59b44847b379578588920ca78fbf26c0b4956c"))
PROXY_CODE: Final = bytes.fromhex(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe0"
    "3601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
)
"""The proxy's code on chain, 69 bytes."""
PROXY_INIT: Final = bytes.fromhex("604580600e600039806000f350fe") + PROXY_CODE
PROXY_PRICE: Final = 100 * 10**9
"""Wei per gas that the proxy's transaction offers, fixed with its signature."""
PROXY_GAS: Final = 100_000
PROXY_TRANSACTION: Final = (
    bytes.fromhex("f8a58085174876e800830186a08080b853")
    + PROXY_INIT
    + bytes.fromhex("1ba0" + "22" * 32 + "a0" + "22" * 32)
)
"""Legacy transaction: nonce 0, `PROXY_PRICE`, `PROXY_GAS`, no receiver, `PROXY_INIT`, v 27, r and s of twos."""
PROXY_SENDER: Final = Address(bytes.fromhex("3fab184622dc19b6109349b94811493bf2a45362"))
"""Whoever that signature recovers to. It needs `PROXY_GAS * PROXY_PRICE` wei; what is left stays there for ever."""


class Immutables(NamedTuple):
    """What a manager was deployed with."""

    registry: Address
    min_period: Seconds
    permit2: Address


def registry_code() -> bytes:
    """Init code of `SecretRegistry`; it takes no arguments."""
    return artifact("SecretRegistry").bytecode


def manager_code(registry: Address, min_period: Seconds, permit2: Address = PERMIT2) -> bytes:
    """Init code of `ChannelManager` over `registry` (20 bytes), with a least challenge period in seconds.

    `permit2`: 20 bytes; there need not be anything at it, then deposits by Permit2 revert.

    Raises:
        ValueError: a period out of (0, `MAX_PERIOD`], or an address that is none.
    """
    if not 0 < min_period <= MAX_PERIOD:
        raise ValueError(f"a challenge period of {min_period} s is out of range")
    words = (
        bytes(12) + exactly(20, registry, "registry"),
        bytes(12) + exactly(20, permit2, "permit2"),
        min_period.to_bytes(32, "big"),
    )
    return artifact("ChannelManager").bytecode + b"".join(words)


def token_code() -> bytes:
    """Init code of `TestToken`, the dev chain's money; it takes no arguments."""
    return artifact("TestToken").bytecode


def manager_immutables(deployed: bytes) -> Immutables:
    """What a deployed manager's code says it was made with; only after `same_code` has said yes."""
    offset, length = artifact("ChannelManager").immutables
    words = deployed[offset : offset + length]
    return Immutables(
        registry=Address(words[12:32]),
        permit2=Address(words[44:64]),
        min_period=Seconds(int.from_bytes(words[64:96], "big")),
    )


def proxied(code: bytes) -> bytes:
    """Data of the transaction to `PROXY` that creates a contract of this init code."""
    return SALT + code


def created_at(code: bytes) -> Address:
    """Where `PROXY` puts a contract of this init code (EIP-1014), on every chain."""
    return Address(keccak(b"\xff" + PROXY + SALT + keccak(code))[12:])


def addresses(min_period: Seconds, permit2: Address = PERMIT2) -> tuple[Address, Address]:
    """(manager, registry) as `channeld deploy` places them, wherever it is run."""
    registry = created_at(registry_code())
    return created_at(manager_code(registry, min_period, permit2)), registry
