"""Strangers' turns: so many in a second whatever comes, the newest first, and none for who is known by its address."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from channeld.base.keys import Key
from channeld.base.units import NodeId
from channeld.peers.listen import Caps, listen
from channeld.peers.pace import Pace
from channeld.peers.talk import PeerStream, fresh_key, greet
from channeld.wire.address import HostPort
from tests.peers.test_peers import LISTENER, LOOPBACK, echo


async def _wait(pace: Pace, name: int, served: list[int]) -> None:
    await pace.turn()
    served.append(name)


async def test_a_burst_then_so_many_in_a_second(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock):
    pace, served = Pace(10, 4), list[int]()
    nursery.start_soon(pace.run)
    for name in range(100):
        nursery.start_soon(_wait, pace, name, served)
    await trio.testing.wait_all_tasks_blocked()
    assert len(served) == 4
    await trio.sleep(3.05)
    assert 32 <= len(served) <= 34
    await trio.sleep(100)
    assert len(served) == 100
    begun = trio.current_time()
    for name in range(4):  # idle for long: a burst again, no more
        await _wait(pace, name, served)
    assert trio.current_time() == begun
    await _wait(pace, 4, served)
    assert trio.current_time() > begun


async def test_the_newest_is_next_and_who_left_takes_no_turn(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
):
    pace, served = Pace(1, 1), list[int]()
    nursery.start_soon(pace.run)
    await pace.turn()
    with trio.move_on_after(0.5):
        async with trio.open_nursery() as gone:
            gone.start_soon(_wait, pace, 7, served)
    for name in range(3):
        nursery.start_soon(_wait, pace, name, served)
        await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(10)
    assert served == [2, 1, 0]


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0)])
def test_no_pace_is_none(rate: int, burst: int):
    with pytest.raises(ValueError, match="at least one"):
        Pace(rate, burst)


async def _greeted(at: HostPort, host: str, key: Key) -> PeerStream:
    stream = await trio.open_tcp_stream(at.host, at.port, local_address=host)
    return await greet(stream, key, LISTENER.public, ephemeral=fresh_key())


async def test_strangers_wait_for_their_turn_and_a_known_peers_address_does_not(nursery: trio.Nursery):
    """Handshakes that are done in the time that four turns and a burst of four take; real sockets on loopback."""
    friend, done = fresh_key(), list[str]()

    def known(node: NodeId) -> bool:
        return node == friend.public

    serve = partial(listen, LOOPBACK, LISTENER, echo, caps=Caps(turns=1, handshake_seconds=30.0), known=known)
    at: HostPort = await nursery.start(serve)
    first = await _greeted(at, "127.5.0.1", friend)  # one turn; from now on the address is known
    await first.aclose()

    async def stranger(number: int) -> None:
        async with await _greeted(at, f"127.5.1.{number + 1}", fresh_key()):
            done.append("stranger")
            await trio.sleep_forever()

    async with trio.open_nursery() as crowd:
        for number in range(30):
            crowd.start_soon(stranger, number)
        await trio.sleep(0.3)
        for _ in range(20):  # far more than turns there are
            again = await _greeted(at, "127.5.0.1", friend)
            await again.aclose()
        assert 3 <= len(done) <= 10
        crowd.cancel_scope.cancel()
