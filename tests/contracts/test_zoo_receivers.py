"""Every receiver of the zoo at every payout in coin, and every amount of gas at every call that pays.

Whatever a receiver does, the other side has its money, the bond finds its way, and what the receiver did not take is
owed to it, to the wei. And nobody who sends a call can have a payout fail that would go through with enough gas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from channeld.base.digests import pack_locks
from channeld.base.keys import compact, keccak
from channeld.base.units import NATIVE, Address, Side
from tests.contracts.world import (
    BOND,
    NO_STATE,
    Body,
    Channel,
    Reverted,
    call_data,
    key_of,
    lock,
    secret_of,
)
from tests.contracts.zoo import PICKY, Zoo, both, debts, delegated
from tests.contracts.zoo_receivers import PICKIEST, RECEIVERS, Receiver

A, B = 1000, 500
MOST_GAS: Final = 400_000
"""No payout to two hostile receivers and a bond to a third may cost more."""


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return Zoo()


def name(receiver: Receiver) -> str:
    return receiver.name


def owning(side: Side, payout: Address) -> dict[str, Any]:
    return {("payout_a", "payout_b")[side]: payout}


def hostile(zoo: Zoo, side: Side, receiver: Receiver) -> Channel:
    """A funded channel of which one payout address is such a receiver."""
    return zoo.channel(**owning(side, zoo.plant(bytes.fromhex(receiver.code)))).funded(A, B)


def shares(channel: Channel, side: Side, due: tuple[int, int], takes: bool) -> None:
    """The other side has what is its own; this one has it or is owed it."""
    assert both(channel)[side.other] == due[side.other] and debts(channel)[side.other] == 0
    assert both(channel)[side] == (due[side] if takes else 0)
    assert debts(channel)[side] == (0 if takes else due[side])


@pytest.mark.parametrize("side", list(Side), ids=["A", "B"])
@pytest.mark.parametrize("receiver", RECEIVERS, ids=name)
def test_cooperate(zoo: Zoo, receiver: Receiver, side: Side) -> None:
    channel = hostile(zoo, side, receiver)
    assert channel.cooperate(1, net=100).gas < MOST_GAS
    shares(channel, side, (A - 100, B + 100), receiver.takes)


@pytest.mark.parametrize("side", list(Side), ids=["A", "B"])
@pytest.mark.parametrize("receiver", RECEIVERS, ids=name)
def test_settle_with_the_bond(zoo: Zoo, receiver: Receiver, side: Side) -> None:
    channel = hostile(zoo, side, receiver)
    channel.close(side)
    channel.wait()
    assert channel.settle(None).gas < MOST_GAS
    due = [A, B]
    due[side] += BOND
    shares(channel, side, (due[0], due[1]), receiver.takes)


@pytest.mark.parametrize("receiver", RECEIVERS, ids=name)
@pytest.mark.parametrize("alone", [True, False], ids=["finalize", "settle"])
def test_the_bond_to_a_tower(zoo: Zoo, receiver: Receiver, alone: bool) -> None:
    """The tower's own address misbehaves: both sides are paid, and the tower has its bond or a debt of it."""
    tower = zoo.plant(bytes.fromhex(receiver.code))
    channel = zoo.channel().funded(A, B)
    body = Body(net=-50)
    channel.close(Side.B)
    delegation = channel.delegate(Side.A, 1, tower, 0)
    channel.challenge(1, body, payout=tower, delay=0, delegation=delegation)
    channel.wait()
    if alone:
        channel.finalize(body, tower)
        channel.settle(body, tower)
    else:
        assert channel.settle(body, tower).gas < MOST_GAS
    assert both(channel) == (A + 50, B - 50) and debts(channel) == (0, 0)
    assert zoo.balance(NATIVE, tower) == (BOND if receiver.takes else 0)
    assert zoo.owed(NATIVE, tower) == (0 if receiver.takes else BOND)


@pytest.mark.parametrize("at_once", [False, True], ids=["apart", "with settle"])
@pytest.mark.parametrize("side", list(Side), ids=["A", "B"])
@pytest.mark.parametrize("receiver", RECEIVERS, ids=name)
def test_resolve_locks(zoo: Zoo, receiver: Receiver, side: Side, at_once: bool) -> None:
    channel = hostile(zoo, side, receiver)
    number = channel.terms.nonce * 10
    locks = (lock(number, Side.A, 300, 2**32 - 1), lock(number + 1, Side.B, 200, 2**32 - 1))
    body = Body(locks=locks)
    channel.close(side.other, 1, body)
    channel.wait()
    secrets = secret_of(number), secret_of(number + 1)
    if at_once:
        assert channel.settle_and_resolve(body, *secrets).gas < MOST_GAS
    else:
        channel.settle(body)
        channel.resolve(locks, *secrets)
    due = [A - 300 + 200, B - 200 + 300]
    due[side.other] += BOND
    shares(channel, side, (due[0], due[1]), receiver.takes)


@pytest.mark.parametrize("receiver", [one for one in RECEIVERS if not one.takes], ids=name)
def test_withdraw_gives_all_the_gas_there_is(zoo: Zoo, receiver: Receiver) -> None:
    """A receiver that needs more than a payout gives gets it here; from one that never takes, the debt stays."""
    channel = hostile(zoo, Side.A, receiver)
    channel.cooperate(1)
    payout = channel.terms.payout_a
    if receiver.later:
        channel.do(zoo.rich, "withdraw", NATIVE, payout, payout)
        assert zoo.balance(NATIVE, payout) == A and zoo.owed(NATIVE, payout) == 0
        return
    with pytest.raises(Reverted):
        channel.do(zoo.rich, "withdraw", NATIVE, payout, payout, gas=MOST_GAS)
    assert zoo.balance(NATIVE, payout) == 0 and zoo.owed(NATIVE, payout) == A


def test_one_that_refuses_and_then_takes(zoo: Zoo) -> None:
    """And, while it refuses, may send its money elsewhere; nobody else may."""
    fickle, elsewhere = zoo.reentrant(), Address(keccak(b"elsewhere")[:20])
    had = zoo.balance(NATIVE, fickle)
    for turn, refusing in enumerate((True, False)):
        zoo.do(zoo.rich, fickle, "refuse", True)
        channel = zoo.channel(payout_b=fickle).funded(A, B)
        channel.cooperate(1)
        assert zoo.owed(NATIVE, fickle) == B and both(channel)[0] == A
        zoo.do(zoo.rich, fickle, "refuse", refusing)
        with pytest.raises(Reverted, match="not the owner"):
            zoo.do(zoo.rich, zoo.manager, "withdraw", NATIVE, fickle, elsewhere)
        if refusing:
            with pytest.raises(Reverted, match="transfer"):
                zoo.do(zoo.rich, zoo.manager, "withdraw", NATIVE, fickle, fickle)
            data = call_data("ChannelManager", "withdraw", NATIVE, fickle, elsewhere)
            zoo.do(zoo.rich, fickle, "call", zoo.manager, data)
            assert zoo.balance(NATIVE, elsewhere) == B * (turn + 1)
        else:
            zoo.do(zoo.rich, zoo.manager, "withdraw", NATIVE, fickle, fickle)
            assert zoo.balance(NATIVE, fickle) == had + B
        assert zoo.owed(NATIVE, fickle) == 0


@pytest.mark.parametrize("side", list(Side), ids=["A", "B"])
@pytest.mark.parametrize(
    "code", ["5f5ffd", "5b5f56", "62ffffff5ff3"], ids=["reverts", "eats all gas", "returns 16 MiB"]
)
def test_an_account_that_turns_hostile_in_the_dispute(zoo: Zoo, side: Side, code: str) -> None:
    """An account with a key may run any code from one day to the next (EIP-7702): no harm to the other side."""
    owner = key_of(f"turncoat {side} {code}")
    zoo.fund(owner)
    channel = zoo.channel(**owning(side, owner.address)).funded(A, B)
    had = both(channel)
    channel.close(side.other)
    channel.wait()
    delegated(zoo, owner, zoo.plant(bytes.fromhex(code)))
    assert channel.settle(None).gas < MOST_GAS
    due = (A, B)
    assert both(channel)[side] == had[side] and debts(channel)[side] == due[side]
    assert both(channel)[side.other] == due[side.other] + BOND
    with pytest.raises(Reverted):
        channel.do(zoo.rich, "withdraw", NATIVE, owner.address, owner.address, gas=MOST_GAS)
    elsewhere = Address(keccak(owner.address)[:20])
    channel.do(owner.address, "withdraw", NATIVE, owner.address, elsewhere)
    assert zoo.balance(NATIVE, elsewhere) == due[side] and debts(channel) == (0, 0)


# ------------------------------------------------------------------------------------------------------ gas, all of it


def _settle(channel: Channel) -> bytes:
    channel.close(Side.A)
    channel.wait()
    return call_data("ChannelManager", "settle", *channel.head, NO_STATE, NATIVE)


def _settle_beaten(channel: Channel) -> bytes:
    """Three receivers: the bond goes to a new account as well."""
    tower, body = Address(keccak(channel.id)[:20]), Body(net=10)
    channel.close(Side.A)
    channel.challenge(1, body, payout=tower, delay=0, delegation=channel.delegate(Side.B, 1, tower, 0))
    channel.wait()
    return call_data("ChannelManager", "settle", *channel.head, body.opened(), tower)


def _cooperate(channel: Channel) -> bytes:
    channel.close(Side.A)  # so that the bond goes back too
    return _agreed(channel)


def _agreed(channel: Channel) -> bytes:
    signed = [compact(one) for one in channel.agree(1, 10, A, A, 2**63)]
    return call_data("ChannelManager", "cooperate", *channel.head, 1, 10, A, A, 2**63, *signed)


def _finalize(channel: Channel) -> bytes:
    channel.close(Side.A)
    channel.wait()
    return call_data("ChannelManager", "finalize", *channel.head, bytes(32), NATIVE)


def _resolve(channel: Channel) -> bytes:
    number = channel.terms.nonce * 10
    locks = (lock(number, Side.A, 300, 2**32 - 1), lock(number + 1, Side.B, 200, 2**32 - 1))
    body = Body(net=100, locks=locks, locked=(A, B))
    channel.close(Side.B, 1, body)
    channel.wait()
    channel.settle(body)
    secrets = [secret_of(number), secret_of(number + 1)]
    return call_data("ChannelManager", "resolve_locks", *channel.head, pack_locks(locks), secrets)


def _resolve_at_once(channel: Channel) -> bytes:
    """Three receivers: the bond goes to a new account, each side gets all it is due in one push."""
    tower, number = Address(keccak(channel.id)[:20]), channel.terms.nonce * 10
    locks = (lock(number, Side.A, 300, 2**32 - 1), lock(number + 1, Side.B, 200, 2**32 - 1))
    body = Body(net=100, locks=locks)
    channel.close(Side.A)
    channel.challenge(1, body, payout=tower, delay=0, delegation=channel.delegate(Side.B, 1, tower, 0))
    channel.wait()
    secrets = [secret_of(number), secret_of(number + 1)]
    return call_data(
        "ChannelManager", "resolve_locks", *channel.head, pack_locks(locks), secrets, (body.opened(), tower)
    )


CALLS: Final[dict[str, Callable[[Channel], bytes]]] = {
    "settle": _settle,
    "settle beaten": _settle_beaten,
    "cooperate": _cooperate,
    "finalize": _finalize,
    "resolve_locks": _resolve,
    "resolve_locks settles": _resolve_at_once,
}


@pytest.mark.parametrize("picky", [False, True], ids=["new accounts", "picky receivers"])
@pytest.mark.parametrize("kind", ["coin", "token"])
@pytest.mark.parametrize("call", CALLS)
def test_no_amount_of_gas_turns_a_payout_into_a_debt(zoo: Zoo, call: str, kind: str, picky: bool) -> None:
    """From too little for anything to more than enough: the call reverts, or pays all. Nothing is ever owed."""
    token = zoo.beast() if kind == "token" else NATIVE
    wallets = {f"payout_{side}": zoo.plant(PICKIEST) for side in "ab"} if picky else {}
    channel = zoo.channel(token, **wallets).funded(A, B)
    data = CALLS[call](channel)
    if picky and kind == "token":
        zoo.turn(token, PICKY)
    zoo.stage.timestamp += 1
    zoo.stage.root()
    owed_topic = keccak(b"Owed(address,address,uint256)")
    reverted = 0

    def tried(gas: int) -> bool:
        """Whether it goes through; with every payout made if so."""
        done = zoo.evm.ask(zoo.manager, data, zoo.rich, gas)
        if done.good:
            assert done.logs and not any(topics[0] == owed_topic for _, topics, _ in done.logs), gas
        return done.good

    low, high = 30_000, 1_000_000
    assert tried(high) and not tried(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if tried(middle) else (middle, high)
    for gas in [*range(30_000, high + 60_000, 9001), *range(low - 500, high + 500, 61)]:
        reverted += not tried(gas)
    assert reverted > 5
    stored, pot = channel.stored(), zoo.balance(token, zoo.manager)
    with pytest.raises(Reverted):
        zoo.send(zoo.rich, zoo.manager, data, gas=low)
    assert channel.stored() == stored and zoo.balance(token, zoo.manager) == pot
    zoo.send(zoo.rich, zoo.manager, data, gas=high)
    assert debts(channel) == (0, 0)
    if call != "finalize":
        assert sum(both(channel)) >= 500
