"""JSON-RPC 2.0 over a Unix socket: one JSON object, or one batch array, a line; answers likewise, as they come.

The socket is 0600 in a folder of 0700 and every caller's uid is asked of the kernel, so no token is needed. A
connection reads ahead only while it has free slots (`IN_FLIGHT`) and its caller takes the answers, so a caller can
fill neither memory nor the scheduler. What is no JSON gets a parse error and the connection lives on; only a line
over `LINE_BYTES` ends it. When the server stops it reads no more, finishes what it can within `GRACE` and closes.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from channeld.api.kinds import Json
from channeld.api.methods import CallError, Service, dispatch
from channeld.api.schema import NODE, Number, Schema
from channeld.base import shallow
from channeld.base.errors import Refused

log = logging.getLogger(__name__)

LINE_BYTES: Final = 4 * 2**20
"""Longest request or batch."""
CONNECTIONS: Final = 128
IN_FLIGHT: Final = 1_024
"""Requests of one connection that are worked on at once; more wait unread."""
TOGETHER: Final = 32
"""Requests begun before what they lead to has its turn: of a hundred payments the first are on their way to the peer
while the next are still being read."""
BATCH: Final = 1_000
"""Requests in one batch."""
OUTBOX_BYTES: Final = 4 * 2**20
"""Answers not taken by a caller, above which nothing more is read from it."""
GRACE: Final = 1.0
"""Seconds that requests get to finish when the server stops."""
EVENT_PAGE: Final = 100
SUBSCRIPTIONS: Final = 16
ROOT: Final = 0
PATH_BYTES: Final = 107
"""Longest path of a Unix socket on Linux."""


async def serve_api(
    service: Service,
    path: Path,
    *,
    schema: Schema = NODE,
    task_status: trio.TaskStatus[Path] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer callers at `path` until cancelled; reports `path` once callers can connect.

    Raises:
        Refused: `already_running` if another process listens there; `bad_config` if no socket can be made there.
    """
    with _listening(path) as listener:
        server = _Server(service, schema)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run, listener)
            try:
                task_status.started(path)
                await trio.sleep_forever()
            finally:
                server.stop()


@contextmanager
def _listening(path: Path) -> Iterator[trio.SocketListener]:
    """A listening socket at `path`, 0600 from the first moment it can be seen; removed afterwards if still ours."""
    _make_room(path)
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    hidden = path.with_name(f".{path.name[:16]}.{os.getpid()}")
    try:
        hidden.unlink(missing_ok=True)
        raw.bind(str(hidden))
        hidden.chmod(0o600)
        raw.listen(CONNECTIONS)
        raw.setblocking(False)
        ours = hidden.stat().st_ino
        hidden.rename(path)
    except OSError as fault:
        raw.close()
        hidden.unlink(missing_ok=True)
        raise Refused(
            "bad_config", f"no socket can be made at {path}: {fault.strerror}", "choose another: --socket"
        ) from None
    try:
        yield trio.SocketListener(trio.socket.from_stdlib_socket(raw))
    finally:
        raw.close()
        try:
            if path.stat().st_ino == ours:
                path.unlink()
        except FileNotFoundError:
            pass


def _make_room(path: Path) -> None:
    """See that the folder is there and private and that nobody serves `path`; a socket nobody serves is replaced."""
    if len(os.fsencode(path)) > PATH_BYTES - 16:
        raise Refused(
            "bad_config", f"the socket's path is too long: {path}", f"at most {PATH_BYTES - 16} bytes; --socket"
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.stat().st_mode & 0o022:
            raise Refused("bad_config", f"others may write to {path.parent}", f"chmod 700 {path.parent}")
    except OSError as fault:
        raise Refused("bad_config", f"cannot use {path.parent}: {fault.strerror}", "choose another: --socket") from None
    if not path.exists():
        return
    if not path.is_socket():
        raise Refused("bad_config", f"{path} is there and is no socket", "move it away, or choose another: --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as fault:
            if fault.errno not in (errno.EAGAIN, errno.ETIMEDOUT):
                raise Refused("bad_config", f"{path}: {fault.strerror}", "choose another: --socket") from None
    raise Refused("already_running", f"another daemon answers at {path}", "stop it first: channeld stop")


class _Server:
    """The accept loop and its connections. Lives in a shield, so that it ends by `stop` and not in mid-answer."""

    def __init__(self, service: Service, schema: Schema) -> None:
        self.service, self.schema = service, schema
        self._shield = trio.CancelScope(shield=True)
        self._accepting = trio.CancelScope()
        self._open: set[_Connection] = set()

    def stop(self) -> None:
        """Take no more; end within GRACE."""
        self._accepting.cancel()
        for connection in self._open:
            connection.reading.cancel()
        self._shield.deadline = trio.current_time() + GRACE

    async def run(self, listener: trio.SocketListener) -> None:
        with self._shield:
            async with trio.open_nursery() as nursery:
                with self._accepting:
                    while True:
                        stream = await _accept(listener)
                        nursery.start_soon(self._serve, stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            if not _is_ours(stream):
                log.warning("caller of another user turned away")
                return
            if len(self._open) >= CONNECTIONS:
                busy = CallError(Number.BUSY, "busy", f"{CONNECTIONS} connections are open", "close one")
                with trio.move_on_after(1), _gone():
                    await stream.send_all(_line({"jsonrpc": "2.0", "id": None, "error": busy.json()}))
                return
            connection = _Connection(self, stream)
            self._open.add(connection)
            try:
                await connection.run()
            finally:
                self._open.discard(connection)


async def _accept(listener: trio.SocketListener) -> trio.SocketStream:
    while True:
        try:
            return await listener.accept()
        except OSError as fault:  # out of file descriptors: wait for some to come back
            if fault.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            log.warning("cannot accept: %s", fault.strerror)
            await trio.sleep(0.1)


@contextmanager
def _gone() -> Iterator[None]:
    """A caller that went away is no fault."""
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


def _is_ours(stream: trio.SocketStream) -> bool:
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", credentials)
    return uid in (os.geteuid(), ROOT)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


# Made once: `json.loads` and `json.dumps` with options would make one for every line.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def _line(answer: object) -> bytes:
    return _encode(answer).encode() + b"\n"


class _Batch:
    """Answers of a batch, told together when the last is there."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.answers: list[Json] = []


class _Connection:
    def __init__(self, server: _Server, stream: trio.SocketStream) -> None:
        self.server, self.stream = server, stream
        self.reading = trio.CancelScope()
        self._slots = trio.Semaphore(IN_FLIGHT)
        self._outbox: list[bytes] = []
        self._waiting = 0
        self._filled, self._drained = trio.Event(), trio.Event()
        self._done = self._lost = False
        self._subscriptions: dict[int, trio.CancelScope] = {}
        self._numbered = self._begun = 0
        self._tasks: trio.Nursery
        self._own = {"subscribe": self._subscribe, "unsubscribe": self._unsubscribe}

    async def run(self) -> None:
        async with trio.open_nursery() as writer:
            writer.start_soon(self._write)
            async with trio.open_nursery() as self._tasks:
                with self.reading, _gone():
                    await self._read()
                for scope in self._subscriptions.values():
                    scope.cancel()
            self._done = True
            self._filled.set()

    # Out

    def _tell(self, answer: object) -> None:
        if self._lost:
            return
        line = _line(answer)
        self._outbox.append(line)
        self._waiting += len(line)
        self._filled.set()

    async def _write(self) -> None:
        """Send what is in the outbox, joined. A caller that is gone is read from no more; what it began goes on."""
        try:
            while self._outbox or not self._done:
                await self._filled.wait()
                self._filled = trio.Event()
                lines, self._outbox = self._outbox, []
                if lines:
                    await self.stream.send_all(b"".join(lines))
                self._waiting -= sum(map(len, lines))
                self._drained.set()
                self._drained = trio.Event()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lost, self._waiting = True, 0
            self._drained.set()
            self.reading.cancel()

    async def _room(self) -> None:
        while self._waiting > OUTBOX_BYTES:
            await self._drained.wait()

    # In

    async def _read(self) -> None:
        pending = bytearray()
        while True:
            data = await self.stream.receive_some(65_536)
            if not data:
                return
            searched = len(pending)
            pending += data
            start = 0
            while (end := pending.find(b"\n", max(start, searched))) >= 0:
                await self._take(pending[start:end])
                start = end + 1
            del pending[:start]
            if len(pending) > LINE_BYTES:
                hint = "split it into several requests"
                self._fail(Number.REQUEST, "invalid_request", f"a line of more than {LINE_BYTES} bytes", hint)
                return

    def _fail(self, number: Number, code: str, message: str, hint: str = "") -> None:
        self._tell({"jsonrpc": "2.0", "id": None, "error": CallError(number, code, message, hint).json()})

    async def _take(self, line: bytearray) -> None:
        """Begin the request or batch in one line."""
        if not line.strip():
            return
        try:
            shallow.check(line)
            said = _decode(line.decode())
        except (ValueError, RecursionError):
            self._fail(
                Number.PARSE, "parse_error", "the line is not JSON", "one JSON object a line, UTF-8, no newline in it"
            )
            return
        if not isinstance(said, list):
            await self._begin(said, None)
        elif not 0 < len(said) <= BATCH:
            self._fail(Number.REQUEST, "invalid_request", f"a batch has 1 to {BATCH} requests, not {len(said)}")
        else:
            batch = _Batch(len(said))
            for request in said:
                await self._begin(request, batch)

    async def _begin(self, request: Any, batch: _Batch | None) -> None:
        await self._room()
        if self._slots.value:  # the usual case, without a turn of the scheduler
            self._slots.acquire_nowait()
        else:
            await self._slots.acquire()
        self._begun += 1
        if self._begun % TOGETHER == 0:
            await trio.lowlevel.checkpoint()
        self._tasks.start_soon(self._answer, request, batch)

    async def _answer(self, request: Any, batch: _Batch | None) -> None:
        try:
            answer = await dispatch(self.server.service, request, schema=self.server.schema, own=self._own)
        finally:
            self._slots.release()
        if batch is None:
            if answer is not None:
                self._tell(answer)
            return
        batch.left -= 1
        if answer is not None:
            batch.answers.append(answer)
        if not batch.left and batch.answers:
            self._tell(batch.answers)

    # Subscriptions

    async def _subscribe(self, arguments: Json) -> Json:
        if len(self._subscriptions) >= SUBSCRIPTIONS:
            raise CallError(Number.BUSY, "busy", f"a connection has at most {SUBSCRIPTIONS} subscriptions")
        since = arguments["since"]
        if since is None:
            since = (await self.server.service.events(since=None, limit=1, wait=False))["cursor"]  # type: ignore[attr-defined]
        self._numbered += 1
        scope = self._subscriptions[self._numbered] = trio.CancelScope()
        self._tasks.start_soon(self._follow, self._numbered, since, scope)
        return {"subscription": self._numbered, "cursor": since}

    async def _unsubscribe(self, arguments: Json) -> Json:
        scope = self._subscriptions.pop(arguments["subscription"], None)
        if scope is not None:
            scope.cancel()
        return {"ended": scope is not None}

    async def _follow(self, number: int, cursor: int, scope: trio.CancelScope) -> None:
        """Tell a subscriber what happens; when it is slow we wait, and go on from its cursor."""
        page = partial(self.server.service.events, limit=EVENT_PAGE, wait=True)  # type: ignore[attr-defined]
        with scope:
            while True:
                await self._room()
                found = await page(since=cursor)
                for event in found["events"]:
                    said = {"subscription": number, "event": event}
                    self._tell({"jsonrpc": "2.0", "method": "event", "params": said})
                cursor = found["cursor"]
