"""Every token of the zoo on every way out of the manager: a unit is neither lost nor paid twice.

The law: whatever a token does, the debt of the manager falls by what left it and by nothing else; the side the token
leaves alone is always paid; and what did not move is owed until the token lets it go. A token that lies about balances
can rob its own holders, never those of another token or of the coin.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import pytest

from channeld.base.digests import Lock
from channeld.base.units import NATIVE, Address, Side
from contracts.build import HERE
from tests.contracts.world import BOND, Body, Channel, Receipt, Reverted, key_of, lock, secret_of
from tests.contracts.zoo import (
    GONE,
    ODD_BALANCES,
    PAUSED,
    PLAIN,
    QUIRKS,
    RAVES,
    REFUSES,
    SKIMS,
    UNIT,
    WATCHFUL,
    Quirk,
    Zoo,
    both,
    debts,
)

A, B = 1000, 500
LITTLE: Final = 400_000
"""Gas for calls that a token may burn to the last unit: enough for each of them, and soon burnt."""


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return Zoo()


@pytest.fixture
def beast(zoo: Zoo) -> Address:
    return zoo.beast()


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A way money leaves the manager: what happens before, the call that pays, and what each side is to get."""

    before: Callable[[Channel], None]
    pay: Callable[[Channel], Receipt]
    due: tuple[int, int] = (A, B)


def _closing(channel: Channel) -> None:
    channel.close(Side.A)


def _closed(channel: Channel) -> None:
    _closing(channel)
    channel.wait()


def _locks(channel: Channel) -> tuple[Lock, ...]:
    number, expiry = channel.terms.nonce * 10, 2**32 - 1
    return lock(number, Side.A, 300, expiry), lock(number + 1, Side.B, 200, expiry)


def _closed_with_locks(channel: Channel) -> None:
    channel.close(Side.A, 1, Body(locks=_locks(channel)))
    channel.wait()


def _held(channel: Channel) -> None:
    _closed_with_locks(channel)
    channel.settle(Body(locks=_locks(channel)))
    assert both(channel) == (A - 300, B - 200)


def _resolved(channel: Channel) -> Receipt:
    number = channel.terms.nonce * 10
    return channel.resolve(_locks(channel), secret_of(number), secret_of(number + 1))


def _at_once(channel: Channel) -> Receipt:
    number = channel.terms.nonce * 10
    return channel.settle_and_resolve(Body(locks=_locks(channel)), secret_of(number), secret_of(number + 1))


PATHS: Final = {
    "cooperate": Path(before=lambda channel: None, pay=lambda channel: channel.cooperate(1)),
    "cooperate while closing": Path(before=_closing, pay=lambda channel: channel.cooperate(1)),
    "settle": Path(before=_closed, pay=lambda channel: channel.settle(None)),
    "resolve_locks": Path(before=_held, pay=_resolved, due=(200, 300)),
    "resolve_locks settles": Path(before=_closed_with_locks, pay=_at_once, due=(A - 100, B + 100)),
}


def withdraw(channel: Channel, side: Side, gas: int = LITTLE) -> Receipt:
    payout = channel.terms.payout(side)
    return channel.do(channel.world.rich, "withdraw", channel.token, payout, payout, gas=gas)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("hit", list(Side), ids=["A", "B"])
@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
def test_a_debt_falls_by_what_left(zoo: Zoo, beast: Address, quirk: Quirk, hit: Side, path: Path) -> None:
    """The token misbehaves to one side's payout only; the other side is paid, and later so is this one."""
    channel = zoo.channel(beast).funded(A, B)
    path.before(channel)
    if quirk.mode == SKIMS:  # what it takes on top, it takes from whoever else is in the pot
        zoo.do(zoo.rich, beast, "mint", zoo.manager, A)
    base, pool, payout = both(channel), zoo.balance(beast, zoo.manager), channel.terms.payout(hit)
    zoo.turn(beast, quirk.mode, payout)
    assert path.pay(channel).gas < LITTLE
    due = path.due[hit]
    left, got = due * quirk.leaves // 1000, due * quirk.arrives // 1000
    skimmed = due // 10 if quirk.mode == SKIMS else 0
    assert both(channel)[hit] == base[hit] + got
    assert debts(channel)[hit] == due - left
    assert both(channel)[hit.other] == base[hit.other] + path.due[hit.other]
    assert debts(channel)[hit.other] == 0
    assert zoo.balance(beast, zoo.manager) == pool - path.due[hit.other] - left - skimmed
    if left == due:
        assert zoo.balance(beast, zoo.manager) == sum(debts(channel)) or quirk.mode == SKIMS
        with pytest.raises(Reverted, match="nothing"):
            withdraw(channel, hit)
        return
    if left == 0:
        with pytest.raises(Reverted):
            withdraw(channel, hit)
        assert debts(channel)[hit] == due
    zoo.turn(beast, PLAIN)
    withdraw(channel, hit)
    assert both(channel)[hit] == base[hit] + due
    assert debts(channel) == (0, 0)
    assert zoo.balance(beast, zoo.manager) == 0


@pytest.mark.parametrize("side", list(Side), ids=["A", "B"])
@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
def test_withdraw_takes_what_the_token_moves(zoo: Zoo, beast: Address, quirk: Quirk, side: Side) -> None:
    """Of one debt, with the other's money in the same pot: the other's stays."""
    channel = zoo.channel(beast).funded(A, B)
    zoo.turn(beast, REFUSES)
    channel.cooperate(1)
    assert debts(channel) == (A, B)
    zoo.turn(beast, quirk.mode)
    due = (A, B)[side]
    left, got = due * quirk.leaves // 1000, due * quirk.arrives // 1000
    if left == 0:
        with pytest.raises(Reverted):
            withdraw(channel, side)
    else:
        assert withdraw(channel, side).event("Withdrawn")["amount"] == left
    assert both(channel)[side] == got and both(channel)[side.other] == 0
    assert debts(channel)[side] == due - left and debts(channel)[side.other] == (A, B)[side.other]
    skimmed = due // 10 if quirk.mode == SKIMS else 0
    assert zoo.balance(beast, zoo.manager) == A + B - left - skimmed


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
@pytest.mark.parametrize("side", list(Side), ids=["A", "B"])
def test_a_deposit_is_what_arrives(zoo: Zoo, beast: Address, quirk: Quirk, side: Side) -> None:
    """Or nothing at all: of a token that says no, or moves nothing, no unit is credited, none taken."""
    channel = zoo.channel(beast)
    payer = key_of("payer").address
    zoo.turn(beast, quirk.mode)
    had, arrives = zoo.balance(beast, payer), A * quirk.arrives // 1000

    def deposit() -> Receipt:
        return channel.do(payer, "deposit", beast, channel.terms.hash, int(side), A, gas=LITTLE)

    if arrives == 0 or not quirk.accepts:
        with pytest.raises(Reverted):
            deposit()
        assert channel.stored()[:2] == (0, 0) and zoo.balance(beast, payer) == had
        return
    deposit()
    assert channel.stored()[side] == arrives and channel.stored()[side.other] == 0
    assert zoo.balance(beast, zoo.manager) == arrives


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
def test_many_deposits_are_the_whole_sum_or_none(zoo: Zoo, beast: Address, quirk: Quirk) -> None:
    channels = [zoo.channel(beast) for _ in range(3)]
    payer = key_of("payer").address
    zoo.turn(beast, quirk.mode)
    had = zoo.balance(beast, payer)
    items = [(one.terms.hash, turn % 2, 100 + turn, [bytes(32)] * 6) for turn, one in enumerate(channels)]
    if quirk.arrives != 1000 or not quirk.accepts:
        with pytest.raises(Reverted):
            zoo.do(payer, zoo.manager, "deposit_many", beast, items, gas=LITTLE)
        assert all(one.stored()[:2] == (0, 0) for one in channels) and zoo.balance(beast, payer) == had
        return
    zoo.do(payer, zoo.manager, "deposit_many", beast, items, gas=LITTLE)
    assert [one.stored()[:2] for one in channels] == [(100, 0), (0, 101), (102, 0)]
    assert zoo.balance(beast, zoo.manager) == 303


def test_nothing_is_never_pushed(zoo: Zoo, beast: Address) -> None:
    """A token that refuses zero (and here, everything) is not asked for it: a side without money owes nobody a debt."""
    channel = zoo.channel(beast).funded(A, 0)
    zoo.turn(beast, PAUSED, channel.terms.payout_b)
    channel.cooperate(1)
    assert both(channel) == (A, 0) and debts(channel) == (0, 0)


# ------------------------------------------------------------------------------------ barred and paused in a dispute

MOMENTS = ("before the close", "during the challenge", "after the outcome is final", "before the withdraw")


@pytest.mark.parametrize("how", ["barred", "paused"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("hit", list(Side), ids=["A", "B"])
def test_the_other_side_is_paid_whenever_one_is_shut_out(
    zoo: Zoo, beast: Address, hit: Side, moment: str, how: str
) -> None:
    channel = zoo.channel(beast).funded(A, B)
    payout = channel.terms.payout(hit)

    def shut(now: str) -> None:
        if now != moment:
            return
        if how == "barred":
            zoo.do(zoo.rich, beast, "bar", payout, True)
        else:
            zoo.turn(beast, PAUSED, payout)

    shut("before the close")
    channel.close(Side.A)
    shut("during the challenge")
    state = Body(net=100)
    channel.challenge(1, state)
    channel.wait()
    channel.finalize(state)
    shut("after the outcome is final")
    if moment == "before the withdraw":
        zoo.turn(beast, REFUSES, payout)
    channel.settle(state)
    due = (A - 100, B + 100)
    assert both(channel)[hit.other] == due[hit.other]
    shut("before the withdraw")
    if how == "barred":
        zoo.turn(beast, PLAIN)
    with pytest.raises(Reverted, match="transfer"):
        withdraw(channel, hit)
    assert debts(channel)[hit] == due[hit] and both(channel)[hit] == 0
    zoo.do(zoo.rich, beast, "bar", payout, False)
    zoo.turn(beast, PLAIN)
    withdraw(channel, hit)
    assert both(channel) == due and zoo.balance(beast, zoo.manager) == 0


def test_a_manager_that_is_barred_owes_all_and_pays_when_it_may(zoo: Zoo, beast: Address) -> None:
    channel = zoo.channel(beast).funded(A, B)
    zoo.do(zoo.rich, beast, "bar", zoo.manager, True)
    channel.cooperate(1)
    assert both(channel) == (0, 0) and debts(channel) == (A, B)
    zoo.do(zoo.rich, beast, "bar", zoo.manager, False)
    for side in Side:
        withdraw(channel, side)
    assert both(channel) == (A, B)


# ------------------------------------------------------------------------------------------------ balances that move


@pytest.mark.parametrize("percent", [1, 50, 99, 101, 200])
def test_a_rebase_costs_the_last_to_come_and_nobody_else(zoo: Zoo, beast: Address, percent: int) -> None:
    """After a loss there is too little for all: first come, first served, the rest stays owed. A gain is nobody's."""
    channel = zoo.channel(beast).funded(A, B)
    zoo.do(zoo.rich, beast, "rebase", UNIT * percent // 100)
    pool = zoo.balance(beast, zoo.manager)
    assert pool == (A + B) * percent // 100
    channel.cooperate(1)
    # a share is worth less or more than a unit here: what arrives may be one short of what was told
    paid, owed = both(channel), debts(channel)
    for side, due in ((Side.A, A), (Side.B, B)):
        assert due - 2 <= paid[side] + owed[side] <= due + 1
    assert sum(paid) <= pool
    assert sum(paid) + zoo.balance(beast, zoo.manager) in range(pool - 2, pool + 3)
    if percent == 50:
        assert paid == (0, B) and owed == (A, 0)  # 750 there, 1000 asked: none; then 500 of 750
    zoo.do(zoo.rich, beast, "rebase", UNIT)
    zoo.do(zoo.rich, beast, "mint", zoo.manager, 10 * A)
    for side in Side:
        if debts(channel)[side]:
            withdraw(channel, side)
    assert debts(channel) == (0, 0)


def test_no_deposit_into_a_rebased_token_is_credited_twice(zoo: Zoo, beast: Address) -> None:
    """At a scale where shares round, credits never exceed the pot."""
    zoo.do(zoo.rich, beast, "rebase", UNIT * 7 // 3)
    channel = zoo.channel(beast)
    with pytest.raises(Reverted, match="nothing"):
        channel.deposit(Side.A, 1)
    for side, amount in ((Side.A, 1000), (Side.B, 333), (Side.A, 3), (Side.B, 7)):
        channel.deposit(side, amount)
        assert sum(channel.stored()[:2]) <= zoo.balance(beast, zoo.manager)


def _heal(zoo: Zoo, beast: Address, code: bytes) -> None:
    zoo.evm.become(beast, code)
    zoo.turn(beast, PLAIN)


@pytest.mark.parametrize("ill", [*GONE, *ODD_BALANCES])
def test_a_token_without_a_balance_harms_its_own_holders_only(zoo: Zoo, beast: Address, ill: str) -> None:
    """Its channel waits; the bond, in coin, comes back by finalize; all other money moves as ever."""
    code = zoo.evm.code(beast)
    sick = zoo.channel(beast).funded(A, B)
    well, coin = zoo.channel(zoo.token).funded(A, B), zoo.channel(NATIVE).funded(A, B)
    for one in (sick, well, coin):
        one.close(Side.A)
    sick.wait()
    coin.wait()
    if ill in ODD_BALANCES:
        zoo.turn(beast, ODD_BALANCES[ill])
    else:
        zoo.evm.become(beast, GONE[ill])
    pots = [zoo.balance(money, zoo.manager) for money in (zoo.token, NATIVE)]
    sick.finalize(None)
    assert zoo.balance(NATIVE, sick.terms.payout_a) == BOND
    stored = sick.stored()
    raves = ODD_BALANCES.get(ill) == RAVES
    if raves:
        # It says it got richer: nothing is counted as paid. Its holders' affair.
        sick.settle(None, gas=LITTLE)
        assert debts(sick) == (A, B)
    else:
        with pytest.raises(Reverted):
            sick.settle(None, gas=LITTLE)
        assert sick.stored() == stored
    for one in (well, coin):
        one.settle(None)
    assert both(well) == (A, B) and both(coin) == (A + BOND, B)
    after = [zoo.balance(money, zoo.manager) for money in (zoo.token, NATIVE)]
    assert after == [pots[0] - A - B, pots[1] - A - B - 3 * BOND]
    _heal(zoo, beast, code)
    if not raves:
        sick.settle(None)
        assert both(sick) == (A, B) and debts(sick) == (0, 0)


@pytest.mark.parametrize("ill", GONE, ids=str)
def test_what_is_owed_outlives_a_token_that_is_away(zoo: Zoo, beast: Address, ill: str) -> None:
    code = zoo.evm.code(beast)
    channel = zoo.channel(beast).funded(A, B)
    zoo.turn(beast, REFUSES)
    channel.cooperate(1)
    zoo.evm.become(beast, GONE[ill])
    for side in Side:
        with pytest.raises(Reverted):
            withdraw(channel, side)
    assert debts(channel) == (A, B)
    _heal(zoo, beast, code)
    for side in Side:
        withdraw(channel, side)
    assert both(channel) == (A, B)


@pytest.mark.parametrize("ill", GONE, ids=str)
def test_no_credit_for_a_token_that_is_not_there(zoo: Zoo, ill: str) -> None:
    beast = zoo.beast()
    zoo.evm.become(beast, GONE[ill])
    channel = zoo.channel(beast)
    for side in Side:
        with pytest.raises(Reverted, match="token" if ill == "no code" else ".*"):
            channel.do(key_of("payer").address, "deposit", beast, channel.terms.hash, int(side), A, gas=LITTLE)
    assert channel.stored()[:2] == (0, 0)


# -------------------------------------------------------------------------------------------- what the whole adds up to


def test_through_all_moods_of_a_token_the_pot_is_the_books(zoo: Zoo, beast: Address) -> None:
    """Ten channels of one token that is in another mood at each call: what is there is what is deposited and owed."""
    moods = [quirk.mode for quirk in QUIRKS if quirk.mode != SKIMS]
    channels = [zoo.channel(beast).funded(A + turn, B + turn) for turn in range(10)]
    for turn, channel in enumerate(channels):
        zoo.turn(beast, moods[turn % len(moods)])
        if turn % 2:
            channel.cooperate(1, net=turn, out_a=A // 2)
        else:
            _closed(channel)
            channel.settle(None)
        zoo.turn(beast, moods[-1 - turn % len(moods)])
        for side in Side:
            with suppress(Reverted):
                withdraw(channel, side)
        zoo.turn(beast, PLAIN)
        assert books(channels) == zoo.balance(beast, zoo.manager)
    assert books(channels) > 0


def books(channels: list[Channel]) -> int:
    """All that is deposited, held back or owed of these channels."""
    return sum(sum(one.stored()[:2]) + sum(debts(one)) for one in channels)


def test_the_zoo_has_what_it_should() -> None:
    """Every mode of the mock is somebody's, and each beast has a name of its own."""
    names = [*(quirk.name for quirk in QUIRKS), *GONE, *ODD_BALANCES, *WATCHFUL]
    modes = {quirk.mode for quirk in QUIRKS} | set(ODD_BALANCES.values()) | set(WATCHFUL.values())
    assert len(set(names)) == len(names) > 20
    source = (HERE / "mocks/NastyToken.vy").read_text(encoding="utf-8")
    assert modes == {
        int(number) for number in re.findall(r"^[A-Z]+: constant\(uint256\) = (\d{1,2})\b(?!\*)", source, re.MULTILINE)
    }
