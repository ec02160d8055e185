"""Three to five whole daemons on a bad wire and an unsteady chain, by one seed: pay, die, cut, reorganise, cheat.

The harness is `tests.crash.sim`: real daemons in simulated time on the contracts' model. A run draws its shape (a row
or a ring), its kind and its steps from the seed. *plain*: messages are delayed and lines cut at any message, nodes die
and come back, some are kept apart, the chain is reorganised; no channel may end but by an owner's wish. *cheat*: one
node, besides, goes away at the end and closes with an old state of each of its channels. *restore*: one node comes
back from an old copy of its database. At the end everything is settled and each honest node holds, to the wei, what
its books say (I25-I29); nobody has signed a version twice (I11). With a cheat, an honest node may hold more, not less.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Final

import trio

from channeld.base.errors import Refused
from channeld.base.units import ChannelId
from channeld.core.channel import Channel, Phase
from channeld.node.loop import Actor
from channeld.wire import messages as wire
from tests.crash.copies import keep, set_back
from tests.crash.laws import _won, finish, judge, signatures
from tests.crash.scenarios import _down, _up, close_call, quiet, send_raw
from tests.crash.sim import TOKENS, Node, Sim, Unlawful, named_token, simulate

NAMES: Final = ("first", "second", "third", "fourth", "fifth")
KINDS: Final = ("plain", "plain", "cheat", "restore")
STEPS: Final = 24
WEIGHTS: Final = {
    "pay": 10,
    "transfer": 6,
    "wait": 6,
    "die": 4,
    "cut": 3,
    "part": 2,
    "slow": 3,
    "reorganise": 2,
    "close": 1,
}


class Cluster:
    """One run. `met` counts what happened, so that a test can see that it did."""

    def __init__(self, sim: Sim, chance: Random, kind: str) -> None:
        self.sim, self.chance, self.kind = sim, chance, kind
        self.nodes: list[Node] = []
        self.channels: dict[ChannelId, tuple[Node, Node]] = {}
        self.closed: set[ChannelId] = set()
        """Those that an owner closes."""
        self.met: Counter[str] = Counter()
        self.number = 0
        self.copy: Path | None = None
        self.odd: Node | None = None
        """The cheat, or the one that comes back from a copy."""
        self.old: dict[ChannelId, list[Channel]] = {}

    async def build(self) -> None:
        count = self.chance.randint(3, 5)
        self.nodes = [await self.sim.node(name) for name in NAMES[:count]]
        pairs = list(itertools.pairwise(self.nodes))
        if self.chance.random() < 0.5:
            pairs.append((self.nodes[-1], self.nodes[0]))
        for left, right in pairs:
            opened = await left.open(right, 1_000)
            self.channels[opened] = (left, right)
            await left.transfer(opened, [400], f"balance {left.name}")
        await quiet(self.nodes)
        for node in self.nodes:
            await node.until(lambda node=node: all(id_ in node.service.gossip.known for id_ in self.channels))  # type: ignore[misc]
        if self.kind != "plain":
            self.odd = self.chance.choice(self.nodes)

    # -- steps

    def judge(self, slow: float, cut: float) -> Callable[[str, str, wire.Message], float | None]:
        def one(sender: str, to: str, message: wire.Message) -> float | None:
            drawn = self.chance.random()
            if drawn < cut:
                self.met["lines cut at a message"] += 1
                return None
            return self.chance.random() * slow

        return one

    async def pay(self, nursery: trio.Nursery) -> None:
        payer, payee = self.chance.sample(self.nodes, 2)
        self.number += 1
        number, amount = self.number, self.chance.randint(1, 250)

        async def run() -> None:
            try:
                asked = await payee.invoice(amount, f"number {number}")
                said = await payer.pay(asked["invoice"], 60)
            except Refused as fault:
                said = fault.code
            self.met[f"payment {said}"] += 1

        nursery.start_soon(run)

    async def transfer(self, nursery: trio.Nursery) -> None:
        id_ = self.chance.choice(sorted(self.channels))
        sender = self.chance.choice(self.channels[id_])
        self.number += 1
        amounts, name = [self.chance.randint(1, 60) for _ in range(self.chance.randint(1, 4))], f"number {self.number}"

        async def run() -> None:
            try:
                said = await sender.transfer(id_, amounts, name)
            except Refused as fault:
                said = fault.code
            self.met[f"transfer {said}"] += 1

        nursery.start_soon(run)

    async def wait(self, nursery: trio.Nursery) -> None:
        await trio.sleep(self.chance.random() * 6)

    async def die(self, nursery: trio.Nursery) -> None:
        node = self.chance.choice(self.nodes)
        self.sim.down_for = self.chance.choice((0.2, 1.0, 5.0))
        if node.life is not None:
            self.met["deaths"] += 1
            node.crash()

    def _line(self) -> tuple[Node, Node]:
        return self.channels[self.chance.choice(sorted(self.channels))]

    async def cut(self, nursery: trio.Nursery) -> None:
        one, other = self._line()
        self.sim.cut(one.name, other.name)
        self.met["lines cut"] += 1

    async def part(self, nursery: trio.Nursery) -> None:
        one, other = self._line()
        names = frozenset((one.name, other.name))
        seconds = self.chance.random() * 8
        self.met["kept apart"] += 1

        async def run() -> None:
            self.sim.apart.add(names)
            self.sim.cut(one.name, other.name)
            await trio.sleep(seconds)
            self.sim.apart.discard(names)

        nursery.start_soon(run)

    async def slow(self, nursery: trio.Nursery) -> None:
        self.sim.judge = self.judge(self.chance.choice((0.0, 0.3, 1.5)), self.chance.choice((0.0, 0.01, 0.04)))

    async def reorganise(self, nursery: trio.Nursery) -> None:
        if len(self.sim.chain.blocks) > 8:
            self.met["reorgs"] += 1
            keep = self.chance.random() < 0.5
            self.sim.chain.reorganise(self.chance.randint(1, 2), drop=lambda _: not keep)

    async def close(self, nursery: trio.Nursery) -> None:
        id_ = self.chance.choice(sorted(self.channels))
        owner, force = self.chance.choice(self.channels[id_]), self.chance.random() < 0.5
        self.closed.add(id_)
        self.met["closed alone" if force else "closed together"] += 1

        async def run() -> None:
            try:
                await owner.ask("close_channel", channel_id=id_, force=force, timeout=20)
            except Refused as fault:
                self.met[f"close {fault.code}"] += 1

        nursery.start_soon(run)

    # -- the odd one

    def remember(self) -> None:
        """What a cheat keeps: its channels as they are now."""
        if self.kind == "cheat" and self.odd is not None and self.odd.life is not None and self.odd.life.service:
            for id_, actor in self.odd.service.book.actors.items():
                self.old.setdefault(id_, []).append(actor.channel)

    async def take_copy(self) -> None:
        assert self.odd is not None
        self.copy = await keep(self.odd)

    async def come_back(self) -> None:
        """From the old copy; the write-ahead log goes with what it replaces."""
        assert self.odd is not None
        assert self.copy is not None
        await set_back(self.odd, self.copy)
        self.met["restored"] += 1
        await _up(self.odd)
        await trio.sleep(5)

    async def cheat(self) -> None:
        """Away, and then an old state of each of its channels on chain."""
        assert self.odd is not None
        await _down(self.odd)
        for id_, channels in sorted(self.old.items()):
            old = self.chance.choice(channels[: max(1, len(channels) // 2)])
            for _ in range(30):  # what its daemon had sent goes first
                if all(tx.sender != self.odd.key.address for tx in self.sim.chain.pool):
                    break
                await trio.sleep(1)
            else:
                return
            if old.phase is Phase.OPEN and self.sim.chain.model.channels[id_.hex()].deadline == 0:
                send_raw(self.sim, self.odd.key, close_call(old))
                self.met["old states closed"] += 1
                await trio.sleep(4)

    # -- a run

    async def play(self) -> None:
        await self.build()
        names, weights = list(WEIGHTS), list(WEIGHTS.values())
        halfway = STEPS // 2
        with trio.move_on_after(600):
            async with trio.open_nursery() as nursery:
                for at in range(STEPS):
                    self.remember()
                    if at == halfway and self.kind == "restore":
                        await self.take_copy()
                    step: Callable[[trio.Nursery], Awaitable[None]] = getattr(
                        self, self.chance.choices(names, weights)[0]
                    )
                    await step(nursery)
                    await trio.sleep(self.chance.random() * 2)
                self.sim.judge = lambda *_: 0.0
        self.sim.judge = lambda *_: 0.0
        self.sim.apart.clear()
        if self.kind == "restore":
            await self.come_back()
        if self.kind == "cheat":
            await self.cheat()
        if self.kind == "plain":
            await self.without_cause()
        honest = [node for node in self.nodes if node is not self.odd]
        for node in honest:
            await self.close_all(node)
        for node in honest:
            await node.until(lambda node=node: not self.standing(node), 900)  # type: ignore[misc]
        await finish(self.sim, honest)
        self.audit(honest)

    async def close_all(self, node: Node) -> None:
        """Together where the peer is there; some are closing already."""
        await node.until(lambda: not any(one.channel.newest_body.locks for one in self.alive(node)), 300)
        for id_ in list(node.service.book.actors):
            if node.service.book.actors[id_].channel.phase in (Phase.OPEN, Phase.FROZEN):
                try:
                    await node.ask("close_channel", channel_id=id_, force=self.kind != "plain", timeout=20)
                except Refused as fault:
                    self.met[f"close {fault.code}"] += 1

    @staticmethod
    def standing(node: Node) -> bool:
        """Whether one of its channels is not on its way to the chain yet."""
        phases = [one.channel.phase for one in node.service.book.actors.values()]
        return Phase.OPEN in phases or Phase.FROZEN in phases

    @staticmethod
    def alive(node: Node) -> list[Actor]:
        """Channels of a node that are open at both ends, as far as it knows."""
        return [one for one in node.service.book.actors.values() if one.channel.phase is Phase.OPEN and one.line]

    async def without_cause(self) -> None:
        """Whatever happened, a channel that nobody wanted closed is open."""
        for node in self.nodes:
            node.start()
            await node.ready()
            for id_, actor in node.service.book.actors.items():
                ended = actor.channel.phase not in (Phase.OPENING, Phase.OPEN) or actor.broken
                if ended and id_ not in self.closed:
                    raise Unlawful(f"{node.name}: closed without cause: {actor.channel.reason or actor.broken}")

    def audit(self, honest: list[Node]) -> None:
        if self.kind == "plain":
            judge(self.sim, honest)
            return
        signatures(self.sim)
        held = 0
        for node in self.nodes:
            name = "0x" + node.key.address.hex()
            has = self.sim.chain.model.balance(named_token(), name) + self.sim.chain.model.owed.get(
                (named_token(), name), 0
            )
            held += has - TOKENS
            if node is not self.odd and has < TOKENS + _won(node):
                raise Unlawful(f"{node.name} has {has - TOKENS:+d}, its books say {_won(node):+d} ({self.kind})")
        kept = self.sim.chain.model.balance(named_token(), "manager")
        if held + kept != 0:
            raise Unlawful(f"{held + kept} wei are nowhere (I25)")


def run(seed: int, folder: Path) -> Counter[str]:
    """One run, to its end and its audit; Unlawful says which law is broken. What it met."""
    chance = Random(seed)
    kind = chance.choice(KINDS)

    async def program(sim: Sim) -> Counter[str]:
        cluster = Cluster(sim, chance, kind)
        await cluster.play()
        cluster.met[f"{kind} runs"] += 1
        return cluster.met

    return simulate(program, folder, seed=seed)
