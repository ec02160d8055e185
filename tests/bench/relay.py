"""A wire of some length: a TCP relay that hands on what it gets a while later, in order, as much at once as there is.

`python -m tests.bench.relay HOST:PORT MS [MS…]` listens at a free port of 127.0.0.1, says where in a line of JSON, and
connects each caller to HOST:PORT. What either side sends arrives so many milliseconds later: at first the first of the
numbers; SIGUSR1 goes on to the next, round and round. It limits nothing: whatever is on its way waits in its memory.
"""

from __future__ import annotations

import itertools
import json
import math
import signal
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio

from channeld.wire.address import host_port

CHUNK: Final = 65_536


@dataclass(slots=True)
class Delay:
    """Seconds from one end to the other, now."""

    seconds: float = 0.0


async def relay(stream: trio.SocketStream, to: tuple[str, int], delay: Delay) -> None:
    """One connection, until both sides have ended or one has broken."""
    try:
        async with stream, await trio.open_tcp_stream(*to) as onward, trio.open_nursery() as nursery:
            nursery.start_soon(carry, stream, onward, delay)
            nursery.start_soon(carry, onward, stream, delay)
    except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the other side hears it by the connection's end


async def carry(source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream, delay: Delay) -> None:
    """One direction, until `source` ends; then `sink` hears the end."""
    put, take = trio.open_memory_channel[tuple[float, bytes]](math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hand_on, take, sink)
        async with put:
            while chunk := await source.receive_some(CHUNK):
                put.send_nowait((trio.current_time() + delay.seconds, bytes(chunk)))


async def _hand_on(take: trio.MemoryReceiveChannel[tuple[float, bytes]], sink: trio.abc.HalfCloseableStream) -> None:
    async for due, chunk in take:
        await trio.sleep_until(due)
        await sink.send_all(chunk)
    await sink.send_eof()


async def serve(to: str, milliseconds: list[float]) -> None:
    at, turns, delay = host_port(to), itertools.cycle(milliseconds), Delay()

    def turn(*_: Any) -> None:
        delay.seconds = next(turns) / 1e3

    turn()
    signal.signal(signal.SIGUSR1, turn)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(json.dumps({"listen": f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"}), flush=True)
    await trio.serve_listeners(partial(relay, to=(at.host, at.port), delay=delay), listeners)


if __name__ == "__main__":
    trio.run(serve, sys.argv[1], [float(word) for word in sys.argv[2:]])
