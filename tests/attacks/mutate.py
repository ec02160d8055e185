"""Bytes that are almost right: what a fuzzer makes of valid inputs, from a seeded `random.Random` and nothing else.

Two kinds of change. `bytes_of` works on plain bytes: bits, lengths, pieces cut, doubled, moved or taken from another
input. `tree_of` reads msgpack, changes one value in the tree (another type, a boundary, one more, one less, one level
deeper) and writes it again, so that what decodes it gets past the form and into the fields. The same random numbers
give the same bytes, so a finding is named by (seed, chunk, number).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final

import msgpack

LONGEST: Final = 70_000
"""No input grows beyond this many bytes: a little more than one frame."""

_EDGES: Final = tuple(
    sorted({edge + near for bits in (0, 7, 8, 16, 31, 32, 40, 63, 64) for edge in (1 << bits,) for near in (-1, 0, 1)})
)
_LENGTHS: Final = (0, 1, 2, 10, 11, 12, 16, 19, 20, 21, 31, 32, 33, 47, 48, 64, 65, 66, 256, 1_024, 1_366)
_HEADS: Final = (
    0x80,
    0x8F,
    0x90,
    0x9F,
    0xC0,
    0xC1,
    0xC4,
    0xC6,
    0xC9,
    0xCA,
    0xCF,
    0xD3,
    0xD9,
    0xDC,
    0xDD,
    0xDE,
    0xDF,
    0xFF,
)
"""First bytes of msgpack that promise something: maps, lists, extensions, floats, long strings."""


def of(random: Random, corpus: Sequence[bytes], *, tree: bool) -> bytes:
    """Another input made of one of `corpus`; if `tree`, mostly by way of its msgpack."""
    data = random.choice(corpus)
    if tree and random.random() < 0.6:
        data = tree_of(random, data)
        if random.random() < 0.8:
            return data[:LONGEST]
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        data = bytes_of(random, data, corpus)
    return data[:LONGEST]


def bytes_of(random: Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """`data` with one change."""
    if not data or random.random() < 0.01:
        return random.randbytes(random.choice((0, 1, 2, 50, 66, 300)))
    at = random.randrange(len(data))
    length = min(len(data) - at, random.choice((1, 2, 4, 8, 32, 57, 65, 512)))
    piece = data[at : at + length]
    match random.randrange(10):
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + bytes([random.choice(_HEADS)]) + data[at + 1 :]
        case 2:
            return data[:at]
        case 3:
            return data[:at] + data[at + length :]
        case 4:
            return data[:at] + piece * random.choice((2, 3, 20)) + data[at + length :]
        case 5:
            return data[:at] + random.randbytes(random.choice((1, 2, 9))) + data[at:]
        case 6:
            other = random.choice(corpus)
            return data[:at] + other[random.randrange(len(other) + 1) :]
        case 7:
            number = random.choice(_EDGES) % (1 << 8 * length)
            return data[:at] + number.to_bytes(length, random.choice(("big", "little"))) + data[at + length :]
        case 8:
            return data[:at] + bytes([random.choice((0, 255))]) * length + data[at + length :]
        case _:
            return data + random.choice((b"\0", b"\xff", piece, b"\xc0"))


def tree_of(random: Random, data: bytes) -> bytes:
    """The msgpack in `data` with one value changed; `data` with one byte changed if it is none."""
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=False)
        return bytes(msgpack.packb(_changed(random, value), use_bin_type=True))
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException):
        return bytes_of(random, data, (data,))


def _changed(random: Random, value: Any) -> Any:
    if isinstance(value, list) and value and random.random() < 0.85:
        at = random.randrange(len(value))
        match random.randrange(12):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[:at] + [value[at]] * random.choice((2, 33)) + value[at + 1 :]
            case 2:
                other = random.randrange(len(value))
                value[at], value[other] = value[other], value[at]
                return value
            case _:
                return [*value[:at], _changed(random, value[at]), *value[at + 1 :]]
    match value:
        case bool():
            return random.choice((not value, int(value), None))
        case int() if random.random() < 0.7:
            return random.choice((value + 1, value - 1, -value, random.choice(_EDGES), -random.choice(_EDGES[:9])))
        case bytes() if random.random() < 0.7:
            return random.choice((value[:-1], value + b"\0", bytes(len(value)), b"\xff" * len(value), value[::-1], b""))
        case str() if random.random() < 0.7:
            return random.choice((value + "x", value[:-1], value * 40, "\0", "\u202e\u2028\x1b[2J", "é" * len(value)))
        case _:
            return _any(random, 0)


def _any(random: Random, depth: int) -> Any:
    """A value of some type."""
    match random.randrange(9):
        case 0:
            return None
        case 1:
            return random.choice((True, False))
        case 2 | 3:
            return random.choice((1, -1)) * random.choice(_EDGES[:-2])
        case 4 | 5:
            return random.randbytes(random.choice(_LENGTHS))
        case 6:
            return "x" * random.choice(_LENGTHS)
        case 7:
            return random.choice((1.5, float("inf"), {}, {1: 2}))
        case _:
            return [] if depth > 3 else [_any(random, depth + 1) for _ in range(random.choice((0, 1, 2, 5, 33)))]
