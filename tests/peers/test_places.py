# mypy: disable-error-code="arg-type, union-attr"
"""Who gets in when strangers crowd the door: the rule by itself, and on loopback, which has addresses enough."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from random import Random

import pytest
import trio
import trio.testing

from channeld.base.errors import Unreachable
from channeld.base.keys import Key
from channeld.base.units import NodeId
from channeld.peers.listen import Caps, listen
from channeld.peers.places import Guest, Hall, origin_of
from channeld.peers.talk import PeerStream, fresh_key, greet
from channeld.wire.address import HostPort
from channeld.wire.messages import Ping, Pong, encode
from tests.peers.test_peers import LISTENER, LOOPBACK, echo

FRIEND = Key(b"\x44" * 32)


def guest(origin: str, node: NodeId | None = None) -> Guest:
    return Guest(origin=origin, scope=trio.CancelScope(), node=node)


def inside(hall: Hall, guests: Iterable[Guest]) -> list[Guest]:
    """Who of `guests` is left when all have come in this order."""
    left: list[Guest] = []
    for one in guests:
        left.append(one)
        loser = hall.enter(one)
        if loser is not None:
            left.remove(loser)
    return left


# ---- the rule


def test_a_crowd_from_one_address_displaces_itself():
    honest = guest("honest")
    crowd = [guest("crowd") for _ in range(100)]
    assert inside(Hall(8, 3), [crowd[0], honest, *crowd[1:]]) == [honest, *crowd[-3:]]


def test_the_largest_crowd_loses_first_and_its_oldest_first():
    hall = Hall(6, 4)
    many, few = [guest("many") for _ in range(4)], [guest("few") for _ in range(2)]
    newcomers = [guest("a"), guest("b"), guest("c")]
    # many has 4, 3, 2 when each comes; at two and two the oldest of both loses: the last but one of the many.
    assert inside(hall, [*many, *few, *newcomers]) == [many[3], *few, *newcomers]


def test_among_lone_guests_the_oldest_loses():
    alone = [guest(str(number)) for number in range(5)]
    assert inside(Hall(3, 2), alone) == alone[2:]


def test_who_left_has_no_place_and_leaving_twice_is_leaving_once():
    hall = Hall(2, 2)
    first, second = guest("a"), guest("a")
    assert inside(hall, [first, second]) == [first, second]
    for _ in range(2):
        hall.leave(first)
        assert len(hall) == 1
    assert hall.enter(guest("b")) is None
    assert hall.enter(guest("c")) is second  # the oldest of those alone at their address


def test_who_stays_takes_no_place():
    friend = NodeId(b"\2" * 33)
    hall = Hall(2, 1, lambda one: one.node == friend)
    friends = [guest("a", friend) for _ in range(10)]
    strangers = [guest("a"), guest("b")]
    assert inside(hall, [*friends, *strangers, *friends]) == [*friends, *strangers, *friends]


def test_who_has_become_a_friend_is_not_sent_away():
    friends: set[NodeId] = set()
    hall = Hall(2, 2, lambda one: one.node in friends)
    first, second = guest("a", NodeId(b"\2" * 33)), guest("a", NodeId(b"\3" * 33))
    assert inside(hall, [first, second]) == [first, second]
    friends.add(NodeId(b"\2" * 33))
    assert hall.enter(guest("a")) is None
    assert len(hall) == 2
    assert hall.enter(guest("b")) is second


def test_whatever_comes_and_goes_the_places_hold_and_the_newcomer_is_in():
    random = Random(4)
    hall = Hall(12, 4)
    left: list[Guest] = []
    for number in range(4_000):
        if left and random.random() < 0.3:
            gone = left.pop(random.randrange(len(left)))
            hall.leave(gone)
        newcomer = guest(f"crowd{random.randrange(3)}" if number % 2 else str(random.randrange(40)))
        before = {one.origin: sum(other.origin == one.origin for other in left) for one in left}
        loser = hall.enter(newcomer)
        left.append(newcomer)
        if loser is not None:
            assert loser is not newcomer
            assert loser.origin == newcomer.origin or before[loser.origin] == max(before.values())
            left.remove(loser)
        assert len(hall) == len(left) <= 12
        assert all(sum(other.origin == one.origin for other in left) <= 4 for one in left)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("x", "x"),
    ],
)
def test_an_origin_is_what_one_customer_has_to_itself(host: str, origin: str):
    assert origin_of(host) == origin


@pytest.mark.parametrize("places", [(0, 1), (1, 0), (-1, 3)])
def test_a_hall_without_places_is_a_mistake(places: tuple[int, int]):
    with pytest.raises(ValueError, match="places"):
        Hall(*places)


# ---- at the door, from addresses of loopback


async def call(at: HostPort, source: str) -> trio.SocketStream:
    return await trio.open_tcp_stream(at.host, at.port, local_address=source)


async def gets_in(at: HostPort, source: str, key: Key) -> PeerStream | None:
    """A connection that answers, or None for whoever was turned away."""
    stream = await call(at, source)
    try:
        peer = await greet(stream, key, LISTENER.public, ephemeral=fresh_key(), seconds=5)
        await peer.send([encode(Ping(pad=3))])
        assert await peer.receive() == [Pong(pad=3)]
    except Unreachable:
        await trio.aclose_forcefully(stream)
        return None
    return peer


async def is_open(peer: PeerStream) -> bool:
    try:
        await peer.send([encode(Ping(pad=4))])
        return await peer.receive() == [Pong(pad=4)]
    except Unreachable:
        return False


SMALL = Caps(connections=6, from_one=3, strangers=6, strangers_from_one=2, handshake_seconds=300)


async def test_sixty_half_open_sockets_of_one_address_shut_nobody_out(nursery: trio.Nursery):
    at = await nursery.start(partial(listen, LOOPBACK, LISTENER, echo, caps=SMALL))
    silent = [await call(at, "127.0.0.2") for _ in range(60)]
    try:
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.fail_after(20):
            for source in ("127.0.0.3", "127.0.0.2"):  # even from the same address
                peer = await gets_in(at, source, fresh_key())
                assert peer is not None
                await peer.aclose()
    finally:
        for stream in silent:
            await stream.aclose()


async def test_half_open_sockets_of_sixty_addresses_shut_nobody_out(nursery: trio.Nursery):
    at = await nursery.start(partial(listen, LOOPBACK, LISTENER, echo, caps=SMALL))
    silent = [await call(at, f"127.0.1.{number}") for number in range(1, 61)]
    try:
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.fail_after(20):
            peer = await gets_in(at, "127.0.0.3", fresh_key())
            assert peer is not None
            await peer.aclose()
            closed = 0
            for stream in silent[:54]:
                closed += await was_closed(stream)
            assert closed == 54
    finally:
        for stream in silent:
            await stream.aclose()


async def was_closed(stream: trio.SocketStream) -> bool:
    try:
        return await stream.receive_some(1) == b""
    except trio.BrokenResourceError:
        return True


async def test_a_crowd_that_shook_hands_loses_to_a_newcomer_and_a_peer_with_a_channel_loses_to_nobody(
    nursery: trio.Nursery,
):
    door = partial(listen, LOOPBACK, LISTENER, echo, caps=SMALL, known=lambda node: node == FRIEND.public)
    at = await nursery.start(door)
    with trio.fail_after(60):
        friend = await gets_in(at, "127.0.0.2", FRIEND)
        lone = await gets_in(at, "127.0.0.9", fresh_key())
        crowd = [await gets_in(at, "127.0.0.2", fresh_key()) for _ in range(10)]
        more = [await gets_in(at, "127.0.0.4", fresh_key()) for _ in range(10)]
        newcomer = await gets_in(at, "127.0.0.3", fresh_key())
        assert all(peer is not None for peer in (friend, lone, newcomer, *crowd, *more))
        assert await is_open(friend)
        assert await is_open(lone)
        assert await is_open(newcomer)
        stand = [await is_open(peer) for peer in crowd], [await is_open(peer) for peer in more]
        assert [sum(one) for one in stand] == [2, 2]
        again = await gets_in(at, "127.0.0.2", FRIEND)  # though its address is crowded
        assert again is not None
        assert await is_open(again)
        for peer in (friend, lone, newcomer, again, *crowd, *more):
            await peer.aclose()
