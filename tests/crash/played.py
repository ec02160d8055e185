"""What every scenario begins with, and how it says that it has to end."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import trio

from channeld.base.units import ChannelId
from channeld.node.loop import Actor
from tests.crash.sim import Node, Sim

Program = Callable[[Sim, type[Actor]], Awaitable["Played"]]
DEPOSIT: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How a scenario has to end. `wounded`: channels may end frozen or on chain; without it none may."""

    honest: tuple[Node, ...]
    won: dict[str, int] | None = None
    wounded: bool = False


async def line(
    sim: Sim, actor: type[Actor], *names: str, deposit: int = DEPOSIT, **settings: Any
) -> tuple[list[Node], list[ChannelId]]:
    """Nodes in a row, a channel funded from the left between each two, and everybody knows the way."""
    sim.watching = False
    nodes = [await sim.node(name, actor=actor, **settings) for name in names]
    opened = [await left.open(right, deposit) for left, right in itertools.pairwise(nodes)]
    for node in nodes:
        await node.until(lambda node=node: all(id_ in node.service.gossip.known for id_ in opened))  # type: ignore[misc]
    return nodes, opened


async def quiet(nodes: Iterable[Node], most: float = 60.0) -> None:
    """Wait until no lock, proposal or arrival is under way between nodes that are up."""
    with trio.move_on_after(most):
        for node in nodes:
            while True:
                await node.ready()
                actors = node.service.book.actors.values()
                if all(
                    not a.channel.newest_body.locks and not a.channel.queue and not a.channel.outstanding
                    for a in actors
                ):
                    break
                await trio.sleep(0.25)
