# mypy: disable-error-code="arg-type"
"""Two real sockets on loopback: handshake, batches, and what rude strangers get."""

from __future__ import annotations

import socket
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from channeld.base.errors import Answer, PeerFault, Unreachable
from channeld.base.keys import Key
from channeld.peers.dial import dial, keep_connected
from channeld.peers.listen import Caps, listen
from channeld.peers.talk import PeerStream, fresh_key, greet, welcome
from channeld.wire.address import HostPort, NodeAddress
from channeld.wire.handshake import Initiator
from channeld.wire.messages import Ping, Pong, Transfer, encode

DIALLER = Key(b"\x11" * 32)
LISTENER = Key(b"\x22" * 32)
LOOPBACK = HostPort(host="127.0.0.1", port=0)


def transfer(number: int) -> Transfer:
    return Transfer(channel_id=bytes(32), version=1, payment_id=number.to_bytes(16, "big"), amount=1)


async def echo(peer: PeerStream) -> None:
    """Answer each ping until the peer goes."""
    while True:
        pings = await peer.receive()
        await peer.send([encode(Pong(pad=ping.pad)) for ping in pings if isinstance(ping, Ping)])


async def pair() -> tuple[PeerStream, PeerStream]:
    """Two ends of a connection in memory, handshake done."""
    ends: list[PeerStream] = []
    left, right = trio.testing.memory_stream_pair()

    async def near() -> None:
        ends.insert(0, await greet(left, DIALLER, LISTENER.public, ephemeral=fresh_key()))

    async def far() -> None:
        ends.append(await welcome(right, LISTENER, ephemeral=fresh_key()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(near)
        nursery.start_soon(far)
    dialled, accepted = ends
    return (dialled, accepted) if dialled.remote == LISTENER.public else (accepted, dialled)


async def test_two_nodes_talk_over_tcp_and_know_each_other(nursery):
    met = []

    async def talk(peer: PeerStream) -> None:
        met.append(peer.remote)
        await echo(peer)

    at = await nursery.start(partial(listen, LOOPBACK, LISTENER, talk))
    async with await dial(NodeAddress(node=LISTENER.public, at=at), DIALLER) as peer:
        assert peer.remote == LISTENER.public
        await peer.send([encode(Ping(pad=number)) for number in range(5)])
        pongs: list[Any] = []
        while len(pongs) < 5:
            pongs += await peer.receive()
        assert pongs == [Pong(pad=number) for number in range(5)]
        assert met == [DIALLER.public]
        assert peer._stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # type: ignore[attr-defined]


async def test_batches_keep_their_order_through_key_rotation():
    near, far = await pair()
    sent = [transfer(number) for number in range(3_000)]

    async def send() -> None:
        for start in range(0, len(sent), 700):
            await near.send([encode(message) for message in sent[start : start + 700]])

    got: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while len(got) < len(sent):
            batch = await far.receive()
            assert batch
            got += batch
    assert got == sent


async def test_writers_take_turns():
    near, far = await pair()
    async with trio.open_nursery() as nursery:
        for pad in range(20):
            nursery.start_soon(near.send, [encode(Ping(pad=pad)), encode(Pong(pad=pad))])
        got: list[Any] = []
        while len(got) < 40:
            got += await far.receive()
    assert [type(message) for message in got] == [Ping, Pong] * 20
    assert all(ping.pad == pong.pad for ping, pong in zip(got[::2], got[1::2], strict=True))


async def test_garbage_inside_the_encryption_is_the_peers_fault():
    near, far = await pair()
    await near.send([b"garbage"])
    with pytest.raises(PeerFault) as caught:
        await far.receive()
    assert caught.value.answer is Answer.DISCONNECT


async def test_a_meddled_stream_is_the_peers_fault():
    near, far = await pair()
    await near._stream.send_all(bytes(100))
    with pytest.raises(PeerFault):
        await far.receive()


async def test_the_end_is_unreachable_for_both():
    near, far = await pair()
    await near.aclose()
    with pytest.raises(Unreachable):
        await far.receive()
    with pytest.raises(Unreachable):
        await near.receive()
    with pytest.raises(Unreachable):
        await near.send([encode(Ping())])


async def test_a_cancelled_send_ends_the_stream(autojump_clock):
    left, right = trio.testing.lockstep_stream_pair()  # writes wait for the reader
    near = far = None

    async def greets() -> None:
        nonlocal near
        near = await greet(left, DIALLER, LISTENER.public, ephemeral=fresh_key())

    async def welcomes() -> None:
        nonlocal far
        far = await welcome(right, LISTENER, ephemeral=fresh_key())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(greets)
        nursery.start_soon(welcomes)
    assert near is not None
    with trio.move_on_after(1):
        await near.send([encode(Ping())])
    with pytest.raises(Unreachable):
        await near.send([encode(Ping())])


async def test_the_wrong_key_is_not_let_in(nursery):
    at = await nursery.start(partial(listen, LOOPBACK, LISTENER, echo))
    with pytest.raises((Unreachable, PeerFault)):
        await dial(NodeAddress(node=Key(b"\x33" * 32).public, at=at), DIALLER)


async def test_a_stranger_that_says_nothing_is_closed_in_time(nursery):
    at = await nursery.start(partial(listen, LOOPBACK, LISTENER, echo, caps=Caps(handshake_seconds=0.05)))
    stream = await trio.open_tcp_stream(at.host, at.port)
    with trio.fail_after(5):
        assert await read_to_end(stream) == b""


async def test_a_server_that_says_nothing_is_left_in_time(nursery, autojump_clock):
    left, right = trio.testing.memory_stream_pair()
    with pytest.raises(Unreachable, match="within 3 s"):
        await greet(left, DIALLER, LISTENER.public, ephemeral=fresh_key(), seconds=3)
    assert await right.receive_some(100)  # act one
    assert await right.receive_some(100) == b""


@pytest.mark.parametrize("rude", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3, bytes(50), b"\x00\x02" + b"\xff" * 200])
async def test_a_stranger_that_talks_garbage_is_closed_and_the_listener_lives(nursery, rude):
    at = await nursery.start(partial(listen, LOOPBACK, LISTENER, echo))
    stream = await trio.open_tcp_stream(at.host, at.port)
    await stream.send_all(rude)
    with trio.fail_after(5):
        assert await read_to_end(stream) == b""
        async with await dial(NodeAddress(node=LISTENER.public, at=at), DIALLER) as peer:
            await peer.send([encode(Ping(pad=3))])
            assert await peer.receive() == [Pong(pad=3)]


async def test_garbage_after_the_handshake_ends_that_connection_only(nursery):
    at = await nursery.start(partial(listen, LOOPBACK, LISTENER, echo))
    address = NodeAddress(node=LISTENER.public, at=at)
    async with await dial(address, DIALLER) as rude, await dial(address, DIALLER) as peer:
        await rude.send([b"garbage"])
        with pytest.raises(Unreachable):
            await rude.receive()
        await peer.send([encode(Ping(pad=3))])
        assert await peer.receive() == [Pong(pad=3)]


async def test_a_port_in_use_and_a_port_where_nobody_is(nursery):
    at = await nursery.start(partial(listen, LOOPBACK, LISTENER, echo))
    with pytest.raises(Unreachable, match=str(at.port)):
        await listen(at, LISTENER, echo)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = HostPort(host="127.0.0.1", port=free.getsockname()[1])
        with pytest.raises(Unreachable, match=str(nobody.port)):
            await dial(NodeAddress(node=LISTENER.public, at=nobody), DIALLER)


async def test_a_peer_is_found_again_with_longer_and_longer_waits(nursery, autojump_clock):
    tries: list[float] = []
    talks = 0

    async def talk(peer: PeerStream) -> None:
        nonlocal talks
        talks += 1
        if talks == 1:
            await trio.sleep(100)  # steady: the next wait is short again
        raise Unreachable("gone")

    async def connect() -> PeerStream:
        tries.append(trio.current_time())
        if len(tries) in (4, 6):
            near, _far = await pair()
            return near
        raise Unreachable("nobody there")

    nursery.start_soon(
        partial(
            keep_connected,
            connect,
            talk,
            name="listener",
            first_delay=1,
            longest_delay=4,
            steady=30,
            stretch=lambda: 1.0,
        )
    )
    await trio.sleep(130)
    waits = [round(after - before) for before, after in pairwise(tries)]
    assert waits[:7] == [1, 2, 4, 101, 2, 4, 4]
    assert talks == 2


async def read_to_end(stream: trio.SocketStream) -> bytes:
    """What the other side says until it closes, however rudely."""
    got = b""
    try:
        while more := await stream.receive_some(4096):
            got += bytes(more)
    except trio.BrokenResourceError:
        pass
    await stream.aclose()
    return got


async def test_a_message_right_behind_the_handshake_is_not_lost():
    left, right = trio.testing.memory_stream_pair()
    initiator = Initiator(DIALLER, fresh_key(), LISTENER.public)

    async def dialler() -> None:
        await left.send_all(initiator.act_one())
        act, transport = initiator.act_three(bytes(await left.receive_some(50)))
        await left.send_all(act + transport.encrypt(encode(Ping(pad=9))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialler)
        peer = await welcome(right, LISTENER, ephemeral=fresh_key())
        assert await peer.receive() == [Ping(pad=9)]
