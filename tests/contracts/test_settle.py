"""settle: opens the body, clamps what it says to what there is, pays both sides, and ends the id for ever."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.base.digests import body_hash
from channeld.base.keys import compact, keccak
from channeld.base.units import NATIVE, Digest, Side
from tests.contracts.world import (
    BOND,
    CLOSER_B,
    DEAD,
    ETHER,
    FINAL,
    NO_STATE,
    Body,
    Channel,
    Reverted,
    World,
    lock,
    secret_of,
)

BIG = 2**255


def test_both_sides_are_paid(either: Channel) -> None:
    body = Body(net=ETHER)
    either.close(Side.B, 7, body)
    either.wait()
    receipt = either.settle(body)
    assert receipt.event("Settled") == {
        "channel_id": either.id,
        "deposit_a": 0,
        "deposit_b": 0,
        "version": 7,
        "deadline": either.stored()[3],
        "flags": CLOSER_B | FINAL | DEAD,
        "paid_a": 9 * ETHER,
        "paid_b": 5 * ETHER,
        "locks_hash": bytes(32),
    }
    assert receipt.event("Finalized")["bond_to"] == either.terms.payout_b
    bond = BOND if either.token == NATIVE else 0
    assert (either.paid(Side.A), either.paid(Side.B) - bond) == (9 * ETHER, 5 * ETHER)
    assert either.world.balance(NATIVE, either.terms.payout_b) >= BOND
    stored = either.stored()
    assert stored[:3] == (0, 0, 7) and stored[4] & (FINAL | DEAD) == FINAL | DEAD and stored[5] == bytes(32)


def test_without_a_state_each_gets_its_deposit(channel: Channel) -> None:
    channel.close(Side.A)
    channel.wait()
    channel.settle(None)
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (10 * ETHER + BOND, 4 * ETHER)


@pytest.mark.parametrize("place", range(5))
def test_without_a_state_only_five_zeros_open(channel: Channel, place: int) -> None:
    """Else whoever settles a close without a state would say how the deposits are divided."""
    channel.close(Side.A)
    channel.wait()
    for other in (1, -1) if place == 0 else (1, BIG - 1):
        fields: list[Any] = list(NO_STATE)
        fields[place] = other if place < 3 else other.to_bytes(32, "big")
        with pytest.raises(Reverted, match="other outcome"):
            channel.do(channel.world.rich, "settle", *channel.head, tuple(fields), NATIVE)
    channel.settle(None)
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (10 * ETHER + BOND, 4 * ETHER)


def test_after_a_finalize_it_needs_no_time_and_pays_no_second_bond(channel: Channel) -> None:
    channel.close(Side.A, 1, Body())
    channel.tower_challenge(Side.B, 2, Body(net=2))
    channel.wait()
    channel.finalize(Body(net=2), channel.tower.address)
    held = channel.world.balance(NATIVE, channel.world.manager)
    receipt = channel.settle(Body(net=2), channel.tower.address)
    assert "Finalized" not in receipt.names()
    assert channel.world.balance(NATIVE, channel.world.manager) == held - 14 * ETHER


def test_not_before_the_deadline_is_over(channel: Channel) -> None:
    with pytest.raises(Reverted, match="not closing"):
        channel.settle(None)
    channel.close(Side.A)
    channel.world.travel(channel.stored()[3] - 1)
    with pytest.raises(Reverted, match="too early"):
        channel.settle(None)
    channel.settle(None)


@pytest.mark.parametrize("place", range(5))
def test_only_the_recorded_body_opens(channel: Channel, place: int) -> None:
    body = Body(net=3, locks=(lock(1, Side.A, 5, 10**9),))
    channel.close(Side.A, 1, body)
    channel.wait()
    opened: list[Any] = list(body.opened())
    opened[place] = opened[place] + 1 if place < 3 else bytes(31) + b"\x09"
    with pytest.raises(Reverted, match="other outcome"):
        channel.do(channel.world.rich, "settle", *channel.head, tuple(opened), NATIVE)
    with pytest.raises(Reverted, match="other outcome"):
        channel.settle(body, channel.tower.address)
    with pytest.raises(Reverted, match="other outcome"):
        channel.settle(None)


def test_a_dead_id_refuses_everything(channel: Channel) -> None:
    channel.close(Side.A, 1, Body())
    channel.wait()
    channel.settle(Body())
    stored = channel.stored()
    for again in (
        lambda: channel.deposit(Side.A, 5),
        lambda: channel.deposit(Side.B, 5, bytes([1]) * 192),
        lambda: channel.cooperate(9),
        lambda: channel.close(Side.A, 9, Body()),
        lambda: channel.close(Side.B),
        lambda: channel.challenge(9, Body()),
        lambda: channel.finalize(Body()),
        lambda: channel.settle(Body()),
        lambda: channel.settle(None),
    ):
        with pytest.raises(Reverted, match=r"^(dead|not open|final)$"):
            again()
    assert channel.resolve(()).events == ()
    assert channel.stored() == stored


@settings(max_examples=25)
@given(
    deposits=st.tuples(st.integers(0, 50), st.integers(0, 50)).filter(any),
    net=st.one_of(st.integers(-60, 60), st.sampled_from([-BIG, BIG - 1, 2**88, -(2**88), 2**128])),
    held=st.tuples(*[st.one_of(st.integers(0, 60), st.sampled_from([2**88, 2**256 - 1]))] * 2),
    with_locks=st.booleans(),
)
def test_whatever_both_signed_is_paid_out_exactly(
    world: World, deposits: tuple[int, int], net: int, held: tuple[int, int], with_locks: bool
) -> None:
    channel = world.channel(close_bond=0).funded(*deposits)
    locks = (lock(1, Side.A, 20, world.now + 10**6),) if with_locks else ()
    body = Body(net=net, locks=locks, locked=held)
    channel.close(Side.A, 1, body)
    channel.wait()
    before = world.balance(NATIVE, world.manager)
    told = channel.settle(body).event("Settled")
    n = max(-deposits[1], min(net, deposits[0]))
    a, b = deposits[0] - n, deposits[1] + n
    locked_a, locked_b = (min(held[0], a), min(held[1], b)) if locks else (0, 0)
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (a - locked_a, b - locked_b)
    assert (told["deposit_a"], told["deposit_b"]) == channel.stored()[:2] == (locked_a, locked_b)
    assert world.balance(NATIVE, world.manager) == before - sum(deposits) + locked_a + locked_b
    if channel.stored()[5] != bytes(32):
        channel.resolve(locks, secret_of(1))
        assert channel.stored()[:2] == (0, 0)
    assert channel.paid(Side.A) + channel.paid(Side.B) == sum(deposits)


def test_five_zeros_open_a_signed_body_of_zeros_too(channel: Channel) -> None:
    """They stand for no state, but nobody is locked out for having signed them."""
    zeros = body_hash(0, 0, 0, Digest(bytes(32)), bytes(32))
    signature = channel.sign(1, zeros)[1]
    salts = channel.salts[1], keccak(channel.salts[0])
    sender = channel.keys[0].address
    channel.do(sender, "close", *channel.head, 1, zeros, compact(signature), *salts, value=BOND)
    channel.wait()
    channel.settle(None)
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (10 * ETHER + BOND, 4 * ETHER)
