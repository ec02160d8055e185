"""How far behind the chain a node's watcher gets: what the chain has, held against what the node says it has seen.

The chain is asked for its height, and each node at its socket for the newest block it has read, several times a second
for as long as the load lasts. Behind is the time from the moment a block was first seen on the chain to the answer of a
node that had read it; an answer that does not know it yet counts up to when it came. So what it takes the node to
answer is part of it, and the poll of the follower (0.25 s on the development chain) too.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from channeld.chain.rpc import Rpc
from channeld.cli.stage import Actor, Stage

EVERY: Final = 0.1
"""Seconds from one question to the next."""


@dataclass(slots=True)
class Behind:
    """What was seen: when each block came, and the longest that each node was without one, seconds."""

    blocks: dict[int, float] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)

    @property
    def most(self) -> float:
        return max(self.worst.values(), default=0.0)

    @property
    def told(self) -> str:
        return f"the chain's watcher at most {self.most:.2f} s late over {len(self.blocks)} blocks"

    def mined(self, number: int, at: float) -> None:
        """The chain shows that block, and so all before it that came since the last look."""
        known = max(self.blocks, default=number - 1)
        for fresh in range(known + 1, number + 1):
            self.blocks[fresh] = at

    def said(self, name: str, had: int, number: int, at: float) -> None:
        """A node that knew block `had` before says at time `at` that its newest is `number`."""
        late = [came for block, came in self.blocks.items() if block > had and came <= at]
        if late:
            self.worst[name] = max(self.worst.get(name, 0.0), at - min(late))


@asynccontextmanager
async def watching(town: Stage, actors: Sequence[Actor]) -> AsyncIterator[Behind]:
    """Watch the watchers for as long as the block runs, and until each has answered once more."""
    behind, over = Behind(), trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_chain, town.url, behind)
        async with trio.open_nursery() as asked:
            for actor in actors:
                await asked.start(_node, actor, behind, over)
            yield behind
            over.set()
        nursery.cancel_scope.cancel()


async def _chain(url: str, behind: Behind, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    async with Rpc(url) as rpc:
        behind.mined(int(await rpc.call("eth_blockNumber"), 16), time.perf_counter())
        task_status.started()
        while True:
            behind.mined(int(await rpc.call("eth_blockNumber"), 16), time.perf_counter())
            await trio.sleep(EVERY)


async def _node(
    actor: Actor, behind: Behind, over: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with actor.client() as client:
        had = await _head(client)
        task_status.started()
        while not over.is_set():
            await trio.sleep(EVERY)
            number = await _head(client)
            behind.said(actor.name, had, number, time.perf_counter())
            had = number


async def _head(client: Any) -> int:
    return int((await client.get_info())["head"]["latest"]["number"])
