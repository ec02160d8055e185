"""A bad neighbour offers locks and lets them hang: what it can hold up, and what is left for the others.

The rules are tried by themselves (`Traffic`) and in a forwarder with live channels: a refusal goes back to the payer as
a failure, the channel goes on, and no commit of the peer's is refused for it (R6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from channeld.base.keys import sha256
from channeld.base.units import Amount, ChannelId, LockId, LockKey, NodeId, Seconds, Timestamp
from channeld.core.channel import Phase
from channeld.core.effects import Returned
from channeld.core.events import Fail, Offer
from channeld.node.forwarding import Desk
from channeld.node.jamming import Held, Limits, Room, Traffic
from channeld.wire.failure import FailureCode
from tests.roles import START
from tests.unit.node.hub import (
    IN_EXPIRY,
    MAX_EXPIRY,
    NODE_KEY,
    OUT_EXPIRY,
    POLICY,
    Hub,
    hub,
    packet_here,
    packet_on,
    payload_here,
    start,
)

OUT, OTHER_OUT = ChannelId(b"\1" * 32), ChannelId(b"\2" * 32)
IN, OTHER_IN = ChannelId(b"\3" * 32), ChannelId(b"\4" * 32)
CHEAT, PAYER = NodeId(b"\2" + b"c" * 32), NodeId(b"\2" + b"p" * 32)
NOW = Timestamp(1_000_000)
LIMITS = Limits(slots_share=50, value_share=50, usual=Seconds(100), uneconomic=3, uneconomic_in_all=5)


def held(number: int, **changes: object) -> Held:
    said: dict[str, object] = {
        "came": (IN, LockId(number)),
        "neighbour": CHEAT,
        "out": OUT,
        "amount": Amount(1),
        "expiry": Timestamp(NOW + 100),
        "dust": False,
    }
    return Held(**{**said, **changes})  # type: ignore[arg-type]


def room(slots: int = 8, spendable: int = 1_000, passed: int = 0) -> Room:
    return Room(slots=slots, spendable=Amount(spendable), passed=Amount(passed))


class Standing:
    """Incoming locks that stand until they are taken out."""

    def __init__(self) -> None:
        self.gone: set[tuple[ChannelId, LockId]] = set()

    def __call__(self, channel: ChannelId, lock: LockId) -> bool:
        return (channel, lock) not in self.gone


def taken(traffic: Traffic, *asked: Held, **more: int) -> int:
    """How many of `asked` are passed on."""
    count = 0
    for one in asked:
        if traffic.why_not(one, room(**more), NOW) is None:
            traffic.add(one)
            count += 1
    return count


def test_one_neighbour_gets_its_share_of_the_slots_and_others_the_rest():
    traffic = Traffic(LIMITS, Standing())
    assert taken(traffic, *(held(n) for n in range(1, 20))) == 4
    assert taken(traffic, held(30, neighbour=PAYER, came=(OTHER_IN, LockId(1)))) == 1
    assert taken(traffic, held(31, out=OTHER_OUT)) == 1


def test_two_channels_with_one_neighbour_share_its_share():
    traffic = Traffic(LIMITS, Standing())
    asked = [held(n, came=(IN if n % 2 else OTHER_IN, LockId(n))) for n in range(1, 20)]
    assert taken(traffic, *asked) == 4


def test_a_lock_that_may_hang_longer_counts_more():
    traffic = Traffic(LIMITS, Standing())
    assert traffic.slots(held(1, expiry=Timestamp(NOW + 101)), NOW) == 2
    assert traffic.slots(held(1, expiry=Timestamp(NOW - 5)), NOW) == 1
    assert taken(traffic, *(held(n, expiry=Timestamp(NOW + 200)) for n in range(1, 20))) == 2
    assert taken(traffic, held(40, expiry=Timestamp(NOW + 401), neighbour=PAYER)) == 0


def test_one_neighbour_gets_its_share_of_the_money():
    traffic = Traffic(LIMITS, Standing())
    assert taken(traffic, held(1, amount=Amount(501))) == 0
    assert taken(traffic, held(1, amount=Amount(500))) == 1
    # What is held has left `spendable`; of what there was, half is gone.
    assert taken(traffic, held(2, amount=Amount(1)), spendable=500, passed=500) == 0
    assert taken(traffic, held(3, amount=Amount(400), neighbour=PAYER), spendable=500, passed=500) == 1


def test_what_is_resolved_gives_its_room_back():
    standing = Standing()
    traffic = Traffic(LIMITS, standing)
    assert taken(traffic, *(held(n) for n in range(1, 9))) == 4
    standing.gone = {(IN, LockId(1)), (IN, LockId(2))}
    assert taken(traffic, *(held(n) for n in range(10, 20))) == 2


def test_locks_not_worth_resolving_are_counted_for_each_channel_and_in_all():
    standing = Standing()
    traffic = Traffic(LIMITS, standing)
    apart = [held(n, dust=True, neighbour=NodeId(bytes(32) + bytes([n]))) for n in range(1, 10)]
    assert taken(traffic, *apart, slots=64) == 3
    elsewhere = [
        held(n, dust=True, came=(ChannelId(bytes([n]) * 32), LockId(n)), out=ChannelId(bytes([n + 100]) * 32))
        for n in range(20, 30)
    ]
    assert taken(traffic, *elsewhere, slots=64) == 2
    assert taken(traffic, held(50, dust=False, neighbour=PAYER)) == 1
    standing.gone = {(IN, LockId(1))}
    assert taken(traffic, held(60, dust=True, neighbour=PAYER)) == 1


# ---- in a forwarder


@pytest.fixture
async def node(nursery: trio.Nursery) -> AsyncIterator[Hub]:
    with hub(nursery) as made:
        limits = Limits(slots_share=50, value_share=50, usual=Seconds(2_000), uneconomic=1)
        made.desk = made.book.arrivals = desk_of(made, limits)
        await start(made)
        yield made


def desk_of(made: Hub, limits: Limits) -> Desk:
    return Desk(
        made.book,
        made.store,
        made.world,
        NODE_KEY,
        policy=lambda _: POLICY,
        max_expiry=MAX_EXPIRY,
        limits=limits,
        costs=lambda _: Amount(20),
    )


async def offer(node: Hub, number: int, amount: int, expiry: int = OUT_EXPIRY) -> FailureCode | None:
    key = LockKey(sha256(sha256(bytes([number]))))
    packet = packet_on(node.out.id, amount, expiry, key)
    before = returned(node)
    await node.offered(packet, amount + 10, IN_EXPIRY + expiry - OUT_EXPIRY, key)
    return node.answer(packet) if returned(node) > before else None


async def test_a_neighbour_that_lets_locks_hang_gets_them_back_and_stays_open(node: Hub):
    answers = [await offer(node, number, 30) for number in range(1, 7)]
    assert answers == [None] * 4 + [FailureCode.TEMPORARY_CHANNEL_FAILURE] * 2  # of 8 slots
    assert node.into.actor.channel.phase is node.out.actor.channel.phase is Phase.OPEN
    assert len(node.waiting()) == 4
    first = min(lock.id for lock in node.waiting())
    node.out.peer.do(Fail(lock_id=first, reason=b"x" * 292))
    await node.settle()
    assert await offer(node, 9, 30) is None


async def test_a_burst_in_one_turn_is_counted_too(node: Hub):
    before = node.into.peer.channel.next_lock
    for number in range(1, 7):
        key = LockKey(sha256(sha256(bytes([number]))))
        packet = packet_on(node.out.id, 30, OUT_EXPIRY, key)
        node.into.peer.do(offer_event(packet.packet, 40, key))
    await node.settle()
    assert node.into.peer.channel.next_lock == before + 6
    assert len(node.waiting()) == 4


def returned(node: Hub) -> int:
    return sum(isinstance(one, Returned) for one in node.into.peer.notes)


def offer_event(packet: bytes, amount: int, key: LockKey) -> Offer:
    return Offer(tag=b"t", amount=Amount(amount), key=key, expiry=IN_EXPIRY, onion=packet)


async def test_half_of_the_money_is_left_to_others(node: Hub):
    assert await offer(node, 1, 499) is None
    assert await offer(node, 2, 30) is FailureCode.TEMPORARY_CHANNEL_FAILURE


async def test_half_of_the_money_is_left_to_others_by_a_burst_in_one_turn_too(node: Hub):
    """What has been offered and is not saved yet has not left `spendable`: it is no reason to allow more."""
    for number in range(1, 4):
        key = LockKey(sha256(sha256(bytes([number]))))
        packet = packet_on(node.out.id, 220, OUT_EXPIRY, key)
        node.into.peer.do(offer_event(packet.packet, 230, key))
    await node.settle()
    assert [lock.amount for lock in node.waiting()] == [220, 220]  # of 1,000


async def test_a_lock_worth_less_than_resolving_it_is_passed_on_once(node: Hub):
    assert await offer(node, 1, 19) is None
    assert await offer(node, 2, 19) is FailureCode.TEMPORARY_CHANNEL_FAILURE
    assert await offer(node, 3, 20) is None


async def test_r21_a_part_worth_less_than_resolving_it_counts_nothing(node: Hub):
    await node.invoice(100)
    for amount, answer in ((19, FailureCode.FINAL_INCORRECT_AMOUNT), (80, None)):
        packet = packet_here(payload_here(amount, 100))
        before = returned(node)
        await node.offered(packet, amount)
        assert (node.answer(packet) if returned(node) > before else None) is answer
    assert node.store.rows("SELECT state FROM invoices") == [("open",)]  # 99 of 100 came in, 80 count
    await node.offered(packet_here(payload_here(20, 100)), 20)
    assert node.store.rows("SELECT state FROM invoices") == [("paid",)]


async def test_payments_to_us_that_nobody_would_resolve_are_counted_with_those_we_pass_on(node: Hub):
    await node.invoice(15)
    packet = packet_here(payload_here(15, 15))
    assert await offer(node, 1, 19) is None
    await node.offered(packet, 15)
    assert node.answer(packet) is FailureCode.PAYMENT_TIMEOUT
    node.out.peer.do(Fail(lock_id=node.waiting()[0].id, reason=b"x" * 292))
    await node.settle()
    await node.offered(packet, 15)
    assert node.store.rows("SELECT state FROM invoices") == [("paid",)]


async def test_what_is_held_is_found_again_after_a_restart(node: Hub):
    for number in range(1, 4):
        assert await offer(node, number, 30) is None
    node.desk = node.book.arrivals = desk_of(node, Limits(slots_share=50, usual=Seconds(2_000)))
    node.desk.recover()
    assert [await offer(node, number, 30) for number in (4, 5)] == [None, FailureCode.TEMPORARY_CHANNEL_FAILURE]
    assert node.world.now == START
