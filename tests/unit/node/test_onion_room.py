"""The longest route that is ever asked for fits the onion, whatever the numbers in it; a longer one ends at once."""

from __future__ import annotations

import pytest

from channeld.base.errors import Broken
from channeld.base.keys import Key, sha256
from channeld.base.units import MAX_AMOUNT, MAX_TIMESTAMP, Amount, ChannelId, NodeId, Seconds, Side, Timestamp
from channeld.node.attempts import build
from channeld.wire import onion, payload
from routing.search import MAX_HOPS, Hop, Route
from tests.unit.node.test_payments import asked

NOW = Timestamp(MAX_TIMESTAMP - 10_000)
KEYS = [Key(sha256(bytes([number]))) for number in range(MAX_HOPS + 2)]


def route(hops: int) -> Route:
    """The largest amounts and the latest times there are."""
    steps = [
        Hop(
            channel_id=ChannelId(b"\xff" * 32),
            side=Side.A,
            source=NodeId(KEYS[number].public),
            target=NodeId(KEYS[number + 1].public),
            amount=Amount(MAX_AMOUNT),
            expiry_delta=Seconds(10_000),
            fee=Amount(0),
        )
        for number in range(hops)
    ]
    return Route(hops=tuple(steps), cost=0)


def test_the_longest_route_reaches_the_payee_with_a_preimage_as_well() -> None:
    built = build(asked(), Amount(MAX_AMOUNT), route(MAX_HOPS), NOW, lambda n: b"\7" * n, drawn=b"\xff" * 32)
    told: payload.Payload | None = None
    packet: bytes | None = built.packet
    for key in KEYS[1 : MAX_HOPS + 1]:
        assert packet is not None
        peeled = onion.peel(packet, key, asked().payment_hash)
        told, packet = payload.decode(peeled.payload), peeled.onward
    assert isinstance(told, payload.FinalPayload) and packet is None


def test_a_longer_one_is_a_bug_and_no_endless_search() -> None:
    with pytest.raises(Broken):
        build(asked(), Amount(MAX_AMOUNT), route(MAX_HOPS + 1), NOW, lambda n: b"\7" * n)
