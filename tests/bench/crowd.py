"""A hub in company: many channels instead of few, and one peer that has stopped answering in the middle of payments.

The peers are few, for each is a process; they pay one another in a ring, two hops over the hub, and each has some of
the channels. All channels are opened by asking at the peers' sockets, in the chain's coin (a token's deposits wait for
one another's allowance), while the chain makes a block a second and none for each transaction. Half of each deposit is
then given to the hub, so that payments can go either way.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any, Final

import trio

from channeld.chain.rpc import Rpc
from channeld.cli.stage import ETHER, Actor, Stage, stage
from channeld.client.errors import ApiError
from tests.bench.machine import cpu_seconds
from tests.bench.payments import AT_ONCE, BLOCK_TIME, DEPOSIT, Effort, Found, Line, at_once
from tests.bench.scene import A_WHILE, Call, Contest, Paying, Scene, chained, contest
from tests.bench.watch import watching
from tests.e2e.people import nodes

PEERS: Final = 5
CHANNELS: Final = 500
STALLING: Final = 50
"""Channels of the hub while a peer stalls."""
OPENING: Final = 12
"""Channels that a peer opens at once: all of this machine may have 64 at a hub that are not paid yet."""
LONGEST_STALL: Final = 6.0
"""Seconds: by far less than a lock has until its channel must go to the chain."""
TOKEN: Final = "native"
RATIO: Final = "hub_500_channels_payments_ratio"
SPREAD: Final = "hub_500_channels_transfers_ratio"
STALLED: Final = "stalled_peer_latency_ratio"


@dataclass(eq=False, kw_only=True)
class Hub:
    """The hub, its peers, their sockets and the channels of each peer, oldest first."""

    town: Stage
    hub: Actor
    asked: Any
    peers: Sequence[Actor]
    askers: Sequence[Any]
    channels: list[list[str]] = field(default_factory=list)

    @property
    def actors(self) -> list[Actor]:
        return [self.hub, *self.peers]

    def ring(self, count: int | None = None) -> list[Line]:
        """Each of the first so many peers pays the next one of them."""
        among = list(zip(self.peers, self.askers, strict=True))[:count]
        return [
            Line(actors=(payer, payee), channels=(), payer=asking, payee=asked, token=TOKEN)
            for (payer, asking), (payee, asked) in zip(among, [*among[1:], among[0]], strict=True)
        ]

    async def grow(self, each: int) -> None:
        """Open channels until every peer has that many."""
        await self._mine(1)
        async with trio.open_nursery() as nursery:
            for number, asking in enumerate(self.askers):
                missing = each - len(self.channels[number])
                nursery.start_soon(at_once, [partial(self._open, number, asking)] * missing, OPENING)
        await self._mine(BLOCK_TIME)

    async def _open(self, number: int, asking: Any) -> None:
        said = await asking.open_channel(
            peer=self.hub.uri, token=TOKEN, amount=DEPOSIT, peer_amount=0, challenge_period=None, public=True
        )
        channel = str(said["channel_id"])
        for actor in (self.peers[number], self.hub):
            await self.town.channel_state(actor, channel, "open")
        await asking.send_transfers(channel_id=channel, transfers=[{"amount": DEPOSIT // 2}])
        self.channels[number].append(channel)

    async def _mine(self, every: float) -> None:
        async with Rpc(self.town.url) as rpc:
            await rpc.call("evm_setIntervalMining", int(every))

    async def rate(self, how: Callable[[], Awaitable[Contest]], effort: Effort) -> tuple[float, float]:
        """Calls a second, and the hub's processor time for each, microseconds; medians."""
        rates, spent = [], []
        for _ in range(effort.repeats):
            before = cpu_seconds(self.hub.pid)
            was = await how()
            rates.append(was.together)
            spent.append((cpu_seconds(self.hub.pid) - before) / sum(was.ended) * 1e6)
        return median(rates), median(spent)

    async def known(self) -> None:
        """Wait until every peer has found a way to the next: it can pay it."""
        for line in self.ring():
            with trio.fail_after(60):
                while not await _pays(line):
                    await trio.sleep(0.3)


async def _pays(line: Line) -> bool:
    (text,) = await line.invoices(1)
    try:
        await line.pay(text)
    except ApiError:  # not yet
        return False
    return True


@asynccontextmanager
async def hub_of(peers: int) -> AsyncIterator[Hub]:
    """A hub and its peers, connected and rich, without channels."""
    async with stage() as town, chained(town), AsyncExitStack() as stack:
        hub, *others = await nodes(town, "hub", *(f"peer {number}" for number in range(1, peers + 1)), tokens=0)
        await town.fund_all({actor.address: (500 * ETHER, 0) for actor in (hub, *others)})
        async with Rpc(town.url) as rpc:
            await rpc.call("evm_setAutomine", False)
        askers = [await stack.enter_async_context(actor.client()) for actor in others]
        for asking in askers:
            await asking.connect_peer(uri=hub.uri)
        asked = await stack.enter_async_context(hub.client())
        made = Hub(town=town, hub=hub, asked=asked, peers=others, askers=askers)
        made.channels = [[] for _ in others]
        yield made


def _share(all_: int, effort: Effort) -> int:
    """Channels of each peer: fewer for a short look."""
    return max(2, min(all_ // PEERS, round(all_ // PEERS * effort.seconds / Effort().seconds)))


# -- many channels


def _transfers(asking: Any, channels: Sequence[str]) -> Iterator[Call]:
    async def send(channel: str) -> None:
        said = await asking.send_transfers(channel_id=channel, transfers=[{"amount": 1}])
        if said["state"] != "succeeded":
            raise AssertionError(f"a transfer {said['state']}")

    for channel in cycle(channels):
        yield partial(send, channel)


async def _to_the_hub(town: Hub, seconds: float) -> Contest:
    """Every peer sends single transfers to the hub, over each of its channels in turn."""
    lines = [Line(actors=(peer, town.hub), channels=(), payer=None, payee=None) for peer in town.peers]
    before = [line.transfers_on_disk() for line in lines]
    sides = [_transfers(asking, channels) for asking, channels in zip(town.askers, town.channels, strict=True)]
    was = await contest(sides, AT_ONCE // PEERS, seconds)
    with trio.fail_after(10):
        while True:
            after = [line.transfers_on_disk() for line in lines]
            sent = [now[0] - then[0] for now, then in zip(after, before, strict=True)]
            if sent == was.ended and after[0][1] - before[0][1] == sum(sent):
                return was
            await trio.sleep(0.1)


async def many_channels(names: Sequence[str], effort: Effort) -> Scene:
    """Rates over one channel for each peer, and over as many as there shall be, with the same hub."""
    scene, seconds = Scene(), max(A_WHILE, effort.seconds)
    async with hub_of(PEERS) as town:
        rates: list[tuple[tuple[float, float], tuple[float, float]]] = []
        for each in (1, _share(CHANNELS, effort)):
            await town.grow(each)
            await town.known()
            paying = Paying(town.ring(), AT_ONCE // PEERS)
            await paying.go_on(A_WHILE)  # how many invoices it takes
            async with watching(town.town, town.actors) as scene.behind:
                paid = await town.rate(partial(paying.go_on, seconds), effort)
                sent = await town.rate(partial(_to_the_hub, town, seconds), effort)
            rates.append((paid, sent))
        few, many = rates
        for name, at, what in ((RATIO, 0, "payments"), (SPREAD, 1, "transfers")):
            (rate, spent), (before, less) = many[at], few[at]
            scene.rows[name] = Found(
                samples=[rate / before],
                said=f"{rate:,.0f} {what} a second over {each * PEERS} channels, {before:,.0f} over {PEERS}, {AT_ONCE} "
                f"in flight; the hub's CPU µs each {spent:,.0f} and {less:,.0f}",
            )
    return scene


# -- a peer that stalls


async def stalled_peer(names: Sequence[str], effort: Effort) -> Scene:
    """Payments among the honest peers, alone and while the hub's payments to the last peer hang."""
    scene, seconds = Scene(), min(LONGEST_STALL, max(A_WHILE, effort.seconds))
    async with hub_of(PEERS) as town:
        await town.grow(_share(STALLING, effort))
        await town.known()
        honest, last = Paying(town.ring(PEERS - 1), AT_ONCE // PEERS), town.peers[-1]
        stream = Line(actors=(town.hub, last), channels=(), payer=town.asked, payee=town.askers[-1], token=TOKEN)
        await honest.go_on(A_WHILE)
        alone: list[Contest] = []
        beside: list[Contest] = []
        async with watching(town.town, town.actors[:-1]) as scene.behind:
            for _ in range(effort.repeats):
                alone.append(await honest.go_on(seconds))
                async with _stalling(last, stream):
                    beside.append(await honest.go_on(seconds))
        scene.rows[STALLED] = Found(
            samples=[median(with_.taken) / median(without.taken) for with_, without in zip(beside, alone, strict=True)],
            said=f"median {1e3 * median(beside[-1].taken):.1f} ms, slowest {1e3 * max(beside[-1].taken):,.0f} ms, "
            f"{beside[-1].together:,.0f} payments a second; {1e3 * median(alone[-1].taken):.1f} ms, "
            f"{1e3 * max(alone[-1].taken):,.0f} ms and {alone[-1].together:,.0f} without; "
            f"{sum(map(len, town.channels))} channels",
        )
    return scene


@asynccontextmanager
async def _stalling(peer: Actor, stream: Line) -> AsyncIterator[None]:
    """Stop the peer amid a stream of payments to it; when it goes on, each of them must end well."""
    texts = await stream.invoices(2 * AT_ONCE)
    before = stream.on_disk()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(at_once, [partial(stream.pay, text) for text in texts])
        with trio.fail_after(30):
            while stream.on_disk()[1] == before:
                await trio.sleep(0.01)
        if peer.process is None:
            raise AssertionError(f"{peer.name} has no process")
        peer.process.send_signal(signal.SIGSTOP)
        try:
            if stream.on_disk()[1] - before == len(texts):
                raise AssertionError("the stream was over before its payee stopped")
            yield
        finally:
            peer.process.send_signal(signal.SIGCONT)


SCENES: Final = ((many_channels, (RATIO, SPREAD)), (stalled_peer, (STALLED,)))
