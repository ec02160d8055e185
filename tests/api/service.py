"""A small service of the tests' own behind a real socket: protocol-level tests need answers, not a node."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from channeld.api.methods import Service
from channeld.api.schema import NODE, Schema
from channeld.api.serve import serve_api
from channeld.base.errors import Broken, Refused, Unreachable

ServiceT = TypeVar("ServiceT", bound=Service)
PEER = bytes([2]) * 33
HASH = bytes([7]) * 32


async def until(predicate: Callable[[], bool], seconds: float = 5) -> None:
    """Wait for what nobody announces."""
    with trio.fail_after(seconds):
        while not predicate():
            await trio.sleep(0.01)


class Counter:
    """Answers some calls, keeps what it was asked, and lets a test hold calls back."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.running = self.most = 0
        self.told: list[dict[str, Any]] = []
        self.news = trio.Event()
        self.stopped = trio.Event()

    async def get_info(self) -> dict[str, Any]:
        self.asked.append(("get_info", {}))
        return {"role": "node", "alias": "counter"}

    async def stop(self) -> dict[str, Any]:
        self.stopped.set()
        return {"stopping": True}

    async def decode_invoice(self, *, invoice: str) -> dict[str, Any]:
        raise {
            "refused": Refused("invoice_expired", "the invoice ran out", "ask for a new one"),
            "broken": Broken("a law does not hold: secret-detail"),
            "bug": KeyError("secret-detail"),
            "away": Unreachable("no answer"),
        }[invoice]

    async def make_invoice(self, **said: Any) -> dict[str, Any]:
        self.asked.append(("make_invoice", said))
        return {"amount": str(said["amount"])}

    async def send_transfers(self, **said: Any) -> dict[str, Any]:
        self.asked.append(("send_transfers", said))
        return {"ids": [], "state": "succeeded"}

    async def lookup_payment(self, *, id: bytes) -> dict[str, Any]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return {"id": "0x" + id.hex()}

    def happen(self, kind: str) -> None:
        self.told.append({"cursor": len(self.told) + 1, "type": kind, "at": 0, "data": {}})
        self.news.set()
        self.news = trio.Event()

    async def events(self, *, since: int | None, limit: int, wait: bool) -> dict[str, Any]:
        if since is None:
            return {"events": [], "cursor": len(self.told)}
        while wait and len(self.told) <= since:
            await self.news.wait()
        page = self.told[since : since + limit]
        return {"events": page, "cursor": since + len(page)}


@asynccontextmanager
async def serving(service: Service, path: Path, schema: Schema = NODE) -> AsyncIterator[Path]:
    """`service` behind a socket at `path`."""
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda **given: serve_api(service, path, schema=schema, **given))
        yield path
        nursery.cancel_scope.cancel()


class Caller:
    """The other end of the socket, one line at a time, without the client."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._pending = b""

    async def say(self, line: bytes) -> None:
        await self.stream.send_all(line + b"\n")

    async def hear(self) -> bytes:
        """The next line; empty at the end."""
        while b"\n" not in self._pending:
            data = await self.stream.receive_some()
            if not data:
                return b""
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line


@asynccontextmanager
async def calling(path: Path) -> AsyncIterator[Caller]:
    async with await trio.open_unix_socket(str(path)) as stream:
        yield Caller(stream)


@contextmanager
def served(make: Callable[[], ServiceT], path: Path, schema: Schema = NODE) -> Iterator[ServiceT]:
    """A server on trio in a thread of its own, so that the test's own loop may be another, or none."""
    begun = threading.Event()
    told: list[Any] = []

    async def run() -> None:
        service = make()
        over = trio.Event()
        async with serving(service, path, schema):
            told[:] = [service, over, trio.lowlevel.current_trio_token()]
            begun.set()
            await over.wait()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    if not begun.wait(5):
        raise TimeoutError("the server did not begin")
    service, over, token = told
    try:
        yield service
    finally:
        trio.from_thread.run_sync(over.set, trio_token=token)
        thread.join(5)
