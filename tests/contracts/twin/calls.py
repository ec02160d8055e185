"""Calls to the contracts, packed by hand: a campaign makes millions, for which a general ABI library is too slow.

Selectors come from the committed ABI, and `tests/contracts/test_twin.py` compares the packing with eth_abi.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from channeld.base.keys import compact, keccak
from contracts import artifact

WORD: Final = 32
NONE: Final = bytes(64)
"""An empty signature."""


def num(value: int) -> bytes:
    """A word: unsigned as it is, negative in two's complement."""
    return (value % 2**256).to_bytes(WORD, "big")


def adr(address: bytes) -> bytes:
    return bytes(12) + address


def sig(signature: bytes) -> bytes:
    """The two words of a 65-byte signature."""
    return b"".join(compact(signature))


def words_of(*arguments: int | bytes) -> bytes:
    """Numbers and ready bytes, one after the other."""
    return b"".join(one if isinstance(one, bytes) else num(one) for one in arguments)


@cache
def selectors(contract: str) -> dict[tuple[str, int], bytes]:
    """Selector by name and number of arguments."""
    found = {}
    for entry in artifact(contract).abi:
        if entry["type"] == "function":
            inputs = ",".join(_kind(one) for one in entry["inputs"])
            found[entry["name"], len(entry["inputs"])] = keccak(f"{entry['name']}({inputs})".encode())[:4]
    return found


def topics(contract: str) -> dict[bytes, str]:
    """Name of each event by its topic."""
    return {
        keccak(f"{entry['name']}({','.join(_kind(one) for one in entry['inputs'])})".encode()): str(entry["name"])
        for entry in artifact(contract).abi
        if entry["type"] == "event"
    }


def _kind(one: dict[str, Any]) -> str:
    if not one["type"].startswith("tuple"):
        return str(one["type"])
    parts = ",".join(_kind(part) for part in one["components"])
    return f"({parts}){one['type'].removeprefix('tuple')}"


def manager(name: str, arity: int) -> bytes:
    return selectors("ChannelManager")[name, arity]


def registry(name: str) -> bytes:
    return selectors("SecretRegistry")[name, 1]


def many(items: Sequence[bytes]) -> bytes:
    """A dynamic list of static items, as it stands in the tail."""
    return num(len(items)) + b"".join(items)


def text(data: bytes) -> bytes:
    """Dynamic bytes, as they stand in the tail."""
    return num(len(data)) + data + bytes(-len(data) % WORD)


def deposit_many(token: bytes, items: Sequence[bytes]) -> bytes:
    return manager("deposit_many", 2) + adr(token) + num(64) + many(items)


def challenge_many(items: Sequence[bytes]) -> bytes:
    return manager("challenge_many", 1) + num(32) + many(items)


def resolve_locks(token: bytes, terms: bytes, locks: bytes, secrets: Sequence[bytes], opening: bytes = b"") -> bytes:
    """`opening`: the packed body and the word of the bond's receiver, or nothing."""
    head = adr(token) + terms
    at = len(head) + 64 + len(opening)
    first = text(locks)
    selector = manager("resolve_locks", 5 if opening else 4)
    return selector + head + num(at) + num(at + len(first)) + opening + first + many(secrets)


def list_of(data: bytes) -> bytes | None:
    """The lock list in a call of resolve_locks; None for any other call."""
    if data[:4] not in (manager("resolve_locks", 4), manager("resolve_locks", 5)):
        return None
    at = 4 + int.from_bytes(data[4 + 9 * WORD : 4 + 10 * WORD], "big")
    size = int.from_bytes(data[at : at + WORD], "big")
    return data[at + WORD : at + WORD + size]


def register(secrets: Sequence[bytes]) -> bytes:
    return registry("register") + num(32) + many(secrets)


def register_points(scalars: Sequence[int]) -> bytes:
    return registry("register_points") + num(32) + many([num(one) for one in scalars])


class Stored(NamedTuple):
    """What `channel` answers."""

    a: int
    b: int
    version: int
    deadline: int
    flags: int
    record: bytes

    @property
    def word(self) -> int:
        """The five numbers as they are stored."""
        return self.a << 168 | self.b << 80 | self.version << 40 | self.deadline << 8 | self.flags

    @classmethod
    def of(cls, output: bytes) -> Stored:
        a, b, version, deadline, flags = (int.from_bytes(output[at : at + WORD], "big") for at in range(0, 160, WORD))
        return cls(a, b, version, deadline, flags, output[160:192])
