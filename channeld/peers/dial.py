"""Finding a peer, and finding it again: dial once, or keep connected for as long as the caller likes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from channeld.base.errors import PeerFault, Unreachable
from channeld.base.keys import Key
from channeld.peers.talk import HANDSHAKE_SECONDS, PeerStream, fresh_key, greet
from channeld.wire.address import HostPort, NodeAddress

log: Final = logging.getLogger(__name__)


async def open_tcp(at: HostPort) -> trio.abc.Stream:
    """A bare connection; OSError if there is none."""
    return await trio.open_tcp_stream(at.host, at.port)


async def dial(
    address: NodeAddress,
    static: Key,
    *,
    ephemeral: Key | None = None,
    seconds: float = HANDSHAKE_SECONDS,
    connect: Callable[[HostPort], Awaitable[trio.abc.Stream]] = open_tcp,
) -> PeerStream:
    """A connection to `address`, handshake done.

    Args:
        static: our node key (or the key that we show to a tower).
        ephemeral: a fresh key; made here if not given.
        seconds: for connecting, and once more for the handshake.
        connect: makes the bare connection, or raises OSError.

    Raises:
        Unreachable: nobody there, or no answer in time.
        PeerFault: somebody else is there.
    """
    try:
        with trio.fail_after(seconds):
            stream = await connect(address.at)
    except trio.TooSlowError:
        raise Unreachable(f"no connection to {address.at} within {seconds:g} s") from None
    except OSError as fault:
        raise Unreachable(f"no connection to {address.at}: {fault.strerror or fault}") from None
    return await greet(stream, static, address.node, ephemeral=ephemeral or fresh_key(), seconds=seconds)


async def keep_connected(
    connect: Callable[[], Awaitable[PeerStream]],
    talk: Callable[[PeerStream], Awaitable[None]],
    *,
    name: str,
    first_delay: float = 0.5,
    longest_delay: float = 60.0,
    steady: float = 30.0,
    stretch: Callable[[], float] = lambda: 1.0,
) -> None:
    """Dial, talk, and dial again when that ends, until cancelled.

    Args:
        connect: makes one connection; `partial(dial, address, static)`.
        talk: called with each connection, which is closed when it returns. `PeerFault` and `Unreachable` from it
            are answered by dialling again; any other error ends this.
        name: of the peer, for the log.
        first_delay: seconds before the second try; each further one waits twice as long.
        longest_delay: most seconds between tries.
        steady: a connection that lasted so many seconds makes the next wait short again.
        stretch: factor for each wait, drawn anew, so that many nodes do not come back at once.
    """
    delay = first_delay
    while True:
        begun = trio.current_time()
        try:
            async with await connect() as peer:
                begun = trio.current_time()
                await talk(peer)
            fault: PeerFault | Unreachable = Unreachable("the talk was over")
        except (PeerFault, Unreachable) as error:
            fault = error
        if trio.current_time() - begun >= steady:
            delay = first_delay
        wait = min(delay, longest_delay) * stretch()
        log.info("peer=%s gone, dialling again in %.1f s: %s", name, wait, fault)
        await trio.sleep(wait)
        delay = min(delay * 2, longest_delay)
