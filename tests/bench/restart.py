"""A node with ten thousand open channels: how soon it pays after a start, and how much memory its channels take.

The channels are all with one peer (`many`). Both nodes are started once, so that they have read the deposits from the
chain and told each other their policies, and stopped in order. A sample of the restart begins with the process; it ends
when a payment to the peer has succeeded and the last channel is there again. The peer has been running meanwhile.

Memory is what the two processes have resident, mean of both: with the channels against without any, after a start and a
payment; and with locks pending in some of the channels against the same channels without.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from statistics import mean
from typing import Any, Final

import trio

from channeld.base.units import ChannelId
from channeld.cli.stage import ETHER, Actor, Stage, stage
from channeld.client import ApiError
from channeld.core.channel import MAX_LOCKS
from tests.bench.machine import cpu_seconds
from tests.bench.many import fill, hold
from tests.bench.payments import AMOUNT, BLOCK_TIME, Effort, Found
from tests.e2e.people import invoice, nodes

RESTART: Final = "restart_10k_channels_seconds"
IDLE: Final = "memory_per_idle_channel_bytes"
LOCK: Final = "memory_per_pending_lock_bytes"
ROWS: Final = (RESTART, IDLE, LOCK)
CHANNELS: Final = 10_000
HOLDING: Final = 20
"""Channels with locks, as many in each as fit."""
PATIENCE: Final = 120.0
SETTLED: Final = 2.0
"""Seconds after which a node that has nothing to do has done it."""
COINS: Final = 1_000 * ETHER
"""The account must be able to end every channel."""


def sizes(effort: Effort) -> tuple[int, int, int]:
    """Channels, those of them with locks, and locks in each; fewer than ten thousand for a short look."""
    part = min(1.0, effort.seconds / 2)
    return max(20, round(CHANNELS * part)), max(2, round(HOLDING * part)), max(10, round(MAX_LOCKS * part))


async def measure(names: Sequence[str], effort: Effort) -> dict[str, Found]:
    """The rows of this module that are named."""
    found = {name: Found() for name in ROWS if name in names}
    if not found:
        return {}
    count, holding, each = sizes(effort)
    async with stage() as town:
        await town.chain(block_time=BLOCK_TIME)
        await town.deploy()
        payer, payee = await nodes(town, "payer", "payee")
        pair = payer, payee
        await town.fund_all({actor.address: (COINS, 0) for actor in pair})
        async with payer.client() as client:
            await client.connect_peer(uri=payee.uri)
        await _stop(*pair)
        await _again(*pair)
        await trio.sleep(SETTLED)
        empty = resident(pair)
        await _stop(*pair)
        channels = await fill(town, payer, payee, count)
        await _again(*pair)
        await _live(payer, channels)
        await trio.sleep(SETTLED)
        if RESTART in found:
            await _restarts(found[RESTART], payer, payee, channels, effort)
        await _stop(*pair)
        await _again(*pair)
        await _pay(payer, payee)
        await _live(payer, channels)
        await trio.sleep(SETTLED)
        idle = resident(pair)
        if IDLE in found:
            found[IDLE].samples.append((idle - empty) / count)
            found[IDLE].said = f"{count:,} channels; a node without any has {empty / 2**20:.1f} MiB"
        if LOCK in found:
            await _locks(found[LOCK], town, pair, channels, (idle, holding, each))
    return found


# -- restarting


async def _restarts(found: Found, payer: Actor, payee: Actor, channels: Sequence[ChannelId], effort: Effort) -> None:
    """Samples with the payee running; and once with both started together, for the note."""
    spent: list[float] = []
    for _ in range(effort.repeats):
        await payer.stop()
        asked, before = await invoice(payee, AMOUNT), cpu_seconds(payee.pid)
        began = time.perf_counter()
        await payer.start(PATIENCE)
        stood = time.perf_counter() - began
        paid = await _paid(payer, asked, began)
        await _live(payer, channels)
        found.samples.append(time.perf_counter() - began)
        spent = [stood, paid, cpu_seconds(payer.pid), cpu_seconds(payee.pid) - before]
    asked = await invoice(payee, AMOUNT)
    await _stop(payer, payee)
    began = time.perf_counter()
    await _again(payer, payee)
    both = await _paid(payer, asked, began)
    found.said = (
        f"{len(channels):,} channels with one peer; of the last sample: socket after {spent[0]:.1f} s, paid after "
        f"{spent[1]:.1f} s, CPU {spent[2]:.1f} s, the peer's {spent[3]:.1f} s; {both:.1f} s if both start together"
    )


async def _paid(payer: Actor, asked: dict[str, Any], began: float) -> float:
    """Pay as soon as there is a way; seconds from `began`."""
    with trio.fail_after(PATIENCE):
        async with payer.client() as client:
            while True:
                with suppress(ApiError):  # no channel is there again yet
                    said = await client.pay_invoice(invoice=asked["invoice"])
                    if said["state"] != "succeeded":
                        raise AssertionError(f"a payment {said['state']}")
                    return time.perf_counter() - began
                await trio.sleep(0.1)


async def _pay(payer: Actor, payee: Actor) -> None:
    await _paid(payer, await invoice(payee, AMOUNT), 0)


async def _live(actor: Actor, channels: Sequence[ChannelId]) -> None:
    """Until the last channel has been spoken of by both; channels are greeted in the order of their rows."""
    with trio.fail_after(PATIENCE):
        async with actor.client() as client:
            for id_ in channels[-1], channels[0]:
                while not (await client.list_channels(channel_id=f"0x{id_.hex()}"))["channels"][0]["connected"]:
                    await trio.sleep(0.05)


async def _stop(*actors: Actor) -> None:
    async with trio.open_nursery() as nursery:
        for actor in actors:
            nursery.start_soon(actor.stop)


async def _again(*actors: Actor) -> None:
    async with trio.open_nursery() as nursery:
        for actor in actors:
            nursery.start_soon(actor.start, PATIENCE)


# -- memory


def resident(actors: Collection[Actor]) -> float:
    """Bytes of memory that the processes have now, the mean."""
    return mean(_resident(actor.pid) for actor in actors)


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1_024 for line in status if line.startswith("VmRSS:"))


async def _locks(
    found: Found,
    town: Stage,
    pair: tuple[Actor, Actor],
    channels: Sequence[ChannelId],
    what: tuple[float, int, int],
) -> None:
    """What the nodes have with locks pending, by what they had with the same channels without (`what`)."""
    idle, holding, each = what
    payer, payee = pair
    await _stop(*pair)
    await hold(town, payer, payee, channels[:holding], each)
    await _again(*pair)
    await _live(payer, channels)
    await trio.sleep(SETTLED)
    pending = [await _pending(actor, channels[:holding]) for actor in pair]
    if pending != [holding * each] * 2:
        raise AssertionError(f"of {holding * each} locks {pending} are pending")
    # Of a few locks there is less than memory is handed out in: one byte then, as a figure is above zero.
    found.samples.append(max(1.0, (resident(pair) - idle) / (holding * each)))
    found.said = f"{holding * each:,} locks in {holding} channels, each half of a payment to the neighbour"


async def _pending(actor: Actor, channels: Sequence[ChannelId]) -> int:
    async with actor.client() as client:
        shown = [(await client.list_channels(channel_id=f"0x{id_.hex()}"))["channels"][0] for id_ in channels]
    return sum(int(one["locks"]) for one in shown)
