"""Bounded msgpack: a value has one form, and any bytes give a value or `Malformed`, never anything else."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.errors import Malformed
from channeld.base.pack import MAX_BYTES, MAX_ITEMS, amount_bytes, bytes_amount, pack, unpack
from channeld.base.units import MAX_AMOUNT

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=5), max_leaves=20)


@given(VALUES)
def test_what_was_packed_comes_back(value: object):
    assert unpack(pack(value)) == value


@given(VALUES)
def test_a_value_has_one_form(value: object):
    data = pack(value)
    assert pack(unpack(data)) == data


@given(
    st.binary(max_size=64) | VALUES.map(pack).flatmap(lambda data: st.integers(0, len(data)).map(lambda n: data[:n]))
)
def test_any_bytes_give_a_value_or_malformed(data: bytes):
    try:
        value = unpack(data)
    except Malformed:
        return
    assert pack(value) == data


@given(VALUES, st.binary(min_size=1, max_size=3))
def test_nothing_may_follow(value: object, rest: bytes):
    with pytest.raises(Malformed):
        unpack(pack(value) + rest)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",  # never used
        b"\x80",  # a map
        msgpack.packb({1: 2}),
        msgpack.packb([{b"a": 1}]),
        msgpack.packb(1.5),
        msgpack.packb([0.0]),
        msgpack.packb(msgpack.ExtType(1, b"x")),
        msgpack.packb(msgpack.Timestamp(1)),
        b"\xcc\x01",  # 1 in two bytes
        b"\xcd\x00\xff",
        b"\xdc\x00\x01\x01",  # an array of one in the long form
        b"\xd9\x01a",
        b"\xc5\x00\x01a",
        b"\xa2\xff\xfe",  # not UTF-8
        b"\x92\x01",
        b"\x91" * 2_000 + b"\x01",
    ],
)
def test_other_forms_are_refused(data: bytes):
    with pytest.raises(Malformed):
        unpack(data)


def test_limits_hold():
    assert unpack(pack([0] * MAX_ITEMS)) == [0] * MAX_ITEMS
    with pytest.raises(Malformed):
        unpack(pack([0] * (MAX_ITEMS + 1)))
    assert unpack(pack(bytes(MAX_BYTES - 3))) == bytes(MAX_BYTES - 3)
    with pytest.raises(Malformed):
        unpack(pack(bytes(MAX_BYTES)))
    with pytest.raises(Malformed):
        unpack(b"\xdd\xff\xff\xff\xff")  # an array of four billion, in five bytes
    with pytest.raises(Malformed):
        unpack(pack([1, 2, 3]), max_items=2)
    with pytest.raises(Malformed):
        unpack(pack([1, 2, 3]), max_bytes=3)


@given(st.integers(0, MAX_AMOUNT))
def test_amounts_take_eleven_bytes(amount: int):
    assert len(amount_bytes(amount)) == 11
    assert bytes_amount(amount_bytes(amount)) == amount


@pytest.mark.parametrize("amount", [-1, MAX_AMOUNT + 1])
def test_an_amount_out_of_range_has_no_bytes(amount: int):
    with pytest.raises(OverflowError):
        amount_bytes(amount)


@pytest.mark.parametrize("length", [0, 10, 12, 32])
def test_an_amount_of_another_length_is_malformed(length: int):
    with pytest.raises(Malformed):
        bytes_amount(bytes(length))
