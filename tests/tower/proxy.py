"""Stands between a tower and its RPC endpoint, to cut, delay or watch what passes. The chain behind it is real."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import trio

from channeld.chain.devchain.http import serve_stream

Rule = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Proxy:
    """`before` and `after` see each request before it is passed on, and after it was answered there."""

    upstream: str
    url: str = ""
    down: bool = False
    before: Rule | None = None
    after: Rule | None = None
    change: Callable[[dict[str, Any], dict[str, Any]], None] | None = None
    """May edit the answer (second) to a request (first)."""
    seen: list[str] = field(default_factory=list)

    async def answer(self, body: bytes) -> bytes:
        if self.down:
            return b"no chain here"
        request = json.loads(body)
        requests = request if isinstance(request, list) else [request]
        self.seen += [one["method"] for one in requests]
        for one in requests:
            if self.before is not None:
                await self.before(one)
        async with httpx.AsyncClient() as http:
            answered = (await http.post(self.upstream, content=body)).json()
        for one in requests:
            if self.after is not None:
                await self.after(one)
        if self.change is not None:
            answers = answered if isinstance(answered, list) else [answered]
            for one, answer in zip(requests, answers, strict=True):
                self.change(one, answer)
        return json.dumps(answered).encode()


async def start_proxy(nursery: trio.Nursery, upstream: str) -> Proxy:
    """A proxy on a free port of its own."""
    proxy = Proxy(upstream=upstream)
    handler = partial(serve_stream, answer=proxy.answer)
    listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
    proxy.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    return proxy
