"""Every call copied: somebody else sees it before it is mined and sends the same bytes first.

For each call two like channels are led to the moment before it. In the first the call is sent by whom it was meant for;
in the second a stranger's copy comes first and then the original, which may fail. After both have been led to their
ends, each party, the tower and the locks' receivers must have the same: a copy can be in vain or do the work, and
nothing else. (A copied deposit pays with the copier's own money, so it can only give.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from channeld.base.digests import ALL, pack_locks, rest_hash
from channeld.base.keys import compact, keccak
from channeld.base.units import NATIVE, Address, Side
from tests.contracts.world import (
    DEAD,
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
    words_of,
)

OLD, NEW = Body(net=-ETHER), Body(net=3 * ETHER)


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction to the manager that is about to be mined."""

    sender: Address
    name: str
    arguments: tuple[Any, ...]
    value: int = 0


@dataclass(slots=True)
class Scene:
    """A channel, what its state says, and who is paid for guarding it."""

    channel: Channel
    body: Body
    number: int
    bond_to: Address = NATIVE

    @property
    def locks(self) -> tuple[Any, ...]:
        return self.body.locks


def scene(world: World, token: Address) -> Scene:
    """Deposits 10 and 4 ether; the state has a lock each way. Like every other scene but for its names."""
    world.count += 1
    number = world.count * 100
    channel = world.channel(token)
    tower = replace(channel, tower=key_of(f"tower {number}"))
    expiry = world.now + 10**6
    locks = (lock(number, Side.A, 7, expiry), lock(number + 1, Side.B, 5, expiry))
    return Scene(tower.funded(), Body(net=ETHER, locks=locks), number)


def by_payer(one: Scene, name: str, *arguments: Any, value: int = 0) -> Sent:
    return Sent(one.channel.keys[0].address, name, arguments, value)


def cooperate(one: Scene) -> Sent:
    signed = compact(one.channel.agree(9, 5, ALL, ALL, 2**40)[1])
    return by_payer(one, "cooperate", *one.channel.head, 9, 5, ALL, ALL, 2**40, signed)


def cooperate_with_both(one: Scene) -> Sent:
    signed = map(compact, one.channel.agree(9, 5, ETHER, 0, 2**40))
    return by_payer(one, "cooperate", *one.channel.head, 9, 5, ETHER, 0, 2**40, *signed)


def close(one: Scene) -> Sent:
    channel = one.channel
    signed = compact(channel.sign(6, one.body.hash)[1])
    given = (6, one.body.hash, signed, channel.salts[1], keccak(channel.salts[0]))
    return by_payer(one, "close", *channel.head, *given, value=channel.terms.close_bond)


def relayed_close(one: Scene) -> Sent:
    order = one.channel.order(Side.A, 6, one.body.hash, 2**40)
    sent = close(one)
    return replace(sent, sender=one.channel.world.rich, arguments=(*sent.arguments, order))


def closed(one: Scene, body: Body = OLD, version: int = 2) -> Scene:
    one.channel.close(Side.A, version, body)
    return one


def challenge(one: Scene) -> Sent:
    return by_payer(closed(one), "challenge", one.channel.evidence(6, one.body))


def challenge_of_the_victim(one: Scene) -> Sent:
    """The victim leaves its own signature out: copied by another the call is worth nothing."""
    closed(one)
    signature_a, _ = one.channel.sign(6, one.body.hash)
    evidence = one.channel.evidence(6, one.body, signatures=(signature_a, b""))
    return Sent(one.channel.keys[1].address, "challenge", (evidence,))


def challenge_of_a_tower(one: Scene) -> Sent:
    closed(one)
    one.bond_to = one.channel.tower.address
    return Sent(one.channel.world.rich, "challenge", (one.channel.delegated(Side.B, 6, one.body),))


def challenges_of_a_tower(one: Scene) -> Sent:
    sent = challenge_of_a_tower(one)
    return replace(sent, name="challenge_many", arguments=([sent.arguments[0]],))


def finalize(one: Scene) -> Sent:
    closed(one, one.body, 6).channel.wait()
    return by_payer(one, "finalize", *one.channel.head, one.body.hash, NATIVE)


def settle(one: Scene) -> Sent:
    closed(one, one.body, 6).channel.wait()
    return by_payer(one, "settle", *one.channel.head, one.body.opened(), NATIVE)


def settle_and_resolve(one: Scene) -> Sent:
    closed(one, one.body, 6).channel.wait()
    given = (pack_locks(one.locks), [secret_of(one.number)], (one.body.opened(), NATIVE))
    return by_payer(one, "resolve_locks", *one.channel.head, *given)


def resolve(one: Scene) -> Sent:
    closed(one, one.body, 6).channel.wait()
    one.channel.settle(one.body)
    given = (pack_locks(one.locks), [secret_of(one.number), secret_of(one.number + 1)])
    return by_payer(one, "resolve_locks", *one.channel.head, *given)


CALLS: Final[tuple[Callable[[Scene], Sent], ...]] = (
    cooperate,
    cooperate_with_both,
    close,
    relayed_close,
    challenge,
    challenge_of_the_victim,
    challenge_of_a_tower,
    challenges_of_a_tower,
    finalize,
    settle,
    settle_and_resolve,
    resolve,
)


def send(world: World, sent: Sent) -> str:
    """Its reason if it fails."""
    try:
        world.send(sent.sender, world.manager, call_data("ChannelManager", sent.name, *sent.arguments), sent.value)
    except Reverted as reverted:
        return reverted.reason
    return ""


def end(one: Scene) -> dict[str, int]:
    """Lead it to its end by everybody's means, and count who has what."""
    channel, world = one.channel, one.channel.world
    if channel.stored()[3] == 0 and any(channel.stored()[:2]):
        channel.close(Side.A)
    if channel.stored()[3] and not channel.stored()[4] & DEAD:
        channel.wait()
        for body in (one.body, OLD, None):
            for bond_to in (one.channel.tower.address, NATIVE):
                if not channel.stored()[4] & DEAD:
                    opened = NO_STATE if body is None else body.opened()
                    send(world, Sent(world.rich, "settle", (*channel.head, opened, bond_to)))
    assert not any(channel.stored()[:2]) or channel.stored()[4] & DEAD
    world.reveal(secret_of(one.number))
    for locks in (one.locks, one.locks[1:]):
        if channel.stored()[4] & DEAD:
            channel.resolve(locks)
        world.travel(one.locks[0].expiry)
    found = {f"paid {side.name}": channel.paid(side) for side in Side}
    found |= {f"coin of {side.name}": world.balance(NATIVE, channel.terms.payout(side)) for side in Side}
    found["tower"] = world.balance(NATIVE, channel.tower.address)
    found["owed"] = sum(world.owed(channel.token, channel.terms.payout(side)) for side in Side)
    found["version"] = channel.stored()[2]
    return found


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_a_copy_sent_first_changes_nothing(world: World, money: Address, call: Callable[[Scene], Sent]) -> None:
    thief = world.fund(key_of("anyone"))
    plain = scene(world, money)
    assert send(world, call(plain)) == ""
    wanted = end(plain)
    raced = scene(world, money)
    original = call(raced)
    before = world.balance(money, thief) if money != NATIVE else 0
    send(world, replace(original, sender=thief))
    send(world, original)
    assert end(raced) == wanted
    if money != NATIVE:
        assert world.balance(money, thief) == before


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_what_a_copy_leaves_undone_the_original_still_does(world: World, call: Callable[[Scene], Sent]) -> None:
    """One of the two goes through, never none."""
    one = scene(world, NATIVE)
    original = call(one)
    copied = send(world, replace(original, sender=world.fund(key_of("anyone"))))
    assert copied == "" or send(world, original) == ""


def test_a_copied_withdraw_pays_its_owner(world: World) -> None:
    """Only the owner can name another receiver."""
    refusing = world.plant(bytes.fromhex("5f5ffd"))
    channel = world.channel(payout_a=refusing).funded()
    channel.cooperate(1)
    thief = world.fund(key_of("anyone"))
    with pytest.raises(Reverted, match="not the owner"):
        channel.do(thief, "withdraw", NATIVE, refusing, thief)
    world.evm.become(refusing, b"")
    before = world.balance(NATIVE, refusing)
    channel.do(thief, "withdraw", NATIVE, refusing, refusing)
    assert world.balance(NATIVE, refusing) == before + 10 * ETHER


def test_a_thief_who_resolves_first_by_other_lists_changes_nothing(world: World) -> None:
    """Not a copy but what one might make of it: everything that can be read off the chain, as the list."""
    plain = scene(world, NATIVE)
    assert send(world, resolve(plain)) == ""
    wanted = end(plain)
    raced = scene(world, NATIVE)
    original = resolve(raced)
    thief, (first, second) = world.fund(key_of("anyone")), raced.locks
    one, two = first.packed(), second.packed()
    for data in (
        one,
        two,
        two + one,
        one + one + two,
        bytes(32) + one,
        rest_hash((first,)) + two,
        bytes(57),
        b"",
        one[:56],
    ):
        assert send(world, replace(original, sender=thief, arguments=(*raced.channel.head, data, []))) == ""
    assert (
        send(world, replace(original, sender=thief, arguments=(*raced.channel.head, one + two, []))) == ""
    )  # chained now
    for data in (rest_hash((first,)) + two, bytes(32) + one, (bytes(32) + one)[:57], two):
        assert send(world, replace(original, sender=thief, arguments=(*raced.channel.head, data, []))) == ""
    assert send(world, original) == ""
    assert end(raced) == wanted


def test_copied_batches_do_what_the_originals_do(world: World) -> None:
    channel = world.channel()
    thief = world.fund(key_of("anyone"))
    given = ("deposit_many", NATIVE, [(channel.terms.hash, 0, 5, words_of(bytes(192)))])
    channel.do(thief, *given, value=5)
    channel.do(channel.keys[0].address, *given, value=5)
    assert channel.stored()[:2] == (10, 0), "the copier pays with its own money"
    scalar = int.from_bytes(keccak(b"copied scalar"), "big")
    assert world.do(thief, world.registry, "register_points", [scalar]).names() == ["SecretRegistered"]
    assert world.do(world.rich, world.registry, "register_points", [scalar]).events == ()


def test_a_copied_deposit_only_gives(world: World) -> None:
    channel = world.channel()
    thief = world.fund(key_of("anyone"))
    given = ("deposit", NATIVE, channel.terms.hash, 0, 5)
    channel.do(thief, *given, value=5)
    channel.do(channel.keys[0].address, *given, value=5)
    assert channel.stored()[:2] == (10, 0)


def test_a_copied_registration_counts_for_everyone(world: World) -> None:
    secret = keccak(b"seen in the pool")
    thief = world.fund(key_of("anyone"))
    first = world.do(thief, world.registry, "register", [secret])
    assert world.reveal(secret).events == ()
    assert first.event("SecretRegistered")["secret"] == secret
