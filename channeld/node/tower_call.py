"""Talking to a tower: one question at a time, over a connection made when needed, and made again when stale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from channeld.base.errors import Unreachable
from channeld.base.keys import Key
from channeld.peers.net import Net
from channeld.peers.talk import PeerStream
from channeld.wire.address import NodeAddress
from channeld.wire.messages import Message, Ping, Pong, encode

ANSWER_SECONDS: Final = 15.0
BURST: Final = 20
PER_SECOND: Final = 1.5
"""Uploads over time: a tower cuts a client that asks for more than two a second."""


class NoPromise(Unreachable):
    """The tower answered, but promises nothing now."""


class TowerCall:
    """A line to a tower with one static key. `address` is asked at each dialling, since it may change."""

    def __init__(self, address: Callable[[], NodeAddress], key: Key, net: Net) -> None:
        self._address, self._key, self._net = address, key, net
        self._stream: PeerStream | None = None
        self._waiting: list[Message] = []
        self._credit, self._credited = float(BURST), trio.current_time()

    async def ask(self, message: Message) -> Message:
        """The tower's answer.

        Raises:
            Unreachable: there is no connection or no answer; PeerFault: somebody else is there, or talks nonsense.
        """
        if self._stream is not None:
            try:
                return await self._say(self._stream, message)
            except Unreachable:
                await self.hang_up()
        self._stream = await self._net.dial(self._address(), self._key)
        return await self._say(self._stream, message)

    async def _say(self, stream: PeerStream, message: Message) -> Message:
        with trio.move_on_after(ANSWER_SECONDS):
            await stream.send([encode(message)])
            while True:
                while not self._waiting:
                    self._waiting = await stream.receive()
                answer = self._waiting.pop(0)
                if isinstance(answer, Ping):
                    await stream.send([encode(Pong(pad=answer.pad))])
                elif not isinstance(answer, Pong):
                    return answer
        raise Unreachable(f"no answer within {ANSWER_SECONDS:g} s")

    async def hang_up(self) -> None:
        """End the connection, if there is one."""
        stream, self._stream, self._waiting = self._stream, None, []
        if stream is not None:
            with trio.CancelScope(shield=True):
                await stream.aclose()

    async def pace(self) -> None:
        """Wait for a turn: a short burst is free, over time the tower's patience is not."""
        while True:
            now = trio.current_time()
            self._credit = min(float(BURST), self._credit + (now - self._credited) * PER_SECOND)
            self._credited = now
            if self._credit >= 1:
                self._credit -= 1
                return
            await trio.sleep((1 - self._credit) / PER_SECOND)
