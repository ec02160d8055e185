"""Many channels' words in one request: an `eth_call` that creates a contract which only looks.

A node of the network asks after each channel it hears of. One call each, batched or not, is paid for one by one at
most providers, and is what they limit. So the question carries its own program: creation code that calls the manager's
view `channel(bytes32)` for each id behind it and returns what it was told instead of a contract's code. Nothing is
created, since an `eth_call` changes nothing. Every node that runs `eth_call` runs this: it needs no state override, no
helper contract on the chain and no other method.

The answer is a zero byte (code may not begin with 0xef, EIP-3541) and one word for each id, packed as in the manager's
storage (`ChannelWord.unpack`). It may be as long as a contract (EIP-170), the question as long as creation code
(EIP-3860): `MOST` is below both, and at some 12,000 gas for each id below the gas that nodes give a call (30 million
on anvil, 50 million in geth).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from channeld.base.errors import Malformed
from channeld.base.keys import keccak
from channeld.base.units import Address, ChannelId, Digest
from channeld.chain.chain import Call, ChannelWord

MOST: Final = 500
"""Ids in one question."""

_OPCODES: Final = {
    "ADD": 0x01, "SUB": 0x03, "GT": 0x11, "ISZERO": 0x15, "OR": 0x17, "SHL": 0x1B, "CODESIZE": 0x38, "CODECOPY": 0x39,
    "EXTCODESIZE": 0x3B, "POP": 0x50, "MLOAD": 0x51, "MSTORE": 0x52, "JUMPI": 0x57, "GAS": 0x5A, "DUP1": 0x80,
    "DUP2": 0x81, "DUP3": 0x82, "SWAP1": 0x90, "RETURN": 0xF3, "STATICCALL": 0xFA, "REVERT": 0xFD,
}  # fmt: skip
_PROGRAM: Final = """
    {manager} EXTCODESIZE ISZERO @failed JUMPI               # no manager there
    {selector} 00 MSTORE                                     # calldata is at 1c: selector, id
    0100 @ids                                                # stack: where the next word goes, where the next id is
:next
    20 DUP2 20 CODECOPY                                      # the id
    c0 40 24 1c {manager} GAS STATICCALL ISZERO @failed JUMPI
    40 MLOAD a8 SHL  60 MLOAD 50 SHL OR                      # deposit_a, deposit_b
    80 MLOAD 28 SHL OR  a0 MLOAD 08 SHL OR  c0 MLOAD OR      # version, deadline, flags
    DUP3 MSTORE
    20 ADD SWAP1 20 ADD SWAP1
    DUP1 CODESIZE GT @next JUMPI
    POP ff SWAP1 SUB ff RETURN                               # from the zero byte before the first word
:failed
    00 00 REVERT
"""
SELECTOR: Final = keccak(b"channel(bytes32)")[:4]
"""Of the manager's view."""


def ask(manager: Address, ids: Sequence[ChannelId]) -> Call:
    """The question after at most `MOST` channels, and one at least."""
    if not 0 < len(ids) <= MOST:
        raise ValueError(f"{len(ids)} channels in one question, at least one and at most {MOST}")
    return Call(to=None, data=_assembled(manager) + b"".join(ids))


def read(answer: bytes, count: int) -> list[ChannelWord]:
    """The words of `count` channels, without their records. Malformed: it is no answer to that."""
    if len(answer) != 1 + 32 * count or answer[:1] != b"\0":
        raise Malformed(f"{len(answer)} bytes instead of {count} channels")
    words = (int.from_bytes(answer[at : at + 32], "big") for at in range(1, len(answer), 32))
    return [ChannelWord.unpack(word, Digest(bytes(32))) for word in words]


def _assembled(manager: Address) -> bytes:
    """The program for one manager: hex is pushed, `:name` is a place to jump to, `@name` pushes that place."""
    code, places, uses = bytearray(), dict[str, int](), list[tuple[int, str]]()
    lines = _PROGRAM.format(selector=SELECTOR.hex(), manager=manager.hex()).splitlines()
    for token in (token for line in lines for token in line.partition("#")[0].split()):
        if token[0] == ":":
            places[token[1:]] = len(code)
            code.append(0x5B)
        elif token[0] == "@":
            uses.append((len(code) + 1, token[1:]))
            code += b"\x60\0"
        elif token in _OPCODES:
            code.append(_OPCODES[token])
        else:
            value = bytes.fromhex(token)
            code += bytes([0x5F + len(value)]) + value
    places["ids"] = len(code)
    for at, name in uses:
        code[at] = places[name]
    return bytes(code)
