"""Payments between real processes: how many a second, and how long one takes.

The nodes are those of the command line, with their own data directories, peers over TCP, SQLite with
`synchronous=FULL`; every payment is asked for at the payer's socket, and counts when its answer has come. After each
sample both ends' databases are read: a payment that is not there on both disks is an error of the benchmark.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

import trio

from channeld.cli.stage import Actor, Stage, stage
from tests.bench.machine import cpu_seconds
from tests.e2e.people import knows_way, nodes

DEPOSIT: Final = 10**15
"""Base units in each channel: more than any sample moves."""
AMOUNT: Final = 10_000
AT_ONCE: Final = 100
"""Payments in flight, as many as the published benchmarks have workers."""
BATCH: Final = 512
"""Transfers in one call, and as many as one signature covers."""
CALLS: Final = 4
"""Such calls in flight."""
BLOCK_TIME: Final = 2.0
NAMES: Final = ("payer", "left", "right", "payee")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to measure: `seconds` for a sample of a rate, `repeats` samples of everything."""

    seconds: float = 5.0
    repeats: int = 3

    @property
    def lone(self) -> int:
        """Payments in one sample of a latency."""
        return max(3, round(12 * self.seconds))


@dataclass(slots=True, kw_only=True)
class Found:
    """Samples of one row, and the processor time each process spent on one payment."""

    samples: list[float] = field(default_factory=list)
    spent: dict[str, list[float]] = field(default_factory=dict)
    said: str = ""
    """What else there is to say, in place of that."""

    def spent_since(self, before: dict[str, float], after: dict[str, float], count: int) -> None:
        for name, seconds in after.items():
            self.spent.setdefault(name, []).append((seconds - before[name]) / count * 1e6)

    @property
    def note(self) -> str:
        return self.said or "CPU µs each: " + ", ".join(f"{name} {min(all_):,.0f}" for name, all_ in self.spent.items())


@dataclass(eq=False, kw_only=True)
class Line:
    """A payer, a payee and the hubs between them, with their channels open."""

    actors: Sequence[Actor]
    channels: Sequence[str]
    payer: Any
    payee: Any
    token: str = "DemoUSD"

    def cpu(self) -> dict[str, float]:
        """Processor seconds that each node has used."""
        return {actor.name: cpu_seconds(actor.pid) for actor in self.actors}

    async def invoices(self, count: int) -> list[str]:
        made: list[str] = []

        async def make() -> None:
            made.append((await self.payee.make_invoice(token=self.token, amount=AMOUNT))["invoice"])

        await at_once(make for _ in range(count))
        return made

    async def pay(self, text: str) -> None:
        paid = await self.payer.pay_invoice(invoice=text)
        if paid["state"] != "succeeded":
            raise AssertionError(f"a payment {paid['state']}")

    def on_disk(self) -> tuple[int, int]:
        """Payments that the payer's disk holds as succeeded, and invoices that the payee's holds as paid."""
        return (
            _count(self.actors[0], "payments WHERE state = 'succeeded'"),
            _count(self.actors[-1], "invoices WHERE state = 'paid'"),
        )

    def transfers_on_disk(self) -> tuple[int, int]:
        where = "transfers WHERE outgoing = {} AND state = 'succeeded'"
        return _count(self.actors[0], where.format(1)), _count(self.actors[-1], where.format(0))


def _count(actor: Actor, what: str) -> int:
    home = Path(actor.command[actor.command.index("--data-dir") + 1])
    with closing(sqlite3.connect(f"file:{home / 'node.sqlite3'}?mode=ro", uri=True)) as disk:
        return int(disk.execute(f"SELECT count(*) FROM {what}").fetchone()[0])


async def at_once(calls: Iterable[Callable[[], Awaitable[None]]], most: int = AT_ONCE) -> None:
    """Make the calls, `most` of them in flight."""
    waiting = iter(calls)

    async def worker() -> None:
        for call in waiting:
            await call()

    async with trio.open_nursery() as nursery:
        for _ in range(most):
            nursery.start_soon(worker)


async def measure(names: Sequence[str], effort: Effort) -> dict[str, Found]:
    """The rows of this module that are named."""
    found: dict[str, Found] = {}
    for hops, rows in ((1, _ONE_HOP), (3, _THREE_HOPS)):
        wanted = {name: how for name, how in rows.items() if name in names}
        if wanted:
            async with stage() as town:
                await _lay(town, hops, wanted, effort, found)
    return found


async def _lay(
    town: Stage, hops: int, wanted: dict[str, Callable[[Line, Effort], Awaitable[Found]]], effort: Effort,
    found: dict[str, Found],
) -> None:  # fmt: skip
    await town.chain(block_time=BLOCK_TIME)
    await town.deploy()
    actors = await nodes(town, *(NAMES if hops == 3 else (NAMES[0], NAMES[-1])), tokens=2 * DEPOSIT)
    channels = [await town.open(left, right, DEPOSIT) for left, right in pairwise(actors)]
    await knows_way(actors[0], actors[-1], AMOUNT)
    async with actors[0].client() as payer, actors[-1].client() as payee:
        line = Line(actors=actors, channels=channels, payer=payer, payee=payee)
        for name, how in wanted.items():
            found[name] = await how(line, effort)


# -- rates


async def rate(
    line: Line,
    effort: Effort,
    some: Callable[[int], Awaitable[Callable[[], Awaitable[None]]]],
    on_disk: Callable[[], tuple[int, int]],
    least: int,
) -> Found:
    """Samples of a rate. `some(count)` prepares that many payments and gives what makes them.

    A short first one, which does not count, tells how many fill the time.
    """
    found, count = Found(), least
    for number in range(-1, effort.repeats):
        make = await some(count)
        before, spent = on_disk(), line.cpu()
        began = time.perf_counter()
        await make()
        taken = time.perf_counter() - began
        if number >= 0:
            found.spent_since(spent, line.cpu(), count)
        with trio.fail_after(10):
            while [one - two for one, two in zip(on_disk(), before, strict=True)] != [count, count]:
                await trio.sleep(0.1)
        if number >= 0:
            found.samples.append(count / taken)
        count = max(least, round(effort.seconds * count / taken))
    return found


async def _transfers(line: Line, effort: Effort) -> Found:
    async def call(count: int) -> None:
        said = await line.payer.send_transfers(channel_id=line.channels[0], transfers=[{"amount": 1}] * count)
        if said["state"] != "succeeded" or len(said["ids"]) != count:
            raise AssertionError(f"transfers {said['state']}")

    async def some(count: int) -> Callable[[], Awaitable[None]]:
        sizes = [BATCH] * (count // BATCH) + ([count % BATCH] if count % BATCH else [])
        return lambda: at_once(((lambda size=size: call(size)) for size in sizes), CALLS)  # type: ignore[misc]

    return await rate(line, effort, some, line.transfers_on_disk, 2 * BATCH)


async def payments_a_second(line: Line, effort: Effort, most: int = AT_ONCE) -> Found:
    """Samples of a rate, with `most` payments in flight."""

    async def some(count: int) -> Callable[[], Awaitable[None]]:
        texts = await line.invoices(count)
        return lambda: at_once(((lambda text=text: line.pay(text)) for text in texts), most)  # type: ignore[misc]

    return await rate(line, effort, some, line.on_disk, most)


async def _invoice_payments(line: Line, effort: Effort) -> Found:
    async def one() -> None:
        made = await line.payee.make_invoice(token="DemoUSD", amount=AMOUNT)
        told = await line.payer.decode_invoice(invoice=made["invoice"])
        if told["amount"] != str(AMOUNT):
            raise AssertionError("the invoice says another amount")
        await line.pay(made["invoice"])

    async def some(count: int) -> Callable[[], Awaitable[None]]:
        return lambda: at_once(one for _ in range(count))

    return await rate(line, effort, some, line.on_disk, AT_ONCE)


# -- latencies


async def latency(line: Line, effort: Effort) -> Found:
    """Medians of payments made one at a time, milliseconds; the first sample is warm-up."""
    found = Found()
    for number in range(-1, effort.repeats):
        texts = await line.invoices(effort.lone)
        taken, spent = [], line.cpu()
        for text in texts:
            began = time.perf_counter()
            await line.pay(text)
            taken.append((time.perf_counter() - began) * 1e3)
        if number >= 0:
            found.spent_since(spent, line.cpu(), len(texts))
            found.samples.append(median(taken))
    return found


_ONE_HOP: Final[dict[str, Callable[[Line, Effort], Awaitable[Found]]]] = {
    "latency_1hop_p50_ms": latency,
    "transfers_per_second": _transfers,
    "payments_1hop_per_second": payments_a_second,
    "invoice_payments_1hop_per_second": _invoice_payments,
}
_THREE_HOPS: Final[dict[str, Callable[[Line, Effort], Awaitable[Found]]]] = {
    "latency_3hop_p50_ms": latency,
    "payments_3hop_per_second": payments_a_second,
}
ROWS: Final = (*_ONE_HOP, *_THREE_HOPS)
