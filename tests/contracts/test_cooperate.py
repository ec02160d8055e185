"""cooperate: whatever both sign is done at once, once, and voids every older state."""

from __future__ import annotations

from typing import Any

import pytest

from channeld.base.digests import ALL
from channeld.base.keys import ORDER, compact
from channeld.base.units import NATIVE, Side
from tests.contracts.world import (
    BEATEN,
    BOND,
    DEAD,
    ETHER,
    FINAL,
    VOID,
    Body,
    Channel,
    Reverted,
    World,
    key_of,
)


def test_everything_is_paid_out(either: Channel) -> None:
    receipt = either.cooperate(3, net=ETHER)
    assert (either.paid(Side.A), either.paid(Side.B)) == (9 * ETHER, 5 * ETHER)
    assert receipt.event("Cooperated") == {
        "channel_id": either.id,
        "deposit_a": 0,
        "deposit_b": 0,
        "version": 3,
        "deadline": 0,
        "flags": 0,
        "paid_a": 9 * ETHER,
        "paid_b": 5 * ETHER,
    }
    assert either.stored() == (0, 0, 3, 0, 0, bytes(32))


def test_a_part_is_taken_out_and_the_rest_stays(either: Channel) -> None:
    either.cooperate(3, net=-ETHER, out_a=2 * ETHER, out_b=0)
    assert (either.paid(Side.A), either.paid(Side.B)) == (2 * ETHER, 0)
    assert either.stored()[:3] == (9 * ETHER, 3 * ETHER, 3)


@pytest.mark.parametrize("side", list(Side))
def test_a_sender_need_not_sign(channel: Channel, side: Side) -> None:
    channel.cooperate(1, net=5, sender=channel.keys[side].address)
    assert channel.paid(Side.B) == 4 * ETHER + 5


def test_a_stranger_must_bring_both_signatures(channel: Channel) -> None:
    until = channel.world.now + 100
    none, a, b = compact(b""), *map(compact, channel.agree(1, 0, ALL, ALL, until))
    for given in ((a,), (b,), (none,), (none, b), (a, none), (b, none), (none, none), (b, a), (a, a), (b, b)):
        with pytest.raises(Reverted, match="signature"):
            channel.do(channel.world.rich, "cooperate", *channel.head, 1, 0, ALL, ALL, until, *given)


@pytest.mark.parametrize("side", list(Side))
def test_a_party_that_sends_it_brings_the_others_signature_or_both(channel: Channel, side: Side) -> None:
    until = channel.world.now + 100
    none, both = compact(b""), [*map(compact, channel.agree(1, 0, 1, 2, until))]
    own, others = both[side], both[side.other]
    sender = channel.keys[side].address
    for given in ((own,), (none,), (own, none), (none, none), (others, own) if side is Side.A else (own, others)):
        with pytest.raises(Reverted, match="signature"):
            channel.do(sender, "cooperate", *channel.head, 1, 0, 1, 2, until, *given)
    before = channel.stored()
    for version in (1, 2, 3):
        both = [*map(compact, channel.agree(version, 0, 1, 2, until))]
        signed = ([both[side.other]], [both[side.other], none], both)[version - 1]
        channel.do(sender, "cooperate", *channel.head, version, 0, 1, 2, until, *signed)
    assert channel.stored()[:3] == (before[0] - 3, before[1] - 6, 3)


@pytest.mark.parametrize("place", range(5))
def test_any_other_value_than_the_signed_one_is_refused(channel: Channel, place: int) -> None:
    until = channel.world.now + 100
    values: list[Any] = [2, 7, 8, 9, until]
    signed = channel.agree(*values)
    values[place] += 1
    with pytest.raises(Reverted, match="signature"):
        channel.do(channel.world.rich, "cooperate", *channel.head, *values, *map(compact, signed))


def test_a_signature_has_one_form(channel: Channel) -> None:
    until = channel.world.now + 100
    good_a, good_b = channel.agree(1, 0, ALL, ALL, until)
    r, vs = compact(good_a)
    word = int.from_bytes(vs, "big")
    high = ORDER - word % 2**255
    for bad in (high, high | 1 << 255, word ^ 1 << 255, 0):
        given = (r, bad.to_bytes(32, "big")), compact(good_b)
        with pytest.raises(Reverted, match="signature"):
            channel.do(channel.world.rich, "cooperate", *channel.head, 1, 0, ALL, ALL, until, *given)


def test_the_time_is_over_after_valid_until(channel: Channel) -> None:
    world = channel.world
    until = world.now + 100
    world.travel(until)
    with pytest.raises(Reverted, match="expired"):
        channel.cooperate(1, valid_until=until)
    channel.cooperate(1, valid_until=world.now + 1)


def test_no_second_time_and_no_older_version(channel: Channel) -> None:
    channel.cooperate(4, out_a=ETHER, out_b=0)
    for version in (4, 3, 0):
        with pytest.raises(Reverted, match="old version"):
            channel.cooperate(version, out_a=ETHER, out_b=0)
    channel.cooperate(5, out_a=ETHER, out_b=0)
    assert channel.paid(Side.A) == 2 * ETHER


def test_an_emptied_id_may_be_filled_again_but_old_states_stay_dead(channel: Channel) -> None:
    body = Body(net=4 * ETHER)
    channel.cooperate(9)
    channel.deposit(Side.A, ETHER)
    with pytest.raises(Reverted, match="old version"):
        channel.close(Side.B, 8, body)
    with pytest.raises(Reverted, match="old version"):
        channel.close(Side.B, 9, body)
    channel.close(Side.B, 10, body)


def test_net_is_clamped_to_the_deposits(world: World) -> None:
    for net, expected in ((2**127 - 1, (0, 14)), (-(2**127), (14, 0)), (-4, (14, 0)), (10, (0, 14)), (-5, (14, 0))):
        channel = world.channel().funded(10, 4)
        channel.cooperate(1, net=net)
        assert (channel.paid(Side.A), channel.paid(Side.B)) == expected


def test_an_unsigned_top_up_cannot_spoil_it(channel: Channel) -> None:
    until = channel.world.now + 1000
    signed = channel.agree(1, ETHER, ALL, ALL, until)
    channel.deposit(Side.B, 1)
    channel.do(channel.world.rich, "cooperate", *channel.head, 1, ETHER, ALL, ALL, until, *map(compact, signed))
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (9 * ETHER, 5 * ETHER + 1)


def test_while_closing_it_ends_all_at_once_and_forgives(either: Channel) -> None:
    either.close(Side.A, 1, Body(net=1))
    coin = either.world.balance(NATIVE, either.terms.payout_a)
    receipt = either.cooperate(2, net=ETHER)
    assert receipt.event("Finalized")["bond_to"] == either.terms.payout_a
    got = either.world.balance(NATIVE, either.terms.payout_a) - coin
    assert got == BOND + (9 * ETHER if either.token == NATIVE else 0)
    assert either.paid(Side.B) == 5 * ETHER
    stored = either.stored()
    assert stored[:3] == (0, 0, 2) and stored[4] & DEAD and stored[5] == bytes(32)
    with pytest.raises(Reverted, match="dead"):
        either.cooperate(3)


def test_while_closing_a_part_leaves_the_close_running_with_nothing_more_to_transfer(channel: Channel) -> None:
    stale = Body(net=9 * ETHER)
    channel.close(Side.B, 1, stale)
    deadline = channel.stored()[3]
    channel.cooperate(2, net=ETHER, out_a=3 * ETHER, out_b=0)
    assert channel.stored()[:5] == (6 * ETHER, 5 * ETHER, 2, deadline, 1 | VOID)
    channel.wait()
    channel.settle(stale)
    assert channel.paid(Side.A) == 9 * ETHER
    assert channel.paid(Side.B) == 5 * ETHER + BOND


def test_a_newer_state_still_beats_a_cooperate_while_closing(channel: Channel) -> None:
    channel.close(Side.A, 1, Body())
    channel.cooperate(2, out_a=ETHER, out_b=0)
    channel.challenge(3, Body(net=2 * ETHER))
    channel.wait()
    channel.settle(Body(net=2 * ETHER))
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (8 * ETHER, 6 * ETHER + BOND)


def test_it_does_not_take_the_bond_from_whoever_beat_the_closer(channel: Channel) -> None:
    newer = Body(net=3)
    channel.close(Side.A, 1, Body())
    channel.tower_challenge(Side.B, 2, newer)
    channel.cooperate(4)
    assert channel.stored()[4] & (BEATEN | VOID | DEAD) == BEATEN | VOID
    before = channel.world.balance(NATIVE, channel.tower.address)
    channel.wait()
    channel.finalize(newer, channel.tower.address)
    assert channel.world.balance(NATIVE, channel.tower.address) == before + BOND
    channel.settle(None)
    assert channel.stored()[:2] == (0, 0) and channel.stored()[4] & DEAD
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (10 * ETHER, 4 * ETHER)


def test_it_rescues_money_whose_state_nobody_can_open(channel: Channel) -> None:
    channel.close(Side.A, 1, Body(blind=b"lost".ljust(32)))
    channel.wait()
    channel.finalize(Body(blind=b"lost".ljust(32)))
    assert channel.stored()[4] & FINAL
    channel.cooperate(2, out_a=ETHER)
    channel.settle(None)
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (10 * ETHER + BOND, 4 * ETHER)


def test_another_channel_of_the_pair_is_another_channel(world: World) -> None:
    first, second = world.channel().funded(), world.channel().funded()
    until = world.now + 1000
    signed = first.agree(1, 0, ALL, ALL, until)
    with pytest.raises(Reverted, match="signature"):
        second.do(world.rich, "cooperate", *second.head, 1, 0, ALL, ALL, until, *map(compact, signed))
    assert key_of("payer").address == first.terms.participant_a == second.terms.participant_a
