"""How payments do when something is slow or everything comes at once: a slow disk, a long wire, both ways together.

Nodes, payments and what is checked on both disks are those of `payments`. Each row is held against the same nodes
without the trouble, in turn with it, so it says what the trouble costs and little about the machine. In all of them the
chain's watcher is watched (`watch`): how late it gets is a row of its own, the worst of those measured here.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Final

import trio

from channeld.cli.stage import Actor, stage
from tests.bench import crowd
from tests.bench.payments import (
    AT_ONCE,
    BATCH,
    CALLS,
    DEPOSIT,
    Effort,
    Found,
    Line,
    payments_a_second,
)
from tests.bench.payments import latency as lone
from tests.bench.scene import A_WHILE, Call, Paying, Scene, chained, contest, line_between, on_both_disks
from tests.bench.watch import Behind, watching
from tests.e2e.people import nodes

LATE: Final = 2.0
"""Milliseconds that each sync takes longer on the slow disk."""
ROUND_TRIPS: Final = (50, 200)
"""Milliseconds."""
SLOTS: Final = 256
"""Locks that may be pending in one direction of a channel."""
MOST_AT_ONCE: Final = SLOTS - 6
"""Payments in flight on a long wire: the slots, less what is gone for the payer before it is for the channel."""
HEAD_LAG: Final = "head_lag_seconds_under_load"


async def turn(*actors: Actor) -> None:
    """SIGUSR1: `slow_disk` and `relay` go from one speed to the next."""
    for actor in actors:
        if actor.process is not None:
            actor.process.send_signal(signal.SIGUSR1)
    await trio.sleep(0.1)


# -- both ways at once


async def _payments_both_ways(lines: Sequence[Line], effort: Effort) -> Found:
    found, paying = Found(), Paying(lines, AT_ONCE)
    for number in range(-1, effort.repeats):
        was = await paying.go_on(max(A_WHILE, effort.seconds) if number >= 0 else A_WHILE)
        if number >= 0:
            found.samples.append(was.unfair)
            found.said = f"{was.rates()} payments a second, {was.together:,.0f} together"
    return found


async def _transfers_both_ways(lines: Sequence[Line], effort: Effort) -> Found:
    found = Found()
    for number in range(-1, effort.repeats):
        before = [line.transfers_on_disk() for line in lines]
        sides = [_batches(line) for line in lines]
        was = await contest(sides, CALLS, max(A_WHILE, effort.seconds) if number >= 0 else A_WHILE)
        for line, then, ended in zip(lines, before, was.ended, strict=True):
            await on_both_disks(line.transfers_on_disk, then, BATCH * ended)
        if number >= 0:
            found.samples.append(was.unfair)
            found.said = f"{was.rates(BATCH)} transfers a second, {was.together * BATCH:,.0f} together"
    return found


def _batches(line: Line) -> Iterator[Call]:
    async def send() -> None:
        said = await line.payer.send_transfers(channel_id=line.channels[0], transfers=[{"amount": 1}] * BATCH)
        if said["state"] != "succeeded":
            raise AssertionError(f"transfers {said['state']}")

    while True:
        yield send


async def both_ways(names: Sequence[str], effort: Effort) -> Scene:
    scene = Scene()
    async with stage() as town, chained(town):
        one, other = await nodes(town, "one", "other", tokens=2 * DEPOSIT)
        channel = await town.open(one, other, 2 * DEPOSIT)
        async with one.client() as client:
            await client.send_transfers(channel_id=channel, transfers=[{"amount": DEPOSIT}])
        async with (
            line_between(one, other, channel) as there,
            line_between(other, one, channel) as back,
            watching(town, (one, other)) as scene.behind,
        ):
            for name, how in _BOTH_WAYS.items():
                if name in names or (name == next(iter(_BOTH_WAYS)) and HEAD_LAG in names):
                    scene.rows[name] = await how((there, back), effort)
    return scene


# -- a slow disk


async def slow_disk(names: Sequence[str], effort: Effort) -> Scene:
    scene = Scene()
    async with stage() as town, chained(town):
        payer, payee = [await town.node(name, start=False) for name in ("payer", "payee")]
        for actor in (payer, payee):
            at = actor.command.index("channeld")
            actor.command[at : at + 1] = ["tests.bench.slow_disk", str(LATE)]
            await actor.start()
        await town.fund_all({actor.address: (10**19, 2 * DEPOSIT) for actor in (payer, payee)})
        channel = await town.open(payer, payee, DEPOSIT)
        async with line_between(payer, payee, channel) as line, watching(town, (payer, payee)) as scene.behind:
            for name, how in _SLOW_DISK.items():
                if name in names:
                    scene.rows[name] = await how(line, effort)
    return scene


async def _in_turn(line: Line, how: Callable[[Line, Effort], Awaitable[Found]], effort: Effort) -> list[list[float]]:
    """Samples without the slow disk, and as many with it, taken in turn."""
    samples: list[list[float]] = [[], []]
    for _ in range(effort.repeats):
        for some in samples:
            some += (await how(line, replace(effort, repeats=1))).samples
            await turn(*line.actors)
    return samples


async def _slow_rate(line: Line, effort: Effort) -> Found:
    fast, slow = await _in_turn(line, payments_a_second, effort)
    return Found(
        samples=[late / soon for soon, late in zip(fast, slow, strict=True)],
        said=f"{median(slow):,.0f} payments a second, {median(fast):,.0f} on the disk as it is, {AT_ONCE} in flight",
    )


async def _slow_lone(line: Line, effort: Effort) -> Found:
    fast, slow = await _in_turn(line, lone, effort)
    more = median(slow) - median(fast)
    return Found(
        samples=slow, said=f"{median(fast):.1f} ms on the disk as it is: {more / LATE:.1f} syncs one after another"
    )


# -- a long wire


async def long_wire(names: Sequence[str], effort: Effort) -> Scene:
    scene = Scene()
    async with stage() as town, chained(town):
        payer, payee = await nodes(town, "payer", "payee", tokens=2 * DEPOSIT)
        relay = Actor(
            name="relay",
            command=[sys.executable, "-m", "tests.bench.relay", payee.ready["listen"], "0"]
            + [str(whole / 2) for whole in ROUND_TRIPS],
            log=town.root / "relay.log",
            environment=town.environment(),
        )
        await relay.start()
        town.actors[relay.name] = relay
        uri = f"{payee.node_id.removeprefix('0x')}@{relay.ready['listen']}"
        channel = await town.open(payer, payee, DEPOSIT, at=uri)
        async with line_between(payer, payee, channel) as line, watching(town, (payer, payee)) as scene.behind:
            near, quick = await _wire(line, effort)
            for whole in ROUND_TRIPS:
                await turn(relay)
                rate, took = await _wire(line, effort)
                most = MOST_AT_ONCE / (whole / 1e3 + MOST_AT_ONCE / near)
                scene.rows[f"rtt_{whole}ms_payments_ratio"] = Found(
                    samples=[rate / most],
                    said=f"{rate:,.0f} payments a second, {near:,.0f} without the wire, {MOST_AT_ONCE} in flight, "
                    f"of {SLOTS} slots; one round trip for each {MOST_AT_ONCE} would allow {most:,.0f}",
                )
                scene.rows[f"rtt_{whole}ms_latency_rtts"] = Found(
                    samples=[took / whole],
                    said=f"a lone payment takes {took:.1f} ms, {quick:.1f} ms without the wire",
                )
    return scene


async def _wire(line: Line, effort: Effort) -> tuple[float, float]:
    """Payments a second, and milliseconds of a lone one."""
    rate = await payments_a_second(line, effort, MOST_AT_ONCE)
    return median(rate.samples), median((await lone(line, effort)).samples)


# -- all


_BOTH_WAYS: Final = {
    "both_ways_payments_unfairness": _payments_both_ways,
    "both_ways_transfers_unfairness": _transfers_both_ways,
}
_SLOW_DISK: Final = {"slow_disk_payments_ratio": _slow_rate, "slow_disk_latency_p50_ms": _slow_lone}
_LONG_WIRE: Final = tuple(
    f"rtt_{whole}ms_{what}" for whole in ROUND_TRIPS for what in ("payments_ratio", "latency_rtts")
)
SCENES: Final = (
    (both_ways, (*_BOTH_WAYS, HEAD_LAG)),
    (slow_disk, tuple(_SLOW_DISK)),
    (long_wire, _LONG_WIRE),
    *crowd.SCENES,
)
ROWS: Final = tuple(name for _, names in SCENES for name in names)


async def measure(names: Sequence[str], effort: Effort) -> dict[str, Found]:
    """The rows of this module that are named."""
    found: dict[str, Found] = {}
    late: dict[str, Behind] = {}
    for scene, rows in SCENES:
        if any(name in names for name in rows):
            seen = await scene(names, effort)
            late[scene.__name__] = seen.behind
            for name, one in seen.rows.items():
                found[name] = replace(one, said=f"{one.said}; {seen.behind.told}")
    if HEAD_LAG in names:
        where, worst = max(late.items(), key=lambda one: one[1].most)
        found[HEAD_LAG] = Found(samples=[worst.most], said=f"{where}: {worst.told}")
    return {name: one for name, one in found.items() if name in names}
