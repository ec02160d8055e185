"""What msgpack promises is counted as msgpack itself would count it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.errors import Malformed
from channeld.base.pack import pack, unpack
from channeld.base.shape import count

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([b"", bytes(31), bytes(255), bytes(256), bytes(65_536)])
    | st.sampled_from(["", "a" * 31, "ä" * 16, "a" * 255, "a" * 256, "a" * 65_536])
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=20), max_leaves=40)


def items(value: Any) -> int:
    return 1 + sum(map(items, value)) if isinstance(value, list) else 1


@given(VALUES)
def test_every_item_is_counted_once(value: Any):
    data = pack(value)
    assert count(data, items(value)) == items(value)
    if isinstance(value, list) and value:
        with pytest.raises(Malformed):
            count(data, items(value) - 1)


@given(VALUES, st.integers(0, 200))
def test_what_is_cut_off_is_left_to_the_parser(value: Any, length: int):
    data = pack(value)[:length]
    assert count(data, 1 << 40) >= 1


@pytest.mark.parametrize("length", [15, 16, 65_535, 65_536])
def test_the_heads_of_arrays(length: int):
    assert count(pack([0] * length), 70_000) == length + 1


def test_a_header_that_promises_much_is_refused_before_the_rest_is_looked_at():
    with pytest.raises(Malformed, match="4294967296"):
        count(b"\xdd\xff\xff\xff\xff", 1_000)
    with pytest.raises(Malformed, match="promises"):
        unpack(b"\xdc\x0f\xff" * 1_000)


def test_a_value_with_many_items_is_taken_up_to_the_limit():
    value = [[0] * 4_095, [0] * 4_094]
    assert unpack(pack(value)) == value
    with pytest.raises(Malformed, match="at most 8192"):
        unpack(pack([*value, 0]))


@pytest.mark.parametrize("value", [[3, 300], [], "text", None, 7])
def test_what_is_no_bytes_is_refused(value: Any):
    """A list where a saved message is meant to stand: its numbers are no bytes either."""
    with pytest.raises(Malformed):
        count(value, 10)
