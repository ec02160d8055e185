"""What payments have taught of others' balances, handed from node to node as a file.

The file is JSON: `version`, and `channels` as the socket's `export_liquidity` tells them. It is read whole, and the
daemon has judged all of it before any of it counts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from channeld.base import shallow
from channeld.base.errors import Refused
from channeld.cli.session import session, shared

if TYPE_CHECKING:
    from channeld.client.blocking import BlockingClient

PAGE: Final = 2_000
"""Channels in one call, the most that the daemon takes."""
VERSION: Final = 1
MAX_BYTES: Final = 64 * 2**20
"""Of a file: four times what a node remembers at most."""


@click.group()
@shared
def routing() -> None:
    """What payments have taught of others' balances: export and import it."""


@routing.command("export")
@shared
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
def export(file: str) -> None:
    """Write what was learned of public channels to FILE; - for the standard output."""
    here = session()
    with here.connect() as daemon:
        channels = list(_exported(daemon))
    text = json.dumps({"version": VERSION, "channels": channels}) + "\n"
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as fault:
        raise Refused("usage", f"cannot write {file}: {fault.strerror}", "choose another file") from None
    here.out.show({"file": file, "channels": len(channels)}, [("written to", file), ("channels", len(channels))])


def _exported(daemon: BlockingClient) -> Iterator[Any]:
    cursor = None
    while True:
        said = daemon.export_liquidity(cursor=cursor, limit=PAGE)
        yield from said["channels"]
        cursor = said["next"]
        if cursor is None:
            return


@routing.command("import")
@shared
@click.argument("file", type=click.Path(dir_okay=False, exists=True))
@click.option("--check", is_flag=True, help="Only say what would be taken over.")
def import_(file: str, check: bool) -> None:
    """Take over what another payer has learned, from FILE: only where it says more by now than what is known here.

    It changes which ways are tried first, so it should come from somebody you trust.
    """
    here = session()
    channels = _read(Path(file))
    pages = [channels[at : at + PAGE] for at in range(0, len(channels), PAGE)]
    with here.connect() as daemon:
        said = _sent(daemon, pages, check=True)  # all of it can be before any of it counts
        if not check:
            said = _sent(daemon, pages, check=False)
    lines = (("taken over", said["taken"]), ("known as well", said["kept"]), ("unknown channels", said["unknown"]))
    here.out.show(said, [*lines, ("changed", "nothing, as asked" if check else "")])


def _sent(daemon: BlockingClient, pages: list[list[Any]], *, check: bool) -> Mapping[str, int]:
    done = {"taken": 0, "kept": 0, "unknown": 0}
    for page in pages:
        said: Mapping[str, Any] = daemon.ask("import_liquidity", {"version": VERSION, "channels": page, "check": check})
        done = {name: count + said[name] for name, count in done.items()}
    return done


def _read(path: Path) -> list[Any]:
    """The channels of a file; Refused (usage) if it is no such file. What each of them says is for the daemon."""
    hint = "a file that `channeld routing export` wrote"
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as fault:
        raise Refused("usage", f"cannot read {path}: {fault.strerror}", hint) from None
    if len(data) > MAX_BYTES:
        raise Refused("usage", f"{path} has more than {MAX_BYTES} bytes", hint)
    try:
        said = shallow.loads(data)
    except ValueError:
        raise Refused("usage", f"{path} is not JSON", hint) from None
    if not isinstance(said, dict) or said.keys() != {"version", "channels"} or not isinstance(said["channels"], list):
        raise Refused("usage", f"{path} is not an object of version and channels", hint)
    if said["version"] != VERSION:
        raise Refused("usage", f"{path} has the version {said['version']!r:.20}, not {VERSION}", "update channeld")
    return said["channels"]
