"""`run` and what it shares with `tower run`: settings, key, lock, the service and its socket, and an end in order.

The socket opens when the service stands, and closes before it falls. SIGINT and SIGTERM end it with exit code 0; a
second one does not wait. The data directory belongs to one process, which holds a lock on it as long as it lives.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from channeld.base.errors import Refused
from channeld.cli.output import brief
from channeld.cli.session import Session, session, shared

if TYPE_CHECKING:
    import trio

    from channeld.api.methods import Service
    from channeld.api.schema import Schema

LOCK: Final = "lock"
COLLECT: Final = (50_000, 20, 50)
"""Python's collector of cycles runs so seldom, and never over what stood when the service was ready: almost nothing
here is a cycle, and a walk over ten thousand channels would hold up every payment."""

SWITCH: Final = 0.0002
"""Seconds after which the thread that syncs the disk gets the interpreter, to begin: it needs it for an instant only,
and everybody waits for it."""

Start = Callable[..., Awaitable[None]]
"""Takes `task_status` and reports with it; runs until cancelled or until it was told to stop."""


def _itself(started: Any) -> Any:
    return started


@click.command()
@shared
@click.option("--passphrase-file", type=click.Path(dir_okay=False), help="Its first line opens the key.")
@click.option("--rpc", multiple=True, metavar="URL", help="JSON-RPC endpoint of the chain.")
@click.option("--manager", metavar="ADDRESS", help="The ChannelManager.")
@click.option("--registry", metavar="ADDRESS", help="The SecretRegistry.")
@click.option("--listen", metavar="HOST:PORT", help="Where peers connect; port 0 for any.")
@click.option("--alias", help="A name for people.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="How much is logged.")
@click.option("--restored", is_flag=True, help="The database is a backup or a copy: its channels are only closed.")
@click.option("--moved", is_flag=True, help="The data directory was moved; this is the newest and only copy.")
def run(passphrase_file: str | None, restored: bool, moved: bool, **flags: Any) -> None:
    """Run a node until told to stop (Ctrl-C, SIGTERM, `channeld stop`)."""
    from channeld.api.schema import NODE
    from channeld.cli.logs import begin
    from channeld.cli.secrets import key_of
    from channeld.cli.settings import load_node

    if restored and moved:
        raise click.UsageError("--restored and --moved exclude each other: is it the newest copy or not?")
    here = session()
    config = load_node(_flags(here, flags)).config
    begin("debug" if here.verbose else config.log_level, config.log_format)
    with locked(config.data_dir):
        key = key_of(config.data_dir, passphrase_file)
        from channeld.node.run import run as run_node
        from channeld.storage.place import Origin

        origin = Origin.COPY if restored else Origin.MOVED if moved else Origin.SAME
        serve(partial(run_node, config, key, origin=origin), config.socket, NODE, here)


def _flags(here: Session, flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value not in (None, ())} | here.flags


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory. Refused: `already_running`, naming who holds it; `bad_config` if it is not there."""
    path = data_dir / LOCK
    if not data_dir.is_dir():
        raise Refused("bad_config", f"there is no data directory {data_dir}", "channeld init makes one")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise Refused(
            "bad_config", f"cannot write to {data_dir}: {fault.strerror}", "check its owner and mode"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            text = f"{data_dir} is in use by process {holder}"
            raise Refused(
                "already_running", text, "stop it first (channeld stop), or choose another --data-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def serve(
    start: Start, socket: Path, schema: Schema, here: Session, service_of: Callable[[Any], Service] = _itself
) -> None:
    """Run a service with its socket until it ends or is told to; says when it is ready.

    `service_of` finds what answers the socket in what `start` reports.
    """
    import trio

    gc.set_threshold(*COLLECT)
    sys.setswitchinterval(SWITCH)
    trio.run(partial(_serve, start, socket, schema, here, service_of))


async def _serve(
    start: Start, socket: Path, schema: Schema, here: Session, service_of: Callable[[Any], Service]
) -> None:
    import trio

    from channeld.api.serve import serve_api

    over = trio.Event()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            beginning = trio.CancelScope()
            nursery.start_soon(_watch, signals, over, beginning, nursery.cancel_scope)
            with beginning:
                service = service_of(await nursery.start(_living, start, over))
            gc.freeze()
            if not over.is_set():
                async with trio.open_nursery() as api:
                    await api.start(partial(serve_api, service, socket, schema=schema))
                    _say_ready(await service.get_info(), socket, here)
                    await over.wait()
                    api.cancel_scope.cancel()
            nursery.cancel_scope.cancel()


async def _living(start: Start, over: trio.Event, *, task_status: trio.TaskStatus[Service]) -> None:
    """The service itself; when it ends by itself, everything does."""
    try:
        await start(task_status=task_status)
    finally:
        over.set()


async def _watch(
    signals: AsyncIterator[int], over: trio.Event, beginning: trio.CancelScope, everything: trio.CancelScope
) -> None:
    """The first signal ends things in order (a start that is under way at once), the second everything."""
    async for _ in signals:
        if over.is_set():
            everything.cancel()
        over.set()
        beginning.cancel()


def _say_ready(info: dict[str, Any], socket: Path, here: Session) -> None:
    ready = {
        "ready": True,
        "role": info.get("role"),
        "node_id": info.get("node_id"),
        "address": info.get("address"),
        "listen": info.get("listen"),
        "socket": str(socket),
        "pid": os.getpid(),
    }
    if here.out.as_json:
        here.out.value(ready)
    else:
        what = f"{ready['role']} {brief(info.get('node_id'))}, account {ready['address']}"
        here.out.text(f"ready: {what}, listens at {ready['listen']}, socket {socket}")
