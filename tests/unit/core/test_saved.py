"""What is saved comes back as it was; anything else is Malformed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.errors import Broken, Malformed
from channeld.base.pack import pack, unpack
from channeld.base.units import LockId, Side, Version
from channeld.core.channel import Channel
from channeld.core.events import CloseAlone, Fail, Fulfil, Leave, Propose, SeenFinal, SeenSettled
from channeld.core.saved import FORM, MAX_BYTES, load, save
from tests.roles import START, channels, offer, open_pair, pay, preimage, saved_part
from tests.unit.core.test_closing import close_of, head, settled, with_locks
from tests.unit.core.test_reconnecting import forgotten


def busy() -> Channel:
    """Everything that an open channel can hold at once."""
    both = with_locks()
    both.do(Side.A, pay(1, 1))
    both.settle()
    both.do(Side.B, pay(1, 2))
    both.settle()
    both.do(Side.A, Fulfil(lock_id=LockId(1), preimage=preimage(2)))
    both.do(Side.A, pay(2, 3))
    both.do(Side.A, Propose())
    both.do(Side.A, pay(3, 4))
    both.do(Side.A, offer(4, 5))
    return both.opener.channel


def failing() -> Channel:
    both = with_locks()
    both.cut()
    both.do(Side.A, Fail(lock_id=LockId(1), reason=b"why"))
    both.do(Side.A, head(START + 9_999, 1))
    return both.opener.channel


def leaving(side: Side) -> Channel:
    both = open_pair()
    both.do(Side.A, Leave(now=START, valid_for=60))
    both.pump()
    return both.node(side).channel


def closing(final: bool) -> Channel:
    both = with_locks()
    both.do(Side.B, CloseAlone())
    both.acceptor.do(close_of(both.acceptor.channel, closer=Side.B))
    if final:
        both.acceptor.do(SeenFinal())
    return both.acceptor.channel


def recovering() -> Channel:
    both = forgotten(Side.B)
    both.connect()
    both.pump()
    return both.acceptor.channel


def ended() -> Channel:
    both = open_pair()
    both.opener.do(close_of(both.opener.channel))
    return both.opener.do(SeenSettled(version=Version(0))).channel


CHANNELS: dict[str, Callable[[], Channel]] = {
    "fresh": lambda: replace(channels()[1], public=True),
    "busy": busy,
    "failing": failing,
    "asker": lambda: leaving(Side.A),
    "signer": lambda: leaving(Side.B),
    "closing": lambda: closing(False),
    "final": lambda: closing(True),
    "settled": lambda: settled().opener.channel,
    "recovering": recovering,
    "ended": ended,
}


@pytest.mark.parametrize("which", sorted(CHANNELS))
def test_load_gives_back_what_save_took(which: str):
    channel = CHANNELS[which]()
    assert load(save(channel)) == saved_part(channel)
    assert save(load(save(channel))) == save(channel)


def test_reserved_is_counted_again():
    channel = busy()
    assert (channel.reserved, channel.reserved_locks) == (7, 1)
    assert (load(save(channel)).reserved, load(save(channel)).reserved_locks) == (7, 1)


def test_another_form_is_named():
    fields = unpack(save(busy()), max_bytes=MAX_BYTES, max_items=65_536)
    assert isinstance(fields, list)
    with pytest.raises(Malformed, match="form"):
        load(pack([FORM + 1, *fields[1:]]))


@given(st.binary(max_size=200))
def test_any_bytes_are_malformed(data: bytes):
    with pytest.raises(Malformed):
        load(data)


@given(
    at=st.integers(min_value=0), value=st.one_of(st.none(), st.integers(0, 300), st.binary(max_size=40), st.just([]))
)
def test_a_field_exchanged_is_malformed_or_breaks_a_law_or_is_a_channel(at: int, value: object):
    fields = unpack(save(CHANNELS["closing"]()), max_bytes=MAX_BYTES, max_items=65_536)
    assert isinstance(fields, list)
    fields[at % len(fields)] = value
    try:
        load(pack(fields))
    except (Malformed, Broken):
        pass
