"""What the scenes of trouble have in common: where they play, and contests, which count whose payments go through.

In a contest every side has the same number of calls in flight for the same time, and each must end well. Afterwards
both disks are read: what is not on both is an error of the benchmark.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from channeld.cli.stage import Actor, Stage
from tests.bench.payments import AMOUNT, BLOCK_TIME, Found, Line
from tests.bench.watch import Behind
from tests.e2e.people import knows_way

A_WHILE: Final = 1.0
"""Seconds that a contest lasts at least: less tells nothing about who gets how much."""

Call = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Scene:
    """What one piece has found: its rows, and how late the chain's watcher was in it."""

    rows: dict[str, Found] = field(default_factory=dict)
    behind: Behind = field(default_factory=Behind)


@asynccontextmanager
async def chained(town: Stage) -> AsyncIterator[None]:
    await town.chain(block_time=BLOCK_TIME)
    await town.deploy()
    yield


@asynccontextmanager
async def line_between(payer: Actor, payee: Actor, channel: str) -> AsyncIterator[Line]:
    await knows_way(payer, payee, AMOUNT)
    async with payer.client() as asking, payee.client() as asked:
        yield Line(actors=(payer, payee), channels=(channel,), payer=asking, payee=asked)


@dataclass(slots=True)
class Contest:
    """Calls of each side that had come to their end when the time was over, and after that too."""

    seconds: float
    done: list[int]
    ended: list[int]
    taken: list[float] = field(default_factory=list)
    """Seconds that each call took, if that was noted."""

    @property
    def together(self) -> float:
        """Calls a second, of all sides."""
        return sum(self.done) / self.seconds

    @property
    def unfair(self) -> float:
        """The faster side by the slower."""
        return max(self.done) / max(1, min(self.done))

    def rates(self, each: int = 1) -> str:
        return " and ".join(f"{count * each / self.seconds:,.0f}" for count in self.done)


async def contest(sides: Sequence[Iterator[Call]], most: int, seconds: float) -> Contest:
    """Let each side make its calls, `most` in flight, until the time is over or one of them has no more."""
    done, ended, over = [0] * len(sides), [0] * len(sides), trio.Event()

    async def worker(number: int) -> None:
        for call in sides[number]:
            await call()
            ended[number] += 1
            if over.is_set():
                return
        over.set()

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(len(sides)):
            for _ in range(most):
                nursery.start_soon(worker, number)
        with trio.move_on_after(seconds):
            await over.wait()
        over.set()
        taken, done = time.perf_counter() - began, list(ended)
    return Contest(seconds=taken, done=done, ended=ended)


async def on_both_disks(one: Callable[[], tuple[int, int]], before: tuple[int, int], count: int) -> None:
    """Wait until payer's and payee's disk hold `count` more."""
    with trio.fail_after(10):
        while [now - then for now, then in zip(one(), before, strict=True)] != [count, count]:
            await trio.sleep(0.1)


def _paying(line: Line, texts: Sequence[str], taken: list[float]) -> Iterator[Call]:
    async def pay(text: str) -> None:
        began = time.perf_counter()
        await line.pay(text)
        taken.append(time.perf_counter() - began)

    for text in texts:
        yield partial(pay, text)


@dataclass(slots=True)
class Paying:
    """Contests in payments: of each line its payer is a side. `most`: payments of each in flight."""

    lines: Sequence[Line]
    most: int
    rate: float = 0.0
    """Of the fastest side in the last contest, 1/s: so many invoices the next one needs."""

    async def go_on(self, seconds: float) -> Contest:
        """One contest, with invoices made before; the times that its payments took are in it."""
        count = self.most + round(1.5 * seconds * self.rate) if self.rate else 3 * self.most
        texts = [await line.invoices(count) for line in self.lines]
        before = [line.on_disk() for line in self.lines]
        taken: list[float] = []
        was = await contest(
            [_paying(line, some, taken) for line, some in zip(self.lines, texts, strict=True)], self.most, seconds
        )
        was.taken = taken
        for line, then, ended in zip(self.lines, before, was.ended, strict=True):
            await on_both_disks(line.on_disk, then, ended)
        self.rate = max(was.done) / was.seconds
        return was
