"""close by somebody else: the closer signs a Close, whoever sends it posts the bond, and all else is as if it had."""

from __future__ import annotations

import pytest

from channeld.base.digests import close_digest
from channeld.base.keys import compact
from channeld.base.units import NATIVE, Digest, Side, Timestamp, Version
from tests.contracts.world import BOND, CLOSER_B, ETHER, PERIOD, Body, Channel, Reverted, key_of

BODY = Body(net=ETHER)
NO_BODY = bytes(32)


@pytest.mark.parametrize("side", list(Side))
def test_anyone_sends_it_and_the_closer_is_who_signed(either: Channel, side: Side) -> None:
    world = either.world
    order = either.order(side, 5, BODY.hash, world.now + 100)
    receipt = either.close(side, 5, BODY, sender=world.rich, order=order)
    told = receipt.event("Closed")
    assert (told["version"], told["flags"], told["salt"]) == (5, int(side), either.salts[side.other])
    assert told["deadline"] == receipt.timestamp + PERIOD
    either.wait()
    before = world.balance(NATIVE, either.terms.payout(side))
    either.finalize(BODY)
    assert world.balance(NATIVE, either.terms.payout(side)) == before + BOND, "unbeaten: the bond is the closer's"


def test_the_other_party_may_send_it_too(channel: Channel) -> None:
    order = channel.order(Side.B, 5, BODY.hash, channel.world.now + 100)
    channel.close(Side.B, 5, BODY, sender=channel.keys[0].address, order=order)
    assert channel.stored()[4] == CLOSER_B


def test_without_a_state_as_well(channel: Channel) -> None:
    order = channel.order(Side.A, 0, NO_BODY, channel.world.now + 100)
    channel.close(Side.A, sender=channel.world.rich, order=order)
    channel.wait()
    channel.settle(None)
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (10 * ETHER + BOND, 4 * ETHER)


def test_it_counts_until_the_second_it_names(channel: Channel) -> None:
    until = channel.world.now + 100
    channel.world.travel(until)
    order = channel.order(Side.A, 5, BODY.hash, until)
    with pytest.raises(Reverted, match="expired"):
        channel.close(Side.A, 5, BODY, sender=channel.world.rich, order=order)
    order = channel.order(Side.A, 5, BODY.hash, until + 2)
    receipt = channel.close(Side.A, 5, BODY, sender=channel.world.rich, order=order)
    assert receipt.timestamp == until + 2


def test_it_is_for_this_state_and_moment_only(channel: Channel) -> None:
    until, rich = channel.world.now + 100, channel.world.rich
    signed = channel.order(Side.A, 5, BODY.hash, until)[1]
    for version, body, valid_until in (
        (6, BODY, until),
        (5, Body(net=2), until),
        (5, BODY, until + 1),
        (0, None, until),
    ):
        with pytest.raises(Reverted, match="not a participant"):
            channel.close(Side.A, version, body, sender=rich, order=(valid_until, signed))
    stranger = key_of("anyone").sign(
        close_digest(channel.world.domain, channel.id, Version(5), Digest(BODY.hash), Timestamp(until))
    )
    for forged in (compact(stranger), (bytes(32), bytes(32)), (signed[0], bytes(32)), (b"\xff" * 32, signed[1])):
        with pytest.raises(Reverted, match="not a participant"):
            channel.close(Side.A, 5, BODY, sender=rich, order=(until, forged))


def test_a_participant_that_sends_anothers_order_is_not_the_closer(channel: Channel) -> None:
    """The order says who closes; the salt and the State's signature must fit that side."""
    order = channel.order(Side.B, 5, BODY.hash, channel.world.now + 100)
    with pytest.raises(Reverted, match="salt"):
        channel.close(Side.A, 5, BODY, order=order)


def test_the_bond_is_posted_by_whoever_sends(channel: Channel) -> None:
    order = channel.order(Side.A, 5, BODY.hash, channel.world.now + 100)
    for value in (0, BOND - 1, BOND + 1):
        with pytest.raises(Reverted, match="bond"):
            channel.close(Side.A, 5, BODY, sender=channel.world.rich, order=order, value=value)


def test_an_order_without_a_time_is_none(channel: Channel) -> None:
    """valid_until 0 would have expired in any case: then the sender itself is the closer."""
    with pytest.raises(Reverted, match="not a participant"):
        channel.close(Side.A, 5, BODY, sender=channel.world.rich, order=channel.order(Side.A, 5, BODY.hash, 0))
    channel.close(Side.A, 5, BODY, order=(0, compact(b"")))
