"""Payouts and withdraw: no receiver and no token can hold up, rob or pay twice anybody; nor can too little gas."""

from __future__ import annotations

import pytest

from channeld.base.keys import Key, keccak
from channeld.base.units import NATIVE, Address, Side
from tests.contracts.world import (
    BOND,
    ETHER,
    NO_STATE,
    Body,
    Channel,
    Reverted,
    World,
    call_data,
    key_of,
    lock,
    secret_of,
)

REVERTS, EATS_GAS, RETURN_BOMB, REVERT_BOMB = "5f5ffd", "5b5f56", "62ffffff5ff3", "61ffff5ffd"
HOSTILE = {"reverts": REVERTS, "eats gas": EATS_GAS, "return bomb": RETURN_BOMB, "revert bomb": REVERT_BOMB}
PLAIN, SILENT, DENIES, LIES, TAKES, BURNS, BOMBS, PICKY, HALVES = range(9)


def closed(channel: Channel, body: Body | None = None) -> Channel:
    channel.close(Side.A, 0 if body is None else 1, body)
    channel.wait()
    return channel


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("side", list(Side))
def test_a_hostile_receiver_is_owed_and_the_other_paid(world: World, kind: str, side: Side) -> None:
    hostile = world.plant(bytes.fromhex(HOSTILE[kind]))
    channel = world.channel(**{("payout_a", "payout_b")[side]: hostile}).funded()
    closed(channel)
    receipt = channel.settle(None)
    assert receipt.gas < 300_000
    parts = [10 * ETHER + BOND, 4 * ETHER]
    assert channel.paid(side.other) == parts[side.other]
    assert channel.paid(side) == 0
    assert world.owed(NATIVE, hostile) == parts[side]
    (owed,) = (event.fields for event in receipt.events if event.name == "Owed")
    assert owed["amount"] == parts[side] and owed["owner"][12:] == hostile


@pytest.mark.parametrize("kind", HOSTILE)
def test_nor_does_one_spoil_cooperate_or_the_bond_or_locks(world: World, kind: str) -> None:
    hostile = world.plant(bytes.fromhex(HOSTILE[kind]))
    together = world.channel(payout_a=hostile).funded()
    together.cooperate(1)
    assert together.paid(Side.B) == 4 * ETHER
    number = world.count * 100
    locks = (lock(number, Side.A, 6, world.now + 10**6), lock(number + 1, Side.B, 7, world.now + 10**6))
    body = Body(locks=locks)
    channel = closed(world.channel(payout_a=hostile).funded(), body)
    channel.finalize(body)
    channel.settle(body)
    channel.resolve(locks, secret_of(number), secret_of(number + 1))
    assert channel.paid(Side.B) == 4 * ETHER - 7 + 6
    assert world.owed(NATIVE, hostile) == 10 * ETHER + BOND + 10 * ETHER - 6 + 7


@pytest.mark.parametrize(
    ("mode", "moved"),
    [(PLAIN, True), (SILENT, True), (DENIES, True), (BOMBS, True), (LIES, False), (BURNS, False)],
)
def test_what_a_token_moved_counts_whatever_it_says(world: World, mode: int, moved: bool) -> None:
    world.do(world.rich, world.nasty, "set_mode", PLAIN)
    channel = world.channel(world.nasty).funded(1000, 500)
    world.do(world.rich, world.nasty, "set_mode", mode)
    closed(channel).settle(None)
    world.do(world.rich, world.nasty, "set_mode", PLAIN)
    for side, amount in ((Side.A, 1000), (Side.B, 500)):
        payout = channel.terms.payout(side)
        assert channel.paid(side) == (amount if moved else 0)
        assert world.owed(world.nasty, payout) == (0 if moved else amount)
        if not moved:
            channel.do(world.rich, "withdraw", world.nasty, payout, payout)
            assert channel.paid(side) == amount


def test_a_barred_receiver_is_owed_and_can_direct_it_elsewhere(world: World) -> None:
    world.do(world.rich, world.nasty, "set_mode", PLAIN)
    payer = key_of("payer")
    channel = world.channel(world.nasty, payout_a=payer.address).funded(1000, 500)
    held = world.balance(world.nasty, payer.address)
    world.do(world.rich, world.nasty, "bar", payer.address, True)
    channel.cooperate(1)
    assert channel.paid(Side.B) == 500
    assert world.owed(world.nasty, payer.address) == 1000
    with pytest.raises(Reverted, match="transfer"):
        channel.do(payer.address, "withdraw", world.nasty, payer.address, payer.address)
    elsewhere = Address(keccak(b"elsewhere")[:20])
    receipt = channel.do(payer.address, "withdraw", world.nasty, payer.address, elsewhere)
    assert receipt.event("Withdrawn")["amount"] == 1000
    assert world.balance(world.nasty, elsewhere) == 1000
    assert world.balance(world.nasty, payer.address) == held
    world.do(world.rich, world.nasty, "bar", payer.address, False)
    with pytest.raises(Reverted, match="nothing"):
        channel.do(payer.address, "withdraw", world.nasty, payer.address, elsewhere)


def owed_in_coin(world: World, owner: Key) -> Channel:
    """A channel whose side A, a contract for the moment, is owed 10 ether."""
    channel = world.channel(payout_a=owner.address).funded()
    code = world.evm.code(owner.address)
    world.evm.become(owner.address, bytes.fromhex(REVERTS))
    channel.cooperate(1)
    world.evm.become(owner.address, code)
    return channel


def test_withdraw_the_owner_to_anyone_and_anyone_to_the_owner(world: World) -> None:
    owner, stranger = key_of("owner"), world.fund(key_of("anyone"))
    world.fund(owner)
    channel = owed_in_coin(world, owner)
    assert world.owed(NATIVE, owner.address) == 10 * ETHER
    with pytest.raises(Reverted, match="not the owner"):
        channel.do(stranger, "withdraw", NATIVE, owner.address, stranger)
    before = world.balance(NATIVE, owner.address)
    channel.do(stranger, "withdraw", NATIVE, owner.address, owner.address)
    assert world.balance(NATIVE, owner.address) == before + 10 * ETHER
    with pytest.raises(Reverted, match="nothing"):
        channel.do(stranger, "withdraw", NATIVE, owner.address, owner.address)
    owed_in_coin(world, owner)
    elsewhere = Address(keccak(b"coin elsewhere")[:20])
    receipt = channel.do(owner.address, "withdraw", NATIVE, owner.address, elsewhere)
    assert world.balance(NATIVE, elsewhere) == 10 * ETHER
    assert receipt.event("Withdrawn")["to"] == elsewhere


def test_a_withdraw_that_fails_changes_nothing(world: World) -> None:
    hostile = world.plant(bytes.fromhex(REVERTS))
    channel = world.channel(payout_a=hostile).funded()
    channel.cooperate(1)
    with pytest.raises(Reverted, match="transfer"):
        channel.do(world.rich, "withdraw", NATIVE, hostile, hostile)
    assert world.owed(NATIVE, hostile) == 10 * ETHER


def test_of_a_token_that_moves_a_part_the_rest_is_owed(world: World) -> None:
    """A debt falls by what left, never by more."""
    world.do(world.rich, world.nasty, "set_mode", PLAIN)
    channel = world.channel(world.nasty).funded(1000, 500)
    payout = channel.terms.payout_a
    for mode, paid in ((HALVES, 500), (LIES, 500), (HALVES, 750), (PLAIN, 1000)):
        world.do(world.rich, world.nasty, "set_mode", mode)
        if not channel.stored()[2]:
            channel.cooperate(1)
        elif mode == LIES:
            with pytest.raises(Reverted, match="transfer"):
                channel.do(world.rich, "withdraw", world.nasty, payout, payout)
        else:
            channel.do(world.rich, "withdraw", world.nasty, payout, payout)
        assert channel.paid(Side.A) == paid
        assert world.owed(world.nasty, payout) == 1000 - paid


PICKY_WALLET = "61cbe85a10600957005b5f5ffd"
"""Refuses at once if it has less than 52,200 gas; it is to get 50,000 and the stipend of 2,300."""


@pytest.mark.parametrize("kind", ["coin", "token"])
def test_no_amount_of_gas_turns_a_payout_into_a_debt(world: World, kind: str) -> None:
    """With the least gas that goes through, and with any less or more, a payout that needs all it may have gets it."""
    wallet = world.plant(bytes.fromhex(PICKY_WALLET))
    token = NATIVE if kind == "coin" else world.nasty
    world.do(world.rich, world.nasty, "set_mode", PLAIN)
    channel = closed(world.channel(token, payout_a=wallet, payout_b=wallet, close_bond=0).funded())
    world.do(world.rich, world.nasty, "set_mode", PICKY)
    data = call_data("ChannelManager", "settle", *channel.head, NO_STATE, NATIVE)
    low, high = 50_000, 2_000_000
    world.travel(world.now + 1)
    while high - low > 1:
        middle = (low + high) // 2
        done = world.evm.ask(world.manager, data, world.rich, middle)
        low, high = (low, middle) if done.good else (middle, high)
    for gas in (high - 40_000, high - 1000, low):
        with pytest.raises(Reverted):
            channel.settle(None, gas=gas)
    channel.settle(None, gas=high)
    assert world.owed(token, wallet) == 0
    assert world.balance(token, wallet) == 14 * ETHER
    world.do(world.rich, world.nasty, "set_mode", PLAIN)


def test_one_receiver_for_both_and_the_bond(world: World) -> None:
    both = Address(keccak(b"both")[:20])
    channel = closed(world.channel(payout_a=both, payout_b=both).funded())
    channel.settle(None)
    assert world.balance(NATIVE, both) == 14 * ETHER + BOND


def test_the_manager_takes_no_stray_coin(world: World) -> None:
    with pytest.raises(Reverted):
        world.send(world.rich, world.manager, b"", 5)
