"""finalize: after the deadline anyone fixes the outcome and sends the bond to whom it belongs."""

from __future__ import annotations

import pytest

from channeld.base.units import NATIVE, Side
from tests.contracts.world import BOND, FINAL, Body, Channel, Reverted, World


@pytest.mark.parametrize("side", list(Side))
def test_an_unbeaten_closer_gets_its_bond_back(either: Channel, side: Side) -> None:
    body = Body(net=1)
    either.close(side, 1, body)
    either.wait()
    before = either.world.balance(NATIVE, either.terms.payout(side))
    receipt = either.finalize(body)
    assert receipt.event("Finalized") == {
        "channel_id": either.id,
        "deposit_a": 10 * 10**18,
        "deposit_b": 4 * 10**18,
        "version": 1,
        "deadline": either.stored()[3],
        "flags": int(side) | FINAL,
        "bond_to": either.terms.payout(side),
        "bond": BOND,
    }
    assert either.world.balance(NATIVE, either.terms.payout(side)) == before + BOND
    assert either.stored()[4] & FINAL


@pytest.mark.parametrize("side", list(Side))
def test_a_beaten_one_loses_it_to_the_victim(channel: Channel, side: Side) -> None:
    channel.close(side)
    channel.challenge(1, Body())
    channel.wait()
    channel.finalize(Body())
    assert channel.paid(side) == 0
    assert channel.paid(side.other) == BOND


def test_not_before_the_deadline_is_over(channel: Channel) -> None:
    with pytest.raises(Reverted, match="not closing"):
        channel.finalize(None)
    channel.close(Side.A)
    deadline = channel.stored()[3]
    channel.world.travel(deadline - 1)
    with pytest.raises(Reverted, match="too early"):  # mined at the deadline itself
        channel.finalize(None)
    assert channel.world.now == deadline
    channel.finalize(None)


def test_only_what_is_recorded(channel: Channel) -> None:
    channel.close(Side.A, 1, Body())
    channel.tower_challenge(Side.B, 2, Body(net=2))
    channel.wait()
    tower = channel.tower.address
    for body, bond_to in ((Body(), tower), (Body(net=2), NATIVE), (Body(net=2), channel.terms.payout_a), (None, tower)):
        with pytest.raises(Reverted, match="other outcome"):
            channel.finalize(body, bond_to)
    channel.finalize(Body(net=2), tower)


def test_once(channel: Channel) -> None:
    channel.close(Side.A)
    channel.wait()
    channel.finalize(None)
    with pytest.raises(Reverted, match="final"):
        channel.finalize(None)
    channel.settle(None)
    with pytest.raises(Reverted, match="final"):
        channel.finalize(None)
    assert channel.paid(Side.A) == 10 * 10**18 + BOND


def test_a_channel_without_a_bond(world: World) -> None:
    channel = world.channel(close_bond=0).funded(5, 6)
    channel.close(Side.A)
    channel.wait()
    assert channel.finalize(None).event("Finalized")["bond"] == 0
