"""What the wire tests draw: any message within its limits, and bytes that almost are one."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from hypothesis import strategies as st

from channeld.base.units import LockKind, Side
from channeld.wire import fields as f
from channeld.wire import messages as m


def _text(length: int) -> st.SearchStrategy[str]:
    alphabet = st.characters(exclude_categories=["Cs"])
    return st.text(alphabet, max_size=length).filter(lambda text: len(text.encode()) <= length)


def _uint(bits: int, least: int = 0) -> st.SearchStrategy[int]:
    return st.integers(least, 2**bits - 1)


def _bytes(length: int) -> st.SearchStrategy[bytes]:
    if length > 128:  # long ones are drawn by their ends
        return st.binary(min_size=8, max_size=8).map(lambda ends: ends + bytes(length - 8))
    return st.binary(min_size=length, max_size=length)


VALUES: dict[f.Codec, st.SearchStrategy[Any]] = {
    f.UINT8: _uint(8),
    f.UINT16: _uint(16),
    f.UINT32: _uint(32),
    f.UINT40: _uint(40),
    f.UINT64: _uint(64),
    f.uint(64, least=1): _uint(64, 1),
    f.uint(32, least=1): _uint(32, 1),
    f.AMOUNT: _uint(88),
    f.POSITIVE_AMOUNT: _uint(88, 1),
    f.wide(16): _uint(128),
    f.signed(12): st.integers(-(2**95), 2**95 - 1),
    f.BYTES16: _bytes(16),
    f.BYTES20: _bytes(20),
    f.BYTES32: _bytes(32),
    f.BYTES33: _bytes(33),
    f.BYTES48: _bytes(48),
    f.SIGNATURE: _bytes(65),
    f.fixed(256): _bytes(256),
    f.fixed(m.ONION_BYTES): _bytes(m.ONION_BYTES),
    f.fixed(m.BLOB_BYTES): _bytes(m.BLOB_BYTES),
    f.MAYBE_SIGNATURE: st.just(b"") | _bytes(65),
    f.upto(33): st.binary(max_size=33),
    f.upto(m.MAX_PAGE): st.binary(max_size=300) | st.integers(0, m.MAX_PAGE).map(lambda count: b"\x02" * count),
    f.upto(m.MAX_REASON): st.binary(max_size=m.MAX_REASON),
    f.upto(57 * m.MAX_LOCKS, multiple=57): st.integers(0, m.MAX_LOCKS).map(lambda count: b"\x01" * 57 * count),
    f.BOOL: st.booleans(),
    f.SIDE: st.sampled_from(Side),
    f.LOCK_KIND: st.sampled_from(LockKind),
    f.text(32): _text(32),
    f.text(256): _text(256),
    f.texts(4, 128): st.lists(_text(128), max_size=4).map(tuple),
}


def message_of(kind: type[m.Message]) -> st.SearchStrategy[m.Message]:
    """Any message of one class."""
    hints = get_type_hints(kind, include_extras=True)
    drawn = {
        field.name: next(VALUES[note] for note in hints[field.name].__metadata__ if isinstance(note, f.Codec))
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
    }
    return st.builds(kind, **drawn)


def messages() -> st.SearchStrategy[m.Message]:
    return st.sampled_from(sorted(m.kinds().items())).flatmap(lambda item: message_of(item[1]))


@st.composite
def spoiled(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were good before something was changed, cut, doubled or put in."""
    data = bytearray(draw(good))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["flip", "cut", "insert", "double"])):
            case "flip" if data:
                data[at] ^= draw(st.integers(1, 255))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=9))
            case _:
                data += data[at : at + 64]
    return bytes(data)
