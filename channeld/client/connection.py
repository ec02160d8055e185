"""One connection to a daemon's socket, many calls in flight on it, under trio or asyncio (by anyio).

Calls that are made at the same moment leave in one write. An answer finds its call by its id, in whatever order;
when the connection breaks, every waiting call ends as `Unreachable`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from os import PathLike
from typing import Any, Final, TypeVar

import anyio
import anyio.abc
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from channeld.api.schema import Schema
from channeld.client.calls import AsyncNodeCalls, AsyncTowerCalls, Event, Subscription
from channeld.client.errors import ApiError, Unreachable, raised

READ_BYTES: Final = 65_536
EVENTS_AHEAD: Final = 10_000
"""Events of one subscription that wait here for their reader; beyond that the subscription ends as lagging."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


class _Waiting:
    """A call whose answer is not there yet."""

    __slots__ = ("answer", "arrived", "done")

    def __init__(self, arrived: Callable[[Any], None] | None) -> None:
        self.done = anyio.Event()
        self.arrived = arrived
        self.answer: dict[str, Any] | None = None


class _Wire:
    """Requests out, answers and events in; what `Client` and `TowerClient` have in common."""

    schema: Schema

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream
        self._numbered = 0
        self._waiting: dict[int, _Waiting] = {}
        self._outbox: list[bytes] = []
        self._filled = anyio.Event()
        self._broken: str | None = None
        self._events: dict[int, MemoryObjectSendStream[Event]] = {}

    async def call(self, method: str, /, **params: Any) -> Any:
        """Send one request and give its result.

        Raises:
            ApiError: the daemon said no.
            Unreachable: the connection broke; whether the call was carried out is not known (so use an
                idempotency key where money moves, and ask again).
        """
        known = self.schema.methods.get(method)
        return await self._ask(method, known.write(**params) if known else params)

    async def _ask(self, method: str, params: dict[str, Any], arrived: Callable[[Any], None] | None = None) -> Any:
        """`arrived` is told the result before anything that follows it on the wire is read."""
        if self._broken is not None:
            raise Unreachable(self._broken)
        self._numbered += 1
        number = self._numbered
        waiting = self._waiting[number] = _Waiting(arrived)
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        self._outbox.append(_encode(request).encode() + b"\n")
        self._filled.set()
        try:
            await waiting.done.wait()
        finally:
            del self._waiting[number]
        if waiting.answer is None:
            raise Unreachable("the daemon closed the connection before it answered")
        if "error" in waiting.answer:
            raise raised(waiting.answer["error"])
        return waiting.answer.get("result")

    async def write(self) -> None:
        """Send what was asked, joined, until the connection breaks."""
        try:
            while True:
                await self._filled.wait()
                self._filled = anyio.Event()
                lines, self._outbox = self._outbox, []
                await self._stream.send(b"".join(lines))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._break("the daemon closed the connection")

    async def read(self) -> None:
        """Bring answers to their calls until the connection breaks."""
        pending = bytearray()
        try:
            while True:
                searched = len(pending)
                pending += await self._stream.receive(READ_BYTES)
                if pending.find(b"\n", searched) < 0:
                    continue
                *lines, pending = pending.split(b"\n")
                for line in lines:
                    said = json.loads(line)
                    for answer in said if isinstance(said, list) else [said]:
                        self._arrived(answer)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._break("the daemon closed the connection")
        except (ValueError, KeyError, TypeError) as fault:
            self._break(f"what answers at the socket is no channeld: {fault}")

    def _arrived(self, answer: dict[str, Any]) -> None:
        if answer.get("method") == "event":
            self._told(answer["params"]["subscription"], answer["params"]["event"])
            return
        waiting = self._waiting.get(answer.get("id") or 0)
        if waiting is not None:
            waiting.answer = answer
            if waiting.arrived is not None and "result" in answer:
                waiting.arrived(answer["result"])
            waiting.done.set()
        elif answer.get("id") is None and "error" in answer:
            self._break(str(raised(answer["error"])))

    def _told(self, number: int, event: Event) -> None:
        stream = self._events.get(number)
        if stream is None:
            return
        try:
            stream.send_nowait(event)
        except anyio.WouldBlock:
            del self._events[number]
            stream.close()
        except anyio.BrokenResourceError:
            del self._events[number]

    def _break(self, why: str) -> None:
        self._broken = self._broken or why
        for waiting in self._waiting.values():
            waiting.done.set()
        for stream in self._events.values():
            stream.close()
        self._events.clear()


class Client(_Wire, AsyncNodeCalls):
    """A node's socket. Every method of the schema is a method here; `follow` makes `subscribe` an iterator."""

    async def follow(self, since: int | None = None) -> AsyncGenerator[Event, None]:
        """Events after the cursor `since`, or from now on, for ever.

        Close the iterator (`aclosing`) when done with it before the connection is.

        Raises:
            ApiError: `subscription_lagged`: the reader was too slow; go on from the last event's cursor.
            Unreachable: the connection broke.
        """
        send: MemoryObjectSendStream[Event]
        receive: MemoryObjectReceiveStream[Event]
        send, receive = anyio.create_memory_object_stream[Event](EVENTS_AHEAD)
        number = 0

        def begun(told: Subscription) -> None:
            nonlocal number
            number = told["subscription"]
            self._events[number] = send

        with send, receive:
            await self._ask("subscribe", {} if since is None else {"since": since}, begun)
            try:
                async for event in receive:
                    yield event
                if self._broken is not None:
                    raise Unreachable(self._broken)
                raise ApiError("subscription_lagged", "events came faster than they were read", "go on from `since`")
            finally:
                self._events.pop(number, None)
                with anyio.CancelScope(shield=True):
                    await self._ended(number)

    async def _ended(self, number: int) -> None:
        with anyio.move_on_after(1):
            try:
                await self.unsubscribe(subscription=number)
            except (ApiError, Unreachable):
                pass  # nothing left to end


class TowerClient(_Wire, AsyncTowerCalls):
    """A tower's own socket."""


WireT = TypeVar("WireT", bound=_Wire)


@asynccontextmanager
async def _connected(kind: type[WireT], path: str | PathLike[str]) -> AsyncIterator[WireT]:
    try:
        stream = await anyio.connect_unix(path)
    except OSError as fault:
        raise Unreachable(f"no daemon answers at {path}: {fault.strerror or fault}") from None
    try:
        async with stream, anyio.create_task_group() as tasks:
            client = kind(stream)
            tasks.start_soon(client.write)
            tasks.start_soon(client.read)
            try:
                yield client
            finally:
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # Our two tasks raise nothing, so this is what the caller's own block raised: hand it on as it was.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise


@asynccontextmanager
async def connect(path: str | PathLike[str]) -> AsyncIterator[Client]:
    """A client of the node whose socket is at `path`; Unreachable if nobody answers there."""
    async with _connected(Client, path) as client:
        yield client


@asynccontextmanager
async def connect_tower(path: str | PathLike[str]) -> AsyncIterator[TowerClient]:
    """A client of the tower whose own socket is at `path`; Unreachable if nobody answers there."""
    async with _connected(TowerClient, path) as client:
        yield client
