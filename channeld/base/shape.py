"""How much msgpack promises, counted before anything is made of it.

A list of msgpack costs one byte where Python takes sixty, and a header of three bytes makes the parser set aside room
for thousands of items that never come, once for each such header. So `count` walks over the bytes first, skips what
strings hold, adds up what every array promises, and refuses what promises more than it may, before any is allocated.
What is cut off, or no msgpack at all, is left to the parser to refuse.
"""

from __future__ import annotations

from typing import Final

from channeld.base.errors import Malformed

_WIDTHS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Bytes of the length after the head of a byte string or a text."""
_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
"""Bytes of the count after the head of an array."""
_WHOLE: Final = {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
"""Bytes of a number with its head."""


def _steps() -> bytes:
    """By head: bytes to the next item, or 0 where the head alone does not say."""
    steps = bytearray(1 for _ in range(256))
    for head, size in _WHOLE.items():
        steps[head] = size
    for head in range(0xA0, 0xC0):
        steps[head] = 1 + (head & 0x1F)
    for head in (*range(0x90, 0xA0), *_WIDTHS, *_ARRAYS):
        steps[head] = 0
    return bytes(steps)


_STEPS: Final = _steps()


def count(data: bytes, most: int) -> int:
    """How many items `data` promises, itself and those in lists within lists included.

    Maps, extensions and floats are counted as one byte each, since whoever reads them refuses them.

    Raises:
        Malformed: more than `most`; or `data` is no bytes, as when another value stands where bytes are meant to.
    """
    if not isinstance(data, bytes | bytearray):
        raise Malformed(f"msgpack is bytes, not {type(data).__name__}")
    at, end = 0, len(data)
    todo = promised = 1
    while todo and at < end:
        todo -= 1
        head = data[at]
        if step := _STEPS[head]:
            at += step
            continue
        if width := _WIDTHS.get(head, 0):
            at += 1 + width + int.from_bytes(data[at + 1 : at + 1 + width], "big")
            continue
        width = _ARRAYS.get(head, 0)
        more = int.from_bytes(data[at + 1 : at + 1 + width], "big") if width else head & 0x0F
        at += 1 + width
        todo += more
        promised += more
        if promised > most:
            raise Malformed(f"msgpack that promises {promised} items or more, at most {most} are read")
    return promised
