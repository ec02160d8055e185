"""One connection with one peer: a trio stream with a BOLT 8 transport round it.

`welcome` and `greet` shake hands, each within a time limit, and give a `PeerStream` whose `remote` is proven.
Messages go out in batches, encrypted and written at once, and come in as batches: whatever the socket had.
Nothing is read ahead: whoever does not call `receive` holds the peer back, so that what a peer can make us
keep is bounded by one read and one message. A time limit on silence belongs to the caller.

Faults: `PeerFault(DISCONNECT)` when the peer breaks the encoding, `Unreachable` when the connection ends.
Either way the stream is no use any more; leaving `async with` closes it.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final

import trio

from channeld.base.errors import Answer, Malformed, PeerFault, Unreachable
from channeld.base.keys import Key
from channeld.base.units import NodeId
from channeld.peers.caps import HANDSHAKE_SECONDS as HANDSHAKE_SECONDS
from channeld.wire.handshake import ACT_ONE_BYTES, ACT_THREE_BYTES, ACT_TWO_BYTES, Initiator, Responder
from channeld.wire.messages import Message, decode
from channeld.wire.transport import Transport

READ_BYTES: Final = 131_072
"""Most bytes taken from the socket at once."""

_gone = (trio.BrokenResourceError, trio.ClosedResourceError)


def fresh_key() -> Key:
    """An ephemeral key for one handshake, from the system's randomness."""
    while True:
        try:
            return Key(secrets.token_bytes(32))
        except ValueError:  # not below the group's order: chance 2**-127
            continue


class PeerStream:
    """An encrypted stream of messages with `remote`. For one reading task and any number of writing ones."""

    def __init__(self, stream: trio.abc.Stream, transport: Transport) -> None:
        self._stream = stream
        self._transport = transport
        self._turn = trio.Lock()
        self._half_written = False
        self.origin = ""
        """Where it came from (`peers.places.origin_of`); "" if we dialled."""

    @property
    def remote(self) -> NodeId:
        """The peer's node id, 33 bytes, proven by the handshake."""
        return self._transport.remote

    async def send(self, messages: Sequence[bytes]) -> None:
        """Write encoded messages in this order, in one piece, when the peer lets us.

        A send that is cancelled half-way leaves the stream without sense; later ones are refused.

        Raises:
            Unreachable: the connection has ended.
            ValueError: a message is longer than 65,535 bytes.
        """
        if self._turn.locked():
            await self._turn.acquire()
        else:  # the usual case, without a turn of the scheduler
            self._turn.acquire_nowait()
        try:
            if self._half_written:
                raise Unreachable("the connection was given up in the middle of a message")
            encrypt = self._transport.encrypt
            self._half_written = True
            data = b"".join([encrypt(message) for message in messages])
            try:
                await self._stream.send_all(data)
            except _gone:
                raise Unreachable("the peer has closed the connection") from None
            self._half_written = False
        finally:
            self._turn.release()

    async def receive(self) -> list[Message]:
        """The next messages, one or more.

        Raises:
            PeerFault: what came is no message, or was meddled with.
            Unreachable: the connection has ended.
        """
        while True:
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except _gone:
                raise Unreachable("the connection broke") from None
            if not data:
                raise Unreachable("the peer has closed the connection")
            try:
                messages = [decode(plain) for plain in self._transport.receive(bytes(data))]
            except Malformed as fault:
                raise PeerFault(Answer.DISCONNECT, str(fault)) from None
            if messages:
                return messages

    async def aclose(self) -> None:
        """Close at once, without a word."""
        await trio.aclose_forcefully(self._stream)

    async def __aenter__(self) -> PeerStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def greet(
    stream: trio.abc.Stream, static: Key, remote: NodeId, *, ephemeral: Key, seconds: float = HANDSHAKE_SECONDS
) -> PeerStream:
    """Shake hands as the side that dialled. Closes `stream` if that fails.

    Args:
        static: our node key. ephemeral: a fresh key.
        remote: the node id that must be at the other end.
        seconds: for the whole handshake.

    Raises:
        Unreachable: no answer in time, or the connection ended; also what a listener does to whom it dislikes.
        PeerFault: the other end is not `remote`, or speaks something else.
    """
    async with _shaking(stream, seconds):
        initiator = Initiator(static, ephemeral, remote)
        await stream.send_all(initiator.act_one())
        act, transport = initiator.act_three(await _exactly(stream, ACT_TWO_BYTES))
        await stream.send_all(act)
        return PeerStream(stream, transport)


async def welcome(
    stream: trio.abc.Stream, static: Key, *, ephemeral: Key, seconds: float = HANDSHAKE_SECONDS
) -> PeerStream:
    """Shake hands as the side that listens; arguments and errors as for `greet`."""
    async with _shaking(stream, seconds):
        responder = Responder(static, ephemeral)
        await stream.send_all(responder.act_two(await _exactly(stream, ACT_ONE_BYTES)))
        return PeerStream(stream, responder.finish(await _exactly(stream, ACT_THREE_BYTES)))


@asynccontextmanager
async def _shaking(stream: trio.abc.Stream, seconds: float) -> AsyncIterator[None]:
    """Close the stream if the handshake does not end well, and say why in our own errors."""
    done = False
    try:
        with trio.fail_after(seconds):
            yield
        done = True
    except trio.TooSlowError:
        raise Unreachable(f"no handshake within {seconds:g} s") from None
    except _gone:
        raise Unreachable("the connection ended during the handshake") from None
    except Malformed as fault:
        raise PeerFault(Answer.DISCONNECT, str(fault)) from None
    finally:
        if not done:
            await trio.aclose_forcefully(stream)


async def _exactly(stream: trio.abc.Stream, count: int) -> bytes:
    """The next `count` bytes, and not one more."""
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        if not more:
            raise Unreachable("the peer has closed the connection during the handshake")
        data += more
    return data
