"""How a node reaches others and is reached: two calls, made over TCP unless whoever starts the node passes others.

Everything above it sees `PeerStream`s only. A program that runs several nodes at once (the tests do) passes a `Net` of
its own, in which a connection is two ends in memory; handshake, transport and the caps on strangers stay the same,
since `dial` and `listen` take the bare streams from where they are told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from channeld.base.keys import Key
from channeld.base.units import NodeId
from channeld.peers.dial import dial
from channeld.peers.listen import Caps, listen
from channeld.peers.talk import PeerStream
from channeld.wire.address import HostPort, NodeAddress


class Net(Protocol):
    """See `dial.dial` and `listen.listen` for what may be raised."""

    async def dial(self, address: NodeAddress, static: Key) -> PeerStream:
        """A connection to that node, handshake done."""
        ...

    async def listen(
        self,
        at: HostPort,
        static: Key,
        talk: Callable[[PeerStream], Awaitable[None]],
        *,
        caps: Caps,
        known: Callable[[NodeId], bool],
        task_status: trio.TaskStatus[HostPort] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Take connections until cancelled; `task_status` gets the address in use."""
        ...


class Tcp:
    """The network that there is."""

    async def dial(self, address: NodeAddress, static: Key) -> PeerStream:
        return await dial(address, static)

    async def listen(
        self,
        at: HostPort,
        static: Key,
        talk: Callable[[PeerStream], Awaitable[None]],
        *,
        caps: Caps,
        known: Callable[[NodeId], bool],
        task_status: trio.TaskStatus[HostPort] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await listen(at, static, talk, caps=caps, known=known, task_status=task_status)
