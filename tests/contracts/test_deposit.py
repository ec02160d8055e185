"""deposit: the first opens, more top up; anyone may, for either side; what is credited is what arrived."""

from __future__ import annotations

import pytest

from channeld.base.units import MAX_AMOUNT, NATIVE, Address, Side
from tests.contracts.world import ETHER, Channel, Reverted, World, key_of


def test_the_first_deposit_opens(world: World, money: Address) -> None:
    channel = world.channel(money)
    before = world.balance(money, world.manager)
    receipt = channel.deposit(Side.A, 7)
    assert receipt.event("Deposited") == {
        "channel_id": channel.id,
        "deposit_a": 7,
        "deposit_b": 0,
        "version": 0,
        "deadline": 0,
        "flags": 0,
    }
    assert receipt.names() == ["Deposited"]
    assert channel.stored() == (7, 0, 0, 0, 0, bytes(32))
    assert world.balance(money, world.manager) == before + 7


def test_both_sides_and_top_ups_add_up(world: World, money: Address) -> None:
    channel = world.channel(money)
    channel.deposit(Side.B, 5)
    channel.deposit(Side.A, 7)
    receipt = channel.deposit(Side.B, 11)
    assert channel.stored()[:2] == (7, 16)
    assert receipt.event("Deposited")["deposit_b"] == 16


def test_a_stranger_may_deposit_for_a_side(world: World) -> None:
    channel = world.channel()
    stranger = world.fund(key_of("anyone"))
    channel.do(stranger, "deposit", NATIVE, channel.terms.hash, 1, 9, value=9)
    assert channel.stored()[:2] == (0, 9)


def test_the_memo_is_logged_before_the_deposit_and_nothing_else(world: World) -> None:
    channel = world.channel()
    memo = bytes(range(1, 193))
    receipt = channel.deposit(Side.A, 3, memo)
    assert receipt.names() == ["Memo", "Deposited"]
    assert receipt.event("Memo") == {"channel_id": channel.id, "memo": memo}
    assert channel.stored() == (3, 0, 0, 0, 0, bytes(32))


def test_a_memo_whose_first_word_is_zero_is_none(world: World) -> None:
    assert world.channel().deposit(Side.A, 3, bytes(32) + bytes(range(160))).names() == ["Deposited"]
    assert world.channel().deposit(Side.A, 3, bytes(31) + b"\x01" + bytes(160)).names() == ["Memo", "Deposited"]


def test_only_what_is_sent_counts(world: World) -> None:
    coin, token = world.channel(), world.channel(world.token)
    payer = key_of("payer").address
    for channel, value in ((coin, 4), (coin, 6), (token, 5)):
        with pytest.raises(Reverted, match="value"):
            channel.do(payer, "deposit", channel.token, channel.terms.hash, 0, 5, value=value)


def test_what_cannot_be_is_refused(world: World) -> None:
    channel = world.channel()
    payer = key_of("payer").address
    with pytest.raises(Reverted, match="side"):
        channel.do(payer, "deposit", NATIVE, channel.terms.hash, 2, 5, value=5)
    with pytest.raises(Reverted, match="nothing"):
        channel.do(payer, "deposit", NATIVE, channel.terms.hash, 0, 0)
    with pytest.raises(Reverted, match="token"):  # no contract there
        channel.do(payer, "deposit", Address(b"\x05" * 20), channel.terms.hash, 0, 5)


def test_an_allowance_of_another_is_no_consent(world: World) -> None:
    """The sender pays; whoever has approved the manager is not touched."""
    channel = world.channel(world.token)
    with pytest.raises(Reverted):
        channel.do(key_of("tower").address and world.rich, "deposit", world.token, channel.terms.hash, 0, 5)


def test_both_deposits_together_fit_the_word(world: World) -> None:
    channel = world.channel(world.nasty)
    payer = key_of("payer").address
    world.do(world.rich, world.nasty, "set_mode", 0)
    world.do(world.rich, world.nasty, "mint", payer, 2**90)
    channel.deposit(Side.A, MAX_AMOUNT - 5)
    with pytest.raises(Reverted, match="too much"):
        channel.do(payer, "deposit", world.nasty, channel.terms.hash, 1, 6)
    channel.do(payer, "deposit", world.nasty, channel.terms.hash, 1, 5)
    assert channel.stored()[:2] == (MAX_AMOUNT - 5, 5)
    channel.cooperate(1, net=-(2**100))
    assert channel.paid(Side.A) == MAX_AMOUNT


def test_refused_once_closing(channel: Channel) -> None:
    channel.close(Side.A)
    with pytest.raises(Reverted, match="not open"):
        channel.deposit(Side.A, ETHER)


def test_a_token_that_takes_a_cut_credits_what_arrives(world: World) -> None:
    channel = world.channel(world.nasty)
    world.do(world.rich, world.nasty, "set_mode", 4)
    assert channel.deposit(Side.A, 1000).event("Deposited")["deposit_a"] == 900
    world.do(world.rich, world.nasty, "set_mode", 3)
    with pytest.raises(Reverted, match="nothing"):
        channel.deposit(Side.A, 1000)
    world.do(world.rich, world.nasty, "set_mode", 2)
    with pytest.raises(Reverted, match="transfer"):
        channel.deposit(Side.A, 1000)
    world.do(world.rich, world.nasty, "set_mode", 1)
    channel.deposit(Side.A, 1000)
    world.do(world.rich, world.nasty, "set_mode", 0)
    assert channel.stored()[0] == 1900
