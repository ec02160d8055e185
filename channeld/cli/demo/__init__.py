"""`demo`: a payment-channel network on this machine, a cheat caught while its victim sleeps, and an audit to the wei.

Every line that it prints is an assertion; one that does not hold ends it with exit code 8 and its name. `--break`
breaks a part on purpose, to show that the lines mean something.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from channeld.base.errors import Refused
from channeld.cli.output import Output
from channeld.cli.session import session, shared

if TYPE_CHECKING:
    import trio

    from channeld.cli.demo.cast import Cast
    from channeld.cli.demo.show import Show
    from channeld.cli.stage import Stage

BREAKS: Final = {
    "tower-stopped": "the tower is down when the cheat closes",
    "tower-emptied": "the tower has lost its store",
    "hub-stopped": "the hub is down when the payment is made",
    "preimage-withheld": "the merchant takes locks and shows no preimage",
    "one-wei": "the dev chain moves one wei between two accounts",
}
LONGEST_PATH: Final = 80
"""Bytes of the folder's name: the sockets are in it, and their names may have 107."""


@click.command()
@shared
@click.option("--exit", "leave", is_flag=True, help="End when the story ends, also on a terminal.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Put everything into this new folder.")
@click.option("--break", "fault", type=click.Choice(list(BREAKS)), help="Break a part on purpose: a line must fail.")
def demo(leave: bool, keep: Path | None, fault: str | None) -> int:
    """Watch a whole network work: channels, payments over a hub, paid calls, a cheat, an audit.

    Real processes on this machine, started by this program's own commands; under a minute; nothing is left behind.
    On a terminal everything stays up at the end, to play with, until Ctrl-C.
    """
    import trio

    out = session().out
    if keep is not None:
        keep = keep.absolute()
        if len(str(keep).encode()) > LONGEST_PATH:
            raise Refused("usage", f"--keep: {keep} is too long a path for sockets", "choose a shorter one")
        if keep.exists() and any(keep.iterdir()):
            raise Refused("usage", f"--keep: {keep} is not empty", "name a folder that is not there yet")
    stay = not leave and sys.stdin.isatty() and sys.stdout.isatty()
    run = Run(out=out, keep=keep, fault=fault or "", stay=stay)
    trio.run(_until_signal, run)
    if run.failed is not None:
        raise run.failed
    if not run.finished:
        raise KeyboardInterrupt
    return 0


@dataclass(slots=True, kw_only=True)
class Run:
    """What was asked for, and how it went."""

    out: Output
    keep: Path | None
    fault: str
    stay: bool
    finished: bool = False
    failed: Refused | None = None


async def _until_signal(run: Run) -> None:
    """The demo; SIGTERM and Ctrl-C end it in order, with no process left behind."""
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, signals, nursery.cancel_scope)
            await _staged(run)
            nursery.cancel_scope.cancel()


async def _watch(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


async def _staged(run: Run) -> None:
    import tempfile
    from shutil import rmtree

    from channeld.cli.demo.show import Failed, Show
    from channeld.cli.stage import stage

    root = run.keep or Path(tempfile.mkdtemp(prefix="channeld-demo-"))
    show = Show(run.out)
    if run.fault:
        show.note(f"Broken on purpose: {BREAKS[run.fault]}.")
    try:
        async with stage(root) as town:
            try:
                await _played(run, town, show)
            except* Failed as group:
                run.failed = _first(group)
    finally:
        if run.keep is None and run.failed is None:
            rmtree(root, ignore_errors=True)
    if run.failed is not None:
        show.note(f"The processes' logs are in {root}")


def _first(group: BaseExceptionGroup[Any]) -> Refused:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf if isinstance(leaf, Refused) else Refused("demo_failed", str(leaf))


async def _played(run: Run, town: Stage, show: Show) -> None:
    import trio

    from channeld.cli.demo.cast import rise
    from channeld.cli.demo.story import play

    async with rise(town, show, run.fault) as cast:
        await play(cast)
        with show.line("done") as line:
            line.say(f"every line above holds; {show.seconds:.0f} s", seconds=round(show.seconds, 1))
        run.finished = True
        if run.stay:
            _next(cast, show)
            await trio.sleep_forever()


def _next(cast: Cast, show: Show) -> None:
    """What to type now."""
    root, hub = cast.town.root, cast["hub"]
    payer, merchant = f"channeld --data-dir {root / 'payer'}", f"channeld --data-dir {root / 'merchant'}"
    show.note(
        "",
        "Everything is still up. Try, in another terminal:",
        f"  {payer} balance",
        f"  {payer} open {hub.uri} 10DemoUSD",
        f"  {payer} channels",
        f"  {merchant} payments",
        f"  {merchant} invoice 1DemoUSD",
        f"  channeld --data-dir {root / 'tower'} tower status",
        f"  curl -i {cast['shop'].ready['url']}",
        "Ctrl-C ends it.",
    )
