"""Just enough HTTP/1.1 for JSON-RPC on trio: POST with a bounded body, kept alive, one answer after another.

h11 (MIT; httpx brings it anyway) does the protocol, so that bytes of any kind end in a status line and a closed
connection. A server framework would add five dependencies for the same hundred lines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import h11
import trio

MAX_BODY: Final = 8 * 2**20
MAX_HEADER: Final = 16 * 1024
IDLE_SECONDS: Final = 120.0
CHUNK: Final = 65_536

Answer = Callable[[bytes], Awaitable[bytes]]


class _TooLarge(Exception):
    """The body is over its limit."""


async def serve_stream(stream: trio.abc.Stream, answer: Answer) -> None:
    """Answer requests on `stream` until the other side goes, idles for two minutes, or talks no HTTP."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER)
    try:
        async with stream:
            while True:
                with trio.move_on_after(IDLE_SECONDS) as idle:
                    request = await _read_request(stream, connection)
                if idle.cancelled_caught or request is None:
                    return
                await _respond(stream, connection, request, answer)
                if connection.our_state is h11.MUST_CLOSE or connection.their_state is not h11.DONE:
                    return
                connection.start_next_cycle()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
    except h11.LocalProtocolError:
        return


async def _read_request(stream: trio.abc.Stream, connection: h11.Connection) -> tuple[int, bytes] | None:
    """Status to answer with (200 for go on) and the body; None when the other side has gone."""
    method, body = b"", bytearray()
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    await stream.send_all(connection.send(go_on))
                connection.receive_data(bytes(await stream.receive_some(CHUNK)))
            elif isinstance(event, h11.Request):
                method = event.method
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    raise _TooLarge
            elif isinstance(event, h11.EndOfMessage):
                return (200 if method == b"POST" else 405), bytes(body)
            else:  # ConnectionClosed, PAUSED
                return None
    except h11.RemoteProtocolError as fault:
        return fault.error_status_hint, b""
    except _TooLarge:
        return 413, b""


async def _respond(
    stream: trio.abc.Stream, connection: h11.Connection, request: tuple[int, bytes], answer: Answer
) -> None:
    status, body = request
    content = await answer(body) if status == 200 else b'{"error": "POST one JSON-RPC 2.0 request or batch"}'
    headers = [("content-type", "application/json"), ("content-length", str(len(content)))]
    if status == 405:
        headers.append(("allow", "POST"))
    if status != 200:
        headers.append(("connection", "close"))
    out = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    out += connection.send(h11.Data(data=content)) or b""
    out += connection.send(h11.EndOfMessage()) or b""
    await stream.send_all(out)
