"""Messages: one form per value, limits held on both ways, and nothing but Malformed from foreign bytes."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from channeld.base.errors import Malformed
from channeld.base.units import LockKind, Side
from channeld.wire import messages as m
from tests.wire.strategies import message_of, messages, spoiled

CHANNEL = bytes(range(32))
TRANSFER = m.Transfer(channel_id=CHANNEL, version=5, payment_id=bytes(16), amount=2**88 - 1)
LOCK = m.AddLock(channel_id=CHANNEL, version=5, lock_id=1, amount=1, key=CHANNEL, expiry=9, onion=bytes(1366))
UPDATE = m.ChannelUpdate(
    channel_id=CHANNEL,
    side=Side.B,
    timestamp=7,
    fee_base=0,
    fee_ppm=100,
    expiry_delta=600,
    min_lock=1,
    max_lock=2**80,
    signature=bytes(65),
)


def packed(*values: Any) -> bytes:
    data: bytes = msgpack.packb(list(values))
    return data


@pytest.mark.parametrize("kind", m.kinds().values(), ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_was_sent(kind):
    @settings(max_examples=12, database=None)
    @given(message_of(kind))
    def comes_back(message):
        data = m.encode(message)
        assert len(data) <= m.MAX_MESSAGE
        again = m.decode(data)
        assert again == message
        assert type(again) is kind
        assert m.encode(again) == data

    comes_back()


@pytest.mark.parametrize("kind", m.kinds().values(), ids=lambda kind: kind.__name__)
def test_arity_is_fixed(kind):
    fields = len(dataclasses.fields(kind))
    number = next(number for number, each in m.kinds().items() if each is kind)
    for length in {0, fields + 1, fields + 2, 31} - {fields}:
        with pytest.raises(Malformed):
            m.decode(packed(number, *[b""] * length))


@settings(max_examples=300)
@given(st.binary(max_size=300))
@example(b"")
@example(b"\xc1")
@example(b"\x91" * 2000)
@example(packed([1]))
@example(packed(None))
@example(packed(1.0))
@example(packed("1"))
@example(packed(True, 1))
@example(packed(2**64 - 1))
@example(packed(-1))
@example(packed(4, True))
@example(packed(4, 1.0))
@example(packed(2, bytes(32), "\ud800".encode(errors="surrogatepass"), ""))
@example(b"\x94\x02\xc4\x20" + bytes(32) + b"\xa3\xed\xa0\x80\xa0")
@example(b"\x92\x04" + b"\xc7\x01\x05\x00")
@example(b"\x92\x04" + b"\xd6\xff\x00\x00\x00\x00")
def test_any_bytes_are_a_message_or_malformed(data):
    try:
        message = m.decode(data)
    except Malformed:
        return
    assert m.encode(message) == data


@settings(max_examples=400)
@given(spoiled(messages().map(m.encode)))
def test_almost_messages_are_messages_or_malformed(data):
    try:
        message = m.decode(data)
    except Malformed:
        return
    assert m.encode(message) == data


NEST = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=70)
    | st.text(max_size=5)
    | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(m.kinds())), st.lists(NEST, max_size=12))
def test_any_msgpack_in_the_fields_is_a_message_or_malformed(number, values):
    data = packed(number, *values)
    try:
        message = m.decode(data)
    except Malformed:
        return
    assert m.encode(message) == data


def test_a_longer_form_of_the_same_number_is_refused():
    short = m.encode(m.Ping(pad=5))
    assert short == b"\x92\x04\x05"
    assert m.decode(short) == m.Ping(pad=5)
    for other in (
        b"\x92\x04\xcc\x05",
        b"\x92\x04\xd0\x05",
        b"\x92\x04\xcd\x00\x05",
        b"\xdc\x00\x02\x04\x05",
        short + b"\x05",
    ):
        with pytest.raises(Malformed):
            m.decode(other)


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        (TRANSFER, "channel_id", bytes(31)),
        (TRANSFER, "channel_id", bytearray(32)),
        (TRANSFER, "version", 2**40),
        (TRANSFER, "version", -1),
        (TRANSFER, "version", True),
        (TRANSFER, "payment_id", bytes(17)),
        (TRANSFER, "amount", 2**88),
        (TRANSFER, "amount", 0),
        (LOCK, "lock_id", 0),
        (LOCK, "kind", 3),
        (LOCK, "expiry", 2**32),
        (LOCK, "expiry", 0),
        (LOCK, "onion", bytes(1365)),
        (UPDATE, "side", 2),
        (UPDATE, "disabled", 1),
        (m.CommitAck(channel_id=CHANNEL, version=1, signature=bytes(65)), "receipt", bytes(64)),
        (m.FailLock(channel_id=CHANNEL, version=1, lock_id=1, reason=b""), "reason", bytes(513)),
        (m.Error(code="c"), "code", "c" * 33),
        (m.Error(code="c"), "text", "é" * 129),
        (m.Error(code="c"), "text", b"bytes"),
    ],
)
def test_limits_hold_both_ways(message, field, value):
    m.decode(m.encode(message))
    with pytest.raises(ValueError, match=field):
        m.encode(dataclasses.replace(message, **{field: value}))
    at = 1 + [each.name for each in dataclasses.fields(message)].index(field)
    raw = msgpack.unpackb(m.encode(message))
    raw[at] = value.to_bytes(12, "big") if isinstance(raw[at], bytes) and isinstance(value, int) else value
    if field == "amount" and value == 0:
        raw[at] = bytes(11)
    if isinstance(value, bytearray):
        return  # has no form of its own on the wire
    with pytest.raises(Malformed):
        m.decode(msgpack.packb(raw))


def test_locks_of_a_proof_are_whole():
    proof = m.StateProof(
        channel_id=CHANNEL,
        version=3,
        net=-(2**95),
        locked_ab=0,
        locked_ba=0,
        locks=bytes(57 * 512),
        signature_a=bytes(65),
        signature_b=bytes(65),
    )
    assert m.decode(m.encode(proof)) == proof
    for length in (56, 58, 57 * 513):
        with pytest.raises(ValueError, match="locks"):
            m.encode(dataclasses.replace(proof, locks=bytes(length)))


def test_enums_come_back_as_enums():
    again = m.decode(m.encode(UPDATE))
    assert isinstance(again, m.ChannelUpdate)
    assert again.side is Side.B
    lock = m.decode(m.encode(LOCK))
    assert isinstance(lock, m.AddLock)
    assert lock.kind is LockKind.HASH


def test_what_is_no_message_is_not_sent():
    with pytest.raises(ValueError, match="no message"):
        m.encode(m.Message())


def test_the_longest_message_fits_one_noise_message():
    longest = packed(40, bytes(32), 2**40 - 1, bytes(12), bytes(11), bytes(11), bytes(57 * 512), bytes(65), bytes(65))
    assert len(longest) < m.MAX_MESSAGE
    with pytest.raises(Malformed):
        m.decode(longest + bytes(m.MAX_MESSAGE))
