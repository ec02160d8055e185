"""A fresh node learns the whole of a real network from one peer on loopback, and pays a neighbour meanwhile.

The chain holds the deposits of all 50,808 channels from its first block on, in the manager's own storage; the peer has
heard all that is said of them (`gossiped`). The fresh node has a private channel with a payee. From the moment it is
told to connect to the peer, lone payments go over that channel, a few each second, until its graph has every channel
and nothing more is on its way. Then its disk is read: channels, policies and nodes must all be there.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import trio

from channeld.base.units import Address
from channeld.chain.reads import hexed
from channeld.chain.rpc import Rpc
from channeld.cli.stage import Actor, Stage, stage
from channeld.node.run import STORE
from channeld.wire import pages
from tests.bench import gossiped
from tests.bench.machine import cpu_seconds
from tests.bench.many import home_of
from tests.bench.payments import BLOCK_TIME, DEPOSIT, Effort, Found, Line
from tests.bench.scene import line_between
from tests.e2e.liar import domain_of, memory

SYNC: Final = "gossip_sync_50k_seconds"
PAYMENT: Final = "gossip_sync_payment_p50_ms"
ROWS: Final = (SYNC, PAYMENT)
WHOLE: Final = 5.0
"""Seconds of a sample from which on the whole network is learned; with less, as much less of it."""
PATIENCE: Final = 300.0
EVERY: Final = 0.2
"""Seconds between payments."""


@dataclass(slots=True)
class _During:
    """What was seen while the network was learned."""

    seconds: float = 0.0
    payments: list[float] = field(default_factory=list)
    """Seconds that each took."""


async def measure(names: Sequence[str], effort: Effort) -> dict[str, Found]:
    """The rows of this module that are named."""
    found = {name: Found() for name in ROWS if name in names}
    if not found:
        return {}
    share = min(1.0, max(0.01, effort.seconds / WHOLE))
    async with stage() as first:
        codes = await _codes(first)
        made = await trio.to_thread.run_sync(gossiped.network, domain_of(first), share)
    async with stage() as town:
        file = town.root / "genesis.json"
        file.write_text(gossiped.genesis(codes, _address(first.manager), made), encoding="utf-8")
        await _chain(town, file)
        await town.deploy()
        if town.manager != first.manager:
            raise AssertionError("the contracts are not where the deposits are")
        peer, payee = await town.nodes("peer", "payee", tokens=2 * DEPOSIT)
        await peer.stop()
        await trio.to_thread.run_sync(made.put_into, home_of(peer) / STORE)
        await peer.start(PATIENCE)
        for number in range(effort.repeats):
            await _sample(found, town, peer, payee, made, number)
    return found


async def _chain(town: Stage, genesis: Path) -> None:
    """The development chain; to put fifty thousand deposits into its first block takes it half a minute."""
    words = ("devchain", "--block-time", str(BLOCK_TIME), "--genesis", str(genesis), "--port", "0", "--json")
    actor = town.actor("chain", *words)
    await actor.start(PATIENCE)
    town.url = actor.ready["url"]


async def _codes(town: Stage) -> dict[Address, bytes]:
    """The contracts as a deployment leaves them on a chain."""
    await town.chain(block_time=BLOCK_TIME)
    await town.deploy()
    async with Rpc(town.url) as rpc:
        addresses = [_address(town.manager), _address(town.registry)]
        return {
            address: bytes.fromhex((await rpc.call("eth_getCode", hexed(address), "latest"))[2:])
            for address in addresses
        }


def _address(text: str) -> Address:
    return Address(bytes.fromhex(text.removeprefix("0x")))


async def _sample(
    found: dict[str, Found], town: Stage, peer: Actor, payee: Actor, made: gossiped.Network, number: int
) -> None:
    (fresh,) = await town.nodes(f"fresh{number}", tokens=2 * DEPOSIT)
    channel = await town.open(fresh, payee, DEPOSIT, public=False)
    actors = (fresh, peer, town.actors["chain"])
    async with line_between(fresh, payee, channel) as line:
        before, cpu = await _payment_times(line, 20), [cpu_seconds(actor.pid) for actor in actors]
        during = await _learn(line, fresh, peer, made)
        spent = [cpu_seconds(actor.pid) - then for actor, then in zip(actors, cpu, strict=True)]
    peak = memory(fresh)
    await fresh.stop()
    _on_disk(fresh, made)
    taken = sorted(during.payments)
    if SYNC in found:
        found[SYNC].samples.append(during.seconds)
        found[SYNC].said = (
            f"{made.channels:,} channels, {made.policies:,} policies, {made.nodes:,} nodes; CPU s: fresh node "
            f"{spent[0]:.1f}, peer {spent[1]:.1f}, chain {spent[2]:.1f}; fresh node's peak memory "
            f"{peak / 2**20:.0f} MiB"
        )
    if PAYMENT in found:
        found[PAYMENT].samples.append(median(taken) * 1e3)
        found[PAYMENT].said = (
            f"{len(taken)} payments during it, of the last sample 99 % within "
            f"{taken[len(taken) * 99 // 100] * 1e3:.0f} ms, slowest {taken[-1] * 1e3:.0f} ms; median before "
            f"{median(before) * 1e3:.1f} ms"
        )


async def _learn(line: Line, fresh: Actor, peer: Actor, made: gossiped.Network) -> _During:
    during, known = _During(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_pay_until, line, known, during.payments)
        with trio.fail_after(PATIENCE):
            began = time.perf_counter()
            async with fresh.client() as client:
                nursery.start_soon(partial(client.connect_peer, uri=peer.uri))
                while not _complete((await client.get_info())["graph"], made):
                    await trio.sleep(0.1)
        during.seconds = time.perf_counter() - began
        known.set()
    return during


def _complete(graph: dict[str, Any], made: gossiped.Network) -> bool:
    return (graph["channels"], graph["nodes"], graph["syncing"]) == (made.channels, made.nodes, False)


async def _pay_until(line: Line, known: trio.Event, taken: list[float]) -> None:
    while not known.is_set() or not taken:
        taken += await _payment_times(line, 1)
        await trio.sleep(EVERY)


async def _payment_times(line: Line, count: int) -> list[float]:
    """Seconds that lone payments take."""
    taken = []
    for number in range(count):
        if number:
            await trio.sleep(EVERY)
        (text,) = await line.invoices(1)
        began = time.perf_counter()
        await line.pay(text)
        taken.append(time.perf_counter() - began)
    return taken


def _on_disk(fresh: Actor, made: gossiped.Network) -> None:
    with closing(sqlite3.connect(home_of(fresh) / STORE)) as home:
        kept = dict(home.execute("SELECT kind, count(*) FROM gossip GROUP BY kind").fetchall())
    wanted = {
        pages.CHANNELS: made.channels,
        pages.POLICIES: made.policies + 2,  # of the private channel
        pages.NODES: made.nodes,
    }
    if kept != wanted:
        raise AssertionError(f"on disk there are {kept}, not {wanted}")
