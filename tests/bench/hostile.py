"""Honest payments while a thousand strangers connect: how much slower the median one is, and how much memory it takes.

A payer and a payee as in `payments`; the strangers all come to the payee's port, each from an address of its own (of
127.0.0.0/8, which is all this machine) and again and again until the time is over: a quarter connects and says nothing,
a quarter sends a wrong first act, a quarter shakes hands and then pings without reading, a quarter greets properly and
asks for all gossip as fast as it can. They live in a process of their own, so that what is slow is not the strangers'
side. The attack lasts twelve samples' time, a minute by default, and ends by itself.
"""

from __future__ import annotations

import resource
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Final

import trio

from channeld.base.errors import PeerFault, Unreachable
from channeld.base.units import Address
from channeld.cli.stage import stage
from channeld.peers.talk import PeerStream, fresh_key, greet
from channeld.wire import messages as wire
from channeld.wire.address import NodeAddress, node_address
from channeld.wire.pages import CHANNELS
from tests.bench.payments import AMOUNT, BLOCK_TIME, DEPOSIT, Effort, Found, Line
from tests.e2e.liar import domain_of, memory
from tests.e2e.people import knows_way, nodes

STRANGERS: Final = 1_000
SAMPLES: Final = 12
"""So many samples' time the attack lasts."""
PAUSE: Final = 1.0
"""Seconds before a stranger that was turned away comes again."""
ROW: Final = "hostile_latency_ratio"

Manner = Callable[[trio.SocketStream, NodeAddress, wire.Init], Awaitable[None]]


# ---- the strangers


async def _silent(stream: trio.SocketStream, _: NodeAddress, __: wire.Init) -> None:
    await stream.receive_some(1)


async def _garbage(stream: trio.SocketStream, _: NodeAddress, __: wire.Init) -> None:
    await stream.send_all(secrets.token_bytes(5_000))
    await stream.receive_some(1)


async def _greeted(stream: trio.SocketStream, to: NodeAddress, init: wire.Init) -> PeerStream:
    peer = await greet(stream, fresh_key(), to.node, ephemeral=fresh_key())
    await peer.send([wire.encode(init)])
    return peer


async def _deaf(socket: trio.SocketStream, to: NodeAddress, init: wire.Init) -> None:
    """Pings and never reads what comes back."""
    async with await _greeted(socket, to, init) as stream:
        while True:
            await stream.send([wire.encode(wire.Ping(pad=9))] * 20)
            await trio.sleep(0.1)


async def _curious(socket: trio.SocketStream, to: NodeAddress, init: wire.Init) -> None:
    """Asks for all there is, again and again."""
    async with await _greeted(socket, to, init) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(_hear, stream)
        while True:
            await stream.send([wire.encode(wire.GossipQuery(kind=CHANNELS))])
            await trio.sleep(0.1)


async def _hear(stream: PeerStream) -> None:
    while True:
        await stream.receive()


MANNERS: Final[tuple[Manner, ...]] = (_silent, _garbage, _deaf, _curious)


async def _stranger(number: int, to: NodeAddress, init: wire.Init) -> None:
    await trio.sleep(number / STRANGERS * PAUSE)
    address = f"127.1.{number // 250}.{number % 250 + 1}"
    while True:
        try:
            async with await trio.open_tcp_stream(to.at.host, to.at.port, local_address=address) as stream:
                await MANNERS[number % len(MANNERS)](stream, to, init)
        except* (OSError, trio.BrokenResourceError, Unreachable, PeerFault):
            pass  # turned away, as it should be
        await trio.sleep(PAUSE)


async def attack(to: NodeAddress, init: wire.Init, seconds: float) -> None:
    """All strangers, for so long."""
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(STRANGERS):
                nursery.start_soon(_stranger, number, to, init)


def main() -> None:
    """`python -m tests.bench.hostile URI CHAIN MANAGER SECONDS`."""
    uri, chain, manager, seconds = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * STRANGERS), hard))
    init = wire.Init(chain_id=int(chain), manager=Address(bytes.fromhex(manager)))
    trio.run(attack, node_address(uri), init, float(seconds))


# ---- the honest


async def _times(line: Line, count: int, until: float) -> list[float]:
    """Seconds that lone payments take: `count` of them, or as many as begin before `until` if that is later."""
    taken: list[float] = []
    while len(taken) < count or time.perf_counter() < until:
        (text,) = await line.invoices(1)
        began = time.perf_counter()
        await line.pay(text)
        taken.append(time.perf_counter() - began)
    return taken


async def measure(effort: Effort) -> Found:
    """One sample: the median under attack by the median before it."""
    found = Found()
    async with stage() as town:
        await town.chain(block_time=BLOCK_TIME)
        await town.deploy()
        payer, payee = await nodes(town, "payer", "payee", tokens=2 * DEPOSIT)
        channel = await town.open(payer, payee, DEPOSIT)
        await knows_way(payer, payee, AMOUNT)
        async with payer.client() as asking, payee.client() as asked:
            line = Line(actors=(payer, payee), channels=(channel,), payer=asking, payee=asked)
            await _times(line, effort.lone, 0)
            before = median(await _times(line, effort.lone, 0))
            size, domain = memory(payee), domain_of(town)
            seconds = max(2.0, SAMPLES * effort.seconds)
            command = [payee.uri, str(domain.chain_id), domain.manager.hex(), str(seconds)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_run, command)
                during = await _under_attack(line, seconds, effort)
            found.samples.append(median(during) / before)
            grown = (memory(payee) - size) / 1_048_576
            late, early = median(during) * 1e3, before * 1e3
            found.said = (
                f"{len(during)} payments in {seconds:.0f} s of {STRANGERS} strangers, median {late:.1f} ms, "
                f"slowest {max(during) * 1e3:.0f} ms; {early:.1f} ms before; payee's peak memory +{grown:.1f} MiB"
            )
    return found


async def _under_attack(line: Line, seconds: float, effort: Effort) -> list[float]:
    with trio.fail_after(seconds + 60):
        await trio.sleep(min(2.0, seconds / 2))  # until all have come
        return await _times(line, effort.lone, time.perf_counter() + seconds / 2)


async def _run(command: list[str]) -> None:
    await trio.run_process([sys.executable, "-m", "tests.bench.hostile", *command])


if __name__ == "__main__":
    main()
