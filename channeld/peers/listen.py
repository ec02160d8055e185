"""The door: accept connections, shake hands, and hand each peer to whoever wants to talk with it.

Strangers cost little: a connection that has not shown a key yet counts towards a small cap and lives a few
seconds, all connections count towards another, and beyond either a newcomer is closed at once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from channeld.base.errors import PeerFault, Unreachable
from channeld.base.keys import Key
from channeld.base.units import short
from channeld.peers.talk import HANDSHAKE_SECONDS, PeerStream, fresh_key, welcome
from channeld.wire.address import HostPort

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How many connections at once: in all, and of those before their handshake is done; and its seconds."""

    connections: int = 1_024
    strangers: int = 64
    handshake_seconds: float = HANDSHAKE_SECONDS


class _Count:
    __slots__ = ("connections", "strangers")

    def __init__(self) -> None:
        self.connections = 0
        self.strangers = 0


async def bind_tcp(at: HostPort) -> tuple[HostPort, Sequence[trio.abc.Listener[trio.abc.Stream]]]:
    """Listeners at `at`, and where they are (port 0 picks one); OSError if they cannot be."""
    listeners = await trio.open_tcp_listeners(at.port, host=at.host)
    host, port = listeners[0].socket.getsockname()[:2]
    return HostPort(host=host, port=port), listeners


async def listen(
    at: HostPort,
    static: Key,
    talk: Callable[[PeerStream], Awaitable[None]],
    *,
    caps: Caps = Caps(),
    key: Callable[[], Key] = fresh_key,
    bind: Callable[[HostPort], Awaitable[tuple[HostPort, Sequence[trio.abc.Listener[trio.abc.Stream]]]]] = bind_tcp,
    task_status: trio.TaskStatus[HostPort] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept peers at `at` until cancelled; `task_status` gets the address in use (port 0 picks one).

    Args:
        static: our node key.
        talk: called for each peer in a task of its own; the stream is closed when it returns. `PeerFault` and
            `Unreachable` from it end that connection only; any other error ends the listener.
        key: makes a fresh ephemeral key for each handshake.
        bind: opens the listeners and says where they are, or raises OSError.

    Raises:
        Unreachable: the address cannot be listened at (in use, not ours).
    """
    count = _Count()

    async def serve(stream: trio.abc.Stream) -> None:
        if count.strangers >= caps.strangers or count.connections >= caps.connections:
            log.info("connection refused: %d open, %d of them strangers", count.connections, count.strangers)
            await trio.aclose_forcefully(stream)
            return
        count.connections += 1
        try:
            await _serve(stream, static, talk, caps, key(), count)
        finally:
            count.connections -= 1

    try:
        where, listeners = await bind(at)
    except OSError as fault:
        raise Unreachable(f"cannot listen at {at}: {fault.strerror or fault}") from None
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        task_status.started(where)


async def _serve(
    stream: trio.abc.Stream,
    static: Key,
    talk: Callable[[PeerStream], Awaitable[None]],
    caps: Caps,
    ephemeral: Key,
    count: _Count,
) -> None:
    """One connection from its first byte to its last."""
    count.strangers += 1
    try:
        peer = await welcome(stream, static, ephemeral=ephemeral, seconds=caps.handshake_seconds)
    except (PeerFault, Unreachable) as fault:
        log.info("no handshake: %s", fault)
        return
    finally:
        count.strangers -= 1
    async with peer:
        try:
            await talk(peer)
        except (PeerFault, Unreachable) as fault:
            log.info("peer=%s gone: %s", short(peer.remote[1:]), fault)
