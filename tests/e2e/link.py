"""A TCP link that a test can slow down, hold, or cut: a forwarder on loopback between two real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Link:
    """Forwards `port` to `target`. `delay` in seconds each way; while `down`, connections are refused or ended."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, 0
        self.delay = 0.0
        self.down = False
        self.mute = False
        """While set, what the target says is held back; what it is told still arrives."""
        self.carried = 0
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """End every connection; bytes under way are lost."""
        for scope in list(self._scopes):
            scope.cancel()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            served: list[trio.SocketListener] = await nursery.start(
                trio.serve_tcp,
                self._carry,
                0,
            )
            self.port = served[0].socket.getsockname()[1]
            task_status.started()

    async def _carry(self, near: trio.SocketStream) -> None:
        if self.down:
            return
        scope = trio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                far = await trio.open_tcp_stream("127.0.0.1", self.target)
                async with far, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, near, far, scope, False)
                    nursery.start_soon(self._pump, far, near, scope, True)
        except OSError:
            pass
        finally:
            self._scopes.discard(scope)

    async def _pump(
        self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope, back: bool
    ) -> None:
        sending, receiving = trio.open_memory_channel[tuple[float, bytes]](1_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, receiving, sink, scope, back)
            try:
                while data := await source.receive_some(65_536):
                    self.carried += len(data)
                    await sending.send((trio.current_time() + self.delay, bytes(data)))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            scope.cancel()

    async def _deliver(
        self,
        receiving: trio.MemoryReceiveChannel[tuple[float, bytes]],
        sink: trio.SocketStream,
        scope: trio.CancelScope,
        back: bool,
    ) -> None:
        try:
            async for at, data in receiving:
                await trio.sleep_until(at)
                while back and self.mute:
                    await trio.sleep(0.05)
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            scope.cancel()


@asynccontextmanager
async def link(target: int) -> AsyncIterator[Link]:
    """A link to a port of this machine."""
    made = Link(target)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.serve)
        yield made
        nursery.cancel_scope.cancel()
