"""Bounded msgpack, for the wire and the disk; never for what is signed or hashed.

Only what `pack` itself would have written is accepted: `unpack` refuses maps, extension types, floats and any
bytes whose re-encoding differs, so a value has one form. How many items the bytes promise is counted before anything is
made of them (`shape`). Integers of up to 64 bits travel as such; amounts
(88 bits) as eleven big-endian bytes, see `amount_bytes`.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from channeld.base.errors import Malformed
from channeld.base.shape import count
from channeld.base.units import Amount

MAX_BYTES: Final = 65_536
MAX_ITEMS: Final = 4_096
MAX_TOTAL: Final = 8_192
AMOUNT_BYTES: Final = 11

type_error = (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.ExtraData)
_OURS: Final = (int, bytes, str, bool, type(None))
"""What msgpack makes of what `pack` takes, but for lists."""


def pack(value: Any) -> bytes:
    """msgpack of nested lists, tuples, ints (64 bit), bytes, str, bool and None."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(data: bytes, *, max_bytes: int = MAX_BYTES, max_items: int = MAX_ITEMS, max_total: int = MAX_TOTAL) -> Any:
    """The value in `data`, arrays as lists.

    Args:
        data: at most `max_bytes` bytes.
        max_items: longest array that is accepted.
        max_total: most items, those of lists within lists included; and never more than `data` has bytes.

    Raises:
        Malformed: not msgpack, a map, a float, an extension, over a limit, or not in `pack`'s own form.
    """
    if len(data) > max_bytes:
        raise Malformed(f"{len(data)} bytes of msgpack, at most {max_bytes} are read")
    count(data, min(max_total, len(data)))
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_array_len=max_items,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=max_bytes,
            max_bin_len=max_bytes,
        )
        again = pack(value)
    except (*type_error, msgpack.exceptions.UnpackException) as fault:
        raise Malformed(f"not msgpack of ours: {type(fault).__name__}") from None
    if again != data or _has_foreign(value):
        raise Malformed("msgpack in another form than ours")
    return value


def _has_foreign(value: Any) -> bool:
    found = [value]
    for one in found:  # what is in it is put behind
        if type(one) is list:
            found += one
        elif type(one) not in _OURS:
            return True
    return False


def amount_bytes(amount: int) -> bytes:
    """`amount` (0 .. 2**88 - 1) as eleven big-endian bytes."""
    return amount.to_bytes(AMOUNT_BYTES, "big")


def bytes_amount(data: bytes) -> Amount:
    """The amount in eleven big-endian bytes; Malformed for any other length."""
    if len(data) != AMOUNT_BYTES:
        raise Malformed(f"an amount of {len(data)} bytes, not {AMOUNT_BYTES}")
    return Amount(int.from_bytes(data, "big"))
