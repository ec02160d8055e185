"""The door: accept connections, shake hands, and hand each peer to whoever wants to talk with it.

Strangers cost little: a connection that has not shown a key yet lives a few seconds and takes one of a few places; a
peer that shook hands takes one of some more unless it is `known`, as who has a channel with us is. Both halls let a
newcomer in and send somebody of the largest crowd away (`places`), so that nobody can fill them against others. And
strangers' handshakes begin at a pace (`pace`), for turning places over costs us work: who comes from an address from
which a known peer has come needs not wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from channeld.base.errors import PeerFault, Unreachable
from channeld.base.keys import Key
from channeld.base.units import NodeId, short
from channeld.peers.caps import USUAL
from channeld.peers.caps import Caps as Caps
from channeld.peers.pace import Pace
from channeld.peers.places import Guest, Hall, origin_of
from channeld.peers.talk import PeerStream, fresh_key, welcome
from channeld.wire.address import HostPort

log: Final = logging.getLogger(__name__)
MOST_FAMILIAR: Final = 4_096


def nobody(_: NodeId) -> bool:
    """Who is known where nobody is."""
    return False


def source(stream: trio.abc.Stream) -> str:
    """The host at the other end of a TCP connection, as numbers; "" for one that is none, or has ended."""
    if not isinstance(stream, trio.SocketStream):
        return ""
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return ""


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
    caps: Caps = USUAL,
    known: Callable[[NodeId], bool] = nobody,
    key: Callable[[], Key] = fresh_key,
    bind: Callable[[HostPort], Awaitable[tuple[HostPort, Sequence[trio.abc.Listener[trio.abc.Stream]]]]] = bind_tcp,
    task_status: trio.TaskStatus[HostPort] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept peers at `at` until cancelled; `task_status` gets the address in use (port 0 picks one).

    Args:
        static: our node key.
        talk: called for each peer in a task of its own; the stream is closed when it returns. `PeerFault` and
            `Unreachable` from it end that connection only; any other error ends the listener.
        known: whether that peer has a place of its own, whatever the caps say.
        key: makes a fresh ephemeral key for each handshake.
        bind: opens the listeners and says where they are, or raises OSError.

    Raises:
        Unreachable: the address cannot be listened at (in use, not ours).
    """
    before = Hall(caps.strangers, caps.strangers_from_one)
    after = Hall(caps.connections, caps.from_one, lambda guest: guest.node is not None and known(guest.node))
    pace = Pace(caps.turns, 4 * caps.turns)
    familiar: dict[str, None] = {}
    """Origins from which a known peer has come, oldest first."""

    async def serve(stream: trio.abc.Stream) -> None:
        guest = Guest(origin=origin_of(source(stream)), scope=trio.CancelScope())
        with guest.scope:
            peer = await _welcomed(stream, guest, static, caps.handshake_seconds, key, before, pace, familiar)
            if peer is None:
                return
            if known(peer.remote):
                familiar.pop(guest.origin, None)
                familiar[guest.origin] = None
                if len(familiar) > MOST_FAMILIAR:
                    del familiar[next(iter(familiar))]
            await _served(peer, guest, talk, after)

    try:
        where, listeners = await bind(at)
    except OSError as fault:
        raise Unreachable(f"cannot listen at {at}: {fault.strerror or fault}") from None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pace.run)
        await nursery.start(trio.serve_listeners, serve, listeners)
        task_status.started(where)


@contextmanager
def _inside(hall: Hall, guest: Guest) -> Iterator[None]:
    """A place in `hall`; whoever has to go for it is told."""
    loser = hall.enter(guest)
    if loser is not None:
        who = "a stranger" if loser.node is None else f"peer={short(loser.node[1:])}"
        log.info("%s from %s makes room for a newer one", who, loser.origin)
        loser.scope.cancel()
    try:
        yield
    finally:
        hall.leave(guest)


async def _welcomed(
    stream: trio.abc.Stream,
    guest: Guest,
    static: Key,
    seconds: float,
    key: Callable[[], Key],
    before: Hall,
    pace: Pace,
    familiar: Container[str],
) -> PeerStream | None:
    """One connection up to the end of its handshake; None if that fails."""
    try:
        with _inside(before, guest):
            if guest.origin not in familiar:
                with trio.move_on_after(seconds) as waiting:
                    await pace.turn()
                if waiting.cancelled_caught:
                    raise Unreachable("too many strangers")
            peer = await welcome(stream, static, ephemeral=key(), seconds=seconds)
    except (PeerFault, Unreachable) as fault:
        log.info("no handshake: %s", fault)
        await trio.aclose_forcefully(stream)
        return None
    guest.node, peer.origin = peer.remote, guest.origin
    return peer


async def _served(peer: PeerStream, guest: Guest, talk: Callable[[PeerStream], Awaitable[None]], after: Hall) -> None:
    """The rest of a connection."""
    async with peer:
        try:
            with _inside(after, guest):
                await talk(peer)
        except (PeerFault, Unreachable) as fault:
            log.info("peer=%s gone: %s", short(peer.remote[1:]), fault)
