"""The law that every decoder is held to: any bytes give a value or the decoder's documented refusal, at a bounded cost.

`law` runs one input and raises `Escaped` for any other error; `cost` runs it again and counts: the peak of memory
that tracemalloc sees, and calls of functions, Python's and C's. Neither looks at a clock, so a result is the same on
any machine.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from channeld.base.errors import Malformed

ROOM: Final = 512 * 1024
"""Bytes that a decoder may take whatever the input's length."""
SHARE: Final = 96
"""Bytes it may take besides for each byte of the input: an empty list is one byte of msgpack and 56 of Python, and
stands in its parent's list and in the packer's buffer."""
MESSAGE: Final = 1024 * 1024
"""Bytes that one message of a peer's may take while it is decoded, whatever its length (I33)."""
CALLS: Final = 3_000
CALLS_EACH: Final = 8
"""Calls of functions for each byte of input."""


class Escaped(AssertionError):
    """An input made a decoder raise what it does not document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One decoder.

    `decode`: bytes to a value. `seeds`: valid inputs. `refuses`: what it may raise. `tree`: whether its inputs are
    msgpack. `covers`: the public functions that it goes through, as `module.function`. `calls`: calls allowed besides
    `CALLS_EACH` for each byte. `slow`: a chunk of the campaign gives it a tenth of the inputs. `memory`: most bytes
    whatever the input's length; None: `ROOM` and `SHARE` of each byte.
    """

    name: str
    decode: Callable[[bytes], Any]
    seeds: Callable[[], Sequence[bytes]]
    refuses: tuple[type[Exception], ...] = (Malformed,)
    tree: bool = False
    covers: tuple[str, ...] = ()
    calls: int = CALLS
    slow: bool = False
    memory: int | None = None


def law(target: Target, data: bytes) -> bool:
    """Whether `data` was taken; False if it was refused as documented, Escaped if anything else came of it."""
    try:
        target.decode(data)
    except target.refuses:
        return False
    except Exception as fault:
        told = data if len(data) <= 2_000 else data[:2_000] + b"..."
        raise Escaped(f"{target.name}: {type(fault).__name__}: {fault} for {told.hex()}") from fault
    return True


def cost(target: Target, data: bytes) -> tuple[int, int]:
    """(bytes at the peak, function calls) of decoding `data`."""
    tracemalloc.start()
    try:
        law(target, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    calls = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        law(target, data)
    finally:
        sys.setprofile(before)
    return peak, calls


def bounded(target: Target, data: bytes) -> None:
    """Escaped if decoding `data` costs more than it may."""
    peak, calls = cost(target, data)
    if peak > (ROOM + SHARE * len(data) if target.memory is None else target.memory):
        raise Escaped(f"{target.name}: {peak} bytes of memory for an input of {len(data)}: {data[:200].hex()}")
    if calls > target.calls + CALLS_EACH * len(data):
        raise Escaped(f"{target.name}: {calls} calls for an input of {len(data)}: {data[:200].hex()}")
