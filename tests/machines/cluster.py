"""Three to five whole daemons, and perhaps a watchtower, on a bad wire and an unsteady chain, by one seed.

The harness is `tests.crash.sim`: real daemons in simulated time on the contracts' model. A run draws its shape (a row
or a ring), its kind and its steps from the seed: payments, transfers both ways at once, deaths, lines that are slow or
cut at any message, nodes kept apart, reorgs, owners who close. The kinds:

* *plain*: no channel may end but by an owner's wish.
* *cheat*: one node stops acknowledging, goes away, and closes with old states or with its peers' unanswered proposals.
* *asleep*: the same, while an honest peer is down until after the challenge; its watchtower must have answered.
* *liar*: one node lies over the wire (`cluster_lies`), and ends as a cheat.
* *late*: fulfils are held up until shortly before or after their lock's expiry; secrets go over the registry at the
  last moment, or, where the holder does not want them there, not at all.
* *restore*: one node comes back from an old copy of its database.

Three circumstances come on top of any kind. *Narrow*: the daemons' caps on what they pass on are low, and payments come
in bursts, many of them small. *Poor*: an honest node that may pass on is left with about what its gas reserve asks for.
*Wide*: neighbours have two channels, and some payments are more than one of them can carry, so that they go in parts.
In runs that are not plain some invoices are paid in halves, by two nodes or by one alone.

After each step the laws of `cluster_laws` hold. At the end everything is settled and each honest node holds, to the
wei, what its books say (I25-I29); nobody has signed a version twice (I11). With an odd node an honest one may hold
more, not less.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
import trio

from channeld.base.errors import Refused
from channeld.base.units import Amount, ChannelId, Side
from channeld.core.channel import Channel, Phase
from channeld.node import tower_link
from channeld.node.config import TokenPolicy
from channeld.node.loop import Actor
from channeld.node.reserve import LEAST
from channeld.wire import messages as wire
from tests.contracts.model import COIN
from tests.crash.chain import ModelChain
from tests.crash.copies import down, up
from tests.crash.laws import _won, finish, judge, signatures
from tests.crash.scenarios import quiet
from tests.crash.sim import TOKENS, Node, Sim, Unlawful, named_token, simulate
from tests.crash.tower import tower
from tests.machines.cluster_laws import Laws
from tests.machines.cluster_lies import Liar
from tests.machines.cluster_odd import Odd, half, pay_half

NAMES: Final = ("first", "second", "third", "fourth", "fifth")
KINDS: Final = ("plain", "plain", "cheat", "restore", "asleep", "liar", "late")
STEPS: Final = 24
LATE: Final = (-12, -6, -1, 2, 8, 18, 25, 29, 33, 40)
"""Seconds by which a fulfil that was held up comes after its lock's expiry."""
NARROW: Final[dict[str, Any]] = {
    "max_locks": 6,
    "slots_share": 50,
    "value_share": 30,
    "usual_hold": 100,
    "policy": TokenPolicy(resolving=Amount(15)),
    "max_uneconomic": 2,
    "max_uneconomic_in_all": 3,
}
"""Settings of daemons whose caps are met."""
BURST: Final = 5
"""Payments at once, where caps are to be met or many locks offered to the poor."""
LEFT: Final = (90, 100, 130)
"""What a poor node is left with, in percent of what it must hold to take locks."""
WEIGHTS: Final = {
    "pay": 10,
    "transfer": 6,
    "cross": 3,
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

    def __init__(self, sim: Sim, chance: Random, kind: str, *, tower_sleeps: bool = False) -> None:
        self.sim, self.chance, self.kind, self.tower_sleeps = sim, chance, kind, tower_sleeps
        self.nodes: list[Node] = []
        self.channels: dict[ChannelId, tuple[Node, Node]] = {}
        self.closed: set[ChannelId] = set()
        """Those that an owner closes."""
        self.met: Counter[str] = Counter()
        self.number = 0
        self.laws = Laws(sim)
        self.odd: Odd | None = None
        self.liar: Liar | None = None
        self.held: set[tuple[ChannelId, int]] = set()
        """Locks whose fulfil was held up once."""
        self.holding = 0
        self.beside = Random(f"beside {sim.seed}")
        """For the circumstances on top of the kind: apart, so that a run without them is what its seed alone makes."""
        self.narrow, self.poor = self.beside.random() < 0.25, self.beside.random() < 0.25
        self.much = Random(f"much {sim.seed}")
        self.wide = self.much.random() < 0.3

    async def build(self) -> None:
        guarded = self.kind == "asleep" or self.chance.random() < 0.3
        towers = ((await tower(self.sim)).uri,) if guarded else ()
        count = self.chance.randint(3, 5)
        settings = NARROW if self.narrow else {}
        self.nodes = [await self.sim.node(name, towers=towers, **settings) for name in NAMES[:count]]
        pairs = list(itertools.pairwise(self.nodes))
        if self.chance.random() < 0.5:
            pairs.append((self.nodes[-1], self.nodes[0]))
        if self.wide:
            pairs = [pair for pair in pairs for _ in range(2)]
        self.laws.start()
        for left, right in pairs:
            opened = await left.open(right, 1_000)
            self.channels[opened] = (left, right)
            await left.transfer(opened, [400], f"balance {left.name}")
        await quiet(self.nodes)
        for node in self.nodes:
            await node.until(lambda node=node: all(id_ in node.service.gossip.known for id_ in self.channels))  # type: ignore[misc]
        if self.kind != "plain" and (self.kind != "late" or self.chance.random() < 0.5):
            self._choose(self.chance.choice(self.nodes))
        between = [node for node in self.honest() if sum(node in ends for ends in self.channels.values()) > 1]
        if self.poor and between:
            await self._impoverish(self.beside.choice(between))

    async def _impoverish(self, node: Node) -> None:
        """Its coin goes but for about the reserve, and it has seen that."""
        chain = self.sim.chain
        left = node.service.reserve.needed(LEAST) * self.beside.choice(LEFT) // 100
        self.sim.taken[node.name] = chain.model.balance(COIN, _named(node)) - left
        chain.fund(node.key.address, coin=-self.sim.taken[node.name])
        seen = chain.head.number + 2
        await node.until(lambda: node.service.world.head is not None and node.service.world.head.latest.number >= seen)
        self.met["poor nodes"] += 1

    def _choose(self, node: Node) -> None:
        """This one will be odd."""
        peers = {id_: (ends[0] if ends[1] is node else ends[1]) for id_, ends in self.channels.items() if node in ends}
        self.odd = Odd(self.sim, node, peers, self.chance, self.met)
        if self.kind in ("liar", "late"):
            self.laws.exempt.add(node.name)
        if self.kind in ("liar", "cheat"):
            self.liar = Liar(node, self.chance, self.met)
            self.liar.lies = self.kind == "liar"
            self.sim.twist = self.liar.twist

    def honest(self) -> list[Node]:
        return [node for node in self.nodes if self.odd is None or node is not self.odd.node]

    # -- the wire

    def judge(self, slow: float, cut: float) -> Callable[[str, str, wire.Message], float | None]:
        def one(sender: str, to: str, message: wire.Message) -> float | None:
            if isinstance(message, wire.FulfilLock) and self._held_up(sender, to, message):
                return None
            drawn = self.chance.random()
            if drawn < cut:
                self.met["lines cut at a message"] += 1
                return None
            return self.chance.random() * slow

        return one

    def _held_up(self, sender: str, to: str, message: wire.FulfilLock) -> bool:
        """Whether this fulfil has to wait until about its lock's expiry: its line is cut for so long."""
        name, node = (message.channel_id, int(message.lock_id)), self.sim.nodes[sender]
        if self.kind != "late" or name in self.held or (self.odd is not None and node is not self.odd.node):
            return False
        channel = node.service.book.actors[message.channel_id].channel
        lock = channel.current.body.locks.get((channel.we.other, message.lock_id))
        self.held.add(name)
        if lock is None or self.chance.random() < 0.4:
            return False
        seconds = lock.expiry + self.chance.choice(LATE) - self.sim.time()
        if seconds <= 0:
            return False
        self.met["fulfils held up"] += 1
        self.sim.nursery.start_soon(self._hold, frozenset((sender, to)), seconds, node)
        return True

    async def _hold(self, names: frozenset[str], seconds: float, node: Node) -> None:
        """With an odd node the chain is told nothing either."""
        self.holding += 1
        self.sim.apart.add(names)
        if self.odd is not None:
            self._blind(node, True)
        await trio.sleep(seconds)
        self.sim.apart.discard(names)
        if self.odd is not None:
            await trio.sleep(6)
            self._blind(node, False)
        self.holding -= 1

    @staticmethod
    def _blind(node: Node, blind: bool) -> None:
        node.chain_down = blind
        if node.life is not None:
            node.life.rpc.down = blind

    # -- steps

    async def pay(self, nursery: trio.Nursery) -> None:
        payer, payee = self.chance.sample(self.nodes, 2)
        amount = self.chance.randint(1, 250)
        if self.wide and self.much.random() < 0.6:
            amount = self.much.randint(300, 900)
        if self.kind != "plain" and self.beside.random() < 0.2:  # there the audit knows one payer of an invoice only
            self._halves(nursery, payer, payee, amount)
            return
        self._pay(nursery, payer, payee, amount)
        for _ in range(BURST - 1 if self.narrow or self.poor else 0):
            self._pay(nursery, payer, payee, self.beside.choice((14, 70, 140)))

    def _pay(self, nursery: trio.Nursery, payer: Node, payee: Node, amount: int) -> None:
        self.number += 1
        number = self.number

        async def run() -> None:
            try:
                asked = await payee.invoice(amount, f"number {number}")
                said = await payer.pay(asked["invoice"], 60)
                if said == "succeeded" and payee.life is not None:
                    self.met["paid in parts"] += _parts(payee, asked["payment_hash"]) > 1
            except Refused as fault:
                said = fault.code
            self.met[f"payment {said}"] += 1

        nursery.start_soon(run)

    def _halves(self, nursery: trio.Nursery, payer: Node, payee: Node, amount: int) -> None:
        """An invoice over twice the amount, of which this payer pays one half and perhaps another the other."""
        others = [node for node in self.nodes if node not in (payer, payee)]
        payers = (payer, self.beside.choice(others)) if self.beside.random() < 0.6 else (payer,)
        self.number += 1
        number = self.number

        async def one(node: Node, text: str) -> None:
            try:
                said = await pay_half(node, text, 60)
            except Refused as fault:
                said = fault.code
            self.met[f"half of {len(payers)} {said}"] += 1

        async def run() -> None:
            asked = await payee.invoice(2 * amount, f"number {number}")
            for node in payers:
                nursery.start_soon(one, node, half(payee, asked["invoice"]))

        nursery.start_soon(run)

    async def transfer(self, nursery: trio.Nursery) -> None:
        id_ = self.chance.choice(sorted(self.channels))
        self._send(nursery, id_, self.chance.choice(self.channels[id_]))

    async def cross(self, nursery: trio.Nursery) -> None:
        """Both ends propose at once."""
        id_ = self.chance.choice(sorted(self.channels))
        for sender in self.channels[id_]:
            self._send(nursery, id_, sender)

    def _send(self, nursery: trio.Nursery, id_: ChannelId, sender: Node) -> None:
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
        node = self.chance.choice(list(self.sim.nodes.values()))
        self.sim.down_for = self.chance.choice((0.2, 1.0, 5.0))
        if node.life is not None and not node.chain_down:  # without a chain it would not come up again
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

    # -- a run

    async def play(self) -> None:
        await self.build()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await self._steps()
            await self._calm()
            await self._turn()
            honest = self.honest()
            for node in honest:
                await self.close_all(node)
            for node in honest:
                await node.until(lambda node=node: not self.standing(node), 900)  # type: ignore[misc]
            nursery.cancel_scope.cancel()
        await finish(self.sim, honest)
        self.audit(honest)

    async def _watch(self) -> None:
        """The laws, now and then, whatever else happens."""
        while True:
            await trio.sleep(5)
            self.laws.look(self.nodes)

    async def _steps(self) -> None:
        self.sim.judge = self.judge(0.0, 0.0)
        names, weights = list(WEIGHTS), list(WEIGHTS.values())
        with trio.move_on_after(600):
            async with trio.open_nursery() as nursery:
                for at in range(STEPS):
                    if self.odd is not None:
                        self.odd.remember()
                        if at == STEPS // 2 and self.kind == "restore":
                            await self.odd.take_copy()
                    if self.liar is not None and at == STEPS * 3 // 4:
                        self.liar.mute = self.chance.random() < 0.7
                    step: Callable[[trio.Nursery], Awaitable[None]] = getattr(
                        self, self.chance.choices(names, weights)[0]
                    )
                    await step(nursery)
                    await trio.sleep(self.chance.random() * 2)
                    self.laws.look(self.nodes)
                self.sim.judge = self.judge(0.0, 0.0)

    async def _calm(self) -> None:
        """The faults stop."""
        while self.holding:
            await trio.sleep(1)
        self.sim.judge = lambda *_: 0.0
        self.sim.apart.clear()

    async def _turn(self) -> None:
        """What the odd one does in the end."""
        if self.kind == "plain":
            await self.without_cause()
        if self.odd is None or self.kind == "late":
            return
        if self.kind == "asleep":
            await self._asleep(self.odd)
            return
        self.laws.exempt.add(self.odd.node.name)
        if self.kind == "restore":
            await self.odd.come_back()
        else:
            await self.odd.cheat()

    async def _asleep(self, odd: Odd) -> None:
        """One peer of the cheat is down until the challenge is over. A tower has all that it could lose by it."""
        await quiet(self.nodes)
        victim = self.chance.choice(sorted(odd.peers.values(), key=lambda node: node.name))
        covered = False
        with trio.move_on_after(240):
            while not covered:
                await victim.ready()
                covered = all(self._kept(victim, one.channel) for one in victim.service.book.actors.values())
                await trio.sleep(1)
        odd.remember()
        self.laws.exempt.add(odd.node.name)
        if covered:
            await down(victim)
        if self.tower_sleeps:
            await down(self.sim.nodes["tower"])
        await odd.cheat(victim if covered else None)
        await up(victim)

    @staticmethod
    def _kept(victim: Node, channel: Channel) -> bool:
        """Whether the tower holds the newest state, which it gets even with nothing at stake."""
        links = victim.service.towers._links(channel.id)
        held = [link.state.held.version for link in links if link.state.held is not None]
        return not channel.current.version or channel.phase is not Phase.OPEN or channel.current.version in held

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
        """Whatever happened, a channel that nobody wanted closed is open (I29)."""
        for node in self.nodes:
            node.start()
            await node.ready()
            for id_, actor in node.service.book.actors.items():
                ended = actor.channel.phase not in (Phase.OPENING, Phase.OPEN) or actor.broken
                if ended and id_ not in self.closed:
                    raise Unlawful(f"{node.name}: closed without cause: {actor.channel.reason or actor.broken}")

    def _give_bonds(self) -> None:
        """Who closes alone while a proposal of its own is on its way may be answered with that: the peer had agreed
        to it, and the bond is the price."""
        for id_ in self.closed:
            channel = self.sim.chain.model.channels[id_.hex()]
            own = channel.closer is (Side.A if channel.version % 2 else Side.B)
            if channel.beaten and own:
                closer = next(node for node in self.nodes if _named(node) == channel.parties[channel.closer])
                self.sim.taken[closer.name] = self.sim.taken.get(closer.name, 0) + channel.bond
                self.met["bonds given"] += 1

    def audit(self, honest: list[Node]) -> None:
        if self.kind == "plain":
            self._give_bonds()
            judge(self.sim, honest)
            return
        signatures(self.sim)
        held = 0
        for node in self.nodes:
            name = _named(node)
            has = self.sim.chain.model.balance(named_token(), name) + self.sim.chain.model.owed.get(
                (named_token(), name), 0
            )
            held += has - TOKENS
            if node in honest and has < TOKENS + _won(node):
                raise Unlawful(f"I26: {node.name} has {has - TOKENS:+d}, its books say {_won(node):+d} ({self.kind})")
        kept = self.sim.chain.model.balance(named_token(), "manager")
        if held + kept != 0:
            raise Unlawful(f"I25: {held + kept} wei are nowhere")


def _parts(payee: Node, hash_: str) -> int:
    """Of how many parts it was, as its payee remembers."""
    ((count,),) = payee.service.store.rows("SELECT count(*) FROM parts WHERE hash = ?", bytes.fromhex(hash_[2:]))
    return int(count)


def _named(node: Node) -> str:
    """As the model names its account."""
    return "0x" + node.key.address.hex()


def run(seed: int, folder: Path, *, tower_sleeps: bool = False, chain: type[ModelChain] = ModelChain) -> Counter[str]:
    """One run, to its end and its audit; Unlawful says which law is broken. What it met.

    `tower_sleeps`: it does not guard, which must show. `chain`: what it plays on.
    """
    chance = Random(seed)
    kind = chance.choice(KINDS)

    async def program(sim: Sim) -> Counter[str]:
        cluster = Cluster(sim, chance, kind, tower_sleeps=tower_sleeps)
        await cluster.play()
        cluster.met[f"{kind} runs"] += 1
        return cluster.met + cluster.laws.met

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tower_link, "CATCH_UP", 30)
        return simulate(program, folder, seed=seed, chain=chain)
