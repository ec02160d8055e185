"""What the calls with lists cost when the lists are full: each has to stay under 15 % of a block of 36 million gas."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from channeld.base.keys import keccak
from channeld.base.units import NATIVE, Address, Side
from tests.contracts.gas import AMOUNT, LOCK_AMOUNT, NET
from tests.contracts.world import Body, Channel, World, key_of, lock, secret_of, words_of

MOST = 36_000_000 * 15 // 100
LOCKS, SECRETS, DEPOSITS, CHALLENGES = 512, 128, 64, 32


@pytest.fixture(scope="module")
def crowd() -> World:
    """A world in which calls may use a whole block."""
    return World()


def settled(world: World, token: Address, expiry_in: int) -> tuple[Channel, Body]:
    """A settled channel with a full list of locks, half from each side."""
    channel = world.channel(token).funded(AMOUNT, AMOUNT)
    first = 2**40 + world.count * LOCKS
    expiry = world.now + expiry_in
    locks = tuple(lock(first + number, Side(number % 2), LOCK_AMOUNT, expiry) for number in range(LOCKS))
    body = Body(net=NET, locks=locks)
    channel.close(Side.A, 12_345, body)
    channel.wait()
    channel.settle(body)
    return channel, body


def secrets(body: Body) -> list[bytes]:
    return [secret_of(one.id) for one in body.locks]


def parts(items: list[bytes]) -> Iterator[list[bytes]]:
    yield from (items[at : at + SECRETS] for at in range(0, len(items), SECRETS))


@pytest.mark.parametrize("case", ["registered", "expired", "pending", "new secrets"])
def test_a_full_list_of_locks(crowd: World, money: Address, case: str) -> None:
    token = NATIVE if money == NATIVE else crowd.token
    channel, body = settled(crowd, token, 10 if case == "expired" else 86_400)
    shown: list[bytes] = []
    if case == "registered":
        for part in parts(secrets(body)):
            crowd.reveal(*part)
    if case == "new secrets":
        shown = secrets(body)[:SECRETS]
    paid = sum(map(channel.paid, Side))
    done = channel.resolve(body.locks, *shown)
    moved = sum(map(channel.paid, Side)) - paid
    resolved = {"registered": LOCKS, "expired": LOCKS, "pending": 0, "new secrets": SECRETS}[case]
    assert moved == resolved * LOCK_AMOUNT
    assert 500_000 < done.gas < MOST
    if case == "pending":
        again = channel.resolve(body.locks)  # now by the chain of hashes
        assert again.gas < MOST
        print(f"again by the chain: {again.gas:,}")
    print(f"{LOCKS} locks, {case}: {done.gas:,} gas")


def test_a_full_list_of_secrets(crowd: World) -> None:
    shown = [keccak(b"cap %d" % number) for number in range(SECRETS)]
    hashes = crowd.reveal(*shown)
    points = crowd.do(crowd.rich, crowd.registry, "register_points", [int.from_bytes(one) >> 1 for one in shown])
    assert len(hashes.events) == len(points.events) == SECRETS
    assert max(hashes.gas, points.gas) < MOST
    print(f"register: {hashes.gas:,}, register_points: {points.gas:,} gas")


def test_a_full_list_of_deposits(crowd: World, money: Address) -> None:
    token = NATIVE if money == NATIVE else crowd.token
    sender = crowd.fund(key_of("anyone"))
    memo = words_of(bytes(range(1, 193)))
    items = [(crowd.channel(token).terms.hash, number % 2, AMOUNT, memo) for number in range(DEPOSITS)]
    value = DEPOSITS * AMOUNT if token == NATIVE else 0
    done = crowd.do(sender, crowd.manager, "deposit_many", token, items, value=value)
    assert done.names() == ["Memo", "Deposited"] * DEPOSITS
    assert done.gas < MOST
    print(f"deposit_many: {done.gas:,} gas")


def test_a_full_list_of_challenges(crowd: World) -> None:
    body = Body(net=NET)
    items = []
    for _ in range(CHALLENGES):
        channel = crowd.channel().funded(AMOUNT, AMOUNT)
        channel.close(Side.A, 12_345, Body())
        items.append(channel.delegated(Side.B, 12_346, body))
    done = crowd.do(crowd.rich, crowd.manager, "challenge_many", items)
    assert done.names() == ["Challenged"] * CHALLENGES
    assert done.gas < MOST
    print(f"challenge_many: {done.gas:,} gas")
